"""The figures of a report on a project, and the same as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from backend.learning.courses import Course
from backend.learning.records import KnownProject, Outcome, Review, Verdict
from sam3_core.learning.measure import Tally
from sam3_prelabel.quality import tally_json


@dataclass(frozen=True, slots=True)
class Row:
    """A label, or all of them: how good what was shown was, and what became of it."""

    name: str
    tally: Tally
    accepted: int = 0
    edited: int = 0
    deleted: int = 0
    missed: int = 0

    def as_json(self) -> dict[str, Any]:
        counts = {verdict.value: getattr(self, verdict.value) for verdict in Verdict}
        return {"label": self.name, **tally_json(self.tally), **counts}


@dataclass(frozen=True, slots=True)
class Trend:
    """The tasks that were reviewed under one version. version: empty for tasks without a pre-annotation.

    seconds: the median time per task; None without any. timed: of so many tasks. breaks: left out as too long.
    """

    version: str
    tasks: int
    row: Row
    seconds: float | None
    timed: int
    breaks: int

    def as_json(self) -> dict[str, Any]:
        numbers = {name: value for name, value in self.row.as_json().items() if name != "label"}
        times = {"median_seconds": self.seconds, "timed_tasks": self.timed, "breaks_left_out": self.breaks}
        return {"version": self.version or None, "tasks": self.tasks, **numbers, **times}


@dataclass(frozen=True, slots=True)
class Learned:
    """A promotion, or the last try for one. changes: sentences. total, steps: of its evidence, as it was written."""

    version: str
    created: str
    serves: bool
    tasks: int | None
    changes: tuple[str, ...]
    total: dict[str, Any]
    steps: tuple[dict[str, Any], ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "created": self.created,
            "serves": self.serves,
            "tasks": self.tasks,
            "changes": list(self.changes),
            "total": self.total or None,
            "steps": list(self.steps),
        }


@dataclass(frozen=True, slots=True)
class Bin:
    """Instances by the score that was shown: how many, their mean score, and the share of them that were right."""

    low: float
    high: float
    count: int
    score: float
    right: float

    def as_json(self) -> dict[str, Any]:
        return {"from": self.low, "to": self.high, "count": self.count, "score": self.score, "right": self.right}


@dataclass(frozen=True, slots=True)
class Bad:
    """One picture of a task that needed much work."""

    review: Review
    source: str
    page: int
    outcomes: tuple[Outcome, ...]
    tally: Tally

    @property
    def counts(self) -> dict[str, int]:
        """How many instances each verdict has."""
        found = Counter(outcome.verdict for outcome in self.outcomes)
        return {verdict.value: found[verdict] for verdict in Verdict}

    def as_json(self) -> dict[str, Any]:
        place = {"task": self.review.task, "image": self.source, "page": self.page, "version": self.review.version}
        return {**place, "f1": self.tally.f1, **self.counts}


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the page shows. reviewed: tasks; shown: those of them with a pre-annotation.

    first, last: of the reviews, ISO 8601, empty without any. serving: a version, empty for the weights as they came.
    """

    project: KnownProject
    reviewed: int
    shown: int
    first: str
    last: str
    serving: str
    course: Course
    overall: Row
    labels: tuple[Row, ...]
    trend: tuple[Trend, ...]
    learned: tuple[Learned, ...]
    reliability: tuple[Bin, ...]
    worst: tuple[Bad, ...]
    written: str = field(default_factory=lambda: moment(datetime.now(UTC).timestamp()))

    def as_json(self) -> dict[str, Any]:
        """Described in docs/learning-report.md; keys are only ever added."""
        return {
            "project": self.project.number,
            "title": self.project.title,
            "written": self.written,
            "reviewed_tasks": self.reviewed,
            "shown_tasks": self.shown,
            "first_review": self.first or None,
            "last_review": self.last or None,
            "serving": self.serving or None,
            "last_course": self.course.sentence or None,
            "overall": self.overall.as_json(),
            "labels": [row.as_json() for row in self.labels],
            "versions": [one.as_json() for one in self.trend],
            "learned": [one.as_json() for one in self.learned],
            "reliability": [one.as_json() for one in self.reliability],
            "worst": [one.as_json() for one in self.worst],
        }


def moment(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
