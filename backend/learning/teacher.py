"""The teacher: takes note of events, and teaches projects in the background, one at a time."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from backend.bodies import Task
from backend.database import Database
from backend.images import Site
from backend.labeling import Plan
from backend.learning.courses import Cancelled
from backend.learning.courtesy import Courtesy
from backend.learning.inbox import Inbox
from backend.learning.records import KnownProject
from backend.learning.serving import under_lessons
from backend.learning.tutor import Records, Tutor
from backend.learning.versions import BASE, LATEST, PERSON
from backend.phrases import Phrases
from backend.pictures import Pictures
from backend.predictions import Prediction
from backend.settings import BackendSettings
from backend.standing import Informant
from sam3_core import Segmenter
from sam3_core.choices import Choices
from sam3_core.errors import Busy, NotReady, Sam3Error, ServerUnavailable

log = logging.getLogger(__name__)

_LATER = (NotReady, Busy, ServerUnavailable)  # says nothing about the reviews: the course is begun again
_LOOK = 5.0  # seconds between two looks for what other processes left to do
_BEAT = 0.5  # seconds between two notes of how far a course is
_MOST_TASKS = 300  # the newest; more cost time and change little
_DEFECT = "it failed by a defect of this backend; its log has the details"


class Teacher:
    """Owns two threads, one that applies events to the reviews and one that teaches. One per process.

    site, choices: of a project, as it introduced itself. informant: on the segmenter. Callable from any thread.
    """

    def __init__(
        self,
        database: Database,
        segmenter: Segmenter,
        pictures: Pictures,
        phrases: Phrases,
        settings: BackendSettings,
        *,
        site: Callable[[str], Site | None],
        choices: Callable[[str], Choices],
        informant: Informant,
    ) -> None:
        records = Records(database)
        self.versions, self.predictions, self.reviews = records.versions, records.predictions, records.reviews
        self._courses = records.courses
        self._inbox = Inbox(database)
        self._settings = settings
        self._version = informant.version
        self._tutor = Tutor(
            records, segmenter, pictures, phrases, settings, site, choices, informant, told=self._told
        )
        self._news, self._work = threading.Event(), threading.Event()
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._loop, args=(self._news, self._read_all), name="sam3-events", daemon=True),
            threading.Thread(target=self._loop, args=(self._work, self._teach_all), name="sam3-teach", daemon=True),
        ]
        self._starting = threading.Lock()
        if settings.store is not None:  # an earlier process, or a command, may have left work in it
            self._start()

    def note(self, action: str, body: bytes) -> None:
        """Keep an event, JSON as it came; what follows from it is done behind.

        Raises TooLarge or InvalidInput. A store that fails is a line in the log.
        """
        try:
            self._inbox.put(action, body)
        except sqlite3.Error as error:
            log.error("%s is lost: the store cannot be written: %s", action, error)
        self._start()
        self._news.set()

    def end(self) -> None:
        """End what is at work, soon."""
        self._stopped = True
        self._news.set()
        self._work.set()

    def wait(self, seconds: float) -> None:
        """Until it has ended, or for so many seconds."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))

    def remember(self, project: str, task: Task, prediction: Prediction) -> None:
        """Keep what was predicted for a task, to see what becomes of it."""
        if project and task.id is not None:
            self.predictions.remember(project, str(task.id), prediction)

    def version(self, project: str) -> str:
        """What a project is served now."""
        base = self._version()
        serving = self.versions.serving(project, base)
        return serving.name if serving else base

    def names(self) -> list[str]:
        """All versions that were served with these weights, newest first, the weights themselves last."""
        base = self._version()
        try:
            return [*self.versions.names(base), base]
        except sqlite3.Error as error:
            log.warning("the versions cannot be read: %s", error)
            return [base]

    def under_lessons(self, project: str, plan: Plan, request: Choices) -> Plan:
        """The plan as it is served now, and its version. request: what the request chose, which wins."""
        base = self._version()
        serving = self.versions.serving(project, base)
        if serving is None:
            return replace(plan, version=base)
        return replace(under_lessons(plan, serving.lessons, request), version=serving.name)

    def status(self) -> list[dict[str, Any]]:
        """Of every project that was reviewed: what it learned and what it is at. Fields: docs/metrics.md."""
        rows = []
        for course in self._courses.all():
            project = self.reviews.project(course.project) or KnownProject(course.project)
            choice = self.versions.choice(course.project)
            rows.append(
                {
                    "project": course.project,
                    "title": project.title,
                    "reviewed": self.reviews.count(course.project),
                    "fresh": course.fresh,
                    "state": "working" if course.working else "idle",
                    "step": course.step,
                    "done": round(course.done, 3),
                    "sentence": course.sentence,
                    "since": course.since,
                    "version": self.version(course.project),
                    "chosen_by": choice.by,
                }
            )
        return rows

    def waiting(self) -> int:
        """Events that are not applied yet."""
        return self._inbox.count()

    def _start(self) -> None:
        """The threads, once: a server that nobody teaches has none."""
        with self._starting:
            if not self._stopped:
                for thread in self._threads:
                    if thread.ident is None:
                        thread.start()

    def _loop(self, signal: threading.Event, work: Callable[[], None]) -> None:
        while not self._stopped:
            try:
                work()
            except sqlite3.Error as error:  # such as "locked", or a full disk: later is another try
                log.warning("the store cannot be used for now: %s", error)
            except Exception:  # the thread must outlive a defect: events go on to arrive
                log.exception("learning failed")
            signal.wait(_LOOK)
            signal.clear()

    def _read_all(self) -> None:
        """Apply the events that wait, in their order."""
        while not self._stopped and (noted := self._inbox.first()) is not None:
            try:
                self._read(noted.action, noted.body)
            except sqlite3.Error:
                raise
            except Sam3Error as error:
                log.warning("%s is left out: %s", noted.action, error)
            except Exception:  # one event that defeats us must not keep all that come after
                log.exception("%s is left out", noted.action)
            self._inbox.done(noted.number)

    def _read(self, action: str, body: bytes) -> None:
        number = _project_of(body)
        before = self.reviews.project(number)
        changed = self.reviews.apply(action, body)
        after = self.reviews.project(number)
        if after is not None and (before is None or after.chosen != before.chosen):
            self._follow(number, after.chosen)
        for project in {project for project, _ in changed}:
            self._courses.reviewed(project, sum(one == project for one, _ in changed))
        if action == "START_TRAINING" and number:
            self._courses.ask_training(number)
        if changed or action == "START_TRAINING":
            self._work.set()

    def _follow(self, project: str, chosen: str) -> None:
        """Somebody chose a model version in Label Studio: an older one of ours serves, until another is chosen."""
        base, now = self._version(), self.version(project)
        known = {version.name for version in self.versions.of(project)}
        if chosen == now or (chosen not in known | {base} and self.versions.choice(project).by != PERSON):
            return
        if chosen in known | {base}:
            self.versions.use(project, BASE if chosen == base else chosen, by=PERSON)
        elif known:
            self.versions.use(project, LATEST)

    def _teach_all(self) -> None:
        """Every project that has enough to learn from, or was asked to."""
        for course in self._courses.all():
            if self._stopped or course.working:
                continue
            settings = self._settings
            tuning = "tuning" in settings.steps
            # A task counts each time that it changes, so there may be fewer tasks than that.
            enough = (
                bool(settings.steps - {"tuning"})
                and course.fresh >= settings.learn_after
                and self.reviews.count(course.project) >= settings.learn_after
            )
            untuned = tuning and settings.tune_after and course.untuned >= settings.tune_after
            if course.train or enough or untuned:
                self._teach(course.project, tuned=tuning and bool(course.train or untuned), asked=course.train)

    def _teach(self, project: str, *, tuned: bool, asked: bool) -> None:
        begun = self._courses.begin(project)
        if begun is None:
            return
        trained, said, again = 0, list[str](), False
        try:
            if asked:
                said += self._tutor.rebuild(project)
            if self._settings.steps - {"tuning"}:
                said.append(self._tutor.cheap(project))
            if tuned:
                trained = begun.untuned
                said.append(f"fine-tuning: {self._tutor.deep(project)}")
        except (*_LATER, sqlite3.Error) as error:
            again = True
            said.append(f"put off: {error}")
        except (Cancelled, Sam3Error) as error:
            again = self._stopped
            said.append(str(error))
        except Exception:  # a thread that dies here would never teach again
            log.exception("project %s: learning failed", project)
            said.append(_DEFECT)
        finally:
            sentence = "; ".join(said) or "nothing is switched on to be learned (SAM3_LEARN)"
            log.info("project %s: %s", project, sentence)
            self._courses.end(project, sentence, taught=0 if again else begun.fresh, tuned=0 if again else trained)
            if again and asked:
                self._courses.ask_training(project)

    def _told(self, project: str) -> Callable[[str, float], None]:
        last = ("", 0.0)
        courtesy = Courtesy(self._tutor.clicks)

        def told(step: str, done: float) -> None:
            nonlocal last
            if self._stopped:
                raise Cancelled("the server was stopped")
            now = time.monotonic()
            if step != last[0] or now - last[1] > _BEAT:
                last = (step, now)
                self._courses.beat(project, step, done)
            courtesy.rest()

        return told


def _project_of(body: bytes) -> str:
    """The number of the project that an event is about; empty where it names none."""
    try:
        project: Mapping[str, Any] = json.loads(body).get("project") or {}
        return str(project.get("id", ""))
    except (ValueError, AttributeError, RecursionError):
        return ""
