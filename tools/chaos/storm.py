"""Thousands of requests at once, a third of them bad, by clients with all kinds of manners."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from tools.chaos.bad import Bad
from tools.chaos.bodies import LOGIN
from tools.chaos.clients import Answer, Manner, Message, send
from tools.chaos.good import Good
from tools.chaos.server import RECEIVE_SECONDS, Serving
from tools.chaos.verdicts import Ask, Outcome, Verdict, judged, refusal

_BAD = 1 / 3
_SILENCE_EVERY = 400
"""Requests between two times at which Label Studio stops answering."""
_SILENCE = 4.0  # seconds
_LOOK = 0.25  # seconds between two looks at /health
_GRACE = 60.0  # seconds after which who did not get an answer in time


@dataclass
class Tally:
    """What became of the requests. kinds: outcomes by kind of request. problems: what is wrong, in sentences."""

    kinds: dict[tuple[bool, str], Counter[Outcome]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    requests: int = 0
    seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, ask: Ask, verdict: Verdict, told: str) -> None:
        """told: which request it was."""
        with self._lock:
            self.requests += 1
            self.kinds.setdefault((ask.bad, ask.kind), Counter())[verdict.outcome] += 1
            if verdict.problem:
                self.problems.append(f"{told}: {verdict.problem}")


class Plan:
    """Which request comes when: the same for the same seed."""

    def __init__(self, seed: int, good: Good) -> None:
        self._seed, self._good, self._bad = seed, good, Bad(good)

    def at(self, number: int) -> tuple[Ask, Manner, random.Random]:
        """A request, how its client behaves, and what else of it is left to chance."""
        rng = random.Random(f"{self._seed}:{number}")
        bad = rng.random() < _BAD
        ask = (self._bad if bad else self._good).make(number, rng)
        if ask.message.raw:
            return ask, Manner.POLITE, rng
        leaving = [manner for manner in Manner if not manner.stays]
        manner = rng.choices(
            [Manner.POLITE, Manner.SLOW, Manner.STOPS, *leaving], [74, 4, 0.7, *(5 for _ in leaving)]
        )[0]
        if manner is Manner.STOPS:
            if bad or not ask.message.body:
                return ask, Manner.POLITE, rng
            ask = replace(ask, kind="body that stops", judge=refusal(408), bad=True)
        return ask, manner, rng


def storm(serving: Serving, plan: Plan, numbers: range, good: Good, *, clients: int, seconds: float) -> Tally:
    """Send the plan's requests of these numbers, or as many of them as can be begun in the time.

    Label Studio falls silent now and then meanwhile, and /health is asked all the time.
    """
    tally, site, started = Tally(), good.site, time.monotonic()

    def one(number: int) -> None:
        if time.monotonic() - started > seconds:
            return
        if number % _SILENCE_EVERY == _SILENCE_EVERY // 4:
            site.fall_silent()
            threading.Timer(_SILENCE, site.answer_again).start()
        ask, manner, rng = plan.at(number)
        begun = time.monotonic()
        answer = send(serving.port, ask.message, manner, rng)
        tally.add(ask, _verdict(ask, manner, answer, good, begun), f"request {number} ({ask.kind}, {manner})")

    with watched(serving, tally), ThreadPoolExecutor(clients) as pool:
        for _ in pool.map(one, numbers):
            pass
    site.answer_again()
    tally.seconds = time.monotonic() - started
    return tally


def _verdict(ask: Ask, manner: Manner, answer: Answer, good: Good, begun: float) -> Verdict:
    if not manner.stays:
        return Verdict(Outcome.LEFT)
    return judged(ask, answer, silent=good.site.was_silent(begun, time.monotonic()))


@contextmanager
def watched(serving: Serving, tally: Tally) -> Iterator[None]:
    """While the block runs /health has to answer."""
    over = threading.Event()
    health = Message("GET", "/health", login=LOGIN)

    def watch() -> None:
        while not over.wait(_LOOK):
            answer = send(serving.port, health, Manner.POLITE, random.Random(0))
            if answer.status != 200:
                tally.problems.append(f"/health during the storm: {answer.status} {answer.text[:200]!r}")

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def fill_threads(serving: Serving, threads: int) -> None:
    """Clients that stop in the body make the server start every thread it may have: later ones would be too many."""
    message = Message("POST", "/predict", b" " * 100, login=LOGIN)
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(threads):
            pool.submit(send, serving.port, message, Manner.STOPS, random.Random(0))


def settle(serving: Serving) -> None:
    """Wait until nothing is left to do, and connections that nobody uses are closed. Raises ChaosFailed."""
    serving.wait_until(serving.idle, _GRACE, "work was left over")
    time.sleep(RECEIVE_SECONDS)
