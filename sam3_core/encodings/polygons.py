"""Masks as polygons with few corners and a stated loss."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from sam3_core.encodings.outlines import outlines, without_holes
from sam3_core.encodings.simplify import Promise, Ring, simplified
from sam3_core.finish import DEFAULT_FINISH, Finish, Holes, Parts
from sam3_core.masks import Mask


@dataclass(frozen=True, slots=True, eq=False)
class Polygon:
    """One connected part: a simple outer ring, clockwise on the screen, and simple holes, counter-clockwise.

    iou: reached with the part, 0..1; both filled as rasterisers do, a pixel being inside when its centre is.
    filled: how many holes, specks aside, were filled by choice.
    """

    outer: Ring
    holes: tuple[Ring, ...] = ()
    iou: float = 1.0
    filled: int = 0

    @property
    def rings(self) -> tuple[Ring, ...]:
        """The outer ring, then the holes."""
        return (self.outer, *self.holes)

    @property
    def vertices(self) -> int:
        """Corners of all rings together."""
        return sum(len(ring) for ring in self.rings)


def polygons(mask: Mask, finish: Finish = DEFAULT_FINISH) -> list[Polygon]:
    """One polygon for each connected part of the mask, largest first; empty only for an empty mask.

    finish: what it leaves open, ``DEFAULT_FINISH`` decides.

    Parts: pixels hang together through edges; two that meet in a corner are two parts. What lies inside a hole is a
    part of its own. Parts below ``finish.speck(mask)`` pixels are dropped, but never the largest, and holes below it
    are filled. ``Parts.LARGEST`` leaves only the largest part.

    Holes: kept in ``Polygon.holes``, for ``bridged`` or formats that have holes; with ``Holes.FILLED`` they are
    filled, and what lies inside them is gone.

    Loss: each polygon has at least the IoU ``finish.step_floor`` with its part, after these choices; 1 gives back
    every pixel. There are about as few corners as that needs. Measured on pixels, because a straight edge through a
    staircase loses nothing, while comparing areas would keep every stair of a small object. No polygon has more than
    ``finish.max_vertices`` corners, those of holes included and those of bridges not, since editors freeze on
    thousands; where both cannot be had that wins, the IoU is about the best within it, and the smallest holes may
    close. ``Polygon.iou`` is what was reached.

    Polygons are valid (no ring crosses itself or another) and lie inside the frame.
    """
    finish = finish.over(DEFAULT_FINISH)
    parts = outlines(mask.bits, min_area=finish.speck(mask))
    if finish.parts is Parts.LARGEST:
        parts = parts[:1]
    filled = [0] * len(parts)
    if finish.holes is Holes.FILLED:
        parts, filled = without_holes(parts)
    promise = Promise(finish.step_floor, finish.max_vertices or sys.maxsize)
    found = []
    for part, count in zip(parts, filled, strict=True):
        rings, iou = simplified(part.shifted(mask.x, mask.y), mask.frame, promise)
        found.append(Polygon(rings[0], tuple(rings[1:]), iou, count))
    return found


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
