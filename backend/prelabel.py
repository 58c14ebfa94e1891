"""Batches and opened tasks become predictions, in time; what takes longer goes on in the background."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from backend.background import Background
from backend.bodies import Task
from backend.images import Site
from backend.labeling import Plan
from backend.pieces import JobInfo
from backend.predictions import Nothing, Prediction, prediction
from backend.push import LabelStudioApi
from backend.regions import Region
from backend.search import TaskSearch
from backend.settings import BackendSettings
from sam3_core import Caller, Lane

log = logging.getLogger(__name__)


class Prelabeler:
    """Predicts tasks. One per process: it owns the threads that do so. Callable from any thread."""

    def __init__(
        self,
        search: TaskSearch,
        api: LabelStudioApi,
        settings: BackendSettings,
        *,
        remember: Callable[[str, Task, Prediction], None] = lambda *_: None,
    ) -> None:
        """remember: hears of every prediction with its project and task, in the thread that made it."""
        self._search = search
        self._request_seconds = settings.request_seconds
        self._background = Background(
            search,
            api,
            in_flight=settings.tasks_in_flight,
            push_seconds=settings.push_seconds,
            remember=remember,
        )

    def predict_tasks(
        self, tasks: Sequence[Task], plan: Plan, site: Site | None, *, caller: Caller | None = None, project: str = ""
    ) -> list[Prediction | list[Any]]:
        """One entry per task, in order: every label's concept, searched in every image of the task.

        What people drew on a task already is not found again. Labels that found nothing, and images that cannot be
        used, are a line in the log and a sentence in the prediction's ``meta``. A single task is one that an
        annotator opens: its images are kept and, where prompts can be drawn, encoded for them, so that the first
        click is answered like a later one.

        caller: who waits, and until when; the request's budget ends the waiting in any case. Tasks that are not done
        by then get ``[]``, which makes Label Studio store nothing and ask again, where an empty prediction would
        count as done. They go on in the background where Label Studio's API can be given the predictions: ``project``
        is its number there. So do tasks whose caller left. Batches that ask for tasks on which an earlier one is
        still at work wait for these instead of doing them twice, and whichever is answered first gets them.

        Raises NotReady or ModelUnavailable, or Busy and its kin, when that keeps all tasks from being done.
        """
        started = time.monotonic()
        opened = len(tasks) == 1
        waits = caller or Caller(Lane.CLICK if opened else Lane.BULK)
        waits = waits.sooner(started + self._request_seconds)
        done = self._background.do(tasks, plan, site, waits, project, opened=opened)
        count, regions = sum(one is not None for one in done), sum(len(one["result"]) for one in done if one)
        seconds = time.monotonic() - started
        log.info("%d of %d tasks done: %d regions in %.1f s", count, len(done), regions, seconds)
        return [[] if one is None else one for one in done]

    def warm(self, task: Task, plan: Plan, site: Site | None, *, caller: Caller | None = None) -> None:
        """Encode a task's images for the prompts that will be drawn on them. What fails is a line in the log.

        Raises NotReady or ModelUnavailable, or Busy and its kin.
        """
        self._search.warm(task, plan, site, caller or Caller(Lane.CLICK))

    def jobs(self) -> tuple[JobInfo, ...]:
        """The batches at work now, and the last ones that went on without their request, newest first."""
        return self._background.jobs()

    def stop(self, seconds: float) -> None:
        """The server ends: answer with what is there, store what is ready; returns after so many seconds at most."""
        self._background.stop(seconds)

    @property
    def version(self) -> str:
        """The model version: the same in /setup, /versions and every prediction."""
        return self._search.version()

    def prediction(self, regions: Sequence[Region], nothing: Nothing | None = None) -> Prediction:
        """The regions of a task, and why there are none, as Label Studio takes them."""
        return prediction(regions, self.version, nothing or Nothing())
