"""What an annotator drew: clicks and boxes, from percent of the displayed image to pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from backend.bodies import ContextRegion
from backend.tools import BOXES, POINTS
from sam3_core import Box, Point
from sam3_core.errors import InvalidPrompt


@dataclass(frozen=True, slots=True)
class Mark:
    """A click or a box, in pixels of the displayed image, with its label and the region it came in."""

    shape: Point | Box
    label: str
    region: ContextRegion


def is_mark(region: ContextRegion) -> bool:
    """Whether a region is a click or a box. ``labels`` regions have the shape of what they label."""
    if region.type == "labels":
        return "x" in region.value and "radiusX" not in region.value
    return region.type in POINTS + BOXES


def read_marks(regions: Sequence[ContextRegion], size: tuple[int, int]) -> list[Mark]:
    """The clicks and boxes among regions, in their order; size: ``(width, height)`` of the displayed image in pixels.

    A tag without labels of its own (``<KeyPoint>`` beside ``<Labels>``) sends two regions of one id: the shape, and
    the shape again with the label. Raises InvalidPrompt for one without a label or with what is no number.
    """
    shapes = [region for region in regions if is_mark(region)]
    drawn = {region.id for region in shapes if region.id and region.type != "labels"}
    labels = {region.id: _own_label(region) for region in shapes if region.id and _own_label(region)}
    marks = []
    for region in shapes:
        if region.type == "labels" and region.id in drawn:
            continue
        label = _own_label(region) or labels.get(region.id, "")
        if not label:
            raise InvalidPrompt("the prompt carries no label: choose one before clicking")
        marks.append(Mark(_shape(region, size), label, region))
    return marks


def _own_label(region: ContextRegion) -> str:
    for key in (region.type, "labels"):
        values = region.value.get(key)
        if isinstance(values, list) and values and isinstance(values[0], str):
            return values[0]
    return ""


def _shape(region: ContextRegion, size: tuple[int, int]) -> Point | Box:
    boxed = region.type in BOXES or (region.type == "labels" and "height" in region.value)
    return _box(region, size) if boxed else _point(region, size)


def _point(region: ContextRegion, size: tuple[int, int]) -> Point:
    x, y = _pixels(region, "x", size[0]), _pixels(region, "y", size[1])
    positive = region.value.get("positive") if region.is_positive is None else region.is_positive
    return Point(x, y, positive=positive is not False)


def _box(region: ContextRegion, size: tuple[int, int]) -> Box:
    """A rectangle, turned or not, as the upright box around it. It turns about its top left corner, clockwise."""
    left, across = (_pixels(region, key, size[0]) for key in ("x", "width"))
    top, down = (_pixels(region, key, size[1]) for key in ("y", "height"))
    angle = math.radians(_number(region, "rotation")) if region.value.get("rotation") is not None else 0.0
    cos, sin = math.cos(angle), math.sin(angle)
    xs = [left + across * a * cos - down * b * sin for a in (0, 1) for b in (0, 1)]
    ys = [top + across * a * sin + down * b * cos for a in (0, 1) for b in (0, 1)]
    return Box(min(xs), min(ys), max(xs), max(ys))


def _pixels(region: ContextRegion, key: str, length: int) -> float:
    return _number(region, key) * length / 100


def _number(region: ContextRegion, key: str) -> float:
    value = region.value.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidPrompt(f"a {region.type} prompt needs a number {key}")
    try:
        number = float(value)
    except OverflowError:  # of an int with hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise InvalidPrompt(f"{key} of a {region.type} prompt must be a finite number")
    return number
