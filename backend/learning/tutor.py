"""The tutor: what is done for one project when it is taught."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from backend.database import Database
from backend.images import Site
from backend.labeling import Plan, resolve_plan
from backend.learning.course import Course, Outcome, Told, takes_over
from backend.learning.courses import Courses
from backend.learning.evidence import Evidence
from backend.learning.predicted import Predictions
from backend.learning.rebuild import rebuild
from backend.learning.reviewed import Album, ReviewedImage, reviewed_images
from backend.learning.reviews import Reviews
from backend.learning.training import Trained, TuningFailed, train
from backend.learning.versions import Versions
from backend.phrases import Phrases
from backend.pictures import Pictures
from backend.settings import BackendSettings
from backend.standing import Informant
from sam3_core import Lane, Segmenter
from sam3_core.choices import Choices
from sam3_core.errors import InvalidInput, ServerUnavailable
from sam3_core.learning.folds import held_out
from sam3_core.learning.lessons import Lesson, Lessons

log = logging.getLogger(__name__)

_MOST_TASKS = 300  # the newest; more cost time and change little


class Records:
    """What a server knows of its projects, in one store."""

    def __init__(self, database: Database) -> None:
        self.versions = Versions(database)
        self.predictions = Predictions(database)
        self.reviews = Reviews(database, self.predictions)
        self.courses = Courses(database)
        self.evidence = Evidence(database)


@dataclass(frozen=True, slots=True)
class Tutor:
    """One per process; for one thread. site, choices: of a project, as it introduced itself. informant: on the
    segmenter. told: makes what hears how far a project's course is, and ends it.

    Its methods raise what keeps the model from working, sqlite3.Error, InvalidInput where nothing is known of a
    project, and what ``told`` raises.
    """

    records: Records
    segmenter: Segmenter
    pictures: Pictures
    phrases: Phrases
    settings: BackendSettings
    site: Callable[[str], Site | None]
    choices: Callable[[str], Choices]
    informant: Informant
    told: Callable[[str], Told]

    def clicks(self) -> int:
        """How many pieces of work the device has done for people who wait."""
        return sum(lane.done for lane in self.informant.info().load.lanes if lane.lane is Lane.CLICK)

    def rebuild(self, project: str) -> list[str]:
        """Start Training names no tasks: they are read through the API, where there is a token for it.

        Where that fails, what is known already is learned from; returns the sentence on it.
        """
        settings = self.settings
        url, token = settings.label_studio_url, settings.label_studio_api_key
        if not (url and token and project.isdecimal()):
            return []
        told = self.told(project)
        told("reading reviews", 0.0)
        try:
            rebuild(
                self.records.reviews,
                url,
                token,
                project,
                told=lambda tasks: told(f"reading reviews: {tasks} tasks", 0.0),
            )
        except (ServerUnavailable, InvalidInput) as error:
            log.warning("project %s: its reviews are not read anew: %s", project, error)
            return [f"reviews were not read anew: {error}"]
        return []

    def cheap(self, project: str) -> str:
        """The steps that need no training. What came of it, as a sentence."""
        serving = self._serving(project)
        trained_on = self._trained_on(project)
        plan, images = self._material(project, without=trained_on)
        fewest = self.settings.learn_after
        tasks = len({image.group for image in images})
        if tasks < fewest:
            beside = " beside those of the fine-tuning" if trained_on else ""
            return f"{tasks} tasks are reviewed{beside}, {fewest} are needed"
        outcome = self._course(project, plan).run(images, serving, takes_over(serving))
        return self._promoted(project, outcome, trained_on)[0]

    def deep(self, project: str) -> str:
        """The fine-tuning. What came of it, as a sentence."""
        serving = self._serving(project)
        plan, images = self._material(project, without=())
        album = self._album(project)
        told = self.told(project)
        try:
            trained = train(project, images, plan, album, self.settings, serving, self._base, told, self.clicks)
        except TuningFailed as error:
            return str(error)
        held = [image for image in images if held_out(image.group)]
        start = _tuned(plan, serving, trained.adapter)
        promoted = False
        try:
            outcome = self._course(project, plan).run(held, serving, start)
            every = sorted({*trained.tasks, *self._trained_on(project)})  # some labels may keep earlier weights
            sentence, promoted = self._promoted(project, outcome, tuple(every), trained)
            return sentence
        finally:
            if not promoted:
                trained.forget()

    def _promoted(
        self, project: str, outcome: Outcome, trained_on: tuple[str, ...], trained: Trained | None = None
    ) -> tuple[str, bool]:
        """What became of an outcome, as a sentence, and whether it serves now."""
        evidence = outcome.evidence | {"trained_on": list(trained_on)}
        if trained is not None:
            total = evidence["total"]
            step = {
                "step": "tuning",
                "why": outcome.sentence,
                "labels": evidence["labels"],
                "adapter": trained.adapter,
            }
            evidence["steps"] = [*evidence["steps"], total | step | {"promoted": outcome.lessons is not None}]
        self.records.courses.tried(project, evidence | {"sentence": outcome.sentence})
        if outcome.lessons is None:
            return outcome.sentence, False
        version = self.records.versions.promote(project, self._base, outcome.lessons, evidence)
        if version is None:
            return f"{outcome.sentence}; not promoted, as a person has chosen what serves", False
        return f"{version.name}: {outcome.sentence}", True

    def _course(self, project: str, plan: Plan) -> Course:
        settings = self.settings
        return Course(
            self.segmenter,
            self.records.evidence,
            self._album(project),
            plan,
            self._base,
            settings.threshold,
            settings.steps,
            settings.propose,
            self.told(project),
        )

    def _material(self, project: str, without: tuple[str, ...]) -> tuple[Plan, list[ReviewedImage]]:
        """The project's plan as its people want it, and its newest reviewed images but for some tasks'.

        Raises InvalidInput where nothing is known of it.
        """
        known = self.records.reviews.project(project)
        if known is None or not known.label_config:
            raise InvalidInput("nothing is known of its labeling config yet")
        plan = self.phrases.apply(project, resolve_plan(known.label_config, project=self.choices(project)))
        if plan.problem:
            raise InvalidInput(plan.problem)
        left_out = set(without)
        reviews = [review for review in self.records.reviews.of(project, _MOST_TASKS) if review.task not in left_out]
        return plan, reviewed_images(reviews, plan)

    def _album(self, project: str) -> Album:
        return Album(self.pictures, self.site(project), self.settings.max_megapixels)

    def _serving(self, project: str) -> Lessons:
        version = self.records.versions.serving(project, self._base)
        return version.lessons if version else Lessons()

    def _trained_on(self, project: str) -> tuple[str, ...]:
        """The tasks that the weights that serve were fine-tuned on."""
        version = self.records.versions.serving(project, self._base)
        if version is None or not version.lessons.adapters:
            return ()
        return tuple(map(str, version.evidence.get("trained_on", ())))

    @property
    def _base(self) -> str:
        """Names the weights."""
        return self.informant.version()


def _tuned(plan: Plan, serving: Lessons, adapter: str) -> Lessons:
    """Every label with the fine-tuned weights, and the wordings that they were trained with."""
    labels: dict[str, Lesson] = {}
    for label in (label for source in plan.sources for label in source.labels):
        lesson = serving.of_label(label.value)
        asked = label.concept.phrases
        phrases = lesson.phrases if lesson and lesson.asked == asked else None
        labels.setdefault(label.value, Lesson(asked, phrases, adapter=adapter))
    return Lessons.of(labels)
