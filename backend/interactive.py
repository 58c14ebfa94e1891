"""A click, a box or typed text becomes the regions that the editor shows as suggestions.

The editor sends all pending prompts of a label with each one, and replaces its suggestions by the answer; once they
are accepted the prompts are gone, and the next one comes alone. ``backend.refinement`` finds out what it is about.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from backend.bodies import ContextRegion, Task
from backend.images import Site
from backend.labeling import Plan
from backend.memory import Answer, PackedMask, ShortMemory, Where
from backend.metrics import Metrics
from backend.pictures import Pictures
from backend.prompts import Ask, Drawing, Place, Target, find_place, read_asks
from backend.refinement import again, start_of
from backend.regions import Picture, Region, RegionWriter
from backend.stored import StoredRegions
from backend.superseded import Newest
from sam3_core import Concept, EncodedImage, Instance, OutlineOptions, Segmenter
from sam3_core.errors import Dropped, ImageUnavailable, ModelUnavailable, NotReady, Sam3Error
from sam3_core.timing import stage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Request:
    """What all asks of a request share. number: its place in the order of arrival. size: of the displayed image."""

    task: Task
    project: str
    number: int
    image: EncodedImage
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Suggestion:
    """An instance, where it goes, and the id of its region; empty where the region writer may choose."""

    instance: Instance
    target: Target
    region: str = ""


class Interactive:
    """Answers prompts. One per process: it remembers what it answered. Callable from any thread."""

    def __init__(self, segmenter: Segmenter, pictures: Pictures, metrics: Metrics, *, max_megapixels: float) -> None:
        self._segmenter = segmenter
        self._pictures = pictures
        self._metrics = metrics
        self._max_megapixels = max_megapixels
        self._memory = ShortMemory()
        self._newest = Newest()

    def answer(
        self, task: Task, prompts: Sequence[ContextRegion], plan: Plan, site: Site | None, project: str
    ) -> list[Region]:
        """The regions that answer what the annotator drew or typed; none, with a reason in the log, if it found none.

        Raises NotReady while the weights load and ModelUnavailable when they cannot be.
        """
        number = self._newest.arrive()
        try:
            with self._metrics.interactive_seconds.time():
                return self._answer(task, prompts, plan, site, project, number)
        except (NotReady, ModelUnavailable):
            raise
        except Dropped:
            log.info("task %s: a click was dropped: a newer one took its place", task.id)
            self._metrics.superseded.inc()
        except Sam3Error as error:
            log.warning("task %s: %s", task.id, error)
            self._metrics.failures.labels(type(error).__name__).inc()
        return []

    def _answer(
        self,
        task: Task,
        prompts: Sequence[ContextRegion],
        plan: Plan,
        site: Site | None,
        project: str,
        number: int,
    ) -> list[Region]:
        place = find_place(prompts, plan)
        if place is None:
            return []
        with stage("fetch"):
            image = self._pictures.get(_address(task, place), site, task.id, keep=True)
        size = image.displayed_size(max_megapixels=self._max_megapixels)
        request = _Request(task, project, number, image, size)
        asks = read_asks(prompts, place, plan, size)
        found = self._find(request, [ask for ask in asks if isinstance(ask.prompt, Concept)])
        for ask in asks:
            if isinstance(ask.prompt, Drawing):
                found += self._outline(request, ask, ask.prompt)
        self._metrics.instances.inc(len(found))
        return self._write(request, found)

    def _find(self, request: _Request, asks: Sequence[Ask]) -> list[_Suggestion]:
        """Every instance of what was typed or shown; all asks in one pass of the model."""
        concepts = [ask.prompt for ask in asks if isinstance(ask.prompt, Concept)]
        found: list[_Suggestion] = []
        if not concepts:
            return found
        for ask, result in zip(asks, self._segmenter.find(request.image, concepts), strict=True):
            if result.reason:
                log.info("task %s: %r: %s", request.task.id, ask.target.label, result.reason)
            found += (_Suggestion(instance, ask.target) for instance in result.instances)
        return found

    def _outline(self, request: _Request, ask: Ask, drawing: Drawing) -> list[_Suggestion]:
        """The one object that was clicked or boxed, in as many readings as are wanted."""
        task, origins = request.task, frozenset(ask.origins)
        target = ask.target
        where = Where(request.project, task.id, target.source.name, target.page or 0, target.label)
        with self._newest.waiting(where, origins, request.number) as wanted:
            answers = [known for known in self._memory.answers(where) if known.outline.frame == request.size]
            stored = StoredRegions(task, target, request.size, self._memory, without=origins)
            start = start_of(drawing, origins, answers, stored)
            options = OutlineOptions(candidates=ask.candidates)
            instances = self._segmenter.outline(request.image, start.prompt, options, wanted=wanted)
        if not instances:
            log.info("task %s: %r: the model sees no object at %s", task.id, target.label, _shown(drawing))
            return []
        region, control = start.region, start.control
        if not region:
            same = again(drawing, instances[0].mask, answers, stored)
            region, control = (same.region, same.control) if same else (_new_id(task, ask), "")
        target = _at_control(target, control)
        found = [_Suggestion(one, target, _candidate_id(region, i)) for i, one in enumerate(instances)]
        for suggestion in reversed(found):  # the best one last: it is what the next click goes on from
            outline = PackedMask.of(suggestion.instance.mask)
            answer = Answer(origins, drawing, suggestion.region, target.control.name, outline)
            self._memory.remember(where, answer)
        return found

    def _write(self, request: _Request, found: Sequence[_Suggestion]) -> list[Region]:
        picture, writer = Picture(request.image.key, self._segmenter.info().version), RegionWriter()
        with stage("encode"):
            return [
                region
                for one in found
                for region in writer.write(one.instance, one.target, picture, region_id=one.region or None)
            ]


def _address(task: Task, place: Place) -> object:
    """Of the image that prompts are about."""
    value = task.data.get(place.source.key)
    if not isinstance(value, list):
        return value
    page = place.page or 0
    if page >= len(value):
        raise ImageUnavailable(f"the prompt is on page {page}, counted from 0, of {len(value)}")
    return value[page]


def _at_control(target: Target, name: str) -> Target:
    """The target at the control that a region already belongs to, where that is one we fill with its label."""
    for control in (target.control, *target.source.controls):
        if control.name == name and control.label(target.label):
            return replace(target, control=control)
    return target


def _new_id(task: Task, ask: Ask) -> str:
    """The same for each request that the ask's first prompt is in; empty for prompts without ids."""
    if not ask.origins:
        return ""
    return _digest(task.id, ask.origins[0], ask.target.label, ask.target.control.name)


def _candidate_id(region: str, number: int) -> str:
    """The best reading has the region's own id, others theirs."""
    return _digest(region, number) if region and number else region


def _digest(*parts: object) -> str:
    """16 letters and digits."""
    return base64.b32encode(hashlib.blake2b(repr(parts).encode(), digest_size=10).digest()).decode().lower()


def _shown(drawing: Drawing) -> str:
    """For a line in the log."""
    points = (f"({point.x:.0f}, {point.y:.0f}){'' if point.positive else ' negative'}" for point in drawing.points)
    box = [f"the box {tuple(round(v) for v in drawing.box.xyxy)}"] if drawing.box else []
    return ", ".join([*box, *points])
