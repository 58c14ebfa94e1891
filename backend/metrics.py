"""What /metrics tells, in Prometheus' text format. One registry per app, so that several can live in a process."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Enum, Histogram, generate_latest

from sam3_core import ModelState

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)


class Metrics:
    """Counters of one app."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "sam3_requests", "requests by route and status", ["route", "status"], registry=self._registry
        )
        self.predict_seconds = Histogram(
            "sam3_predict_seconds", "seconds per /predict", buckets=_SECONDS, registry=self._registry
        )
        self.tasks = Counter("sam3_tasks", "tasks asked for", registry=self._registry)
        self.instances = Counter("sam3_instances", "instances found", registry=self._registry)
        self.failures = Counter(
            "sam3_failures",
            "images or clicks that failed",
            ["reason"],
            registry=self._registry,
        )
        self._state = Enum(
            "sam3_model_state",
            "where the model stands",
            states=[state.value for state in ModelState],
            registry=self._registry,
        )

    def render(self, state: ModelState) -> bytes:
        """Everything as text; ``state`` is asked for at the moment of the scrape."""
        self._state.state(state.value)
        return generate_latest(self._registry)
