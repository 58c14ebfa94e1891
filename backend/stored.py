"""Regions that ride along with a click, read back into masks: what the annotator has on the picture already.

Only regions of the clicked label are decoded, and those once: their masks are remembered by the JSON they came in.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from msgspec import UNSET, Raw, Struct, UnsetType

from backend.bodies import Task, decode
from backend.labeling import Output
from backend.memory import PackedMask, ShortMemory
from backend.prompts import Target
from backend.rle import mask_of_rle
from sam3_core import Box, Mask, Point
from sam3_core.encodings import png
from sam3_core.errors import InvalidInput, Sam3Error

log = logging.getLogger(__name__)

_SHIFT = 4  # fractional bits of polygon corners
_DATA_URL = "data:image/png;base64,"

Value = Raw | UnsetType


class _Value(Struct, frozen=True):
    """A region's ``value``. What may be large or odd stays JSON until it is looked at."""

    labels: Any = None
    brushlabels: Any = None
    polygonlabels: Any = None
    rectanglelabels: Any = None
    bitmasklabels: Any = None
    rle: Value = UNSET
    imageDataURL: Value = UNSET  # noqa: N815 - its name on the wire
    points: Value = UNSET
    x: Any = None
    y: Any = None
    width: Any = None
    height: Any = None
    rotation: Any = None


class _Region(Struct, frozen=True):
    id: Any = None
    from_name: Any = None
    to_name: Any = None
    item_index: Any = None
    value: _Value = _Value()


class _Layer(Struct, frozen=True):
    """An annotation or a draft. annotation: the id of the one that a draft is a newer state of."""

    id: Any = None
    result: list[_Region] | None = None
    annotation: Any = None
    was_cancelled: Any = None
    updated_at: str | None = None


@dataclass(frozen=True, slots=True)
class Earlier:
    """An outline that clicks may be about: a stored region, or an answer that is only remembered.

    outline: a box for a rectangle. control: the name of the control it belongs to.
    """

    region: str
    control: str
    outline: PackedMask | Box

    @property
    def box(self) -> Box:
        """Around it."""
        return self.outline if isinstance(self.outline, Box) else self.outline.box

    @property
    def mask(self) -> Mask | None:
        """Its pixels, unpacked anew each time; None for a rectangle."""
        return None if isinstance(self.outline, Box) else self.outline.mask()

    def contains(self, point: Point) -> bool:
        """Whether a click is on it."""
        if isinstance(self.outline, PackedMask):
            return self.outline.contains(point)
        x0, y0, x1, y1 = self.outline.xyxy
        return x0 <= point.x < x1 and y0 <= point.y < y1


class StoredRegions:
    """The regions of a task that have the target's label and lie on its page. Iterating reads them, top one first."""

    def __init__(
        self, task: Task, target: Target, frame: tuple[int, int], memory: ShortMemory, *, without: Collection[str]
    ) -> None:
        """frame: ``(width, height)`` of the picture. without: ids to leave out, such as the prompts' own."""
        self._frame = frame
        self._memory = memory
        self._controls = target.source.controls
        seen = set(without)
        self._regions: list[_Region] = []
        for region in _top_first(task):
            if isinstance(region.id, str) and region.id not in seen and _is_of(region, target):
                self._regions.append(region)
                seen.add(region.id)

    def __iter__(self) -> Iterator[Earlier]:
        for region in self._regions:
            try:
                yield self._read(region)
            except Sam3Error as error:
                log.debug("region %s is not read: %s", region.id, error)

    def _read(self, region: _Region) -> Earlier:
        value = region.value
        for output, raw in (
            (Output.BRUSH, value.rle),
            (Output.POLYGON, value.points),
            (Output.BITMASK, value.imageDataURL),
        ):
            if isinstance(raw, Raw):
                return Earlier(region.id, self._control(region, output), self._outline(output, raw))
        return Earlier(region.id, self._control(region, Output.RECTANGLE), _rectangle(value, self._frame))

    def _control(self, region: _Region, output: Output) -> str:
        """The name of the control that a region belongs to, where it came under the name of its ``<Labels>`` tag."""
        mine = (c.name for c in self._controls if c.output is output and region.from_name in (c.name, c.labeler))
        return next(mine, str(region.from_name))

    def _outline(self, output: Output, raw: Raw) -> PackedMask:
        text = bytes(raw)
        key = (output, self._frame, len(text), hash(text))
        known = self._memory.mask(key)
        if known is not None:
            return known
        mask = _READERS[output](raw, self._frame)
        if mask.area == 0:
            raise InvalidInput("there is nothing in it")
        outline = PackedMask.of(mask)
        self._memory.remember_mask(key, outline)
        return outline


