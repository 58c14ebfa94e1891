"""How long an annotator waits for a click while the server learns, beside a server that has nothing to learn.

    python -m benchmarks.learning_latency

Starts our backend with a store, clicks, has a simulated reviewer correct tasks, and clicks on while the teacher
works: cheap steps inside the server, then a fine-tuning in a process of its own. That one is stopped and continued
in turns (SIGSTOP), so that clicks beside it and clicks without it are measured at the same time, whatever else the
machine does. Prints one table; exit code 1 where a median is more than 1.5 times the idle one. Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.bodies import click_body
from benchmarks.client import Annotator, BenchmarkFailed
from benchmarks.photos import render_photo
from sam3_core.errors import Sam3Error
from tools.chaos.stand_in import TOKEN, LabelStudio
from tools.learning import world
from tools.learning.events import Events, upload
from tools.learning.processes import trainings
from tools.learning.site import learning_backend

FLOOR = 1.5
"""A median click while something is learned takes at most so many times the median click of an idle server."""

SIZE = (1920, 1080)
IDLE, CHEAP, TUNING = "idle", "cheap steps", "fine-tuning"
_LEARN = "phrases,thresholds,memory,tuning"
_PHOTOS = 4
_WARM_UP = 12  # clicks that do not count
_ROUND = 8  # clicks
_SETTLE = 0.3  # seconds after a training was stopped or continued
_START, _END = 60.0, 900.0  # seconds for the learning to begin, and to end

Samples = dict[str, list[float]]


class Clicks:
    """One annotator who clicks on one photo after the other, a new place each time."""

    def __init__(self, url: str, site: LabelStudio) -> None:
        self._rng = np.random.default_rng(1)
        self._annotator = Annotator(url)
        shown = [render_photo(seed, SIZE) for seed in range(_PHOTOS)]
        self._open = [(1000 + n, upload(site, f"click-{n}.jpg", photo.data), photo) for n, photo in enumerate(shown)]
        self._done = 0

    def round(self, count: int) -> list[float]:
        """Milliseconds of each of so many clicks."""
        return [self._click() for _ in range(count)]

    def _click(self) -> float:
        task, address, photo = self._open[self._done % len(self._open)]
        spot = photo.spots[self._done // len(self._open) % len(photo.spots)]
        self._done += 1
        return self._annotator.click(click_body(task, address, spot.click(self._rng), spot.label, SIZE)).total


def measure(reviews: int, folder: Path) -> Samples:
    """Milliseconds of clicks by what the server does meanwhile. Raises Sam3Error with a sentence."""
    settings = {"SAM3_LEARN_AFTER": str(reviews), "SAM3_TUNE_AFTER": str(reviews)}
    found: Samples = defaultdict(list)
    with LabelStudio() as site, learning_backend(site.url, TOKEN, folder, _LEARN, settings) as server:
        events = Events(site, server.url, world.reviewed(reviews))
        events.introduce()
        for number in range(1, reviews):
            events.review(number)
        clicks = Clicks(server.url, site)
        clicks.round(_WARM_UP)
        found[IDLE] += clicks.round(2 * _ROUND)
        events.review(reviews)
        begun = time.monotonic()
        while _doing(events) == IDLE:
            if time.monotonic() - begun > _START:
                raise BenchmarkFailed(f"no learning began within {_START:.0f} s")
        while (doing := _doing(events)) != IDLE:
            if time.monotonic() - begun > _END:
                raise BenchmarkFailed(f"the learning did not end within {_END:.0f} s")
            if processes := trainings(server.pid):
                with _stopped(processes):
                    found[IDLE] += clicks.round(_ROUND)
            samples = clicks.round(_ROUND)
            if _doing(events) == doing and bool(processes) == (doing == TUNING):
                found[doing] += samples
        found[IDLE] += clicks.round(2 * _ROUND)
    return found


def _doing(events: Events) -> str:
    """What the teacher is at: IDLE, CHEAP or TUNING."""
    told = events.status()
    if told.get("state", "idle") == "idle":
        return IDLE
    return TUNING if told["step"].startswith("fine-tuning") else CHEAP


@contextmanager
def _stopped(processes: Sequence[int]) -> Iterator[None]:
    _signal(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(processes, signal.SIGCONT)


def _signal(processes: Sequence[int], number: int) -> None:
    for pid in processes:
        try:
            os.kill(pid, number)
        except ProcessLookupError:  # it has ended
            continue
    time.sleep(_SETTLE)


def as_markdown(found: Samples) -> str:
    """One line for each thing that the server does meanwhile."""
    base = float(np.median(found[IDLE]))
    lines = ["| meanwhile | clicks | median | 95 % | median, times idle |", "| --- | --: | --: | --: | --: |"]
    for name in (IDLE, CHEAP, TUNING):
        if found.get(name):
            median, high = (float(np.percentile(found[name], share)) for share in (50, 95))
            times = median / base
            lines.append(f"| {name} | {len(found[name])} | {median:.0f} ms | {high:.0f} ms | {times:.2f} |")
    return "\n".join(lines)


def missed(found: Samples) -> list[str]:
    """A sentence for everything that makes clicks too slow, and for what was not seen at all."""
    sentences = []
    for name in (CHEAP, TUNING):
        if not found.get(name):
            sentences.append(f"no click was measured during {name}: review more tasks")
            continue
        ratio = float(np.median(found[name]) / np.median(found[IDLE]))
        if ratio > FLOOR:
            sentences.append(f"during {name} a click takes {ratio:.2f} times as long as on an idle server")
    return sentences


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviews", type=int, default=60, help="tasks that are reviewed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="sam3-learning-latency-") as folder:
            found = measure(options.reviews, Path(folder))
    except Sam3Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(as_markdown(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    wrong = missed(found)
    for sentence in wrong:
        print(f"missed: {sentence}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
