"""Exact outlines: the rings of pixel edges around the parts of a mask and around their holes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from sam3_core.encodings.runs import run_edges
from sam3_core.masks import Bits

Corners = NDArray[np.int64]
"""``(N, 2)`` int64, xy, corners of pixels; a ring, not closed; neighbours differ in one coordinate only."""

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """One connected part of a mask, to the pixel.

    outer: clockwise on the screen. holes: counter-clockwise. area: pixels of the part, without its holes.
    Every ring is simple; two rings may meet in a corner, never along an edge.
    """

    outer: Corners
    holes: tuple[Corners, ...]
    area: int

    def shifted(self, x: int, y: int) -> Part:
        """The same part, so many pixels further to the right and down."""
        by = np.array([x, y])
        return Part(self.outer + by, tuple(hole + by for hole in self.holes), self.area)


@dataclass(frozen=True, slots=True)
class _Border:
    """The whole border of a mask as closed walks over its vertical pixel edges (see ``run_edges``).

    rows, columns: place of each edge. follower: the edge after it. turns: whether the border turns on the way there.
    order: all edges, walk after walk; walk i is ``order[bounds[i] : bounds[i + 1]]`` and starts at its first edge in
    reading order. walk_of: the walk of each edge.
    """

    rows: Indices
    columns: Indices
    follower: Indices
    turns: NDArray[np.bool_]
    order: Indices
    bounds: Indices
    walk_of: Indices

    def corners(self, walk: int) -> Corners:
        """The walk as a ring; it passes through a corner twice where the border touches itself."""
        edges = self.order[self.bounds[walk] : self.bounds[walk + 1]]
        edges = edges[self.turns[edges]]
        x = np.stack([self.columns[edges], self.columns[self.follower[edges]]], axis=1)
        y = self.rows[edges] + edges % 2  # left edges lead up to their upper end, right edges down
        return np.stack([x.ravel(), np.repeat(y, 2)], axis=1)


def outlines(bits: Bits, *, min_area: float = 0.0) -> list[Part]:
    """The parts of ``(h, w)`` bits with at least ``min_area`` pixels, largest first; the largest in any case.

    Pixels hang together through edges, not through corners. Holes smaller than ``min_area`` are left out.
    Coordinates are corners of the array's pixels, x in 0..w and y in 0..h.

    After one pass over the pixels the cost goes with the number of runs.
    """
    rows, columns = run_edges(bits)
    if rows.size == 0:
        return []
    border = _walked(rows, columns, *_linked(rows, columns, bits.shape[1]))
    owners = _owners(border)
    areas = np.bincount(owners[border.walk_of[::2]], weights=columns[1::2] - columns[::2])
    large = np.flatnonzero(areas >= max(min_area, 1))
    chosen = large[np.argsort(-areas[large], kind="stable")] if large.size else np.array([areas.argmax()])
    enclosed = np.bincount(border.walk_of, weights=np.where(np.arange(rows.size) % 2, columns, -columns))
    walks = np.flatnonzero((enclosed > 0) | (-enclosed >= min_area))
    walks = walks[np.argsort(owners[walks], kind="stable")]
    starts, stops = (np.searchsorted(owners[walks], chosen, side) for side in ("left", "right"))
    parts = []
    for part, start, stop in zip(chosen, starts, stops, strict=True):
        outer, *holes = (ring for walk in walks[start:stop] for ring in _simple(border.corners(walk)))
        kept = tuple(hole for hole in holes if -ring_area(hole) >= min_area)
        parts.append(Part(outer, kept, int(areas[part])))
    return parts


def without_holes(parts: Sequence[Part]) -> tuple[list[Part], list[int]]:
    """The parts with their holes filled, largest first, without those in such holes; and how many holes each had."""
    full = [Part(part.outer, (), int(ring_area(part.outer))) for part in parts]
    # The middle of a part's first pixel in reading order tells what lies around all of it.
    inner = [shapely.Point(part.outer[np.lexsort(part.outer.T)[0]] + 0.5) for part in parts]
    around, point = shapely.STRtree(inner).query([shapely.Polygon(part.outer) for part in full], predicate="contains")
    inside = set(point[around != point].tolist())
    order = sorted(set(range(len(parts))) - inside, key=lambda number: -full[number].area)
    return [full[number] for number in order], [len(parts[number].holes) for number in order]


def ring_area(ring: NDArray[np.generic]) -> float:
    """Signed area of a ``(N, 2)`` ring of xy: positive when it runs clockwise on the screen (y downwards)."""
    x, y = ring.astype(np.float64).T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _linked(rows: Indices, columns: Indices, width: int) -> tuple[Indices, NDArray[np.bool_]]:
    """For each vertical edge the next one along the border, inside on the right, and whether the border turns.

    Left edges of runs lead up, right edges down. On each line between two rows of pixels the ends of the edges above
    and below are put in order. Where a left edge continues a left edge, or a right a right, the border goes straight
    on; all other ends are joined in pairs, by the horizontal stretch between them. Where two pixels meet in a
    corner only, the right edge's end comes first, which keeps the border of each to itself.
    """
    count = rows.size
    is_left = 1 - np.arange(count) % 2
    upper_ends = (rows * (width + 1) + columns) * 2 + is_left
    ends = np.concatenate([upper_ends, upper_ends + 2 * (width + 1)])
    order = np.argsort(ends, kind="stable")
    same = np.flatnonzero(ends[order[1:]] == ends[order[:-1]])
    straight = np.zeros(2 * count, dtype=np.bool_)
    straight[same] = straight[same + 1] = True
    pairs = np.concatenate([order[straight], order[~straight]]).reshape(-1, 2)
    partner = np.empty(2 * count, dtype=np.int64)
    partner[pairs] = pairs[:, ::-1]
    turns = np.empty(2 * count, dtype=np.bool_)
    turns[order] = ~straight
    leaving = np.arange(count) + np.where(is_left, 0, count)
    return partner[leaving] % count, turns[leaving]


def _walked(rows: Indices, columns: Indices, follower: Indices, turns: NDArray[np.bool_]) -> _Border:
    """Follow the border from every edge not yet passed, in reading order."""
    after: list[int] = follower.tolist()
    walk_of = [-1] * len(after)
    order: list[int] = []
    bounds = [0]
    for start in range(len(after)):
        if walk_of[start] >= 0:
            continue
        edge, walk = start, len(bounds) - 1
        while walk_of[edge] < 0:
            walk_of[edge] = walk
            order.append(edge)
            edge = after[edge]
        bounds.append(len(order))
    return _Border(rows, columns, follower, turns, np.array(order), np.array(bounds), np.array(walk_of))


def _owners(border: _Border) -> Indices:
    """For each walk the outer walk of its part.

    In reading order the outer border of a part is met first at a left edge, a hole's at a right edge. The run that
    ends there belongs to the part around the hole, and its left edge was met before.
    """
    first = border.order[border.bounds[:-1]]
    owners = np.arange(first.size)
    for hole in np.flatnonzero(first % 2).tolist():
        owners[hole] = owners[border.walk_of[first[hole] - 1]]
    return owners


def _simple(ring: Corners) -> list[Corners]:
    """The ring cut where it passes through a corner twice; first the loop around, then the holes cut off."""
    keys = ring[:, 1] * (ring[:, 0].max() + 1) + ring[:, 0]
    if np.unique(keys).size == keys.size:
        return [ring]
    path: list[int] = []
    place: dict[int, int] = {}
    loops = []
    for index, key in enumerate(keys.tolist()):
        start = place.setdefault(key, len(path))
        if start < len(path):
            loops.append(ring[path[start:]])
            for passed in path[start + 1 :]:
                del place[int(keys[passed])]
            del path[start + 1 :]
        else:
            path.append(index)
    return [ring[path], *loops]
