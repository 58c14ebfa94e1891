"""One task and a plan become a prediction: read its images, ask the model, write the regions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace

from backend.bodies import Task
from backend.images import Site
from backend.labeling import ImageSource, Label, Plan
from backend.memory import ShortMemory
from backend.metrics import Metrics
from backend.pictures import Pictures
from backend.predictions import Nothing, Prediction, prediction, tell_once
from backend.prompts import Place, Target
from backend.regions import Picture, Region, RegionWriter, remarks_on
from backend.stored import StoredRegions, people_drew
from sam3_core import Caller, Concept, ConceptResult, EncodedImage, FindOptions, Instance, Segmenter
from sam3_core.errors import (
    Busy,
    Dropped,
    ImageOutOfReach,
    ModelUnavailable,
    NotReady,
    Sam3Error,
    ServerUnavailable,
    Unauthorized,
)
from sam3_core.timing import stage

log = logging.getLogger(__name__)

NOT_THE_TASK = (NotReady, ModelUnavailable, Busy, Dropped, ServerUnavailable, Unauthorized)
"""Errors that say nothing about a task: stored as an empty prediction they would count as "nothing found"."""

_READERS = 16


@dataclass(frozen=True, slots=True)
class Page:
    """One image of a task. ``number`` is its place in a list of images, None for a single one."""

    task: Task
    source: ImageSource
    number: int | None
    address: object


class TaskSearch:
    """Predicts single tasks. One per process. Callable from any thread.

    version: names the model in predictions whose plan does not; the same as in /setup and /versions.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        pictures: Pictures,
        metrics: Metrics,
        *,
        version: Callable[[], str],
        max_megapixels: float,
    ) -> None:
        self.version = version
        self._segmenter = segmenter
        self._pictures = pictures
        self._metrics = metrics
        self._max_megapixels = max_megapixels
        self._readers = ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="sam3-read")

    def predict(
        self, task: Task, plan: Plan, site: Site | None, caller: Caller, *, opened: bool
    ) -> Prediction | None:
        """Every label's concept, searched in every image of the task; None leaves it open for another try: after a
        defect of ours, and where an image may be within reach later.

        opened: an annotator opens it, so its images are kept and, where prompts can be drawn, encoded for them.
        Images that cannot be used are sentences in the prediction. Raises the errors of ``NOT_THE_TASK``.
        """
        writer, found, nothing, left_open = RegionWriter(), list[Region](), Nothing(), False
        pages = pages_of(task, plan)
        if not pages:
            nothing.fail(plan.problem or "the task has no images")
        with closing(self._read_in_turn(pages, site, keep=opened)) as pictures:
            for page, picture in zip(pages, pictures, strict=True):
                try:
                    if isinstance(picture, Exception):
                        raise picture
                    if opened and plan.interactive:
                        self._warm(task, picture, caller)
                    found += self._find_all(page, picture, plan, writer, nothing, caller)
                except NOT_THE_TASK:
                    raise
                except Sam3Error as error:
                    self._fail(task, error)
                    nothing.fail(str(error), page.number)
                    left_open |= isinstance(error, ImageOutOfReach)
                except Exception as error:
                    # A defect of ours must not take the other tasks along.
                    log.exception("task %s failed", task.id)
                    self._metrics.count_failure(error, task=task.id)
                    left_open = True
        if reasons := str(nothing):
            log.info("task %s: %s", task.id, reasons)
        return None if left_open else prediction(found, self._stamp(plan), nothing)

    def warm(self, task: Task, plan: Plan, site: Site | None, caller: Caller) -> None:
        """Encode a task's images for the prompts that will be drawn on them. What fails is a line in the log.

        Raises the errors of ``NOT_THE_TASK``.
        """
        for page in pages_of(task, plan):
            image = self._read(page, site, keep=True)
            if isinstance(image, EncodedImage):
                self._warm(task, image, caller)
            else:
                log.info("task %s: not prepared for clicks: %s", task.id, image)

    def _warm(self, task: Task, image: EncodedImage, caller: Caller) -> None:
        """Weights that are not there would keep the prediction as well; nothing else may spoil it."""
        try:
            self._segmenter.warm(image, caller=caller)
        except NOT_THE_TASK:
            raise
        except Exception as error:  # noqa: BLE001 - see above
            log.info("task %s: not prepared for clicks: %s", task.id, error)

    def _stamp(self, plan: Plan) -> str:
        return plan.version or self.version()

    def _find_all(
        self,
        page: Page,
        picture: EncodedImage,
        plan: Plan,
        writer: RegionWriter,
        nothing: Nothing,
        caller: Caller,
    ) -> list[Region]:
        """The regions of every label on one image."""
        source = page.source
        results = self._search(page, picture, caller)
        self._metrics.instances.inc(sum(len(result.instances) for result in results.values()))
        self._metrics.count_removed(results.values())
        labelled = [(control, label) for control in source.controls for label in control.labels]
        found = {label.value for _, label in labelled if results[label.concept].instances}
        for value, concept in {
            label.value: label.concept for _, label in labelled if label.value not in found
        }.items():
            nothing.add(value, results[concept].reason, page.number)
        for note in dict.fromkeys(note for result in results.values() for note in result.notes):
            tell_once(note)
        meta = Picture(picture.key, self._stamp(plan))
        with stage("encode"):
            return [
                region
                for control, label in labelled
                for instance in results[label.concept].instances
                for region in writer.write(
                    _as_shown(instance, label),
                    Target(source, page.number, control, label.value),
                    meta,
                    remarks=remarks_on(instance, results[label.concept]),
                )
            ]

    def _search(self, page: Page, picture: EncodedImage, caller: Caller) -> dict[Concept, ConceptResult]:
        """What is found for each concept of the page, apart from what people drew."""
        source, concepts = page.source, page.source.concepts
        asked = concepts
        if people_drew(page.task):
            frame = picture.displayed_size(max_megapixels=self._max_megapixels)
            stored = StoredRegions(page.task, Place(source, page.number), frame, ShortMemory())
            asked = tuple(stored.without_drawn(concept, _labels_of(concept, source)) for concept in concepts)
        found = self._segmenter.find(picture, asked, FindOptions(tiles=source.tiles), caller=caller)
        return dict(zip(concepts, found, strict=True))

    def _read_in_turn(
        self, pages: Sequence[Page], site: Site | None, *, keep: bool
    ) -> Generator[EncodedImage | Exception]:
        """The pictures in order, or what kept them from being read; the next one is fetched meanwhile."""
        ahead: Future[EncodedImage | Exception] | None = None
        try:
            for number, page in enumerate(pages):
                with stage("fetch"):
                    picture = ahead.result() if ahead else self._read(page, site, keep=keep)
                more = pages[number + 1 : number + 2]
                ahead = self._readers.submit(self._read, more[0], site, keep=keep) if more else None
                yield picture
        finally:
            if ahead:
                ahead.cancel()

    def _read(self, page: Page, site: Site | None, *, keep: bool) -> EncodedImage | Exception:
        try:
            return self._pictures.get(page.address, site, page.task.id, keep=keep)
        except Exception as error:  # noqa: BLE001 - it is raised where the picture is used
            return error

    def _fail(self, task: Task, error: Sam3Error) -> None:
        log.warning("task %s: %s", task.id, error)
        self._metrics.count_failure(error, task=task.id)


def pages_of(task: Task, plan: Plan) -> list[Page]:
    """Every image of a task that the plan looks at, in order; a missing one has the address None."""
    pages = []
    for source in plan.sources:
        value = task.data.get(source.key)
        if isinstance(value, list):
            pages += [Page(task, source, number, address) for number, address in enumerate(value)]
        else:
            pages.append(Page(task, source, None, value))
    return pages


def _as_shown(instance: Instance, label: Label) -> Instance:
    """With the score that people and Label Studio's sampling see."""
    return instance if label.calibration is None else replace(instance, score=label.calibration(instance.score))


def _labels_of(concept: Concept, source: ImageSource) -> set[str]:
    return {label.value for control in source.controls for label in control.labels if label.concept == concept}
