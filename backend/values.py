"""Masks become the ``value`` of regions, kind by kind, as Label Studio's editor, exporters and validators accept it.

Rules for masks that one ring cannot hold (polygons of Label Studio have no holes): every part of a mask becomes a
polygon of its own, or, where that was chosen, only the largest; a hole is joined to its outer ring by a bridge of no
width, so that filling the ring leaves it empty, or, where that was chosen, filled. Vectors likewise. A rectangle is
the box around all parts, an ellipse has their centre of mass and their area. For all of these, fragments below a
twentieth of the mask are left out, unless a least area was chosen: each would be a region to delete, or a box far too
wide. Brush and bitmask regions hold every pixel that the finish leaves. A keypoint is the place deepest inside.

Turned rectangles and ellipses stay in the image: where one would reach out of it by more than half a pixel, or need
a side above 100 % or a radius above 50 %, which label-studio-sdk refuses, it is upright: the box around the mask,
or the ellipse that fills that box.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.labeling import Control, Output
from backend.rle import brush_rle
from sam3_core import Mask
from sam3_core.encodings import png
from sam3_core.encodings.outlines import ring_area
from sam3_core.encodings.polygons import Polygon, bridged, polygons
from sam3_core.encodings.shapes import ellipse, oriented_box, visual_centre
from sam3_core.finish import FRAGMENT_SHARE, Fineness, Finish, finished

Value = dict[str, Any]

_DECIMALS = 4  # of a percent: a hundredth of a pixel at 10 000 pixels
_DOT = 0.5  # size of a keypoint's dot, percent of the image's width; it means nothing else
_SLACK = 0.5  # pixels that a turned shape may reach out of the image


@dataclass(frozen=True, slots=True)
class Drawn:
    """A region's ``value``, without its labels, and what to say about it, in the words of a person."""

    value: Value
    remarks: tuple[str, ...] = ()


def draw(mask: Mask, control: Control, finish: Finish) -> Iterator[Drawn]:
    """The regions that a mask, not empty, becomes; finish: with nothing left open that has a default."""
    output = control.output
    if output in (Output.POLYGON, Output.VECTOR):
        yield from _outlines(mask, output, finish)
    elif output is Output.BRUSH:
        yield Drawn({"format": "rle", "rle": brush_rle(finished(mask, finish))})
    elif output is Output.BITMASK:
        data = base64.b64encode(png.encode_ink(finished(mask, finish))).decode()
        yield Drawn({"imageDataURL": f"data:image/png;base64,{data}"})
    elif output is Output.KEYPOINT:
        (x, y) = _percent(np.array(visual_centre(finished(mask, finish))), mask.frame).tolist()
        yield Drawn({"x": x, "y": y, "width": _DOT})
    else:
        mask = finished(mask, finish.without_fragments(mask))
        if output is Output.ELLIPSE:
            yield Drawn(_ellipse(mask))
        else:
            yield Drawn((_oriented_rectangle(mask) if control.oriented else None) or _rectangle(mask))


def _outlines(mask: Mask, output: Output, finish: Finish) -> Iterator[Drawn]:
    """A polygon or a vector for each part, largest first."""
    if finish.fineness is Fineness.LOW:  # smooths; specks are found by ``polygons`` itself, and once is enough
        mask = finished(mask, finish)
    least = FRAGMENT_SHARE * mask.area if finish.min_area is None else 0.0
    for number, polygon in enumerate(polygons(mask, finish)):
        if number and _area(polygon) < least:
            return
        ring = _percent(bridged(polygon), mask.frame).tolist()
        shape = {"points": ring} if output is Output.POLYGON else {"vertices": _vertices(ring)}
        yield Drawn(shape | {"closed": True}, _remarks(polygon, finish))


def _area(polygon: Polygon) -> float:
    """In pixels."""
    return sum(ring_area(ring) for ring in polygon.rings)  # those of holes are negative


def _remarks(polygon: Polygon, finish: Finish) -> tuple[str, ...]:
    """What became of the mask."""
    told = []
    if polygon.iou < finish.step_floor:
        told.append(f"IoU {polygon.iou:.2f} with the mask: stopped at {finish.max_vertices} corners")
    if polygon.filled:
        told.append("1 hole filled" if polygon.filled == 1 else f"{polygon.filled} holes filled")
    return tuple(told)


