"""The front door: SAM 3 as a Label Studio ML backend model.

``Sam3Backend`` has the contract of LabelStudioMLBase of label-studio-ml 2.x, which makes a new object for every
request; what lasts is in a ``Runtime``. Where that package is installed, the class is a subclass of its base and runs
under its ``init_app(model_class=Sam3Backend)``; it is not needed, ``backend.app`` serves the same class.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from backend.addresses import Hosts
from backend.admission import Admission
from backend.bodies import Context, Task, WebhookBody, convert
from backend.callers import lane_of
from backend.database import Database
from backend.extra_params import read_extra
from backend.images import ImageReader, Site
from backend.interactive import Interactive
from backend.labeling import Plan, resolve_plan
from backend.learning.teacher import Teacher
from backend.metrics import Metrics
from backend.phrases import Phrases
from backend.pictures import Pictures
from backend.pieces import JobInfo
from backend.predictions import Nothing, Prediction
from backend.prelabel import Prelabeler
from backend.push import LabelStudioApi
from backend.search import TaskSearch
from backend.segmenter import make_segmenter
from backend.settings import BackendSettings
from backend.standing import Informant
from sam3_core import Caller, Segmenter
from sam3_core.choices import OPEN, Choices, read_choices
from sam3_core.errors import InvalidInput
from sam3_core.settings import load_settings

try:
    from label_studio_ml.model import LabelStudioMLBase as _Base
except ImportError:
    _Base = object

log = logging.getLogger(__name__)

_MAX_PROJECTS = 1000
_MAX_EVENTS = 200


@dataclass(frozen=True, slots=True)
class Event:
    """A webhook as ``fit`` recorded it."""

    action: str
    project: str
    annotations: int


@dataclass(frozen=True, slots=True)
class Project:
    """What /setup said about a project: where it lives, its labeling config, and what its connection chose."""

    hostname: str | None = None
    access_token: str | None = field(default=None, repr=False)
    sender: str | None = None
    config: str = field(default="", repr=False)
    choices: Choices = OPEN


class Runtime:
    """What outlives a request: the segmenter, the readers, and what Label Studio told about its projects."""

    def __init__(self, settings: BackendSettings, segmenter: Segmenter) -> None:
        self.settings = settings
        self.segmenter = segmenter
        self.informant = Informant(segmenter)
        self.admission = Admission(clicks=settings.max_clicks, bulk=settings.max_bulk)
        self.started = time.time()
        self.events: deque[Event] = deque(maxlen=_MAX_EVENTS)
        database = Database(settings.store)
        self.phrases = Phrases(database)
        self._images = ImageReader(settings)
        self.pictures = pictures = Pictures(self._images, megabytes=settings.image_cache_mb)
        self.metrics = metrics = Metrics(self.informant.info, pictures.info, self.admission.info, self.jobs)
        search = TaskSearch(
            segmenter, pictures, metrics, version=self.informant.version, max_megapixels=settings.max_megapixels
        )
        self._projects: dict[str, Project] = {}
        self._lock = threading.Lock()
        self.teacher = teacher = Teacher(
            database,
            segmenter,
            pictures,
            self.phrases,
            settings,
            site=self.site,
            choices=self.choices,
            informant=self.informant,
        )
        stores = LabelStudioApi(Hosts.parse(settings.allowed_hosts), seconds=settings.fetch_seconds)
        self.prelabeler = Prelabeler(search, stores, settings, remember=teacher.remember)
        self.interactive = Interactive(
            segmenter, pictures, metrics, version=self.informant.version, max_megapixels=settings.max_megapixels
        )

    def introduce(
        self, project: str, hostname: str | None, access_token: str | None, config: str = "", *, sender: str | None
    ) -> None:
        """Remember what /setup said about where a project lives, and its labeling config. sender: see ``Home``."""
        self._note(project, hostname=hostname, access_token=access_token, config=config, sender=sender)

    def choose(self, project: str, choices: Choices) -> None:
        """Remember what a project's connection chose, in place of what it chose before."""
        self._note(project, choices=choices)

    def site(self, project: str) -> Site | None:
        """The Label Studio whose images a project shows."""
        known = self._known(project)
        return self._images.site(known.hostname, known.access_token, known.sender)

    def choices(self, project: str) -> Choices:
        """What a project's connection chose."""
        return self._known(project).choices

    def projects(self) -> dict[str, Project]:
        """Those that introduced themselves, by their id, the last one first."""
        with self._lock:
            return dict(reversed(self._projects.items()))

    def version(self, project: str) -> str:
        """What a project is served: the weights as they came, or what was learned for it."""
        return self.teacher.version(project)

    def jobs(self) -> Sequence[JobInfo]:
        """The batches at work, and the last ones that went on without their request."""
        return self.prelabeler.jobs()

    def stop(self, seconds: float) -> None:
        """The server ends: what is ready is stored, what is learned just now is given up. Takes so long at most."""
        end = time.monotonic() + seconds
        self.teacher.end()
        self.prelabeler.stop(seconds)
        self.teacher.wait(max(0.0, end - time.monotonic()))

    def _known(self, project: str) -> Project:
        with self._lock:
            return self._projects.get(project, Project())

    def _note(self, project: str, **said: Any) -> None:
        """The longest unseen projects are forgotten."""
        with self._lock:
            self._projects[project] = replace(self._projects.pop(project, Project()), **said)
            while len(self._projects) > _MAX_PROJECTS:
                self._projects.pop(next(iter(self._projects)))


_shared: Runtime | None = None
_shared_lock = threading.Lock()


