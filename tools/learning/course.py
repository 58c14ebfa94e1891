"""One run of the proof: a team reviews task after task, and after each stage the unseen pictures are measured."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.database import Database
from backend.learning.versions import LATEST, Versions
from sam3_prelabel.demo.client import LabelStudioClient
from tools.learning import project, world
from tools.learning.marking import Marks
from tools.learning.reviewer import Reviewer
from tools.learning.site import STORE, Team, learning_backend, measure, wait_taught

Json = dict[str, Any]

_TAUGHT = 2400.0  # seconds; SAM3_TUNE_MINUTES is half an hour
_SKIPPED = 3  # tasks that the team skips, beside those that it reviews


@dataclass(frozen=True, slots=True)
class Variant:
    """What a backend may learn. learn: as SAM3_LEARN. trains: whether somebody presses Start Training at the end."""

    name: str
    learn: str
    trains: bool = False


NOTHING = Variant("no learning", "off")
CHEAP = Variant("thresholds + phrases", "phrases,thresholds")
TUNING = Variant("fine-tuning", "tuning", trains=True)
ALL = Variant("all together", "phrases,thresholds,memory,tuning", trains=True)
VARIANTS = (
    NOTHING,
    Variant("thresholds", "thresholds"),
    Variant("phrases", "phrases"),
    CHEAP,
    Variant("memory", "memory"),
    TUNING,
    ALL,
)


@dataclass(frozen=True, slots=True)
class Stage:
    """After so many reviewed tasks: what serves, how right it is on the unseen, and what the teacher said last.

    trained: after Start Training. seconds: that the teacher took. pace: mean lead time of the tasks reviewed since
    the stage before, in seconds.
    """

    reviewed: int
    trained: bool
    version: str
    marks: Marks
    sentence: str
    seconds: float
    pace: float | None

    @property
    def name(self) -> str:
        return f"{self.reviewed} + training" if self.trained else str(self.reviewed)

    def told(self) -> Json:
        """For a file."""
        return {
            "reviewed": self.reviewed,
            "trained": self.trained,
            "version": self.version,
            "marks": self.marks.told(),
            "sentence": self.sentence,
            "seconds": round(self.seconds, 1),
            "lead_time": None if self.pace is None else round(self.pace, 2),
        }


@dataclass(frozen=True, slots=True)
class Run:
    """A variant's stages, and how right each version is that ever served, the weights as they came first."""

    stages: Sequence[Stage]
    versions: Sequence[tuple[str, Marks]]


class Course:
    """A team at work: which tasks are done, and where the unseen pictures are."""

    def __init__(
        self, team: Team, samples: Sequence[world.Sample], hidden: Sequence[world.Sample], *, learns: bool
    ) -> None:
        self.team = team
        self._learns = learns
        self._since = 0.0
        self._samples = samples
        self._hidden = hidden
        self._reviewer = Reviewer(team.client)
        self._places = team.places(team.tasks[-len(hidden) :])
        self._done = 0
        self._known: dict[str, Marks] = {}

    def versions(self, store: Path) -> list[tuple[str, Marks]]:
        """Each version that was promoted, also between two stages, let serve once more and measured."""
        project = str(self.team.project)
        with closing(Database(store)) as database:
            versions = Versions(database)
            names = [version.name for version in reversed(versions.of(project))]
            for name in names:
                if name not in self._known:
                    versions.use(project, name)
                    self._known |= dict([measure(self.team, self._hidden, self._places)])
            if names:
                versions.use(project, LATEST)
        first = next(iter(self._known))
        return [(name, self._known[name]) for name in dict.fromkeys([first, *names])]

    def skip_some(self) -> None:
        """The tasks right before the unseen ones are those that nobody wants to label."""
        first = len(self._samples)
        for task in self.team.tasks[first : first + _SKIPPED]:
            self._reviewer.skip(task)

    def review_until(self, count: int) -> None:
        """Review the next tasks, as the backend pre-annotates them now, until so many are done in all."""
        tasks = self.team.tasks[self._done : count]
        for place, (task, prediction) in enumerate(zip(tasks, self.team.predicted(tasks), strict=True), self._done):
            self._reviewer.review(place, task, self._samples[place], prediction)
        self._done = count

    def stage(self, *, trained: bool = False) -> Stage:
        """Wait for the teacher, then measure."""
        started, before = time.monotonic(), len(self._reviewer.seconds)
        told = wait_taught(
            self.team.backend,
            self.team.project,
            reviewed=self._done if self._learns else 0,
            after=self._since if trained else 0.0,
            seconds=_TAUGHT,
        )
        self._since = float(told.get("since", 0.0))
        seconds = time.monotonic() - started
        version, marks = measure(self.team, self._hidden, self._places)
        paces = self._reviewer.seconds[:before]
        self._reviewer.seconds.clear()
        pace = sum(paces) / len(paces) if paces else None
        self._known[version] = marks
        return Stage(self._done, trained, version, marks, str(told.get("sentence", "")), seconds, pace)


def run(
    variant: Variant,
    client: LabelStudioClient,
    token: str,
    folder: Path,
    *,
    stages: Sequence[int],
    unseen: int,
    tell: Callable[[str], None],
) -> Run:
    """All stages of a variant, the one before any review first, and all its versions.

    Raises ProofFailed or ServerFailed.
    """
    samples = world.reviewed(max(stages) + _SKIPPED)
    hidden = world.unseen(unseen)
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier run learned about a project of the same number
    with learning_backend(client.url, token, folder, variant.learn) as server:
        team = Team.gather(client, server.url, f"Proof: {variant.name}", project.config(), [*samples, *hidden])
        course = Course(team, samples[: max(stages)], hidden, learns=variant != NOTHING)
        found = [course.stage()]
        tell(_line(variant, found[-1]))
        course.skip_some()
        for count in stages:
            course.review_until(count)
            found.append(course.stage())
            tell(_line(variant, found[-1]))
        if variant.trains:
            team.start_training()
            found.append(course.stage(trained=True))
            tell(_line(variant, found[-1]))
        versions = course.versions(folder / STORE)
        tell(f"{variant.name}: " + ", ".join(f"{name} {marks.f1:.3f}" for name, marks in versions))
    return Run(found, versions)


def measure_config(client: LabelStudioClient, token: str, folder: Path, config: str, unseen: int) -> Marks:
    """How right the unseen pictures are under a labeling config, without any learning."""
    hidden = world.unseen(unseen)
    with learning_backend(client.url, token, folder, NOTHING.learn) as server:
        team = Team.gather(client, server.url, "Proof: a fixed setting", config, hidden)
        return measure(team, hidden, team.places(team.tasks))[1]


def _line(variant: Variant, stage: Stage) -> str:
    labels = ", ".join(f"{name} {one.f1:.2f}" for name, one in stage.marks.labels)
    return f"{variant.name}, {stage.name}: F1 {stage.marks.f1:.3f} ({labels}), {stage.version}; {stage.sentence}"
