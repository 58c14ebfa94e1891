"""Threads that do the tasks of all requests, several at a time, and store what no request takes along."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from backend.bodies import Task
from backend.images import Site
from backend.jobs import Jobs
from backend.labeling import Plan
from backend.pieces import Job, JobInfo, JobState, Piece, State
from backend.predictions import Prediction
from backend.push import LabelStudioApi, NoAccess, NotTaken, TryLater
from backend.search import NOT_THE_TASK, TaskSearch
from backend.trace import carried
from sam3_core import Caller, Lane
from sam3_core.errors import Busy, Dropped, ModelUnavailable, Sam3Error, Unauthorized
from sam3_core.timing import collected, spent

log = logging.getLogger(__name__)

T = TypeVar("T")

_LASTING = (ModelUnavailable, Unauthorized)  # trying again does not help
_OPENED = 32  # threads for tasks that people wait for; a request waits for each of them
_PUSHERS = 2
_MOST_TRIES = 5  # of a task for which the device had no room
_LOOK = 0.5  # seconds between two looks whether the client still waits
_DEFECT = "storing them failed by a defect of this backend; its log has the details"
_BACKOFF, _BACKOFF_MOST = 1.0, 30.0  # seconds; doubled with every try


class _Crew(Generic[T]):
    """Up to ``size`` threads that take and do pieces while there are any, and end when there are none.

    lock: is held while a piece is taken; hold it for ``wake``, too.
    """

    def __init__(
        self, name: str, size: int, lock: threading.Condition, take: Callable[[], T | None], do: Callable[[T], None]
    ) -> None:
        self._name, self._size, self._lock, self._take, self._do = name, size, lock, take, do
        self._alive = 0

    def wake(self, pieces: int) -> None:
        """There is work for so many threads."""
        while self._alive < min(self._size, pieces):
            self._alive += 1
            # Threads of an executor would be waited for when the process ends.
            threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                piece = self._take()
                if piece is None:
                    self._alive -= 1
                    return
            self._do(piece)


class Background:
    """Does tasks for requests, and goes on without them. One per process. Callable from any thread.

    in_flight: tasks of batches at a time. push_seconds: how long predictions that are not taken are tried again.
    remember: hears of every prediction with its project and task, before anybody gets it.
    """

    def __init__(
        self,
        search: TaskSearch,
        api: LabelStudioApi,
        *,
        in_flight: int,
        push_seconds: float,
        remember: Callable[[str, Task, Prediction], None] = lambda *_: None,
    ) -> None:
        self._remember = remember
        self._search = search
        self._api = api
        self._push_seconds = push_seconds
        self._jobs = Jobs()
        self._changed = self._jobs.changed
        self._stop_at: float | None = None
        self._bulk = _Crew("sam3-bulk", in_flight, self._changed, self._next_bulk, _do)
        self._opened = _Crew("sam3-opened", _OPENED, self._changed, self._next_opened, _do)
        self._push = _Crew("sam3-push", _PUSHERS, self._changed, self._next_push, self._push_one)

    def jobs(self) -> tuple[JobInfo, ...]:
        """The running jobs and the last ones that outlived their request, newest first."""
        return self._jobs.infos()

    def do(
        self, tasks: Sequence[Task], plan: Plan, site: Site | None, caller: Caller, project: str, *, opened: bool
    ) -> list[Prediction | None]:
        """What a request takes along after waiting no longer than its caller, one entry per task.

        None for what is left to others: to the background, to another request with the same tasks, or to a later one.
        Raises what keeps the model from working, or Busy while the server stops, when there is nothing to take along.
        """
        job = Job(project, plan, site, opened, carried(self._work))
        with self._changed:
            if self._stop_at is not None:
                raise Busy("the server is stopping")
            pieces = self._jobs.enter(tasks, plan.version or self._search.version(), job)
            self._wake()
            self._wait(pieces, caller)
            wanted = caller.wanted()
            trouble = next((p.job.trouble for p in pieces if p.job.trouble and not _is_settled(p)), None)
            answers = self._jobs.leave(pieces, give=wanted, opened=opened)
            for orphan in self._jobs.orphans(pieces):
                self._send_on(orphan, answered=wanted)
        if others := sum(answer is None and p.job is not job for p, answer in zip(pieces, answers, strict=True)):
            log.info("project %s: %d tasks are left to an earlier request, which is at work on them", project, others)
        for piece in dict.fromkeys(pieces):
            for stage, seconds in list(piece.seconds.items()):
                spent(stage, seconds)
        if trouble is not None and not any(answer is not None for answer in answers):
            raise trouble
        return answers

    def stop(self, seconds: float) -> None:
        """Take no more tasks, answer who waits with what is there, store what is ready, say what is left.

        Returns after so many seconds at the latest.
        """
        with self._changed:
            self._stop_at = time.monotonic() + seconds
            self._changed.notify_all()
            while any(self._jobs.under_way()) and time.monotonic() < self._stop_at:
                self._changed.wait(_LOOK)
            for job in self._jobs.all():
                self._jobs.abandon(job, "the server was stopped")

    def _wait(self, pieces: Sequence[Piece], caller: Caller) -> None:
        """Until all are done, or the caller's time is over, or it is clear that nothing more will come."""
        while caller.seconds_left and self._stop_at is None and caller.wanted():
            if all(_is_settled(piece) for piece in pieces) or any(
                piece.job.trouble for piece in pieces if not _is_settled(piece)
            ):
                return
            self._changed.wait(min(_LOOK, caller.seconds_left))

    def _send_on(self, job: Job, *, answered: bool) -> None:
        """A job that no request waits for any more goes on, where its predictions can reach Label Studio."""
        left = sum(piece.state is not State.DONE for piece in job.pieces)
        what = "were not ready in time" if answered else "lost their client"
        why_not = self._api.problem(job.site, job.project, job.pieces[0].task.id)
        if isinstance(job.trouble, _LASTING):
            why_not = str(job.trouble)
        if not why_not and self._stop_at is not None:
            why_not = "the server is stopping"
        if not why_not and not self._jobs.go_on(job):
            why_not = "too many batches go on in the background already"
        if why_not:
            self._jobs.abandon(job, f"they {what}, and {why_not}")
            return
        job.sentence = f"{left} of {len(job.pieces)} tasks {what}: they are stored through Label Studio's API"
        log.info("project %s: %s", job.project, job.sentence)
        self._wake()

    def _wake(self) -> None:
        for crew, pieces in zip((self._opened, self._bulk, self._push), self._jobs.load, strict=True):
            crew.wake(pieces)

    def _next_bulk(self) -> Piece | None:
        return self._jobs.next_bulk() if self._stop_at is None else None

    def _next_opened(self) -> Piece | None:
        return self._jobs.next_opened() if self._stop_at is None else None

    def _next_push(self) -> Piece | None:
        late = self._stop_at is not None and time.monotonic() > self._stop_at
        return None if late else self._jobs.next_push()

    def _work(self, piece: Piece) -> None:
        """Search one task; whatever happens, it moves on."""
        job = piece.job
        caller = Caller(Lane.CLICK if piece.opened else Lane.BULK, wanted=lambda: piece.wanted)
        prediction: Prediction | None = None
        try:
            with collected() as piece.seconds:
                prediction = self._search.predict(piece.task, job.plan, job.site, caller, opened=piece.opened)
            if prediction is not None:
                self._remember(job.project, piece.task, prediction)
        except NOT_THE_TASK as error:
            self._put_off(piece, error)
            return
        except Exception:  # a thread that dies here would leave the task's request waiting
            log.exception("task %s failed", piece.task.id)
        with self._changed:
            self._jobs.found(piece, prediction)
            self._wake()

    def _put_off(self, piece: Piece, error: Sam3Error) -> None:
        """The model did not come to a task: try again after a while, or see that it is of no use."""
        job, crowded = piece.job, isinstance(error, Busy) and not piece.opened
        piece.tries += 1
        with self._changed:
            if crowded and piece.tries > _MOST_TRIES:
                log.warning("task %s: %s", piece.task.id, error)
                self._jobs.found(piece, None)
                return
            if isinstance(error, Dropped):
                self._jobs.again(piece)
                self._wake()
                return
            if not crowded and piece.wanted:
                if job.trouble is None:
                    log.warning("project %s: %s", job.project, error)
                job.trouble = error
                self._changed.notify_all()
            if isinstance(error, _LASTING) and job.state is JobState.GOING_ON:
                self._jobs.abandon(job, str(error))
            if piece.wanted:
                self._pause(error.retry_after or _BACKOFF)
            self._jobs.again(piece)
            self._wake()

    def _push_one(self, piece: Piece) -> None:
        """Store one prediction."""
        job = piece.job
        try:
            assert job.site is not None
            assert piece.prediction is not None
            self._api.store(job.site, job.project, piece.task.id, piece.prediction)
        except TryLater as error:
            self._retry(piece, error)
            return
        except NotTaken as error:
            log.warning("task %s: %s", piece.task.id, error)
            with self._changed:
                self._jobs.not_pushed(piece, again=False)
                self._wake()
            return
        except Exception as error:
            if not isinstance(error, NoAccess):
                log.exception("task %s: its prediction could not be stored", piece.task.id)
            with self._changed:
                self._jobs.not_pushed(piece, again=False)
                self._jobs.abandon(job, str(error) if isinstance(error, NoAccess) else _DEFECT)
            return
        with self._changed:
            self._jobs.pushed(piece)
            self._wake()

    def _retry(self, piece: Piece, error: TryLater) -> None:
        """Put a push off, for longer each time, until the patience is at its end."""
        job, now = piece.job, time.monotonic()
        with self._changed:
            job.failing_since = job.failing_since or now
            job.tries += 1
            delay = error.retry_after or min(_BACKOFF_MOST, _BACKOFF * 2 ** min(job.tries - 1, 10))
            if now - job.failing_since + delay > self._push_seconds:
                self._jobs.not_pushed(piece, again=False)
                self._jobs.abandon(job, f"{error}, and tries for {self._push_seconds:.0f} s did not help")
                return
            log.info("task %s: %s; next try in %.0f s", piece.task.id, error, delay)
            self._pause(delay)
            self._jobs.not_pushed(piece, again=True)
            self._wake()

    def _pause(self, seconds: float) -> None:
        """Let go of the lock for a while, at most until the server ends."""
        until = time.monotonic() + seconds
        while (left := min(until, self._stop_at or until) - time.monotonic()) > 0:
            self._changed.wait(left)


def _do(piece: Piece) -> None:
    piece.job.work(piece)


_SETTLED = (State.READY, State.DONE, State.LEFT)


def _is_settled(piece: Piece) -> bool:
    """Whether waiting any longer changes what a request takes along."""
    return piece.state in _SETTLED or (piece.state is State.PUSHING and not piece.opened)
