"""Which tasks are at work for whom: requests enter their tasks, join those that others entered, and leave.

Every task's prediction is handed out once: to the request that leaves with it, whose Label Studio stores it, or to
the pusher, when nobody waits for it any more. All methods expect ``Jobs.changed`` to be held, unless they say
otherwise.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Hashable, Iterator, Sequence

from backend.bodies import Task
from backend.pieces import OVER, Job, JobInfo, JobState, Piece, State, addresses, slim
from backend.predictions import Prediction

log = logging.getLogger(__name__)

_MOST_READY = 16  # predictions of one job that wait to be stored: masks take megabytes, so the search waits for them
_MOST_GOING_ON = 8  # jobs without a request
_NAMED = 20  # tasks in a sentence
_REMEMBERED = 20  # finished jobs, for people who look
# Label Studio on SQLite takes 0.17 s to store a prediction of an answer; until then it asks for the task again.
_SETTLES, _SETTLES_EACH, _SETTLES_MOST = 1.0, 0.2, 120.0
_SETTLES_PUSHED = 5.0  # a request that was being put together meanwhile may still ask for it


class Jobs:
    """All of them. ``changed`` is notified whenever a task or a job moves."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self._known: dict[Hashable, Piece] = {}
        self._jobs: deque[Job] = deque()
        self._opened: deque[Piece] = deque()
        self._past: deque[JobInfo] = deque(maxlen=_REMEMBERED)

    def infos(self) -> tuple[JobInfo, ...]:
        """The running batches, and what outlived its request, newest first. Takes the lock itself."""
        with self.changed:
            shown = (job for job in self._jobs if job.went_on or not job.opened)
            running = sorted(shown, key=lambda job: job.started, reverse=True)
            return (*(job.info() for job in running), *reversed(self._past))

    def enter(self, tasks: Sequence[Task], version: str, job: Job) -> list[Piece]:
        """A piece for each task, in order: another request's where that is at work on it already."""
        now = time.monotonic()
        self._known = {key: piece for key, piece in self._known.items() if _is_known(piece, now)}
        # What makes the tasks of two requests the same; scripts that name no project are each for themselves.
        shared = (job.project, job.site.base if job.site else "", version, repr(job.plan)) if job.project else ()
        pieces = [self._enter_one(task, shared, job) for task in tasks]
        for piece in pieces:
            piece.watchers += 1
        if job.pieces:
            self._jobs.append(job)
        self.changed.notify_all()
        return pieces

    def _enter_one(self, task: Task, shared: tuple[Hashable, ...], job: Job) -> Piece:
        key = (task.id, addresses(task, job.plan), *shared) if shared and task.id is not None else None
        known = self._known.get(key) if key is not None else None
        if known is not None and not (job.opened and known.state is State.DONE):
            if job.opened and not known.opened:
                known.opened = True  # in two lines from now on; the first to take it does it
                if known.state is State.WAITING:
                    self._opened.append(known)
            return known
        piece = Piece(slim(task, job.plan), job, key, job.opened)
        if key is not None:
            self._known[key] = piece
        job.pieces.append(piece)
        (self._opened if job.opened else job.line).append(piece)
        return piece

    def leave(self, pieces: Sequence[Piece], *, give: bool, opened: bool) -> list[Prediction | None]:
        """What the request of these pieces takes along, one entry each; None for what it leaves to others.

        give: False for one that has nobody to give it to. opened: a person waits for it, and gets what another
        request took along as well; a batch does not, or Label Studio would store it twice.
        """
        mine = set[Piece]()
        answers: list[Prediction | None] = []
        for piece in pieces:
            if give and piece.state is State.READY:
                piece.state = State.DONE
                mine.add(piece)
            taken = give and piece.state is State.DONE and (piece in mine or opened)
            answers.append(piece.prediction if taken else None)
        settles = time.monotonic() + min(_SETTLES_MOST, _SETTLES + _SETTLES_EACH * len(mine))
        for piece in mine:
            piece.until = 0.0 if opened else settles
        for piece in pieces:
            piece.watchers -= 1
            if not piece.watchers and piece.state is State.DONE:
                piece.prediction = None
            elif not piece.watchers and piece.state is State.READY:
                piece.job.ready.append(piece)
        for job in dict.fromkeys(piece.job for piece in pieces):
            self._close(job)
        self.changed.notify_all()
        return answers

    def orphans(self, pieces: Sequence[Piece]) -> list[Job]:
        """Jobs of these pieces that have work left which no request waits for."""
        jobs = dict.fromkeys(piece.job for piece in pieces if piece.job.state is JobState.ANSWERING)
        return [job for job in jobs if any(not p.watchers and p.state not in OVER for p in job.pieces)]

    def go_on(self, job: Job) -> bool:
        """Let a job go on without a request; False when too many do so already."""
        if sum(other.state is JobState.GOING_ON for other in self._jobs) >= _MOST_GOING_ON:
            return False
        job.state, job.went_on = JobState.GOING_ON, True
        self.changed.notify_all()
        return True

    def abandon(self, job: Job, sentence: str) -> None:
        """Leave open what no request of its own waits for; ``sentence`` says why."""
        left = [piece for piece in job.pieces if not piece.watchers and piece.state not in OVER]
        job.sentence = f"{len(left)} of {len(job.pieces)} tasks are left open: {sentence}"
        job.state, job.went_on = JobState.ANSWERING, True
        log.warning("project %s: %s", job.project, job.sentence)
        for piece in left:
            if piece.state in (State.WAITING, State.READY):  # others are in somebody's hands
                self._drop(piece)
        job.ready.clear()
        self._close(job)
        self.changed.notify_all()

    def next_opened(self) -> Piece | None:
        """The next task that a person waits for; it is WORKING from now on."""
        while self._opened:
            piece = self._opened.popleft()
            if piece.state is State.WAITING:
                piece.state = State.WORKING
                return piece
        return None

    def next_bulk(self) -> Piece | None:
        """The next task of a batch, of all batches in turn; it is WORKING from now on."""
        for _ in range(len(self._jobs)):
            job = self._jobs[0]
            self._jobs.rotate(-1)
            if job.state is JobState.GOING_ON and len(job.ready) >= _MOST_READY:
                continue
            while job.line:
                piece = job.line.popleft()
                if piece.state is State.WAITING:
                    piece.state = State.WORKING
                    return piece
        return None

    def next_push(self) -> Piece | None:
        """The next prediction that no request takes along; it is PUSHING from now on."""
        for job in self._jobs:
            while job.state is JobState.GOING_ON and job.ready:
                piece = job.ready.popleft()
                if piece.state is State.READY and not piece.watchers:
                    piece.state = State.PUSHING
                    return piece
        return None

    def found(self, piece: Piece, prediction: Prediction | None) -> None:
        """A task was worked on; None leaves it open."""
        if prediction is None or not piece.wanted:
            self._drop(piece)
        else:
            piece.state, piece.prediction, piece.job.trouble = State.READY, prediction, None
            if not piece.watchers:
                piece.job.ready.append(piece)
        self._close(piece.job)
        self.changed.notify_all()

    def again(self, piece: Piece) -> None:
        """A task could not be worked on now; it is the first in line when somebody still wants it."""
        if piece.wanted:
            piece.state = State.WAITING
            (self._opened if piece.opened else piece.job.line).appendleft(piece)
        else:
            self._drop(piece)
        self._close(piece.job)
        self.changed.notify_all()

    def pushed(self, piece: Piece) -> None:
        """Label Studio has the prediction."""
        job = piece.job
        piece.state, piece.prediction, piece.until = State.DONE, None, time.monotonic() + _SETTLES_PUSHED
        job.pushed, job.tries, job.failing_since = job.pushed + 1, 0, None
        self._close(job)
        self.changed.notify_all()

    def not_pushed(self, piece: Piece, *, again: bool) -> None:
        """Label Studio did not take it: first in line for another try, or left open."""
        if again and piece.job.state is JobState.GOING_ON:
            piece.state = State.READY
            piece.job.ready.appendleft(piece)
        else:
            self._drop(piece)
        self._close(piece.job)
        self.changed.notify_all()

    def under_way(self) -> Iterator[Job]:
        """Jobs with a task that is worked on, or a prediction that waits to be stored."""
        busy = (State.WORKING, State.READY, State.PUSHING)
        return (job for job in self._jobs if any(piece.state in busy for piece in job.pieces))

    def all(self) -> list[Job]:
        """The running ones."""
        return list(self._jobs)

    @property
    def load(self) -> tuple[int, int, int]:
        """How many tasks wait that people opened, how many of batches, and how many predictions to be stored."""
        return len(self._opened), sum(len(j.line) for j in self._jobs), sum(len(j.ready) for j in self._jobs)

    def _drop(self, piece: Piece) -> None:
        piece.state, piece.prediction = State.LEFT, None

    def _close(self, job: Job) -> None:
        """Take a job off the list when nothing of it is left to do."""
        if job not in self._jobs or job.unfinished:
            return
        self._jobs.remove(job)
        left = [str(piece.task.id) for piece in job.pieces if piece.state is State.LEFT]
        job.state = JobState.STOPPED if left else JobState.FINISHED
        if not job.went_on:
            return
        told = f"{job.pushed} of {len(job.pieces)} predictions were stored through Label Studio's API"
        if left:
            why = job.sentence or f"{len(left)} of {len(job.pieces)} tasks are left open"
            told = f"{why}; {told}; left open: tasks {', '.join(left[:_NAMED])}{', ...' if left[_NAMED:] else ''}"
        job.sentence, job.trouble = told, None
        self._past.append(job.info())
        log.info("project %s, after %.0f s: %s", job.project, time.time() - job.started, told)


def _is_known(piece: Piece, now: float) -> bool:
    """Whether a request may still join a piece: not one that was left open, nor one that settled."""
    running = piece.job.state in (JobState.ANSWERING, JobState.GOING_ON)
    return piece.state is not State.LEFT and (running or now < piece.until)
