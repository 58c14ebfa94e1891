"""Rings with fewer corners: edges collapse to single corners, many at a time, the cheapest first.

After Kronenfeld, Stanislawski, Buttenfield and Brockmeyer, "Simplification of polylines by segment collapse:
minimizing areal displacement while preserving area" (2020). An edge B-C between its neighbours A and D gives way to
one corner E on the line A-B or on the line D-C, at the distance from A-D that keeps the area. What A-E-D adds to
A-B-C-D on one side it takes away on the other; both together are the cost. So corners need not lie on the border, and
a round shape neither shrinks nor grows, as it does when corners are only left out (Douglas and Peucker).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

GRID = 16.0
"""Corners lie on sixteenths of pixels: float64 is exact there, in products too, and decimals are short."""

_SHARE = 0.33  # of all edges may collapse in one round; fewer take longer, for hardly fewer corners
_DRIFT = 0.35  # pixels; the mean distance by which any collapse may displace a border
_SHUFFLE, _MODULUS = 40503, 65536  # spreads equal costs around the ring; else they would collapse one at a time
_JITTER = 1e-7  # square pixels, too small to matter


class Rings(NamedTuple):
    """The rings of one polygon, one after another, the outer first.

    corners: ``(n, 2)`` float64, xy, not closed. ring: ``(n,)`` int64, the ring of each corner, 0, 1, ... in order.
    """

    corners: Floats
    ring: Indices

    @classmethod
    def join(cls, rings: list[Floats]) -> Rings:
        """From one array for each ring."""
        return cls(np.concatenate(rings), np.repeat(np.arange(len(rings)), [len(ring) for ring in rings]))

    def split(self) -> list[Floats]:
        """One array for each ring."""
        cuts = _cuts(self.ring)
        return np.split(self.corners, cuts) if cuts.size else [self.corners]

    def valid(self) -> bool:
        """Whether no ring crosses itself or another, and holes lie inside."""
        loops = shapely.linearrings(self.corners, indices=self.ring)
        return bool(shapely.is_valid(shapely.polygons(loops[0], holes=loops[1:])))


class Moves(NamedTuple):
    """Edges that collapse, or holes of three corners that close, without touching each other; the cheapest first.

    at: ``(k,)`` int64, first corners of the edges. kind: ``(k,)`` int64, see ``_candidates``. to: ``(k, 2)``, the
    corners that take their places. cost: ``(k,)``, square pixels. closes: ``(k,)``, whether it is a hole that closes.
    """

    at: Indices
    kind: Indices
    to: Floats
    cost: Floats
    closes: Flags

    def take(self, chosen: slice | Flags) -> Moves:
        """Some of them."""
        return Moves(self.at[chosen], self.kind[chosen], self.to[chosen], self.cost[chosen], self.closes[chosen])


class State(NamedTuple):
    """Rings on their way to fewer corners.

    before, after: ``(n,)`` int64, neighbours of each corner. size: ``(n,)`` int64, corners of its ring.
    refused: ``(n, 4)``, collapses, by edge and kind, that would make the rings invalid.
    """

    rings: Rings
    before: Indices
    after: Indices
    size: Indices
    refused: Flags

    @classmethod
    def of(cls, rings: Rings, refused: Flags | None = None) -> State:
        """refused: none when left out."""
        count = len(rings.ring)
        last = np.append(_cuts(rings.ring), count) - 1
        first = np.append(0, last[:-1] + 1)
        before, after = np.arange(-1, count - 1), np.arange(1, count + 1)
        before[first], after[last] = last, first
        size = np.repeat(last - first + 1, last - first + 1)
        return cls(rings, before, after, size, np.zeros((count, 4), dtype=np.bool_) if refused is None else refused)

    def moved(self, moves: Moves) -> State:
        """With these moves made. Around them, what was refused may be tried again."""
        rings, stays = self.replaced(moves)
        if not self.refused.any():
            return State.of(rings)
        refused = self.refused.copy()
        behind = self.before[moves.at]
        for near in (moves.at, self.after[self.after[moves.at]], behind, self.before[behind]):
            refused[near] = False
        return State.of(rings, refused[stays])

    def replaced(self, moves: Moves) -> tuple[Rings, Indices]:
        """The rings with the moves made, and where their corners were."""
        corners = self.rings.corners.copy()
        corners[moves.at] = moves.to
        stays = np.ones(len(corners), dtype=np.bool_)
        stays[self.after[moves.at]] = False
        if moves.closes.any():
            closed = moves.at[moves.closes]
            stays[closed] = stays[self.before[closed]] = False
        still = np.flatnonzero(stays)
        ring = self.rings.ring[still]
        if moves.closes.any():
            ring = np.cumsum(np.diff(ring, prepend=0) > 0)
        return Rings(corners[still], ring), still


def next_round(state: State, frame: tuple[int, int], dearest: Floats | None) -> tuple[Moves, State] | None:
    """The moves to make next, and the rings with them made, which stay valid; None when there are none left.

    frame: ``(width, height)``; no corner leaves it. dearest: what one collapse may cost for each ring, in square
    pixels, unless it displaces the border by a fraction of a pixel only; None: anything, and holes of three corners
    may close too. Every other ring keeps at least three corners. What proves impossible is marked as refused.
    """
    while (moves := _cheapest(state, dearest)).at.size:
        refused = ~np.all((moves.to >= 0) & (moves.to <= frame), axis=1)
        while True:
            state.refused[moves.at[refused], moves.kind[refused]] = True
            moves = moves.take(~refused)
            if moves.at.size == 0:
                break
            after = state.moved(moves)
            if after.rings.valid():
                return moves, after
            refused = _crossing(state, moves)
            if not refused.any():  # one sweeps over a whole ring
                refused[len(refused) // 2 :] = True
    return None


def _cheapest(state: State, dearest: Floats | None) -> Moves:
    """Moves cheaper than any within two edges of them, and among the cheapest of all."""
    costs, factors, span = _candidates(state)
    costs[state.refused.T] = np.inf
    every = np.arange(len(span))
    kind = costs.argmin(axis=0)
    cost = costs[kind, every]
    cost[state.size <= 3] = np.inf
    closes = np.zeros(len(span), dtype=np.bool_)
    if dearest is not None:
        cost[cost > np.maximum(dearest[state.rings.ring], _DRIFT * span)] = np.inf
    else:
        closes = (state.size == 3) & (state.rings.ring > 0) & (state.before > every) & ~state.refused[:, 2]
        kind[closes], cost[closes] = 2, _areas(state)[closes]
    order = np.argsort(cost + _JITTER * (every * _SHUFFLE % _MODULUS))
    rank = np.empty_like(order)
    rank[order] = every
    ahead, behind = rank[state.after], rank[state.before]
    least = (rank <= ahead) & (rank <= ahead[state.after]) & (rank <= behind) & (rank <= behind[state.before])
    at = order[: 1 + int(_SHARE * len(span))]
    at = at[least[at] & np.isfinite(cost[at])]
    return Moves(at, kind[at], _places(state, at, kind[at], factors), cost[at], closes[at])


def _areas(state: State) -> Floats:
    """Of the triangle of each corner and its neighbours."""
    corners = state.rings.corners
    to, on = corners - corners[state.before], corners[state.after] - corners
    areas: Floats = np.abs(to[:, 0] * on[:, 1] - to[:, 1] * on[:, 0]) / 2
    return areas


def _candidates(state: State) -> tuple[Floats, tuple[Floats, Floats], Floats]:
    """For each edge B-C what each kind of collapse costs, ``(4, n)``, the factors u and v, and the length of A-D.

    Kinds: E on A-B, E on D-C, E = B, E = C; the last two do not keep the area. Costs are infinite where E does not
    exist. With twice the areas s of A-B-C-D, b of A-B-D and c of A-C-D, signed, E = A + u (B - A) with u = s / b, and
    E = D + v (C - D) with v = s / c. Half of what the first displaces is the part of the triangle E-B-C on B's side
    of E-D, and of what the second does, the part on C's side of E-A.
    """
    x, y = state.rings.corners.T
    after, before = state.after, state.before
    bc_x, bc_y = x[after] - x, y[after] - y
    ab_x, ab_y, cd_x, cd_y = bc_x[before], bc_y[before], bc_x[after], bc_y[after]
    ad_x, ad_y = ab_x + bc_x + cd_x, ab_y + bc_y + cd_y
    turn_b = ab_x * bc_y - ab_y * bc_x
    b, c, w = ab_x * ad_y - ab_y * ad_x, ad_x * cd_y - ad_y * cd_x, ab_x * cd_y - ab_y * cd_x
    turn_c = turn_b[after]
    s = turn_b + c
    costs = np.empty((4, len(x)))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        u, v = s / b, s / c
        costs[0] = np.abs((1 - u) * turn_b) * _share((1 - u) * b, c - u * w)
        costs[1] = np.abs((1 - v) * turn_c) * _share((1 - v) * c, b - v * w)
    costs[2], costs[3] = np.abs(turn_c) / 2, np.abs(turn_b) / 2
    costs[np.isnan(costs)] = np.inf
    return costs, (u, v), np.hypot(ad_x, ad_y)


def _share(near: Floats, far: Floats) -> Floats:
    """Where a line cuts an edge whose ends lie so far from it, 0..1 from the near end; 1 where it does not."""
    at: Floats = near / (near - far)
    return np.where((at >= 0) & (at <= 1), at, 1.0)


def _places(state: State, at: Indices, kind: Indices, factors: tuple[Floats, Floats]) -> Floats:
    """Where the edges that begin ``at`` these corners collapse to; see ``_candidates``."""
    corners = state.rings.corners
    c = state.after[at]
    first, start, stop, last = (corners[place] for place in (state.before[at], at, c, state.after[c]))
    u, v = (np.where(kind == number, factor[at], 0)[:, None] for number, factor in enumerate(factors))
    forward, back = first + u * (start - first), last + v * (stop - last)
    places = np.choose(kind[:, None], [forward, back, start, stop])
    places = np.rint(places * GRID) / GRID
    # Where only A-D is left, E may be anywhere on it, but not on A or D.
    flat = (places == first).all(axis=1) | (places == last).all(axis=1)
    places[flat] = np.rint((first + last)[flat] * (GRID / 2)) / GRID
    return places


def _crossing(state: State, moves: Moves) -> Flags:
    """The moves whose new edges meet edges that they should not."""
    rings, still = state.replaced(moves)
    after = State.of(rings)
    every = np.stack([rings.corners, rings.corners[after.after]], axis=1)
    collapses = ~moves.closes  # where a hole closes there is no new edge
    at = np.searchsorted(still, moves.at[collapses])
    new = np.concatenate([every[after.before[at]], every[at]])
    one, other = shapely.STRtree(shapely.linestrings(every)).query(shapely.linestrings(new), predicate="intersects")
    joined = (new[one][:, :, None] == every[other][:, None]).all(axis=-1).any(axis=(1, 2))
    crossing = np.zeros(len(moves.at), dtype=np.bool_)
    crossing[np.flatnonzero(collapses)[one[~joined] % len(at)]] = True
    return crossing


def _cuts(ring: Indices) -> Indices:
    """Where the second ring begins, the third and so on."""
    return np.flatnonzero(ring[1:] != ring[:-1]) + 1
