"""Instances become regions that Label Studio's editor, exporters and validators accept, to the last field.

Rules for masks that one ring cannot hold (polygons of Label Studio have no holes): every part of a mask becomes a
polygon of its own, with the same score; a hole is joined to its outer ring by a bridge of no width, so that filling
the ring leaves it empty. Vectors likewise. A rectangle is the box around all parts, an ellipse has their centre of
mass and their area. For all of these, fragments below a twentieth of the mask are left out: each would be a region to
delete, or a box far too wide. Brush and bitmask regions hold every pixel. A keypoint is the place deepest inside.

Turned rectangles and ellipses stay in the image: where one would reach out of it by more than half a pixel, or need
a side above 100 % or a radius above 50 %, which label-studio-sdk refuses, it is upright: the box around the mask,
or the ellipse that fills that box.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.labeling import Control, Output
from backend.prompts import Target
from backend.rle import brush_rle
from sam3_core import Instance, Mask
from sam3_core.encodings import png
from sam3_core.encodings.polygons import bridged, polygons
from sam3_core.encodings.shapes import ellipse, oriented_box, visual_centre

Region = dict[str, Any]

_FRAGMENT_SHARE = 0.05
_DECIMALS = 4  # of a percent: a hundredth of a pixel at 10 000 pixels
_DOT = 0.5  # size of a keypoint's dot, percent of the image's width; it means nothing else
_SLACK = 0.5  # pixels that a turned shape may reach out of the image


@dataclass(frozen=True, slots=True)
class Picture:
    """What region ids are made of besides the region: the image's content and the weights' version."""

    key: str
    version: str


class RegionWriter:
    """Writes the regions of one task. Holds the ids given: equal input gives equal ids, none twice in a task."""

    def __init__(self) -> None:
        self._ids: set[str] = set()

    def write(
        self, instance: Instance, target: Target, picture: Picture, *, region_id: str | None = None
    ) -> list[Region]:
        """The regions of one instance: one, or for polygons one per part; none for an empty mask.

        region_id: the id of the region it takes the place of; further parts get it with ``-2``, ``-3`` behind.
        Where the labels are a tag of their own, each region is two results of one id, as the editor stores them.
        """
        mask = instance.mask
        if mask.area == 0:
            return []
        width, height = mask.frame
        common: Region = {
            "to_name": target.source.name,
            "original_width": width,
            "original_height": height,
            "image_rotation": target.rotation,
            "score": share(instance.score),
            "meta": {"text": [text for text in (instance.phrase, picture.version) if text]},
        }
        if target.page is not None:
            common["item_index"] = target.page
        results: list[Region] = []
        for part, value in enumerate(_values(target.control, mask)):
            name = self._next_id(region_id) if region_id else self._new_id(target, picture, mask, part)
            results += ({"id": name, **common, **rest} for rest in _labelled(value, target))
        return results

    def _next_id(self, region_id: str) -> str:
        """The id, with the first number behind it that makes it new."""
        names = itertools.chain((region_id,), (f"{region_id}-{number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in self._ids)
        self._ids.add(name)
        return name

    def _new_id(self, target: Target, picture: Picture, mask: Mask, part: int) -> str:
        """16 letters and digits from everything that makes the region what it is."""
        place = (picture.key, target.source.name, target.page, target.control.name, target.label, mask.box, part)
        content = repr(place).encode() + np.packbits(mask.bits).tobytes()
        for repeat in range(len(self._ids) + 1):
            digest = hashlib.blake2b(content, digest_size=10, salt=repeat.to_bytes(8, "big")).digest()
            region_id = base64.b32encode(digest).decode().lower()
            if region_id not in self._ids:
                break
        self._ids.add(region_id)
        return region_id


def share(score: float) -> float:
    """A score as Label Studio stores it: 0..1, finite, six decimals."""
    return round(min(1.0, max(0.0, float(score))), 6) if math.isfinite(score) else 0.0


def mean_score(regions: Sequence[Region]) -> float:
    """The mean of the regions' scores, 0..1: what Label Studio orders tasks by. 0 without regions."""
    return share(math.fsum(region["score"] for region in regions) / len(regions)) if regions else 0.0


def _labelled(value: Region, target: Target) -> Iterator[Region]:
    """What tells the results of one region apart: tag, type and value, with the label where it belongs."""
    control, labels = target.control, [target.label]
    if not control.labeler:
        yield {"from_name": control.name, "type": control.output.value, "value": value | {control.output: labels}}
        return
    yield {"from_name": control.name, "type": control.output.plain, "value": value}
    yield {"from_name": control.labeler, "type": "labels", "value": value | {"labels": labels}}


def _values(control: Control, mask: Mask) -> Iterator[Region]:
    """The ``value`` of each region a mask becomes, without its labels."""
    output = control.output
    if output is Output.BRUSH:
        yield {"format": "rle", "rle": brush_rle(mask)}
        return
    if output is Output.BITMASK:
        yield {"imageDataURL": "data:image/png;base64," + base64.b64encode(png.encode_ink(mask)).decode()}
        return
    if output is Output.KEYPOINT:
        (x, y) = _percent(np.array(visual_centre(mask)), mask.frame).tolist()
        yield {"x": x, "y": y, "width": _DOT}
        return
    mask = _without_fragments(mask)
    if output is Output.ELLIPSE:
        yield _ellipse(mask)
    elif output is Output.RECTANGLE:
        yield (_oriented_rectangle(mask) if control.oriented else None) or _rectangle(mask)
    else:
        for polygon in polygons(mask):
            ring = _percent(bridged(polygon), mask.frame).tolist()
            yield ({"points": ring} if output is Output.POLYGON else {"vertices": _vertices(ring)}) | {"closed": True}


def _without_fragments(mask: Mask) -> Mask:
    """The mask without parts (pixels joined by edges) below _FRAGMENT_SHARE of its pixels, but with the largest."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.bits.astype(np.uint8), connectivity=4)
    if count <= 2:  # the ground and one part
        return mask
    areas = stats[:, cv2.CC_STAT_AREA]
    stays = areas >= min(_FRAGMENT_SHARE * mask.area, areas[1:].max())
    stays[0] = False
    return Mask(stays[parts], mask.x, mask.y, mask.frame)


def _rectangle(mask: Mask) -> Region:
    (x0, y0), (x1, y1) = _percent(np.array(mask.tight().box, dtype=np.float64).reshape(2, 2), mask.frame).tolist()
    width, height = round(x1 - x0, _DECIMALS), round(y1 - y0, _DECIMALS)
    return {"x": x0, "y": y0, "width": width, "height": height, "rotation": 0}


def _oriented_rectangle(mask: Mask) -> Region | None:
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


def _ellipse(mask: Mask) -> Region:
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
) -> Region:
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


def _vertices(ring: list[list[float]]) -> list[Region]:
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
