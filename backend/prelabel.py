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

from backend.bodies import ContextRegion, Task
from backend.images import ImageReader, Site
from backend.labeling import ImageSource, Plan
from backend.metrics import Metrics
from backend.prompts import Ask, Target, read_context
from backend.regions import Picture, Region, RegionWriter, mean_score
from sam3_core import Concept, Instance, Segmenter
from sam3_core.errors import ImageUnavailable, ModelUnavailable, NotReady, Sam3Error
from sam3_core.images import image_key

log = logging.getLogger(__name__)

Prediction = dict[str, Any]
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
        self, segmenter: Segmenter, images: ImageReader, metrics: Metrics, *, request_seconds: float
    ) -> None:
        self._segmenter = segmenter
        self._images = images
        self._metrics = metrics
        self._request_seconds = request_seconds
        self._readers = ThreadPoolExecutor(max_workers=_AHEAD, thread_name_prefix="sam3-read")

    def predict_tasks(self, tasks: Sequence[Task], plan: Plan, site: Site | None) -> list[Prediction | list[Any]]:
        """One entry per task, in order: every label's concept, searched in every image of the task.

        A task whose images cannot be used gets an empty prediction and a line in the log. Tasks for which the time of
        the request did not last get ``[]``, which makes Label Studio store nothing and ask again, where an empty
        prediction would count as done. Raises NotReady or ModelUnavailable when not even the first could be asked.
        """
        deadline = time.monotonic() + self._request_seconds
        work = [pages_of(task, plan) for task in tasks]
        done: list[Prediction | list[Any]] = []
        with closing(self._read_ahead([page for pages in work for page in pages], site, deadline)) as pictures:
            for task, pages in zip(tasks, work, strict=True):
                if done and time.monotonic() > deadline:
                    log.warning("out of time after %d of %d tasks: ask for fewer at once", len(done), len(tasks))
                    break
                try:
                    done.append(self._predict_task(task, pages, pictures))
                except (NotReady, ModelUnavailable) as error:
                    if not any(done):
                        raise
                    log.warning("stopped after %d of %d tasks: %s", len(done), len(tasks), error)
                    break
        regions = sum(len(prediction["result"]) for prediction in done if isinstance(prediction, dict))
        seconds = time.monotonic() - deadline + self._request_seconds
        log.info("%d of %d tasks done: %d regions in %.1f s", len(done), len(tasks), regions, seconds)
        return done + [[] for _ in range(len(tasks) - len(done))]

    def predict_click(
        self, task: Task, regions: Sequence[ContextRegion], plan: Plan, site: Site | None
    ) -> Prediction:
        """The answer to what the annotator drew or typed; empty, with a line in the log, when it cannot be used."""
        found: list[Region] = []
        try:
            asks = read_context(regions, plan)
            if asks:
                found = self._answer(asks, task, site)
        except (NotReady, ModelUnavailable):
            raise
        except Sam3Error as error:
            self._fail(task, error)
        return self._prediction(found)

    def _predict_task(
        self, task: Task, pages: Sequence[Page], pictures: Iterator[bytes | Exception]
    ) -> Prediction | list[Any]:
        """One task; whatever happens to one of its images, all of them are taken off the line."""
        writer, found, broken = RegionWriter(), list[Region](), False
        for page, picture in zip(pages, pictures, strict=False):  # pages first: it ends before taking one too many
            try:
                if isinstance(picture, Exception):
                    raise picture
                found += self._find_all(page, picture, writer)
            except (NotReady, ModelUnavailable):
                raise
            except Sam3Error as error:
                self._fail(task, error)
            except TimeoutError:
                broken = True
            except Exception as error:
                # A defect of ours must not take the other tasks along; [] leaves this one open for another try.
                log.exception("task %s failed", task.id)
                self._metrics.failures.labels(type(error).__name__).inc()
                broken = True
        return [] if broken else self._prediction(found)

    def _find_all(self, page: Page, picture: bytes, writer: RegionWriter) -> list[Region]:
        """The regions of every label on one image."""
        concepts = page.source.concepts
        results = dict(zip(concepts, self._segmenter.find(picture, concepts), strict=True))
        self._metrics.instances.inc(sum(len(result.instances) for result in results.values()))
        if all(result.reason for result in results.values()):
            reasons = (f"{concept.phrases[0]!r}: {result.reason}" for concept, result in results.items())
            log.info("task %s: %s", page.task.id, "; ".join(reasons))
        meta = Picture(image_key(picture), self.version)
        return [
            region
            for control in page.source.controls
            for label in control.labels
            for instance in results[label.concept].instances
            for region in writer.write(instance, Target(page.source, page.number, control, label.value), meta)
        ]

    def _answer(self, asks: Sequence[Ask], task: Task, site: Site | None) -> list[Region]:
        target = asks[0].target
        page = _page_of(task, target)
        picture = self._images.read(page.address, site, task.id)
        meta, writer = Picture(image_key(picture), self.version), RegionWriter()
        regions: list[Region] = []
        for ask in asks:
            for instance in self._ask(picture, ask):
                self._metrics.instances.inc()
                regions += writer.write(instance, ask.target, meta)
        return regions

    def _ask(self, picture: bytes, ask: Ask) -> Sequence[Instance]:
        if isinstance(ask.prompt, Concept):
            return self._segmenter.find(picture, [ask.prompt])[0].instances
        return self._segmenter.outline(picture, ask.prompt)[:1]

    def _read_ahead(self, pages: Sequence[Page], site: Site | None, deadline: float) -> Generator[bytes | Exception]:
        """The pictures in order, or what kept them from being read; a few are fetched before their turn.

        One that is still under way at the deadline (of ``time.monotonic``) is a TimeoutError.
        """
        waiting: deque[Future[bytes | Exception]] = deque()
        coming = iter(pages)
        try:
            while True:
                while len(waiting) < _AHEAD and (page := next(coming, None)) is not None:
                    waiting.append(self._readers.submit(self._read, page, site))
                if not waiting:
                    return
                try:
                    yield waiting.popleft().result(max(0.0, deadline - time.monotonic()))
                except TimeoutError as error:
                    yield error
        finally:
            for future in waiting:
                future.cancel()

    def _read(self, page: Page, site: Site | None) -> bytes | Exception:
        try:
            return self._images.read(page.address, site, page.task.id)
        except Exception as error:  # noqa: BLE001 - it is raised where the picture is used
            return error

    @property
    def version(self) -> str:
        """The model version: the same in /setup, /versions and every prediction."""
        return self._segmenter.info().version

    def _prediction(self, regions: list[Region]) -> Prediction:
        return {"result": regions, "score": mean_score(regions), "model_version": self.version}

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


def _page_of(task: Task, target: Target) -> Page:
    """The image a prompt was drawn on."""
    value = task.data.get(target.source.key)
    if not isinstance(value, list):
        return Page(task, target.source, target.page, value)
    number = target.page or 0
    if number >= len(value):
        raise ImageUnavailable(f"the prompt is on page {number} of {len(value)}")
    return Page(task, target.source, number, value[number])
