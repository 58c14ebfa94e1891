"""Outlines with about as few corners as keep a promised IoU."""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from sam3_core.encodings.collapse import GRID, Floats, Moves, Rings, State, next_round
from sam3_core.encodings.filling import Filled, filled, iou
from sam3_core.encodings.outlines import Corners, Part, ring_area

Ring = NDArray[np.float64]
"""``(N, 2)`` float64, N >= 3, xy in pixels, continuous (column c spans c..c + 1); not closed."""

_FIRST, _FINEST = 0.8, 0.2  # pixels, how rough a start may be: tried at least, and not worth the trying
_SLOW, _MANY = 1000, 8000  # corners to begin with: more only if need be; never more, where there is a limit
_SHAPE = 0.1  # of a ring's area may change by one collapse
_AHEAD = 1.5  # how much more is displaced before the IoU is measured again


@dataclass(frozen=True, slots=True)
class Promise:
    """min_iou: 0..1, in pixels. max_vertices: of all rings together, at least 4; wins over ``min_iou``."""

    min_iou: float
    max_vertices: int = sys.maxsize


class Simplified(NamedTuple):
    """Rings, the outer first, and the IoU that they reach."""

    rings: list[Ring]
    iou: float


def simplified(part: Part, frame: tuple[int, int], promise: Promise) -> Simplified:
    """The part with about as few corners as keep the promise; where the limit rules that out, as good as it allows.

    frame: ``(width, height)``, no corner leaves it. Edges collapse, the cheapest first (see ``collapse``). On the way
    the IoU, which hardly ever rises, is measured now and then; when it is too low, the last number of collapses at
    which it was not is found by bisection. The rings are valid: none crosses itself or another, and holes lie inside.
    """
    if len(part.outer) == 4 and not part.holes:
        return Simplified([part.outer.astype(np.float64)], 1.0)
    truth = filled((part.outer, *part.holes))
    budget = (1 - promise.min_iou) * part.area
    trail = _Trail(_start(part, truth, budget, promise))
    kept = _collapse(trail, frame, truth, budget, promise)
    while len(trail.state.rings.ring) > promise.max_vertices:
        if trail.advance(frame, None) is None:
            raise RuntimeError("rings of more than four corners always have one that can go, or a hole that can")
    return _last_good(trail, kept, truth, promise)


def _collapse(trail: _Trail, frame: tuple[int, int], truth: Filled, budget: float, promise: Promise) -> int:
    """Go on until the IoU is too low or nothing is left; after how many steps it was last measured and was not."""
    spent, next_look, kept = 0.0, budget, 0
    # Small holes keep their shape: on the whole, they would cost nothing.
    dearest = np.array([min(budget, _SHAPE * abs(ring_area(ring))) for ring in trail.state.rings.split()])
    while (displaced := trail.advance(frame, dearest)) is not None:
        spent += displaced
        if spent >= next_look:
            if _reached(truth, trail.state.rings) < promise.min_iou:
                break
            next_look, kept = _AHEAD * spent, trail.steps
    return kept


class _Trail:
    """Collapses made so far, and the rings after any number of them.

    state: after all of them. steps: how many they are.
    """

    def __init__(self, start: Rings) -> None:
        self.state = State.of(start)
        self.steps = 0
        self._rounds: list[tuple[State, Moves]] = []
        self._begins: list[int] = []

    def advance(self, frame: tuple[int, int], dearest: Floats | None) -> float | None:
        """One more round of collapses: the area they displace, or None when none is left."""
        found = next_round(self.state, frame, dearest)
        if found is None and dearest is None:  # an ear can always be cut off, but may have been refused before
            found = next_round(State.of(self.state.rings), frame, dearest)
        if found is None:
            return None
        moves, after = found
        self._rounds.append((self.state, moves))
        self._begins.append(self.steps)
        self.steps += len(moves.at)
        self.state = after
        return float(moves.cost.sum())

    def rings(self, steps: int) -> Rings:
        """After the first of all steps; within a round they may be invalid."""
        if steps == self.steps:
            return self.state.rings
        last = bisect_right(self._begins, steps) - 1
        state, moves = self._rounds[last]
        return state.replaced(moves.take(slice(steps - self._begins[last])))[0]


def _last_good(trail: _Trail, kept: int, truth: Filled, promise: Promise) -> Simplified:
    """After as many steps as keep the promise; where only the limit can be kept, after as few as do so.

    kept: steps after which the promise is known to hold, but for the limit.
    """
    low, high = kept, trail.steps + 1
    if len(trail.rings(low).ring) > promise.max_vertices:
        low = bisect_left(range(high), -promise.max_vertices, low, key=lambda steps: -len(trail.rings(steps).ring))
    least = low
    while high - low > 1:
        steps = (low + high) // 2
        good = _reached(truth, trail.rings(steps)) >= promise.min_iou
        low, high = (steps, high) if good else (low, steps)
    valid = (
        steps for steps in (*range(low, least - 1, -1), *range(low, trail.steps + 1)) if trail.rings(steps).valid()
    )
    rings = trail.rings(next(valid))
    return Simplified(rings.split(), _reached(truth, rings))


