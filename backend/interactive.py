"""A click, a box or typed text becomes the regions that the editor shows as suggestions.

The editor sends all pending prompts of a label with each one, and replaces its suggestions by the answer; once they
are accepted the prompts are gone, and the next one comes alone. ``backend.refinement`` finds out what it is about.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from backend.bodies import ContextRegion, Task
from backend.callers import both
from backend.images import Site
from backend.labeling import Plan
from backend.memory import Answer, PackedMask, ShortMemory, Where
from backend.metrics import Metrics
from backend.pictures import Pictures
from backend.predictions import Nothing, Prediction, prediction, tell_once
from backend.prompts import Ask, Drawing, Place, Target, find_place, read_asks
from backend.refinement import again, start_of
from backend.regions import Picture, Region, RegionWriter, remarks_on
from backend.search import NOT_THE_TASK
from backend.stored import StoredRegions
from backend.superseded import Newest
from sam3_core import Caller, Concept, EncodedImage, FindOptions, Instance, OutlineOptions, Segmenter
from sam3_core.caller import CLICK
from sam3_core.errors import Dropped, ImageUnavailable, Sam3Error
from sam3_core.timing import stage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Request:
    """What all asks of a request share.

    number: its place in the order of arrival. caller: who waits. size: of the displayed image. stored: what is on it
    already.
    """

    task: Task
    project: str
    number: int
    caller: Caller
    image: EncodedImage
    size: tuple[int, int]
    place: Place
    stored: StoredRegions
    nothing: Nothing


@dataclass(frozen=True, slots=True)
class _Suggestion:
    """An instance, where it goes, the id of its region, empty where the region writer may choose, and what to say."""

    instance: Instance
    target: Target
    region: str = ""
    remarks: tuple[str, ...] = ()


class Interactive:
    """Answers prompts. One per process: it remembers what it answered. Callable from any thread."""

    def __init__(
        self,
        segmenter: Segmenter,
        pictures: Pictures,
        metrics: Metrics,
        *,
        version: Callable[[], str],
        max_megapixels: float,
    ) -> None:
        """version: names the weights, at once."""
        self._segmenter = segmenter
        self._version = version
        self._pictures = pictures
        self._metrics = metrics
        self._max_megapixels = max_megapixels
        self._memory = ShortMemory()
        self._newest = Newest()

    def answer(
        self,
        task: Task,
        prompts: Sequence[ContextRegion],
        plan: Plan,
        site: Site | None,
        project: str,
        caller: Caller = CLICK,
    ) -> Prediction:
        """The regions that answer what the annotator drew or typed; if there are none, the log and ``meta`` say why.

        Raises NotReady while the weights load, ModelUnavailable when they cannot be, Busy when there is more to do
        than can be done, and Dropped when the caller left.
        """
        number, nothing, regions = self._newest.arrive(), Nothing(), list[Region]()
        try:
            with self._metrics.interactive_seconds.time():
                regions = self._answer(task, prompts, plan, site, project, number, caller, nothing)
        except Dropped:
            if not caller.wanted():
                raise
            log.info("task %s: a click was dropped: a newer one took its place", task.id)
            self._metrics.superseded.inc()
        except NOT_THE_TASK:
            raise
        except Sam3Error as error:
            log.warning("task %s: %s", task.id, error)
            self._metrics.count_failure(error, task=task.id)
            nothing.fail(str(error))
        if reasons := str(nothing):
            log.info("task %s: %s", task.id, reasons)
        return prediction(regions, self._version(), nothing)

    def _answer(
        self,
        task: Task,
        prompts: Sequence[ContextRegion],
        plan: Plan,
        site: Site | None,
        project: str,
        number: int,
        caller: Caller,
        nothing: Nothing,
    ) -> list[Region]:
        place = find_place(prompts, plan)
        if place is None:
            return []
        with stage("fetch"):
            image = self._pictures.get(_address(task, place), site, task.id, keep=True)
        size = image.displayed_size(max_megapixels=self._max_megapixels)
        ids = {prompt.id for prompt in prompts}
        stored = StoredRegions(task, place, size, self._memory, without=ids)
        request = _Request(task, project, number, caller, image, size, place, stored, nothing)
        asks = read_asks(prompts, place, plan, size)
        found = self._find(request, [ask for ask in asks if isinstance(ask.prompt, Concept)])
        for ask in asks:
            if isinstance(ask.prompt, Drawing):
                found += self._outline(request, ask, ask.prompt)
        self._metrics.instances.inc(len(found))
        return self._write(request, found)

    def _find(self, request: _Request, asks: Sequence[Ask]) -> list[_Suggestion]:
        """Every instance of what was typed or shown that nobody outlined yet; all asks in one pass of the model."""
        stored, found = request.stored, list[_Suggestion]()
        concepts = [
            stored.without_drawn(ask.prompt, (ask.target.label,)) for ask in asks if isinstance(ask.prompt, Concept)
        ]
        if not concepts:
            return found
        options = FindOptions(tiles=request.place.source.tiles)
        results = self._segmenter.find(request.image, concepts, options, caller=request.caller)
        self._metrics.count_removed(results)
        for ask, result in zip(asks, results, strict=True):
            for note in result.notes:
                tell_once(note)
            if result.reason:
                request.nothing.add(ask.target.label, result.reason)
            found += (_Suggestion(one, ask.target, remarks=remarks_on(one, result)) for one in result.instances)
        return found

    def _outline(self, request: _Request, ask: Ask, drawing: Drawing) -> list[_Suggestion]:
        """The one object that was clicked or boxed, in as many readings as are wanted."""
        task, origins = request.task, frozenset(ask.origins)
        target = ask.target
        where = Where(request.project, task.id, target.source.name, target.page or 0, target.label)
        with self._newest.waiting(where, origins, request.number) as wanted:
            answers = [known for known in self._memory.answers(where) if known.outline.frame == request.size]
            start = start_of(drawing, origins, answers, request.stored.of_label(target.label))
            options = OutlineOptions(candidates=ask.candidates)
            caller = both(request.caller, wanted)
            instances = self._segmenter.outline(request.image, start.prompt, options, caller=caller)
        if not instances:
            request.nothing.add(target.label, f"the model sees no object at {_shown(drawing)}")
            return []
        region, control = start.region, start.control
        if not region:
            same = again(drawing, instances[0].mask, answers, request.stored.of_label(target.label))
            region, control = (same.region, same.control) if same else (_new_id(task, ask), "")
        target = _at_control(target, control)
        found = [_Suggestion(one, target, _candidate_id(region, i)) for i, one in enumerate(instances)]
        for suggestion in reversed(found):  # the best one last: it is what the next click goes on from
            outline = PackedMask.of(suggestion.instance.mask)
            answer = Answer(origins, drawing, suggestion.region, target.control.name, outline)
            self._memory.remember(where, answer)
        return found

    def _write(self, request: _Request, found: Sequence[_Suggestion]) -> list[Region]:
        picture, writer = Picture(request.image.key, self._version()), RegionWriter()
        with stage("encode"):
            return [
                region
                for one in found
                for region in writer.write(
                    one.instance, one.target, picture, region_id=one.region or None, remarks=one.remarks
                )
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
