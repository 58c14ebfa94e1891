"""kill -9 at any moment of a training, again and again: the store stays whole, and what served serves.

    python -m tools.learning.kill --times 9 --seed 1

Starts `sam3-prelabel serve` with a store, lets it learn from reviews, and then, while it fine-tunes, kills the
training process, the server's worker, or the whole server. Exit code 0: all is well, 1: something is not, 2: nothing
could be tried. Needs Linux.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import requests

from sam3_core.errors import Sam3Error
from sam3_prelabel.demo.backend import BackendServer
from tools.chaos.stand_in import TOKEN, LabelStudio
from tools.learning import world
from tools.learning.events import PROJECT, Events
from tools.learning.processes import alive, children, trainings
from tools.learning.site import STORE, ProofFailed, learning_backend

REVIEWED = 30
"""A quarter of them is held out of a fine-tuning, which needs eight of those."""

VICTIMS = ("training", "worker", "server")

_POLL = 0.1  # seconds
_START = 120.0  # seconds for a training to begin; other processes' claims on it run out before
_LONG = 400.0  # seconds for one to end
_ORPHAN = 10.0  # seconds for a training to notice that its server is gone
_SETTINGS = {"SAM3_LEARN_AFTER": str(REVIEWED), "SAM3_TUNE_MINUTES": "2"}


def kill_again_and_again(times: int, seed: int, folder: Path, tell: Callable[[str], None]) -> list[str]:
    """What is wrong, in sentences. Raises Sam3Error where nothing could be tried."""
    rng, problems = random.Random(seed), list[str]()
    with LabelStudio() as site:
        learn_cheaply(site, folder, tell)
        for turn in range(times):
            victim = VICTIMS[turn % len(VICTIMS)]
            wrongs = kill_once(site, folder, victim, rng.uniform(0.0, 8.0), turn, tell)
            problems += [f"turn {turn + 1}, {victim}: {wrong}" for wrong in wrongs]
        problems += _ends(site, folder, times, tell)
    return problems


def learn_cheaply(site: LabelStudio, folder: Path, tell: Callable[[str], None]) -> None:
    """Have a version served that was learned."""
    with _serving(site, folder, "phrases,thresholds") as (_, events):
        review_all(events)
        _until(lambda: _idle(events), _START, "nothing was learned from reviews")
        tell(f"{events.version()} serves")


def review_all(events: Events) -> None:
    """Connect, and review every task."""
    events.introduce()
    for number in range(1, REVIEWED + 1):
        events.review(number)


def kill_once(
    site: LabelStudio, folder: Path, victim: str, delay: float, turn: int, tell: Callable[[str], None]
) -> list[str]:
    """Kill one of ``VICTIMS`` so many seconds after a training began. What is wrong afterwards."""
    after = str(1 if turn else REVIEWED)
    with _serving(site, folder, "tuning", SAM3_TUNE_AFTER=after) as (server, events):
        before = events.version()
        if turn:
            events.review(1 + turn % REVIEWED, again=turn)
        else:
            review_all(events)
        _until(lambda: bool(trainings(server.pid)), _START, "no training began")
        time.sleep(delay)
        victims = trainings(server.pid)
        if victim == "server":
            os.killpg(server.pid, signal.SIGKILL)
        for pid in victims if victim == "training" else children(server.pid) if victim == "worker" else ():
            os.kill(pid, signal.SIGKILL)
        tell(f"{victim} killed after {delay:.1f} s of training, while {before} served")
        problems = store_problems(folder)
        if victim != "server":
            problems += serving_problems(events, folder, before)
    with _serving(site, folder, "off") as (_, events):
        problems += serving_problems(events, folder, before)
    _until(lambda: not any(map(alive, victims)), _ORPHAN, "a training outlives its server")
    return problems


def _ends(site: LabelStudio, folder: Path, turn: int, tell: Callable[[str], None]) -> list[str]:
    """Whether a training that is left alone after all this comes to its end."""
    with _serving(site, folder, "tuning", SAM3_TUNE_AFTER="1") as (server, events):
        events.review(1 + turn % REVIEWED, again=turn)
        try:
            _until(lambda: bool(trainings(server.pid)), _START, "no training began")
            _until(lambda: events.status().get("state") == "idle", _LONG, "it is at work for ever")
        except ProofFailed as error:
            return [str(error)]
        tell(f"left alone: {events.status()['sentence']}")
        return store_problems(folder) + serving_problems(events, folder, None)


@contextmanager
def _serving(site: LabelStudio, folder: Path, learn: str, **more: str) -> Iterator[tuple[BackendServer, Events]]:
    with learning_backend(site.url, TOKEN, folder, learn, _SETTINGS | more) as server:
        yield server, Events(site, server.url, world.reviewed(REVIEWED))


def serving_problems(events: Events, folder: Path, before: str | None) -> list[str]:
    """What answers must be what served before, or a promotion that the store has whole."""
    answers: list[str] = []

    def answered() -> bool:
        try:
            answers.append(events.version())
        except requests.RequestException:  # the worker is being replaced
            return False
        return True

    _until(answered, _START, "nothing is served any more")
    with closing(sqlite3.connect(folder / STORE)) as store:
        promoted = {name for (name,) in store.execute("SELECT name FROM versions")}
        chosen = store.execute("SELECT name FROM serving WHERE project = ?", (str(PROJECT),)).fetchone() or ("",)
    if chosen[0] and chosen[0] not in promoted:
        return [f"the store names {chosen[0]!r}, which it does not have"]
    expected = chosen[0] or before
    return [] if expected in (None, answers[-1]) else [f"{answers[-1]} serves, not {expected}"]


def store_problems(folder: Path) -> list[str]:
    """What SQLite itself finds wrong with the store."""
    try:
        with closing(sqlite3.connect(folder / STORE)) as store:
            (said,) = store.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.DatabaseError as error:
        said = error
    return [] if said == "ok" else [f"the store is not whole: {said}"]


def _idle(events: Events) -> bool:
    told = events.status()
    return told.get("state") == "idle" and told["done"] == 1.0 and not told["fresh"]


def _until(so: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not so():
        if time.monotonic() > deadline:
            raise ProofFailed(f"{otherwise} within {seconds:.0f} s")
        time.sleep(_POLL)


def _tell(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=9, help="how often to kill")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="sam3-kill-") as folder:
            problems = kill_again_and_again(
                options.times, options.seed, Path(folder), lambda line: print(line, flush=True)
            )
    except Sam3Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for sentence in problems:
        print(f"wrong: {sentence}")
    print(f"killed {options.times} times: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
