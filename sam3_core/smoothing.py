"""Smoothing: a mask's border redrawn with fewer, longer strokes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_core.cleaning import parts_and_holes, separate_parts, without_specks
from sam3_core.masks import Mask

_REACH = 0.02  # of the square root of a part's area: 9 pixels for an object of 500 x 400
_LEAST_REACH = 0.5  # pixels; below, nothing changes
_CELL = 2.5  # cells of the picture that is blurred in one reach: coarser ones would show in the border


def smoothed(mask: Mask, floor: float, least: float = 0.0) -> Mask:
    """The mask with jags, spikes and notches gone from its border.

    A pixel goes to the side that has the majority around it, neighbours weighed by a Gaussian: what Merriman, Bence
    and Osher found to move a border by its curvature ("Motion of multiple junctions", 1994), so bumps and bays of
    about its reach go and straight stretches stay where they are. Each part is smoothed by itself, with a reach that
    goes with the square root of its area; it is halved until the part has an IoU of at least ``floor`` with what it
    was, is still one part and has as many holes. Where no reach does, a thin line for one, the part stays as it is.

    The picture's edge is no border: objects are taken to go on beyond it. least: parts and holes below so many pixels
    that smoothing cuts off are specks, and cleaned away. The result is tight.
    """
    parts = [_smoothed_part(part, floor, least) for part in separate_parts(mask)]
    return (_united(parts) if len(parts) > 1 else parts[0]).tight()


def _smoothed_part(part: Mask, floor: float, least: float) -> Mask:
    shape = parts_and_holes(part.bits)
    reach = _REACH * math.sqrt(part.area)
    while reach >= _LEAST_REACH:
        trial = without_specks(_majority(part, reach), least)
        if trial.iou(part) >= floor and parts_and_holes(trial.bits) == shape:
            return trial
        reach /= 2
    return part


def _majority(part: Mask, reach: float) -> Mask:
    """Each pixel on the side of most around it, weighed by a Gaussian with this standard deviation, in pixels.

    What has no majority anywhere near lies outside the part's hull, so the crop need not grow. The blurred picture
    has no detail finer than the reach: it is made at a lower resolution and stretched.
    """
    height, width = part.bits.shape
    step = max(1, int(reach / _CELL))
    margin = math.ceil(3 * reach)
    picture = _padded(part, margin)
    size = picture.shape[1], picture.shape[0]
    cells = cv2.resize(picture, (size[0] // step, size[1] // step), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(cells.astype(np.float32), (0, 0), reach / step)
    stretched = cv2.resize(blurred, size, interpolation=cv2.INTER_LINEAR)
    bits = np.asarray(stretched)[margin : margin + height, margin : margin + width] > 255 / 2
    return Mask(bits, part.x, part.y, part.frame)


def _padded(part: Mask, margin: int) -> NDArray[np.uint8]:
    """The part as 0 and 255, with so many pixels more on each side: of its own at the frame's edges, else 0."""
    x0, y0, x1, y1 = part.box
    at_edge = (y0 == 0, y1 == part.frame[1], x0 == 0, x1 == part.frame[0])
    picture = part.bits.view(np.uint8) * np.uint8(255)
    for edge, border in ((True, cv2.BORDER_REPLICATE), (False, cv2.BORDER_CONSTANT)):
        above, below, left, right = (margin if at is edge else 0 for at in at_edge)
        picture = np.asarray(cv2.copyMakeBorder(picture, above, below, left, right, border, value=0), dtype=np.uint8)
    return picture


def _united(parts: Sequence[Mask]) -> Mask:
    """All their pixels."""
    boxes = np.array([part.box for part in parts])
    (x0, y0), (x1, y1) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    bits = np.zeros((y1 - y0, x1 - x0), dtype=np.bool_)
    for part in parts:
        left, top, right, bottom = part.box
        bits[top - y0 : bottom - y0, left - x0 : right - x0] |= part.bits
    return Mask(bits, x0, y0, parts[0].frame)