def _top_first(task: Task) -> Iterator[_Region]:
    """Every region the annotator may see: drafts before annotations, newest first, last drawn first.

    Without either the editor begins with the newest prediction's regions, under their ids, and writes no draft before
    the first change to them.
    """
    drafts = _layers(task.drafts, "drafts")
    redrawn = {str(draft.annotation) for draft in drafts if draft.annotation is not None}
    annotations = [
        layer
        for layer in _layers(task.annotations, "annotations")
        if not layer.was_cancelled and str(layer.id) not in redrawn
    ]
    for layer in drafts + annotations or _layers(task.predictions, "predictions")[:1]:
        yield from reversed(layer.result or [])


def _layers(raw: Raw, name: str) -> list[_Layer]:
    try:
        layers = decode(list[_Layer], raw)
    except InvalidInput as error:
        log.debug("the task's %s are not read: %s", name, error)
        return []
    return sorted(layers, key=lambda layer: layer.updated_at or "", reverse=True)


def _is_of(region: _Region, target: Target) -> bool:
    if region.to_name != target.source.name or (region.item_index or 0) != (target.page or 0):
        return False
    value = region.value
    labels = (value.labels, value.brushlabels, value.polygonlabels, value.rectanglelabels, value.bitmasklabels)
    if not any(isinstance(some, list) and target.label in some for some in labels):
        return False
    if isinstance(value.rle, Raw) or isinstance(value.points, Raw) or isinstance(value.imageDataURL, Raw):
        return True
    # A rectangle of a control that we do not fill is a prompt, left behind when its answer was accepted.
    return any(
        control.name == region.from_name and control.output is Output.RECTANGLE for control in target.source.controls
    )


def _rectangle(value: _Value, frame: tuple[int, int]) -> Box:
    sides = (value.x, value.y, value.width, value.height)
    if not all(isinstance(side, int | float) for side in sides) or value.rotation not in (0, None):
        raise InvalidInput("it is no upright rectangle")
    x, y, width, height = (float(side) for side in sides)
    across, down = frame[0] / 100, frame[1] / 100
    return Box(x * across, y * down, (x + width) * across, (y + height) * down)


def _polygon(raw: Raw, frame: tuple[int, int]) -> Mask:
    """The pixels whose centres a ring encloses. raw: ``[[x, y], ...]``, percent of the frame."""
    corners = np.array(decode(list[tuple[float, float]], raw), dtype=np.float64).reshape(-1, 2)
    if len(corners) < 3:
        raise InvalidInput("a polygon needs three corners")
    pixels = np.clip(corners, 0, 100) * frame / 100
    origin = np.floor(pixels.min(axis=0)).astype(np.int64)
    width, height = np.maximum(np.ceil(pixels.max(axis=0)).astype(np.int64) - origin, 1)
    canvas = np.zeros((height, width), dtype=np.uint8)
    # fillPoly has pixel centres at whole numbers, and paints what an edge touches.
    ring = np.rint((pixels - origin - 0.5) * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(canvas, [ring], 1, shift=_SHIFT)
    x, y = np.minimum(origin, np.array(frame) - (width, height))
    return Mask(canvas.astype(np.bool_), int(x), int(y), frame).tight()


def _brush(raw: Raw, frame: tuple[int, int]) -> Mask:
    return mask_of_rle(decode(list[int], raw), frame)


def _bitmask(raw: Raw, frame: tuple[int, int]) -> Mask:
    url = decode(str, raw)
    try:
        data = base64.b64decode(url.removeprefix(_DATA_URL), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("a bitmask is a PNG as a data: address") from None
    mask = png.decode(data, max_megapixels=frame[0] * frame[1] / 1e6)
    if mask.frame != frame:
        raise InvalidInput(f"a bitmask of {mask.frame} lies on a picture of {frame}")
    return mask


_READERS = {Output.BRUSH: _brush, Output.POLYGON: _polygon, Output.BITMASK: _bitmask}