def _reached(truth: Filled, rings: Rings) -> float:
    return iou(truth, filled(rings.split()))


def _start(part: Part, truth: Filled, budget: float, promise: Promise) -> Rings:
    """What to begin with: all of the border or, where that does as well, a rough version, which saves time.

    Rough by no more than the border may be displaced on the average, or more where that leaves very many corners, but
    losing no more than half of what the promise allows. Of very long borders with a limit far below, many details are
    left out in any case: they could not keep the promise.
    """
    most = promise.max_vertices // 3  # more holes cannot stay
    smooth = [_chamfered(ring) for ring in (part.outer, *sorted(part.holes, key=ring_area)[:most])]

    def rough(tolerance: float) -> Rings | None:
        found = _rough(smooth, tolerance)
        whole = found is not None and found.ring[-1] == len(smooth) - 1
        return found if found and whole and _reached(truth, found) >= (1 + promise.min_iou) / 2 else None

    tolerance = max(budget / sum(len(ring) for ring in smooth), _FIRST)
    start = rough(tolerance)
    while start is None and tolerance >= 2 * _FINEST:
        tolerance /= 2
        start = rough(tolerance)
    while start and len(start.ring) > _SLOW and (rougher := rough(2 * tolerance)):
        start, tolerance = rougher, 2 * tolerance
    start, tolerance = start or Rings.join(smooth), _FINEST
    while len(start.ring) > _MANY > promise.max_vertices and tolerance < np.ptp(smooth[0]):
        start, tolerance = _rough(smooth, tolerance) or start, 2 * tolerance
    return start


def _chamfered(ring: Corners) -> Ring:
    """The ring with its staircases cut to slopes; other corners stay. No pixel's centre changes sides.

    A stair is an edge one pixel long with opposite turns at its ends. A slope joins its middle to what lies half a
    pixel beyond its ends or, where the next stair leads the same way, to the middle of that. So a straight edge in
    the scene comes out nearly straight, and a simplified ring leans neither to the inner nor to the outer corners.
    """
    ahead = np.roll(ring, -1, axis=0) - ring
    length = np.abs(ahead).sum(axis=1)
    step = ahead / length[:, None]
    before = np.roll(step, 1, axis=0)
    turn = np.sign(before[:, 0] * step[:, 1] - before[:, 1] * step[:, 0])
    stair = (length == 1) & (turn != np.roll(turn, -1))
    previous, following = np.roll(stair, 1), np.roll(stair, -1)
    passed = ~stair & previous & following & (before == np.roll(step, -1, axis=0)).all(axis=1)
    cut = (stair | previous)[:, None] * 0.5
    smooth: Ring = np.stack([ring - cut * before, ring + cut * step], axis=1).reshape(-1, 2)
    stays = np.stack([~np.roll(passed, 1), ~passed], axis=1).ravel()
    smooth = smooth[stays]
    repeats: NDArray[np.bool_] = (smooth == np.roll(smooth, 1, axis=0)).all(axis=1)
    return smooth[~repeats]


def _rough(rings: Sequence[Ring], tolerance: float) -> Rings | None:
    """Simplified after Douglas and Peucker, where rings then cross the largest piece; None when nothing is left."""
    # Pixel coordinates in halves are exact in the float32 that OpenCV asks for.
    simple = [cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, closed=True)[:, 0] for ring in rings]
    if len(simple[0]) < 3:
        return None
    rough = Rings.join([ring.astype(np.float64) for ring in simple if len(ring) >= 3])
    return rough if rough.valid() else _repaired(rough.split())


def _repaired(rings: Sequence[Ring]) -> Rings | None:
    """The largest piece of what crossing rings enclose, on the grid; None where that makes it cross again."""
    pieces = shapely.get_parts(shapely.get_parts(shapely.make_valid(shapely.Polygon(rings[0], rings[1:]))))
    shape = max(pieces, key=shapely.area)
    if shape.geom_type != "Polygon":
        return None
    outer, *holes = (
        np.rint(shapely.get_coordinates(ring)[:-1] * GRID) / GRID for ring in (shape.exterior, *shape.interiors)
    )
    turned = [
        ring if (ring_area(ring) > 0) == (number == 0) else ring[::-1] for number, ring in enumerate([outer, *holes])
    ]
    repaired = Rings.join(turned)
    return repaired if repaired.valid() else None
