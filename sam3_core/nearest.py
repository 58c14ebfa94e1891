"""Which box a click is about, where several were drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sam3_core.types import Box, Point


def nearest(point: Point, boxes: Sequence[Box]) -> int:
    """The index of the nearest box; of several around the point the smallest. Raises ValueError without boxes."""

    def order(index: int) -> tuple[float, float]:
        box = boxes[index]
        return distance(point, box), (box.x1 - box.x0) * (box.y1 - box.y0)

    return min(range(len(boxes)), key=order)


def distance(point: Point, box: Box) -> float:
    """In pixels; 0 inside and on the edge."""
    return math.hypot(max(box.x0 - point.x, 0.0, point.x - box.x1), max(box.y0 - point.y, 0.0, point.y - box.y1))
