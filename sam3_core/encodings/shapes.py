"""Masks as one simple shape each: the tightest box at any angle, an ellipse, a point deep inside.

Coordinates are pixels of the image, continuous: column c spans c..c + 1. Pixels are squares: shapes hold or weigh
whole squares, not their centres, and a mask of one pixel is one pixel wide. Angles are degrees, clockwise on the
screen (x to the right, y down), and lie in (-45, 45]: the first side or radius is the one closer to level.

The cost goes with the crop, not with the frame. Every function raises ValueError for an empty mask.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_core.masks import Mask

Corners = NDArray[np.float64]
"""``(4, 2)`` float64, xy in pixels of the image: top left, then clockwise, as seen before the box was turned."""


class OrientedBox(NamedTuple):
    """A rectangle of this size around its centre, turned by ``angle``; all but the angle in pixels."""

    cx: float
    cy: float
    width: float
    height: float
    angle: float

    def corners(self) -> Corners:
        """Where its corners are."""
        across, down = _axes(self.angle)
        signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
        return np.array([self.cx, self.cy]) + signs * (self.width, self.height) @ np.stack([across, down])


class Ellipse(NamedTuple):
    """An ellipse with these radii around its centre, turned by ``angle``; all but the angle in pixels."""

    cx: float
    cy: float
    rx: float
    ry: float
    angle: float

    def box(self) -> tuple[float, float, float, float]:
        """The upright box around it; its half sides are ``hypot(rx cos, ry sin)`` and ``hypot(rx sin, ry cos)``."""
        (cos, sin), _ = _axes(self.angle)
        half_x, half_y = math.hypot(self.rx * cos, self.ry * sin), math.hypot(self.rx * sin, self.ry * cos)
        return self.cx - half_x, self.cy - half_y, self.cx + half_x, self.cy + half_y


def oriented_box(mask: Mask) -> OrientedBox:
    """The rectangle of least area, at any angle, that holds every pixel of the mask.

    One side of it lies on a side of the convex hull (Freeman and Shapira, "Determining the minimum-area encasing
    rectangle for an arbitrary closed curve", 1975), so each hull side's direction is tried. Of equals, the one turned
    least: the upright box where no other is smaller.
    """
    hull = _hull(mask)
    sides = np.roll(hull, -1, axis=0) - hull
    angles = np.degrees(np.arctan2(sides[:, 1], sides[:, 0])) % 90
    angles = np.where(angles > 45, angles - 90, angles)
    angles = angles[np.argsort(np.abs(angles), kind="stable")]
    turns = np.radians(angles)[:, None]
    across = np.cos(turns) * hull[:, 0] + np.sin(turns) * hull[:, 1]
    down = np.cos(turns) * hull[:, 1] - np.sin(turns) * hull[:, 0]
    widths, heights = np.ptp(across, axis=1), np.ptp(down, axis=1)
    areas = widths * heights
    best = int(np.argmax(areas <= areas.min() * (1 + 1e-9)))  # the first: the differences below are rounding
    middle = np.array([across[best].min() + widths[best] / 2, down[best].min() + heights[best] / 2])
    cx, cy = middle @ np.stack(_axes(float(angles[best])))
    return OrientedBox(float(cx), float(cy), float(widths[best]), float(heights[best]), float(angles[best]))


def ellipse(mask: Mask) -> Ellipse:
    """The ellipse with the mask's centre of mass, its direction and proportions, and as much area.

    From second moments: along an axis of an ellipse with radius r, area has the variance r^2 / 4. A pixel is a square
    and adds its own variance, 1/12 in each direction, to that of its centre. The radii are then scaled together
    so that ``pi rx ry`` is the number of pixels, which holes and ragged borders would otherwise miss.
    """
    _check(mask)
    moments = cv2.moments(mask.bits.view(np.uint8), binaryImage=True)
    area = moments["m00"]
    xx, yy, xy = (moments[name] / area for name in ("mu20", "mu02", "mu11"))
    spread, difference = xx + yy + 1 / 6, xx - yy
    tilt = math.hypot(2 * xy, difference)
    # Without a direction of its own, but for rounding, it stays upright.
    angle = math.degrees(math.atan2(2 * xy, difference)) / 2 if tilt > 1e-9 * spread else 0.0
    major, minor = math.sqrt((spread + tilt) / 2), math.sqrt(max((spread - tilt) / 2, 1 / 12))
    scale = math.sqrt(area / (math.pi * major * minor))
    rx, ry = major * scale, minor * scale
    if not -45 < angle <= 45:
        angle, rx, ry = angle - math.copysign(90, angle), ry, rx
    cx, cy = (moments[name] / area + start + 0.5 for name, start in (("m10", mask.x), ("m01", mask.y)))
    return Ellipse(cx, cy, rx, ry, angle)


def visual_centre(mask: Mask) -> tuple[float, float]:
    """``(x, y)``: the centre of the pixel farthest from everything outside; it is always on the mask.

    Distances are Euclidean, between pixel centres (Felzenszwalb and Huttenlocher, "Distance transforms of sampled
    functions", 2012, as OpenCV computes them); what lies beyond the frame is outside. Of equals, the pixel nearest to
    the centre of mass.
    """
    _check(mask)
    padded = cv2.copyMakeBorder(mask.bits.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    deepest = np.argwhere(depth >= depth.max() * (1 - 1e-6))
    moments = cv2.moments(mask.bits.view(np.uint8), binaryImage=True)
    middle = np.array([moments["m01"], moments["m10"]]) / moments["m00"]
    row, column = deepest[np.argmin(((deepest - middle) ** 2).sum(axis=1))]
    return float(mask.x + column + 0.5), float(mask.y + row + 0.5)


def _axes(angle: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The directions of a turned shape's first and second side, as unit vectors."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.array([cos, sin]), np.array([-sin, cos])


def _hull(mask: Mask) -> NDArray[np.float64]:
    """``(N, 2)``: the convex hull of the pixels' corners, from the outermost two of each row."""
    _check(mask)
    rows = np.flatnonzero(mask.bits.any(axis=1))
    left = mask.bits[rows].argmax(axis=1)
    right = mask.bits.shape[1] - mask.bits[rows, ::-1].argmax(axis=1)
    x, y = np.concatenate([left, left, right, right]), np.concatenate([rows, rows + 1] * 2)
    corners = np.stack([x, y], axis=1).astype(np.int32)
    hull = np.asarray(cv2.convexHull(corners), dtype=np.float64).reshape(-1, 2)
    return hull + np.array([mask.x, mask.y], dtype=np.float64)


def _check(mask: Mask) -> None:
    if mask.area == 0:
        raise ValueError("an empty mask has no shape")
