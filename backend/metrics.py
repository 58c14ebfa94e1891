"""What /metrics tells, in Prometheus' text format. One registry per app, so that several can live in a process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Enum, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from backend.pictures import PicturesInfo
from sam3_core import ConceptResult, ModelInfo, ModelState

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)
_FELT_SECONDS = (0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 60)


class Metrics:
    """Counters of one app.

    model, pictures: how the segmenter and the memory of pictures stand, asked at the moment of each scrape.
    """

    def __init__(self, model: Callable[[], ModelInfo], pictures: Callable[[], PicturesInfo]) -> None:
        self._model = model
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "sam3_requests", "requests by route and status", ["route", "status"], registry=registry
        )
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
        registry.register(_Caches(model, pictures))

    def count_removed(self, results: Iterable[ConceptResult]) -> None:
        """Why instances that the model was sure of are not among the answers."""
        for result in results:
            for removal, count in result.removed:
                self._removed.labels(removal.name.lower()).inc(count)

    def render(self) -> bytes:
        """Everything as text."""
        self._state.state(self._model().state.value)
        return generate_latest(self._registry)


class _Caches(Collector):
    def __init__(self, model: Callable[[], ModelInfo], pictures: Callable[[], PicturesInfo]) -> None:
        self._model = model
        self._pictures = pictures

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering does not ask the model."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        cache, pictures = self._model().cache, self._pictures()
        name = "sam3_embedding_cache"
        yield CounterMetricFamily(f"{name}_hits", "embeddings that were there", cache.hits)
        yield CounterMetricFamily(f"{name}_misses", "embeddings that had to be computed", cache.misses)
        held = GaugeMetricFamily(f"{name}_bytes", "memory that embeddings take", labels=["tier"])
        entries = GaugeMetricFamily(f"{name}_entries", "embeddings in memory", labels=["tier"])
        gone = CounterMetricFamily(f"{name}_evictions", "embeddings that made room for others", labels=["tier"])
        for tier, state in (("device", cache.device), ("host", cache.host)):
            held.add_metric([tier], state.bytes)
            entries.add_metric([tier], state.entries)
            gone.add_metric([tier], state.evictions)
        yield from (held, entries, gone)
        name = "sam3_image_cache"
        yield CounterMetricFamily(f"{name}_hits", "image files that were there", pictures.hits)
        yield CounterMetricFamily(f"{name}_misses", "image files that had to be fetched", pictures.misses)
        yield GaugeMetricFamily(f"{name}_bytes", "memory that image files take", pictures.bytes)
        yield GaugeMetricFamily(f"{name}_entries", "image files in memory", pictures.entries)
