"""CVAT's browser side of an interactor: what it makes of a reply that the server passed through.

Stands for cvat-core's decoder of interactor replies and the mask-to-polygon step of the tools panel (the generation
with several shapes, 2026). Raises BrowserError where a user sees an error message instead of a shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from cvat_sdk.masks import decode_mask, encode_mask
from numpy.typing import NDArray


class BrowserError(Exception):
    """What cvat-ui shows, such as Cannot read properties of undefined."""


@dataclass(frozen=True)
class Outline:
    """One object on the canvas. bits: ``(height, width)`` bool, the full frame; points: as stored."""

    bits: NDArray[np.bool_]
    points: tuple[int, ...]
    confidence: float = 1.0


def decoded(reply: Any, frame: tuple[int, int]) -> list[Outline]:
    """The objects of the reply, which the user has not yet filtered by confidence. frame: width, height in pixels."""
    if not isinstance(reply, Mapping):
        raise BrowserError("Cannot read properties of null")
    if "mask" in reply:  # looked at first; shapes beside it are never seen
        return _legacy(reply["mask"], frame)
    shapes = reply.get("shapes")
    if not isinstance(shapes, Sequence) or isinstance(shapes, str):
        raise BrowserError("Cannot read properties of undefined (reading 'flat')")
    outlines = []
    for shape in shapes:
        if shape.get("type", "mask") != "mask":
            continue
        points = [_int32(number) for number in shape["points"]]
        if len(points) < 6:
            continue  # as empty
        outlines.append(Outline(_bits(points, frame), tuple(points), _confidence(shape.get("attributes"))))
    return outlines


def old_browser_bits(reply: Any, frame: tuple[int, int]) -> NDArray[np.bool_]:
    """What a UI from before the shapes makes of it: it knows the key mask only."""
    if not isinstance(reply, Mapping) or not isinstance(reply.get("mask"), list):
        raise BrowserError("Cannot read properties of undefined (reading 'length')")
    return _full_frame(reply["mask"], frame)


def polygon(outline: Outline, approximation: int = 9) -> list[tuple[int, int]]:
    """The first contour, simplified as the slider says (0 to 13); empty where the UI drops it (under 3 points)."""
    away = 13 - approximation
    tolerance = (2.75 * away - 1) / 7 if away <= 8 else 2.0 ** (away - 7)
    contours, _ = cv2.findContours(outline.bits.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return []
    points = cv2.approxPolyDP(contours[0], max(tolerance, 0.0), True)[:, 0]
    return [(int(x), int(y)) for x, y in points] if len(points) >= 3 else []


def _legacy(mask: Any, frame: tuple[int, int]) -> list[Outline]:
    bits = _full_frame(mask, frame)
    if not bits.any():
        return []
    width, height = frame
    points = [int(number) for number in encode_mask(bits, [0, 0, width, height])]
    return [Outline(bits, tuple(points))]


def _full_frame(mask: Any, frame: tuple[int, int]) -> NDArray[np.bool_]:
    if not mask:
        raise BrowserError("Cannot read properties of undefined (reading 'length')")  # row 0 is read unasked
    rows = np.asarray(mask)
    if rows.shape != (frame[1], frame[0]):
        raise BrowserError(f"a mask of {rows.shape} on a frame of {frame}")
    if not np.isin(rows, (0, 1)).all():
        raise BrowserError("a mask of other values than 0 and 1")
    return rows.astype(bool)


def _bits(points: list[int], frame: tuple[int, int]) -> NDArray[np.bool_]:
    try:
        bits: NDArray[np.bool_] = decode_mask(points, image_width=frame[0], image_height=frame[1])
    except ValueError as error:
        raise BrowserError(str(error)) from error
    return bits


def _confidence(attributes: Any) -> float:
    """One bad entry discards all of them; no confidence counts as 1."""
    entries = attributes if isinstance(attributes, list) else []
    for entry in entries:
        if not isinstance(entry, Mapping) or not _is_number(entry.get("spec_id")):
            return 1.0
        if not isinstance(entry.get("value"), str):
            return 1.0
    return next((float(entry["value"]) for entry in entries if entry["spec_id"] == 0), 1.0)


def _int32(number: Any) -> int:
    """As an Int32Array keeps it."""
    if not _is_number(number) or not math.isfinite(number):
        return 0
    return (int(number) + (1 << 31)) % (1 << 32) - (1 << 31)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
