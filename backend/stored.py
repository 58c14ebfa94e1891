"""Regions that ride along with a task, read back into masks: what is on the picture already, and what people drew.

Of each region only what is asked for is decoded, and that once: clicks ask for those of their label one by one, from
the top, a search for all that people drew. Masks are remembered by the JSON they came in.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from msgspec import Raw, Struct

from backend.bodies import Task, decode
from backend.labeling import Output
from backend.memory import PackedMask, ShortMemory
from backend.prompts import Place
from backend.results import Region, Result
from backend.shapes import ellipse, read_encoded, turned_rectangle, upright_rectangle
from sam3_core import Box, Concept, Mask, Point
from sam3_core.errors import InvalidInput, Sam3Error

log = logging.getLogger(__name__)

_NOTHING = (b"", b"[]", b"null")


class _Layer(Struct, frozen=True):
    """An annotation or a draft. annotation: the id of the one that a draft is a newer state of."""

    id: Any = None
    result: list[Result] | None = None
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


def people_drew(task: Task) -> bool:
    """Whether a task carries annotations or drafts, by a look that costs nothing."""
    return bytes(task.annotations) not in _NOTHING or bytes(task.drafts) not in _NOTHING


class StoredRegions:
    """The regions on one image of a task. Nothing is read before it is asked for. For one thread."""

    def __init__(
        self, task: Task, place: Place, frame: tuple[int, int], memory: ShortMemory, *, without: Collection[str] = ()
    ) -> None:
        """frame: ``(width, height)`` of the picture. without: ids to leave out, such as the prompts' own."""
        self._task = task
        self._place = place
        self._frame = frame
        self._memory = memory
        self._without = frozenset(without)
        self._read: dict[str, Earlier | None] = {}
        self._outlines: dict[str, Mask | Box | None] = {}

    def of_label(self, label: str) -> Iterator[Earlier]:
        """What the annotator sees under a label, top one first.

        Without annotations and drafts the editor begins with the newest prediction's regions, under their ids, and
        writes no draft before the first change to them.
        """
        regions = self._drawn if self._layers else self._predicted
        return (earlier for region in regions if label in region.labels and (earlier := self._earlier(region)))

    def without_drawn(self, concept: Concept, labels: Collection[str]) -> Concept:
        """The concept, to be found apart from what people outlined already with tags that we fill.

        labels: it is looked for under. Where it may overlap with other labels, only theirs counts.
        """
        drawn = [region for region in self._drawn if not (concept.rules.overlap and region.labels.isdisjoint(labels))]
        outlines = (outline for region in drawn if (outline := self._unpacked(region)) is not None)
        return replace(concept, drawn=tuple(outlines)) if drawn else concept

    @cached_property
    def _layers(self) -> list[_Layer]:
        """What people made: drafts before annotations, newest first."""
        drafts = _layers(self._task.drafts, "drafts")
        redrawn = {str(draft.annotation) for draft in drafts if draft.annotation is not None}
        return drafts + [
            layer
            for layer in _layers(self._task.annotations, "annotations")
            if not layer.was_cancelled and str(layer.id) not in redrawn
        ]

    @cached_property
    def _drawn(self) -> list[Region]:
        return self._here(self._layers)

    @cached_property
    def _predicted(self) -> list[Region]:
        return self._here(_layers(self._task.predictions, "predictions")[:1])

    def _here(self, layers: Sequence[_Layer]) -> list[Region]:
        """The regions on the picture, last drawn first; of those with one id the first layer's."""
        found: dict[str, Region] = {}
        for layer in layers:
            regions: dict[str, Region] = {}
            for result in reversed(layer.result or ()):
                name = result.id
                if (
                    isinstance(name, str)
                    and name not in found
                    and name not in self._without
                    and self._is_here(result)
                ):
                    regions.setdefault(name, Region(name)).add(result)
            found |= regions
        return list(found.values())

    def _is_here(self, result: Result) -> bool:
        return bool(result.to_name == self._place.source.name and result.page == (self._place.page or 0))

    def _earlier(self, region: Region) -> Earlier | None:
        """The region's outline, read once; None for what has none, cannot be read, or is a prompt."""
        if region.id not in self._read:
            self._read[region.id] = None
            try:
                self._read[region.id] = self._decoded(region)
            except Sam3Error as error:
                log.debug("region %s is not read: %s", region.id, error)
        return self._read[region.id]

    def _unpacked(self, region: Region) -> Mask | Box | None:
        """The pixels or the box that somebody outlined; of a turned shape the pixels inside. Made once."""
        if region.id not in self._outlines:
            earlier = self._earlier(region)
            outline = earlier.outline if earlier and earlier.control else None
            self._outlines[region.id] = outline.mask() if isinstance(outline, PackedMask) else outline
        return self._outlines[region.id]

    def _decoded(self, region: Region) -> Earlier | None:
        value, output = region.value, region.kind
        if output is None:
            return None
        control = region.control(self._place.source)
        name = control.name if control else ""
        if value.encoded is not None:
            return Earlier(region.id, name, self._outline(*value.encoded))
        if output is Output.ELLIPSE:
            return Earlier(region.id, name, PackedMask.of(ellipse(value, self._frame)), rough=True)
        if not name:  # a prompt, left behind when its answer was accepted
            return None
        if value.rotation:
            return Earlier(region.id, name, PackedMask.of(turned_rectangle(value, self._frame)), rough=True)
        return Earlier(region.id, name, upright_rectangle(value, self._frame))

    def _outline(self, output: Output, raw: Raw) -> PackedMask:
        text = bytes(raw)
        key = (output, self._frame, len(text), hash(text))
        known = self._memory.mask(key)
        if known is not None:
            return known
        outline = PackedMask.of(read_encoded(output, raw, self._frame))
        self._memory.remember_mask(key, outline)
        return outline


def _layers(raw: Raw, name: str) -> list[_Layer]:
    try:
        layers = decode(list[_Layer], raw)
    except InvalidInput as error:
        log.debug("the task's %s are not read: %s", name, error)
        return []
    return sorted(layers, key=lambda layer: layer.updated_at or "", reverse=True)
