"""The front door: SAM 3 as a Label Studio ML backend model.

``Sam3Backend`` has the contract of LabelStudioMLBase of label-studio-ml 2.x, which makes a new object for every
request; what lasts is in a ``Runtime``. Where that package is installed, the class is a subclass of its base and runs
under its ``init_app(model_class=Sam3Backend)``; it is not needed, ``backend.app`` serves the same class.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.bodies import Context, Task, convert
from backend.images import ImageReader, Site
from backend.interactive import Interactive
from backend.labeling import Plan, read_plan
from backend.metrics import Metrics
from backend.phrases import Phrases
from backend.pictures import Pictures
from backend.prelabel import Prediction, Prelabeler
from backend.settings import BackendSettings
from sam3_core import Segmenter
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


class Runtime:
    """What outlives a request: the segmenter, the readers, and what Label Studio told about its projects."""

    def __init__(self, settings: BackendSettings, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        self.events: deque[Event] = deque(maxlen=_MAX_EVENTS)
        self.phrases = Phrases(settings.store)
        self._images = ImageReader(settings)
        pictures = Pictures(self._images, megabytes=settings.image_cache_mb)
        self.metrics = metrics = Metrics(segmenter.info, pictures.info)
        self.prelabeler = Prelabeler(segmenter, pictures, metrics, request_seconds=settings.request_seconds)
        self.interactive = Interactive(segmenter, pictures, metrics, max_megapixels=settings.max_megapixels)
        self._hosts: dict[str, tuple[str | None, str | None]] = {}
        self._lock = threading.Lock()

    def introduce(self, project: str, hostname: str | None, access_token: str | None) -> None:
        """Remember what /setup said about a project; the longest unseen projects are forgotten."""
        with self._lock:
            self._hosts.pop(project, None)
            self._hosts[project] = (hostname, access_token)
            while len(self._hosts) > _MAX_PROJECTS:
                self._hosts.pop(next(iter(self._hosts)))

    def site(self, project: str) -> Site | None:
        """The Label Studio whose images a project shows."""
        with self._lock:
            hostname, access_token = self._hosts.get(project, (None, None))
        return self._images.site(hostname, access_token)


_shared: Runtime | None = None
_shared_lock = threading.Lock()


def shared_runtime() -> Runtime:
    """The process' runtime for objects made without one, as label-studio-ml makes them; built from the environment.

    The weights start loading in the background at the first call. Raises BadSettings.
    """
    global _shared
    with _shared_lock:
        if _shared is None:
            from sam3_core.engine import LocalSegmenter

            settings = load_settings(BackendSettings)
            _shared = Runtime(settings, LocalSegmenter(settings))
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
        self._plan = read_plan(label_config) if label_config else Plan((), "there is no labeling config")
        self.setup()

    def setup(self) -> None:
        """Called by the constructor, for every request: only takes note of the model version, touches no weights."""
        self._version = self._runtime.prelabeler.version

    @property
    def model_version(self) -> str:
        """Names the weights; the same string in /setup, /versions and every prediction."""
        return self._version

    def get(self, key: str) -> str | None:
        """label-studio-ml's per-project store, as far as its /setup reads it."""
        return self._version if key == "model_version" else None

    def set_extra_params(self, extra_params: object) -> None:
        """Extra parameters of the connection: an object, a JSON string or null; none is known, none is an error."""
        if extra_params:
            log.info("project %s: the connection's extra parameters are not used", self.project_id)

    def predict(
        self,
        tasks: Sequence[Task | Mapping[str, Any]],
        context: Context | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[Prediction | list[Any]]:
        """Exactly one entry per task, in order: ``{"result": [...], "score": 0..1, "model_version": str}``.

        context: what the annotator drew or typed, for interactive requests; every label is searched without one, by
        the phrases that were typed for it where it remembers them.
        kwargs: ``login`` and ``password`` of the project's task data, which are not used.
        Raises InvalidInput for malformed tasks or context, NotReady while the weights load, ModelUnavailable when
        they cannot be. For what happens to single tasks see ``Prelabeler.predict_tasks``.
        """
        parsed = [convert(Task, task) for task in tasks]
        drawn = convert(Context, context) if context else None
        if self._plan.problem:
            log.warning("project %s: nothing to predict: %s", self.project_id, self._plan.problem)
        site = self._runtime.site(self.project_id)
        prelabeler = self._runtime.prelabeler
        self._runtime.metrics.tasks.inc(len(parsed))
        if drawn is None or drawn.missing:
            return prelabeler.predict_tasks(parsed, self._runtime.phrases.apply(self.project_id, self._plan), site)
        if drawn.event == "prewarm":
            for task in parsed:
                prelabeler.warm(task, self._plan, site)
            return [prelabeler.prediction([]) for _ in parsed]
        answer, prompts = self._runtime.interactive.answer, drawn.result or []
        return [prelabeler.prediction(answer(task, prompts, self._plan, site, self.project_id)) for task in parsed]

    def fit(self, event: str, data: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Take note of an annotation event, remember what was typed for labels that ask for it, answer at once."""
        annotations = data.get("annotation", data.get("annotations"))
        if not isinstance(annotations, list):
            annotations = [] if annotations is None else [annotations]
        project = data.get("project") or {}
        number, config = str(project.get("id", self.project_id)), project.get("label_config", self._label_config)
        for annotation in annotations:
            if isinstance(annotation, Mapping) and not annotation.get("was_cancelled"):
                self._runtime.phrases.learn(number, str(config), annotation.get("result") or [])
        self._runtime.events.append(Event(event, number, len(annotations)))
        log.info("project %s: %s, %d annotations", number, event, len(annotations))
        return {"event": event, "annotations": len(annotations)}
