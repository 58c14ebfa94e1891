"""One request's tasks as a job, one task of it as a piece: where they stand."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec
from msgspec import Raw

from backend.bodies import Task
from backend.images import Site
from backend.labeling import Plan
from backend.predictions import Prediction
from sam3_core.errors import Sam3Error


class State(StrEnum):
    """Of one task."""

    WAITING = "waiting"
    WORKING = "working"
    READY = "ready"
    PUSHING = "pushing"
    DONE = "done"
    LEFT = "left"  # open, for a later request


class JobState(StrEnum):
    """Of one request's tasks."""

    ANSWERING = "answering"
    GOING_ON = "going on"
    FINISHED = "finished"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job as people see it. Numbers are tasks.

    done: predicted. pushed: stored through Label Studio's API. failed: left open for good by this job.
    waiting: not predicted yet. started: Unix time. sentence: what there is to know.
    """

    project: str
    total: int
    done: int
    pushed: int
    failed: int
    waiting: int
    started: float
    state: str
    sentence: str


OVER = (State.DONE, State.LEFT)
"""Nothing more will happen to a piece."""


@dataclass(slots=True, eq=False)
class Job:
    """The tasks that one request brought.

    trouble: why none of them can be worked on at the moment. tries, failing_since: of pushes that failed in a row
    (``time.monotonic``). work: what does a task, with the request's id in its log lines.
    """

    project: str
    plan: Plan
    site: Site | None
    opened: bool
    work: Callable[[Piece], None]
    pieces: list[Piece] = field(default_factory=list)
    line: deque[Piece] = field(default_factory=deque)
    ready: deque[Piece] = field(default_factory=deque)
    started: float = field(default_factory=time.time)
    state: JobState = JobState.ANSWERING
    sentence: str = ""
    went_on: bool = False
    trouble: Sam3Error | None = None
    pushed: int = 0
    tries: int = 0
    failing_since: float | None = None

    @property
    def unfinished(self) -> bool:
        return any(piece.state not in OVER for piece in self.pieces)

    def info(self) -> JobInfo:
        states = [piece.state for piece in self.pieces]
        failed = states.count(State.LEFT)
        waiting = states.count(State.WAITING) + states.count(State.WORKING)
        done = len(states) - failed - waiting
        told = "; ".join(part for part in (self.sentence, str(self.trouble or "")) if part)
        return JobInfo(self.project, len(states), done, self.pushed, failed, waiting, self.started, self.state, told)


@dataclass(slots=True, eq=False)
class Piece:
    """One task of a job. watchers: requests that wait for it. opened: a person waits for it.

    seconds: by stage. until: when a finished one is forgotten (``time.monotonic``).
    """

    task: Task
    job: Job
    key: Hashable | None
    opened: bool
    watchers: int = 0
    state: State = State.WAITING
    prediction: Prediction | None = None
    tries: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    until: float = 0.0

    @property
    def wanted(self) -> bool:
        """Whether anybody can still receive it."""
        return self.watchers > 0 or self.job.state is JobState.GOING_ON


def addresses(task: Task, plan: Plan) -> int:
    """A number for where a task's images are."""
    return hash(repr([task.data.get(source.key) for source in plan.sources]))


def slim(task: Task, plan: Plan) -> Task:
    """The task without what is not looked at, and apart from the request's body, which it would keep in memory."""
    names = {source.key for source in plan.sources}
    return msgspec.structs.replace(
        task,
        data={name: value for name, value in task.data.items() if name in names},
        annotations=task.annotations.copy(),
        drafts=task.drafts.copy(),
        predictions=Raw(b"[]"),
    )
