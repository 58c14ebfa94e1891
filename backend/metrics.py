"""What /metrics tells, in Prometheus' text format. One registry per app, so that several can live in a process.

Every name with its meaning: docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Enum,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from backend.admission import LanePlaces
from backend.failures import Failures
from backend.gauges import Gauges
from backend.pictures import PicturesInfo
from backend.pieces import JobInfo
from backend.trace import Trace
from sam3_core import ConceptResult, Lane, ModelInfo, ModelState

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)
_FELT_SECONDS = (0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 60)
_STAGE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)

_STAGES = ("parse", "fetch", "decode", "queue", "vision", "model", "masks", "encode")
"""Those of ``sam3_core.timing``: their series are there from the start, so that a rate over them is."""


class Metrics:
    """Counters of one app.

    model, pictures, places, jobs: how the segmenter, the memory of pictures, the places of requests and the bulk jobs
    stand, asked at the moment of each scrape.
    """

    def __init__(
        self,
        model: Callable[[], ModelInfo],
        pictures: Callable[[], PicturesInfo],
        places: Callable[[], Iterable[LanePlaces]] = tuple,
        jobs: Callable[[], Sequence[JobInfo]] = tuple,
    ) -> None:
        self._model = model
        self._registry = registry = CollectorRegistry()
        self.failed = Failures()
        self.requests = Counter(
            "sam3_requests", "requests by route and status", ["route", "status"], registry=registry
        )
        self._errors = Counter(
            "sam3_errors", "requests that ended with an error", ["route", "kind"], registry=registry
        )
        self._request_seconds = Histogram(
            "sam3_request_seconds",
            "seconds per request that does work",
            ["lane"],
            buckets=_STAGE_SECONDS,
            registry=registry,
        )
        self._stage_seconds = Histogram(
            "sam3_stage_seconds",
            "seconds that a stage took in a request",
            ["stage", "lane"],
            buckets=_STAGE_SECONDS,
            registry=registry,
        )
        for lane in Lane:
            self._request_seconds.labels(lane.value)
            for stage in _STAGES:
                self._stage_seconds.labels(stage, lane.value)
        self.predict_seconds = Histogram(
            "sam3_predict_seconds", "seconds per /predict", buckets=_SECONDS, registry=registry
        )
        self.interactive_seconds = Histogram(
            "sam3_interactive_seconds", "seconds per click, box or text", buckets=_FELT_SECONDS, registry=registry
        )
        self.tasks = Counter("sam3_tasks", "tasks asked for", registry=registry)
        self.instances = Counter("sam3_instances", "instances found", registry=registry)
        self._removed = Counter(
            "sam3_removed_instances", "instances that reached the threshold and went", ["reason"], registry=registry
        )
        self.failures = Counter("sam3_failures", "images or clicks that failed", ["reason"], registry=registry)
        self.superseded = Counter(
            "sam3_superseded_clicks", "clicks dropped because a newer one took their place", registry=registry
        )
        self._state = Enum(
            "sam3_model_state",
            "where the model stands",
            states=[state.value for state in ModelState],
            registry=registry,
        )
        registry.register(Gauges(model, pictures, places, jobs))
        ProcessCollector(registry=registry)

    def count_removed(self, results: Iterable[ConceptResult]) -> None:
        """Why instances that the model was sure of are not among the answers."""
        for result in results:
            for removal, count in result.removed:
                self._removed.labels(removal.name.lower()).inc(count)

    def count_failure(self, error: Exception, *, task: object = None) -> None:
        """An image or a click that failed where its request did not. task: its id."""
        self.failures.labels(type(error).__name__).inc()
        self.failed.add(error, task=task)

    def count_request(self, trace: Trace, status: int, stages: Mapping[str, float], seconds: float) -> None:
        """A request that is over. stages: seconds by stage."""
        self.requests.labels(trace.route, str(status)).inc()
        if trace.kind:
            self._errors.labels(trace.route, trace.kind).inc()
        if trace.lane is None:
            return
        self._request_seconds.labels(trace.lane.value).observe(seconds)
        for stage, taken in stages.items():
            self._stage_seconds.labels(stage, trace.lane.value).observe(taken)

    def render(self) -> bytes:
        """Everything as text."""
        self._state.state(self._model().state.value)
        return generate_latest(self._registry)
