"""Regions that ride along with a click, read back into masks: what the annotator has on the picture already.

Only regions of the clicked label are decoded, and those once: their masks are remembered by the JSON they came in.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from msgspec import Raw, Struct

from backend.bodies import Task, decode
from backend.labeling import Output
from backend.memory import PackedMask, ShortMemory
from backend.prompts import Target
from backend.shapes import Value, ellipse, read_encoded, turned_rectangle, upright_rectangle
from sam3_core import Box, Mask, Point
from sam3_core.errors import InvalidInput, Sam3Error

log = logging.getLogger(__name__)


class _Region(Struct, frozen=True):
    id: Any = None
    from_name: Any = None
    to_name: Any = None
    item_index: Any = None
    value: Value = Value()


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
    rough: the outline is only a turned rectangle or an ellipse around the object.
    """

    region: str
    control: str
    outline: PackedMask | Box
    rough: bool = False

    @property
    def box(self) -> Box:
        """Around it."""
        return self.outline if isinstance(self.outline, Box) else self.outline.box

    @property
    def mask(self) -> Mask | None:
        """The object's pixels, unpacked anew each time; None for a shape around it."""
        return None if isinstance(self.outline, Box) or self.rough else self.outline.mask()

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
        if value.encoded is not None:
            output, raw = value.encoded
            return Earlier(region.id, self._control(region, output), self._outline(output, raw))
        if value.radiusX is not None:
            around = PackedMask.of(ellipse(value, self._frame))
            return Earlier(region.id, self._control(region, Output.ELLIPSE), around, rough=True)
        control = self._control(region, Output.RECTANGLE)
        if value.rotation:
            return Earlier(region.id, control, PackedMask.of(turned_rectangle(value, self._frame)), rough=True)
        return Earlier(region.id, control, upright_rectangle(value, self._frame))

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
        outline = PackedMask.of(read_encoded(output, raw, self._frame))
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
    if not any(isinstance(some, list) and target.label in some for some in value.labelled):
        return False
    if value.encoded is not None or value.radiusX is not None:
        return True
    # A rectangle of a control that we do not fill is a prompt, left behind when its answer was accepted.
    return any(
        control.name == region.from_name and control.output is Output.RECTANGLE for control in target.source.controls
    )
