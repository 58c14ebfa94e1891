"""Clients of the serving benchmark: they send images that no cache has seen, and click while others do."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import requests

from benchmarks.bodies import SHAPES, opened_body
from benchmarks.cases import Job
from benchmarks.client import Annotator, BenchmarkFailed
from benchmarks.photos import Photo, PhotoServer
from sam3_prelabel.demo.process import direct_session

BATCH = 4
"""Tasks in one /predict."""

_PATIENCE = 600.0  # seconds
_PAUSE = 0.03  # seconds, about, between two clicks


@dataclass(frozen=True, slots=True)
class Reading:
    """What a server tells of itself. cpu: seconds of its process. passes, items: of the vision encoder."""

    cpu: float
    passes: int
    items: int

    @classmethod
    def of(cls, url: str) -> Reading:
        with direct_session() as session:
            text = session.get(f"{url}/metrics", timeout=60).text
            passes = session.get(f"{url}/status.json", timeout=60).json()["passes"]
        (cpu,) = (line.split()[1] for line in text.splitlines() if line.startswith("process_cpu_seconds_total "))
        (vision,) = (one for one in passes if one["kind"] == "vision")
        return cls(float(cpu), vision["passes"], vision["items"])


@dataclass(frozen=True, slots=True)
class Send:
    """One kind of request. images: how many it is about. go: send one to the server of that address."""

    name: str
    images: int
    go: Callable[[requests.Session, str], object]


class Load:
    """Makes requests about new images. sound: whether the weights are such that every image and click has answers.

    Callable from any thread.
    """

    def __init__(self, server: PhotoServer, photos: list[Photo], *, sound: bool) -> None:
        self._server, self._photos, self._sound = server, photos, sound
        self._numbers = itertools.count(1)

    @property
    def find(self) -> Send:
        """/v1/find with a new image."""
        return Send("/v1/find", 1, self._find)

    @property
    def batch(self) -> Send:
        """/predict for tasks with new images, as "Retrieve predictions" sends it."""
        return Send(f"/predict, {BATCH} tasks", BATCH, self._batch)

    def _find(self, session: requests.Session, url: str) -> None:
        _, data = self._next()
        asked = json.dumps({"concepts": [{"phrases": [shape]} for shape in SHAPES]}).encode()
        files = {"request": asked, "image": data}
        answer = _checked(session.post(f"{url}/v1/find", files=files, timeout=_PATIENCE))
        self._check(any(result["instances"] for result in answer["results"]), url)

    def _batch(self, session: requests.Session, url: str) -> None:
        addresses = [self._server.add(f"{number:08x}-new.jpg", data) for number, data in map(self._one, range(BATCH))]
        bodies = [json.loads(opened_body(next(self._numbers), address)) for address in addresses]
        body = bodies[0] | {"tasks": [one["tasks"][0] for one in bodies]}
        answer = _checked(session.post(f"{url}/predict", json=body, timeout=_PATIENCE))
        for address in addresses:
            self._server.remove(address)
        for entry in answer["results"]:
            self._check(bool(entry) and "problem" not in entry.get("meta", {}), url)
            self._check(bool(entry["result"]), url)

    def clicker(self, url: str) -> Callable[[int], list[float]]:
        """An annotator who has a task open, and clicks so often; milliseconds of each click."""
        number, data = self._next()
        photo = self._photos[number % len(self._photos)]
        job = Job(number, self._server.add(f"{number:08x}-open.jpg", data), photo)
        annotator, rng = Annotator(url), np.random.default_rng(number)

        def click(times: int) -> list[float]:
            taken = []
            for _ in range(times):
                sample, regions = annotator.ask(job.click(rng))
                self._check(bool(regions), url)
                taken.append(sample.total)
                time.sleep(rng.exponential(_PAUSE))
            return taken

        return click

    def _one(self, _: int) -> tuple[int, bytes]:
        return self._next()

    def _next(self) -> tuple[int, bytes]:
        """The number of a new image, and its file."""
        number = next(self._numbers)
        return number, self._photos[number % len(self._photos)].variant(number)

    def _check(self, good: bool, url: str) -> None:
        if self._sound and not good:
            raise BenchmarkFailed(f"{url} answered without what is in the image; its log has the reason")


def send_all(send: Send, url: str, clients: int, images: int) -> tuple[int, float]:
    """So many clients at once, until so many images are through at least; their number, and the seconds it took."""
    left = iter(range(-(-images // send.images)))
    lock = threading.Lock()

    def work(_: int) -> int:
        done = 0
        with direct_session() as session:
            while True:
                with lock:
                    if next(left, None) is None:
                        return done
                send.go(session, url)
                done += send.images

    with ThreadPoolExecutor(clients) as pool:
        started = time.perf_counter()
        done = sum(pool.map(work, range(clients)))
        return done, time.perf_counter() - started


@dataclass
class Rate:
    """What clients got through, known when they ended."""

    images: int = 0
    seconds: float = 0.0

    @property
    def images_a_second(self) -> float:
        return self.images / self.seconds


@contextmanager
def going_on(send: Send, url: str, clients: int) -> Iterator[Rate]:
    """While the block runs so many clients send all the time; each finishes what it began."""
    over, rate, started = threading.Event(), Rate(), time.perf_counter()

    def work(_: int) -> int:
        done = 0
        with direct_session() as session:
            while not over.is_set():
                send.go(session, url)
                done += send.images
        return done

    with ThreadPoolExecutor(clients) as pool:
        working = [pool.submit(work, number) for number in range(clients)]
        try:
            yield rate
        finally:
            over.set()
        rate.images = sum(one.result() for one in working)
        rate.seconds = time.perf_counter() - started


def _checked(answer: requests.Response) -> Any:
    if answer.status_code != 200:
        raise BenchmarkFailed(f"{answer.url} answered {answer.status_code}: {answer.text[:300]}")
    return answer.json()