def shared_runtime() -> Runtime:
    """The process' runtime for objects made without one, as label-studio-ml makes them; built from the environment.

    The weights start loading in the background at the first call. Raises BadSettings.
    """
    global _shared
    with _shared_lock:
        if _shared is None:
            settings = load_settings(BackendSettings)
            _shared = Runtime(settings, make_segmenter(settings))
        return _shared


class Sam3Backend(_Base):  # type: ignore[misc]
    """One request's view: a project, its labeling config, and the shared runtime.

    Deliberately does not run the base's constructor: that one stores the config in a file of its own and raises for
    configs which its parser refuses, where a valid empty answer is wanted.
    """

    def __init__(
        self, project_id: str | None = None, label_config: str | None = None, runtime: Runtime | None = None
    ) -> None:
        self.project_id = project_id or ""
        self._runtime = runtime or shared_runtime()
        self._label_config = label_config or ""
        self.setup()

    def setup(self) -> None:
        """Called by the constructor, for every request: only takes note of the model version, touches no weights."""
        self._version = self._runtime.version(self.project_id)

    @property
    def model_version(self) -> str:
        """Names the weights and what was learned for the project; the same in /setup, /versions and predictions."""
        return self._version

    def get(self, key: str) -> str | None:
        """label-studio-ml's per-project store, as far as its /setup reads it."""
        return self._version if key == "model_version" else None

    def set_extra_params(self, extra_params: object) -> None:
        """Extra parameters of the connection: an object, its JSON, or null, which takes back what was chosen before.

        They hold for the project wherever its labeling config leaves something open. Nothing in them is an error.
        """
        self._runtime.choose(self.project_id, read_extra(f"project {self.project_id}", extra_params))

    def predict(
        self,
        tasks: Sequence[Task | Mapping[str, Any]],
        context: Context | Mapping[str, Any] | None = None,
        *,
        caller: Caller | None = None,
        **kwargs: Any,
    ) -> list[Prediction | list[Any]]:
        """Exactly one entry per task, in order: ``{"result": [...], "score": 0..1, "model_version": str}``,
        with a ``meta`` that says why where there is nothing (see ``backend.predictions``).

        context: what the annotator drew or typed, for interactive requests; every label is searched without one, by
        the phrases that were typed for it where it remembers them.
        caller: who waits for the answer, and for how long; without one, somebody who has SAM3_REQUEST_SECONDS.
        kwargs: choices of this request, see ``sam3_core.choices``, which win over all others; and ``login`` and
        ``password`` of the project's task data, which are not used.
        Raises InvalidInput for malformed tasks, context or choices, NotReady while the weights load, ModelUnavailable
        when they cannot be, Busy when there is more to do than can be done, Dropped when nobody waits any more. For
        what happens to single tasks see ``Prelabeler.predict_tasks``.
        """
        parsed = [convert(Task, task) for task in tasks]
        drawn = convert(Context, context) if context else None
        if caller is None:
            caller = Caller.within(self._runtime.settings.request_seconds, lane_of(parsed, drawn))
        plan, learned = self._plans(kwargs)
        site = self._runtime.site(self.project_id)
        prelabeler = self._runtime.prelabeler
        self._runtime.metrics.tasks.inc(len(parsed))
        if plan.problem:
            log.warning("project %s: nothing to predict: %s", self.project_id, plan.problem)
            nothing = Nothing()
            nothing.fail(plan.problem)
            return [prelabeler.prediction([], nothing) for _ in parsed]
        if drawn is None or drawn.missing:
            return prelabeler.predict_tasks(parsed, learned, site, caller=caller, project=self.project_id)
        if drawn.event == "prewarm":
            for task in parsed:
                prelabeler.warm(task, plan, site, caller=caller)
            return [prelabeler.prediction([]) for _ in parsed]
        answer, prompts = self._runtime.interactive.answer, drawn.result or []
        return [answer(task, prompts, plan, site, self.project_id, caller) for task in parsed]

    def _plans(self, params: Mapping[str, object]) -> tuple[Plan, Plan]:
        """What the labeling config asks for, and the same under what was typed and learned for the project.

        Raises InvalidInput for choices of the request that make no sense.
        """
        request, wrong = read_choices(params)
        if wrong:
            raise InvalidInput(f"params: {wrong[0]}")
        if not self._label_config:
            nothing = Plan((), "there is no labeling config")
            return nothing, nothing
        plan = resolve_plan(self._label_config, request, self._runtime.choices(self.project_id))
        typed = self._runtime.phrases.apply(self.project_id, plan)
        return plan, self._runtime.teacher.under_lessons(self.project_id, typed, request)

    def fit(self, event: str, data: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Take note of an event, to learn from it behind; remember what was typed for labels that ask for it.

        data: the webhook's body. Answers at once. Raises InvalidInput for what is no such body.
        """
        told = {**data, "action": event}
        return self.note(event, convert(WebhookBody, told), msgspec.json.encode(told))

    def note(self, event: str, body: WebhookBody, raw: bytes) -> dict[str, Any]:
        """``fit`` for a body that was read already. raw: its JSON as it came."""
        number, config = str(body.project.get("id", self.project_id)), body.project.get("label_config")
        annotations = body.event().get("annotation") or []
        for annotation in annotations:
            if not annotation.get("was_cancelled"):
                self._runtime.phrases.learn(number, str(config or self._label_config), annotation["result"])
        self._runtime.teacher.note(event, raw)
        count = len(annotations) or len(body.annotations or ())
        self._runtime.events.append(Event(event, number, count))
        log.info("project %s: %s, %d annotations", number, event, count)
        return {"event": event, "annotations": count}
