"""What is asked at the moment of a scrape: the device and its lanes, the caches, the places of requests, the jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from backend.admission import LanePlaces
from backend.pictures import PicturesInfo
from backend.pieces import JobInfo
from backend.product import VERSION
from sam3_core import ModelInfo
from sam3_core.load import Load
from sam3_core.types import CacheInfo

_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Gauges(Collector):
    """Reads how everything stands."""

    def __init__(
        self,
        model: Callable[[], ModelInfo],
        pictures: Callable[[], PicturesInfo],
        places: Callable[[], Iterable[LanePlaces]],
        jobs: Callable[[], Sequence[JobInfo]],
    ) -> None:
        self._model, self._pictures, self._places, self._jobs = model, pictures, places, jobs

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering does not ask the model."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Everything, each value as of one moment."""
        info = self._model()
        yield InfoMetricFamily(
            "sam3_build",
            "what runs",
            {"version": VERSION, "model": info.version, "device": info.device, "dtype": info.dtype},
        )
        yield from _of_embeddings(info.cache)
        yield from _of_pictures(self._pictures())
        yield from _of_places(self._places())
        yield from _of_device(info.load)
        yield from _of_jobs(self._jobs())


def _of_embeddings(cache: CacheInfo) -> Iterator[Metric]:
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


def _of_pictures(pictures: PicturesInfo) -> Iterator[Metric]:
    name = "sam3_image_cache"
    yield CounterMetricFamily(f"{name}_hits", "image files that were there", pictures.hits)
    yield CounterMetricFamily(f"{name}_misses", "image files that had to be fetched", pictures.misses)
    yield GaugeMetricFamily(f"{name}_bytes", "memory that image files take", pictures.bytes)
    yield GaugeMetricFamily(f"{name}_entries", "image files in memory", pictures.entries)


def _of_places(places: Iterable[LanePlaces]) -> Iterator[Metric]:
    at_work = GaugeMetricFamily("sam3_requests_at_work", "requests at work now", labels=["lane"])
    limit = GaugeMetricFamily("sam3_requests_limit", "requests that may be at work", labels=["lane"])
    refused = CounterMetricFamily("sam3_requests_refused", "requests that found no place", labels=["lane"])
    for one in places:
        at_work.add_metric([one.lane.value], one.at_work)
        limit.add_metric([one.lane.value], one.limit)
        refused.add_metric([one.lane.value], one.refused)
    yield from (at_work, limit, refused)


def _of_device(load: Load) -> Iterator[Metric]:
    waiting = GaugeMetricFamily("sam3_device_waiting", "pieces of work in line for the device", labels=["lane"])
    done = CounterMetricFamily("sam3_device_done", "pieces of work that the device did", labels=["lane"])
    dropped = CounterMetricFamily("sam3_device_dropped", "pieces that nobody waited for any more", labels=["lane"])
    refused = CounterMetricFamily("sam3_device_refused", "pieces that found the line full", labels=["lane"])
    for lane in load.lanes:
        waiting.add_metric([lane.lane.value], lane.waiting)
        done.add_metric([lane.lane.value], lane.done)
        dropped.add_metric([lane.lane.value], lane.dropped)
        refused.add_metric([lane.lane.value], lane.refused)
    yield from (waiting, done, dropped, refused)
    seconds = CounterMetricFamily("sam3_pass_seconds", "time of the device", labels=["kind"])
    items = HistogramMetricFamily("sam3_pass_items", "items that went through the model together", labels=["kind"])
    limit = GaugeMetricFamily("sam3_pass_limit", "most items of a pass, as memory allows", labels=["kind"])
    broken = CounterMetricFamily("sam3_pass_out_of_memory", "passes that broke for want of memory", labels=["kind"])
    for one in load.passes:
        seconds.add_metric([one.kind], one.seconds)
        items.add_metric([one.kind], _buckets(one.sizes), sum(size * count for size, count in one.sizes))
        limit.add_metric([one.kind], one.limit)
        broken.add_metric([one.kind], one.out_of_memory)
    yield from (seconds, items, limit, broken)
    memory = GaugeMetricFamily("sam3_device_memory_bytes", "memory of the device", labels=["what"])
    for what in ("used", "peak", "total"):
        memory.add_metric([what], getattr(load.memory, what))
    yield memory


def _buckets(sizes: Sequence[tuple[int, int]]) -> list[tuple[str, float]]:
    """Passes of at most so many items, as Prometheus counts them."""
    counted = [(str(float(top)), float(sum(n for size, n in sizes if size <= top))) for top in _SIZES]
    return [*counted, ("+Inf", float(sum(n for _, n in sizes)))]


def _of_jobs(jobs: Sequence[JobInfo]) -> Iterator[Metric]:
    running = GaugeMetricFamily("sam3_jobs", "bulk jobs that are remembered", labels=["state"])
    for state, count in Counter(job.state for job in jobs).items():
        running.add_metric([state], count)
    tasks = GaugeMetricFamily("sam3_job_tasks", "tasks of these jobs", labels=["what"])
    for what in ("total", "done", "pushed", "failed", "waiting"):
        tasks.add_metric([what], sum(getattr(job, what) for job in jobs))
    yield from (running, tasks)
