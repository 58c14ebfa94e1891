"""Masks as polygons with few corners and a stated loss."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from sam3_core.encodings.outlines import Corners, outlines, ring_area
from sam3_core.masks import Mask

Ring = NDArray[np.float64]
"""``(N, 2)`` float64, N >= 3, xy in pixels of the image, continuous (column c spans c..c + 1); not closed."""

SPECK_SHARE = 0.002
"""Parts and holes below this share of the mask's pixels are specks, unless the caller says otherwise."""

DRIFT = 0.002
"""How far simplification may move a border, as a share of the frame's longer side: two pixels on a usual screen."""

_FINEST = 0.25  # pixels; below, simplification removes next to nothing
_LEVELS = 32  # tolerances tried between the finest and the size of the part


@dataclass(frozen=True, slots=True, eq=False)
class Polygon:
    """One connected part: a simple outer ring, clockwise on the screen, and simple holes, counter-clockwise."""

    outer: Ring
    holes: tuple[Ring, ...] = ()

    @property
    def rings(self) -> tuple[Ring, ...]:
        """The outer ring, then the holes."""
        return (self.outer, *self.holes)

    @property
    def vertices(self) -> int:
        """Corners of all rings together."""
        return sum(len(ring) for ring in self.rings)


@dataclass(frozen=True, slots=True)
class _Promise:
    """min_iou: 0..1, in pixels. drift: pixels. max_vertices: wins over both."""

    min_iou: float
    drift: float
    max_vertices: int


def polygons(
    mask: Mask, *, min_iou: float = 0.98, max_vertices: int | None = 500, min_area: float | None = None
) -> list[Polygon]:
    """One polygon for each connected part of the mask, largest first; empty only for an empty mask.

    Parts: pixels hang together through edges; two that meet in a corner are two parts. A part keeps its holes, and
    what lies inside a hole is a part of its own. Parts below ``min_area`` pixels are dropped, but never the largest,
    and holes below it are filled; None stands for ``SPECK_SHARE`` of the mask's pixels.

    Loss: each polygon, filled as rasterisers do (a pixel is inside when its centre is), has at least ``min_iou`` with
    its part as kept. With ``min_iou=1`` it gives back every pixel. Measured on pixels, because a straight edge
    through a staircase loses nothing, while comparing areas would keep every stair of a small object. No border
    moves by more than ``DRIFT`` of the frame's longer side, or a pixel: on large objects a good IoU hides what the
    eye sees. Within these bounds there are about as few corners as can be, and the narrowest holes may close.
    max_vertices: the most corners of one polygon, holes included (at least 4); where both cannot be had it wins over
    ``min_iou``, since editors freeze on thousands of corners. None: no limit.

    Polygons are valid (no ring crosses itself or another) and lie inside the frame. Raises ValueError for a
    ``min_iou`` outside 0..1 or a ``max_vertices`` below 4.
    """
    if not 0 <= min_iou <= 1 or (max_vertices is not None and max_vertices < 4):
        raise ValueError(f"need 0 <= min_iou <= 1 and max_vertices >= 4, not {min_iou} and {max_vertices}")
    least = SPECK_SHARE * mask.area if min_area is None else min_area
    place = np.array([mask.x, mask.y])
    parts = outlines(mask.bits, min_area=least)
    promise = _Promise(min_iou, max(1.0, DRIFT * max(mask.frame)), max_vertices or sys.maxsize)
    return [_simplified([ring + place for ring in (part.outer, *part.holes)], promise) for part in parts]


def bridged(polygon: Polygon) -> Ring:
    """The polygon as one ring, for formats that have no holes: each hole hangs on a bridge of no width.

    A bridge is walked out and back, and holes run against the outer ring, so the ring fills the same area by the
    even-odd and by the non-zero rule. Each bridge is the shortest line from a hole to what is already joined, so it
    crosses no edge.
    """
    ring, waiting = polygon.outer, list(polygon.holes)
    while waiting:
        joined = shapely.LinearRing(ring)
        loops = [shapely.LinearRing(hole) for hole in waiting]
        nearest = int(np.argmin(shapely.distance(joined, loops)))
        start, end = shapely.get_coordinates(shapely.shortest_line(joined, loops[nearest]))
        hole = waiting.pop(nearest)
        ring = _distinct(np.concatenate([_from(ring, start), [start], _from(hole, end), [end]]))
    return ring


def _from(ring: Ring, point: NDArray[np.float64]) -> Ring:
    """The ring walked once around, from a point on it."""
    along = np.roll(ring, -1, axis=0) - ring
    share = np.clip(((point - ring) * along).sum(axis=1) / (along**2).sum(axis=1), 0, 1)
    edge = int(np.argmin(((ring + share[:, None] * along - point) ** 2).sum(axis=1)))
    return np.concatenate([[point], np.roll(ring, -edge - 1, axis=0)])


