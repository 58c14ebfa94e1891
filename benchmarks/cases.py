"""What is measured: each case knows how to click some more, and keeps what it saw."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from label_studio_sdk.converter.brush import mask2rle
from numpy.typing import NDArray

from benchmarks.bodies import BRUSH, POLYGON, SHAPES, click_body, opened_body, stored_region
from benchmarks.client import Annotator, Sample
from benchmarks.photos import Photo, PhotoServer

Size = tuple[int, int]
REPEAT = "repeat click"
STORED = 20  # masks that the task of a big request carries


@dataclass
class Case:
    """One line of the table. clicks: so many more of them; their samples.

    share: of the clicks asked for, how many are enough, where one takes long. annotators: that click at once; 0 where
    one annotator's latency is all there is to see. seconds: wall clock of all clicks.
    """

    name: str
    size: Size
    clicks: Callable[[int], Sequence[Sample]]
    share: float = 1.0
    annotators: int = 0
    samples: list[Sample] = field(default_factory=list)
    seconds: float = 0.0

    def run(self, number: int) -> None:
        started = time.perf_counter()
        self.samples += self.clicks(max(1, round(number * self.share)))
        self.seconds += time.perf_counter() - started

    def forget(self) -> None:
        """Drop what was measured so far."""
        self.samples, self.seconds = [], 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A task with one image, as an annotator has it open."""

    number: int
    address: str
    photo: Photo

    def click(
        self,
        rng: np.random.Generator,
        *,
        spot: int | None = None,
        output: str = BRUSH,
        stored: Sequence[dict[str, Any]] = (),
    ) -> bytes:
        """A click in a random object, or in that one."""
        chosen = self.photo.spots[int(rng.integers(len(self.photo.spots))) if spot is None else spot]
        return click_body(
            self.number, self.address, chosen.click(rng), chosen.label, self.photo.size, output=output, stored=stored
        )


class Bench:
    """Makes the cases. ours, theirs: the addresses of the two backends. photos: some of each size."""

    def __init__(self, server: PhotoServer, photos: Sequence[Photo], ours: str, theirs: str) -> None:
        self._server = server
        self._photos = {photo.size: [other for other in photos if other.size == photo.size] for photo in photos}
        self._ours, self._theirs = ours, theirs
        self._rng = np.random.default_rng(0)
        self._numbers = itertools.count(1)

    def cases(self, annotators: Sequence[int]) -> Iterator[Case]:
        """All of them, size by size; what needs one has its image in the cache when this is done."""
        for size in self._photos:
            yield self._first(size)
            yield self._repeat(REPEAT, size)
            yield self._repeat(f"{REPEAT}, polygon", size, output=POLYGON)
            yield self._opened(size)
            yield self._big(size)
            for number in annotators:
                yield self._crowd(size, number)
            yield self._reencoding(size)

    def _job(self, size: Size) -> Job:
        """A new task with an image that no cache knows."""
        number = next(self._numbers)
        photo = self._photos[size][number % len(self._photos[size])]
        return Job(number, self._server.add(f"{number:08x}-photo.jpg", photo.variant(number)), photo)

    def _known(self, size: Size) -> tuple[Job, Annotator]:
        """A task whose image has been clicked on, and who did it."""
        job, annotator = self._job(size), Annotator(self._ours)
        for _ in range(2):
            annotator.click(job.click(self._rng))
        return job, annotator

    def _first(self, size: Size) -> Case:
        annotator = Annotator(self._ours)

        def click() -> Sample:
            job = self._job(size)
            sample = annotator.click(job.click(self._rng))
            self._server.remove(job.address)
            return sample

        return Case("first click on an image", size, _repeated(click), share=0.25)

    def _opened(self, size: Size) -> Case:
        """The open-task request is not counted, the click after it is."""
        annotator = Annotator(self._ours)

        def click() -> Sample:
            job = self._job(size)
            annotator.ask(opened_body(job.number, job.address))
            sample = annotator.click(job.click(self._rng))
            self._server.remove(job.address)
            return sample

        return Case("first click in an opened task", size, _repeated(click), share=0.25)

    def _repeat(self, name: str, size: Size, output: str = BRUSH) -> Case:
        job, annotator = self._known(size)
        return Case(name, size, _repeated(lambda: annotator.click(job.click(self._rng, output=output))))

    def _big(self, size: Size) -> Case:
        """The first object is clicked; the stored masks lie elsewhere, so that the click refines none of them."""
        job, annotator = self._known(size)
        clear = job.photo.spots[0].x
        stored = [
            stored_region(number, mask2rle(_blob(self._rng, size, clear)), SHAPES[number % len(SHAPES)], size)
            for number in range(STORED)
        ]
        body = job.click(self._rng, spot=0, stored=stored)
        name = f"{REPEAT}, {STORED} masks along ({len(body) / 1e6:.1f} MB)"
        click = _repeated(lambda: annotator.click(job.click(self._rng, spot=0, stored=stored)))
        return Case(name, size, click, share=0.5)

    def _reencoding(self, size: Size) -> Case:
        job, annotator = self._job(size), Annotator(self._theirs, stages=False)
        annotator.click(job.click(self._rng))
        return Case(
            "click, re-encoding backend", size, _repeated(lambda: annotator.click(job.click(self._rng))), 0.25
        )

    def _crowd(self, size: Size, annotators: int) -> Case:
        """Each in a task of their own, clicking again as soon as the answer is there."""
        known = [self._known(size) for _ in range(annotators)]

        def click(number: int) -> list[Sample]:
            each = -(-number // annotators)
            bodies = [[job.click(self._rng) for _ in range(each)] for job, _ in known]
            together = threading.Barrier(annotators)

            def work(annotator: Annotator, own: list[bytes]) -> list[Sample]:
                together.wait()
                return [annotator.click(body) for body in own]

            with ThreadPoolExecutor(annotators) as pool:
                done = pool.map(work, [annotator for _, annotator in known], bodies)
                return [sample for samples in done for sample in samples]

        return Case(f"{annotators} clicking at once", size, click, annotators=annotators)


def _repeated(click: Callable[[], Sample]) -> Callable[[int], list[Sample]]:
    return lambda number: [click() for _ in range(number)]


def _blob(rng: np.random.Generator, size: Size, clear: float) -> NDArray[np.uint8]:
    """A mask as a stored one might be, ``(H, W)`` of 0 and 255: an upright ellipse, two thirds of the image high.

    clear: percent of the width around which it stays away.
    """
    width, height = size
    away = rng.uniform(20, 45) * (1 if clear < 50 else -1)
    center = (int((clear + away) / 100 * width), int(rng.uniform(0.4, 0.6) * height))
    mask = np.zeros((height, width), np.uint8)
    axes = (int(0.05 * width), int(0.33 * height))
    cv2.ellipse(mask, center, axes, 0, 0, 360, 255, thickness=-1)
    return mask