def _rectangle(mask: Mask) -> Value:
    (x0, y0), (x1, y1) = _percent(np.array(mask.tight().box, dtype=np.float64).reshape(2, 2), mask.frame).tolist()
    width, height = round(x1 - x0, _DECIMALS), round(y1 - y0, _DECIMALS)
    return {"x": x0, "y": y0, "width": width, "height": height, "rotation": 0}


def _oriented_rectangle(mask: Mask) -> Value | None:
    """The turned rectangle of least area; None where that is upright, or cannot be stored.

    The editor turns a rectangle about ``x, y``, its top left corner, clockwise and in pixels, and keeps its angle in
    0..360; sides are percent of the image's width and height as if it were not turned. So a side that is too long for
    the one may be stored as the other, by another corner.
    """
    box = oriented_box(mask)
    corners = box.corners()
    if box.angle == 0 or not _inside(corners, mask.frame):
        return None
    for first, sides in enumerate(((box.width, box.height), (box.height, box.width))):
        width, height = (round(100 * side / full, _DECIMALS) for side, full in zip(sides, mask.frame, strict=True))
        if width <= 100 and height <= 100:
            x, y = _percent(corners[first], mask.frame).tolist()
            return {"x": x, "y": y, "width": width, "height": height, "rotation": _turn(box.angle + 90 * first)}
    return None


def _ellipse(mask: Mask) -> Value:
    """The ellipse of the mask's second moments, or, where it cannot be stored, the one that fills the mask's box.

    The editor takes ``radiusX`` as percent of the image's width and ``radiusY`` of its height, makes them pixels, and
    turns those clockwise about the centre: a turned circle has two different numbers in an image that is no square.
    """
    shape = ellipse(mask)
    if _inside(np.reshape(shape.box(), (2, 2)), mask.frame):
        for turn, radii in enumerate(((shape.rx, shape.ry), (shape.ry, shape.rx))):
            value = _ellipse_value((shape.cx, shape.cy), radii, shape.angle + 90 * turn, mask.frame)
            if value["radiusX"] <= 50 and value["radiusY"] <= 50:
                return value
    x0, y0, x1, y1 = mask.tight().box
    return _ellipse_value(((x0 + x1) / 2, (y0 + y1) / 2), ((x1 - x0) / 2, (y1 - y0) / 2), 0, mask.frame)


def _ellipse_value(
    centre: tuple[float, float], radii: tuple[float, float], angle: float, frame: tuple[int, int]
) -> Value:
    x, y, radius_x, radius_y = (
        round(100 * length / full, _DECIMALS) for length, full in zip(centre + radii, frame * 2, strict=True)
    )
    return {"x": x, "y": y, "radiusX": radius_x, "radiusY": radius_y, "rotation": _turn(angle)}


def _turn(angle: float) -> float:
    """Degrees as the editor keeps them, 0 <= angle < 360."""
    return round(angle, _DECIMALS) % 360


def _inside(points: NDArray[np.float64], frame: tuple[int, int]) -> bool:
    """Whether ``(N, 2)`` xy in pixels lie in the frame, but for _SLACK."""
    return bool((points >= -_SLACK).all() and (points <= np.array(frame) + _SLACK).all())


def _vertices(ring: list[list[float]]) -> list[Value]:
    """A closed ring as the editor stores one: each vertex names the one before it, and the first the last.

    The editor draws a side for each such name; it fills the ring where the tag says ``closable="true"``.
    """
    return [
        {"id": f"v{number + 1}", "prevPointId": f"v{number or len(ring)}", "x": x, "y": y}
        for number, (x, y) in enumerate(ring)
    ]


def _percent(points: NDArray[np.float64], frame: tuple[int, int]) -> NDArray[np.float64]:
    """``(N, 2)`` xy in pixels to percent of the frame, clipped to 0..100 and rounded."""
    percent = np.clip(points * 100.0 / np.array(frame, dtype=np.float64), 0.0, 100.0)
    return percent.round(_DECIMALS)