def _distinct(ring: Ring) -> Ring:
    """Without corners that repeat the one before."""
    repeats: NDArray[np.bool_] = (ring == np.roll(ring, 1, axis=0)).all(axis=1)
    return ring[~repeats]


def _simplified(rings: Sequence[Corners], promise: _Promise) -> Polygon:
    """The coarsest version of a part that keeps the promise; where the limit rules that out, the finest within it.

    rings: the part to the pixel, outer ring first. Bisects the tolerance of Douglas and Peucker's simplification: too
    many corners or a kept promise lead to coarser ones, a broken promise to finer ones.
    """
    limit = promise.max_vertices
    truth = _filled(rings)
    smooth = Polygon(_chamfered(rings[0]), tuple(_chamfered(hole) for hole in rings[1:]))
    levels = np.geomspace(_FINEST, max(1.0, *np.ptp(rings[0], axis=0)), _LEVELS).tolist()
    kept, second = (smooth if smooth.vertices <= limit else None), _box(rings[0])
    low, high = -1, _LEVELS
    while high - low > 1:
        middle = (low + high) // 2
        plain = [_without_detail(ring, levels[middle]) for ring in smooth.rings]
        if sum(len(ring) for ring in plain) > limit:
            low = middle
            continue
        trial = _repaired(plain)
        if trial is None or trial.vertices > limit:
            high = middle
        elif levels[middle] <= promise.drift and _iou(truth, _filled(trial.rings)) >= promise.min_iou:
            kept, low = trial, middle
        else:
            second, high = trial, middle
    return kept or second


def _box(ring: Corners) -> Polygon:
    (x0, y0), (x1, y1) = ring.min(axis=0), ring.max(axis=0)
    return Polygon(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64))


def _chamfered(ring: Corners) -> Ring:
    """The ring with its staircases cut to slopes, half a pixel before and after each corner; other corners stay.

    A stair is an edge one pixel long with opposite turns at its ends. No pixel's centre changes sides, and a
    simplified ring no longer leans to the inner or the outer corners of the stairs.
    """
    ahead = np.roll(ring, -1, axis=0) - ring
    length = np.abs(ahead).sum(axis=1)
    step = ahead / length[:, None]
    before = np.roll(step, 1, axis=0)
    turn = np.sign(before[:, 0] * step[:, 1] - before[:, 1] * step[:, 0])
    stair = (length == 1) & (turn != np.roll(turn, -1))
    cut = (stair | np.roll(stair, 1))[:, None] * 0.5
    return _distinct(np.stack([ring - cut * before, ring + cut * step], axis=1).reshape(-1, 2))


def _without_detail(ring: Ring, tolerance: float) -> Ring:
    # Pixel coordinates in halves are exact in the float32 that OpenCV asks for.
    simple = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, closed=True)
    return np.asarray(simple, dtype=np.float64).reshape(-1, 2)


def _repaired(rings: Sequence[Ring]) -> Polygon | None:
    """A valid polygon of these rings, where they cross its largest piece; None when nothing is left."""
    outer, *holes = rings
    if len(outer) < 3:
        return None
    shape = shapely.Polygon(outer, [hole for hole in holes if len(hole) >= 3])
    if not shape.is_valid:
        pieces = shapely.get_parts(shapely.get_parts(shapely.make_valid(shape)))
        shape = max(pieces, key=shapely.area)
    if shape.geom_type != "Polygon" or shape.area == 0:
        return None
    outer, *holes = (shapely.get_coordinates(ring)[:-1] for ring in (shape.exterior, *shape.interiors))
    return Polygon(
        outer if ring_area(outer) > 0 else outer[::-1],
        tuple(hole if ring_area(hole) < 0 else hole[::-1] for hole in holes),
    )


def _filled(rings: Sequence[NDArray[np.generic]]) -> NDArray[np.int64]:
    """The pixels with their centres inside, as run edges: sorted ``row << 32 | column``, left and right in turn."""
    edges = []
    for ring in rings:
        start = ring.astype(np.float64)
        stop = np.roll(start, -1, axis=0)
        spans = np.ceil(np.sort(np.stack([start[:, 1], stop[:, 1]]), axis=0) - 0.5).astype(np.int64)
        counts = spans[1] - spans[0]
        side = np.repeat(np.arange(len(ring)), counts)
        rows = np.arange(side.size) - np.repeat(np.cumsum(counts) - counts - spans[0], counts)
        across = stop[side] - start[side]
        x = start[side, 0] + (rows + 0.5 - start[side, 1]) * across[:, 0] / across[:, 1]
        edges.append((rows << 32) + np.ceil(x - 0.5).astype(np.int64))
    return np.sort(np.concatenate(edges))


def _iou(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Intersection over union of two sets of pixels given by their run edges."""
    both = np.sort(np.concatenate([one, other]))
    different = int((both[1::2] - both[::2]).sum())
    total = int((one[1::2] - one[::2]).sum() + (other[1::2] - other[::2]).sum())
    return (total - different) / (total + different)
