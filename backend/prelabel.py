"""Tasks and a plan become predictions: read the images ahead, ask the model, write the regions."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from backend.bodies import Task
from backend.images import Site
from backend.labeling import ImageSource, Plan
from backend.memory import ShortMemory
from backend.metrics import Metrics
from backend.pictures import Pictures
from backend.predictions import Nothing, Prediction, prediction, tell_once
from backend.prompts import Place, Target
from backend.regions import Picture, Region, RegionWriter, remarks_on
from backend.stored import StoredRegions, people_drew
from sam3_core import Concept, ConceptResult, EncodedImage, FindOptions, Segmenter
from sam3_core.errors import ModelUnavailable, NotReady, Sam3Error
from sam3_core.timing import stage

log = logging.getLogger(__name__)

_AHEAD = 4  # images read before their turn


@dataclass(frozen=True, slots=True)
class Page:
    """One image of a task. ``number`` is its place in a list of images, None for a single one."""

    task: Task
    source: ImageSource
    number: int | None
    address: object


class Prelabeler:
    """Predicts tasks. One per process: it owns the threads that read ahead. Callable from any thread."""

    def __init__(
        self,
        segmenter: Segmenter,
        pictures: Pictures,
        metrics: Metrics,
        *,
        request_seconds: float,
        max_megapixels: float,
    ) -> None:
        self._segmenter = segmenter
        self._pictures = pictures
        self._metrics = metrics
        self._request_seconds = request_seconds
        self._max_megapixels = max_megapixels
        self._readers = ThreadPoolExecutor(max_workers=_AHEAD, thread_name_prefix="sam3-read")

    def predict_tasks(self, tasks: Sequence[Task], plan: Plan, site: Site | None) -> list[Prediction | list[Any]]:
        """One entry per task, in order: every label's concept, searched in every image of the task.

        What people drew on a task already is not found again. Labels that found nothing, and images that cannot be
        used, are a line in the log and a sentence in the prediction's ``meta``. Tasks for which the time of
        the request did not last get ``[]``, which makes Label Studio store nothing and ask again, where an empty
        prediction would count as done. A single task is one that an annotator opens: its images are kept and, where
        prompts can be drawn, encoded for them, so that the first click is answered like a later one.
        Raises NotReady or ModelUnavailable when not even the first could be asked.
        """
        deadline = time.monotonic() + self._request_seconds
        opened = len(tasks) == 1
        work = [pages_of(task, plan) for task in tasks]
        done: list[Prediction | list[Any]] = []
        every = [page for pages in work for page in pages]
        with closing(self._read_ahead(every, site, deadline, keep=opened)) as pictures:
            for task, pages in zip(tasks, work, strict=True):
                if done and time.monotonic() > deadline:
                    log.warning("out of time after %d of %d tasks: ask for fewer at once", len(done), len(tasks))
                    break
                try:
                    done.append(self._predict_task(task, pages, pictures, plan, opened=opened))
                except (NotReady, ModelUnavailable) as error:
                    if not any(done):
                        raise
                    log.warning("stopped after %d of %d tasks: %s", len(done), len(tasks), error)
                    break
        regions = sum(len(prediction["result"]) for prediction in done if isinstance(prediction, dict))
        seconds = time.monotonic() - deadline + self._request_seconds
        log.info("%d of %d tasks done: %d regions in %.1f s", len(done), len(tasks), regions, seconds)
        return done + [[] for _ in range(len(tasks) - len(done))]

    def warm(self, task: Task, plan: Plan, site: Site | None) -> None:
        """Encode a task's images for the prompts that will be drawn on them. What fails is a line in the log.

        Raises NotReady or ModelUnavailable.
        """
        for page in pages_of(task, plan):
            image = self._read(page, site, keep=True)
            if isinstance(image, EncodedImage):
                self._warm(task, image)
            else:
                log.info("task %s: not prepared for clicks: %s", task.id, image)

    def _predict_task(
        self,
        task: Task,
        pages: Sequence[Page],
        pictures: Iterator[EncodedImage | Exception],
        plan: Plan,
        *,
        opened: bool,
    ) -> Prediction | list[Any]:
        """One task; whatever happens to one of its images, all of them are taken off the line."""
        writer, found, nothing, broken = RegionWriter(), list[Region](), Nothing(), False
        if not pages:
            nothing.fail(plan.problem or "the task has no images")
        for page, picture in zip(pages, pictures, strict=False):  # pages first: it ends before taking one too many
            try:
                if isinstance(picture, Exception):
                    raise picture
                if opened and plan.interactive:
                    self._warm(task, picture)
                found += self._find_all(page, picture, writer, nothing)
            except (NotReady, ModelUnavailable):
                raise
            except Sam3Error as error:
                self._fail(task, error)
                nothing.fail(str(error), page.number)
            except TimeoutError:
                broken = True
            except Exception as error:
                # A defect of ours must not take the other tasks along; [] leaves this one open for another try.
                log.exception("task %s failed", task.id)
                self._metrics.failures.labels(type(error).__name__).inc()
                broken = True
        if reasons := str(nothing):
            log.info("task %s: %s", task.id, reasons)
        return [] if broken else self.prediction(found, nothing)

    def _warm(self, task: Task, image: EncodedImage) -> None:
        """Weights that are not there would keep the prediction as well; nothing else may spoil it."""
        try:
            self._segmenter.warm(image)
        except (NotReady, ModelUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - see above
            log.info("task %s: not prepared for clicks: %s", task.id, error)

    def _find_all(self, page: Page, picture: EncodedImage, writer: RegionWriter, nothing: Nothing) -> list[Region]:
        """The regions of every label on one image."""
        source = page.source
        results = self._search(page, picture)
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
        meta = Picture(picture.key, self.version)
        with stage("encode"):
            return [
                region
                for control, label in labelled
                for instance in results[label.concept].instances
                for region in writer.write(
                    instance,
                    Target(source, page.number, control, label.value),
                    meta,
                    remarks=remarks_on(instance, results[label.concept]),
                )
            ]

    def _search(self, page: Page, picture: EncodedImage) -> dict[Concept, ConceptResult]:
        """What is found for each concept of the plan, apart from what people drew."""
        source, concepts = page.source, page.source.concepts
        asked = concepts
        if people_drew(page.task):
            frame = picture.displayed_size(max_megapixels=self._max_megapixels)
            stored = StoredRegions(page.task, Place(source, page.number), frame, ShortMemory())
            asked = tuple(stored.without_drawn(concept, _labels_of(concept, source)) for concept in concepts)
        found = self._segmenter.find(picture, asked, FindOptions(tiles=source.tiles))
        return dict(zip(concepts, found, strict=True))

    def _read_ahead(
        self, pages: Sequence[Page], site: Site | None, deadline: float, *, keep: bool
    ) -> Generator[EncodedImage | Exception]:
        """The pictures in order, or what kept them from being read; a few are fetched before their turn.

        One that is still under way at the deadline (of ``time.monotonic``) is a TimeoutError.
        """
        waiting: deque[Future[EncodedImage | Exception]] = deque()
        coming = iter(pages)
        try:
            while True:
                while len(waiting) < _AHEAD and (page := next(coming, None)) is not None:
                    waiting.append(self._readers.submit(self._read, page, site, keep=keep))
                if not waiting:
                    return
                yield _arrived(waiting.popleft(), deadline)
        finally:
            for future in waiting:
                future.cancel()

    def _read(self, page: Page, site: Site | None, *, keep: bool) -> EncodedImage | Exception:
        try:
            return self._pictures.get(page.address, site, page.task.id, keep=keep)
        except Exception as error:  # noqa: BLE001 - it is raised where the picture is used
            return error

    @property
    def version(self) -> str:
        """The model version: the same in /setup, /versions and every prediction."""
        return self._segmenter.info().version

    def prediction(self, regions: Sequence[Region], nothing: Nothing | None = None) -> Prediction:
        """The regions of a task, and why there are none, as Label Studio takes them."""
        return prediction(regions, self.version, nothing or Nothing())

    def _fail(self, task: Task, error: Sam3Error) -> None:
        log.warning("task %s: %s", task.id, error)
        self._metrics.failures.labels(type(error).__name__).inc()


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


def _labels_of(concept: Concept, source: ImageSource) -> set[str]:
    return {label.value for control in source.controls for label in control.labels if label.concept == concept}


def _arrived(coming: Future[EncodedImage | Exception], deadline: float) -> EncodedImage | Exception:
    with stage("fetch"):
        try:
            return coming.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError as error:
            return error
