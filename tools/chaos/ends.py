"""The server is killed, and told to stop, while it works."""

from __future__ import annotations

import os
import random
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from tools.chaos.clients import Answer, Manner, send
from tools.chaos.good import Good
from tools.chaos.server import GRACE, Serving
from tools.chaos.verdicts import Ask, Outcome, Verdict, judged

_CLIENTS = 8
_AGAIN = 120.0  # seconds for a new worker to load the weights
_UNDER_WAY = 6
_BEFORE = 1.0  # seconds before its end in which a server may not have taken a connection in


@dataclass
class Load:
    """Good requests, all the time. verdicts: with when each was begun and over (``time.monotonic``)."""

    verdicts: list[tuple[float, float, Ask, Answer, Verdict]] = field(default_factory=list)


@contextmanager
def load(serving: Serving, good: Good, first: int) -> Iterator[Load]:
    """While the block runs some clients send good requests. first: number of the first of them."""
    over, kept, lock = threading.Event(), Load(), threading.Lock()
    numbers = iter(range(first, first + 10**6))

    def work() -> None:
        while not over.is_set():
            with lock:
                number = next(numbers)
            rng = random.Random(number)
            ask, begun = good.make(number, rng), time.monotonic()
            answer = send(serving.port, ask.message, Manner.POLITE, rng)
            silent = good.site.was_silent(begun, time.monotonic())
            kept.verdicts.append((begun, time.monotonic(), ask, answer, judged(ask, answer, silent=silent)))
            if answer.status == 0:
                time.sleep(0.2)

    threads = [threading.Thread(target=work) for _ in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield kept
    finally:
        over.set()
        for thread in threads:
            thread.join()


def kill_worker(serving: Serving, good: Good, first: int) -> list[str]:
    """kill -9 under load. What is wrong afterwards, in sentences; raises ChaosFailed when nothing is served again."""
    before = serving.worker()
    with load(serving, good, first) as asked:
        serving.wait_until(lambda: serving.at_work() >= _CLIENTS // 2, 30, "no load came up")
        killed = time.monotonic()
        os.kill(before, signal.SIGKILL)
        serving.wait_until(lambda: _is_new(serving, before), _AGAIN, "no new worker was ready")
        again = time.monotonic()
        time.sleep(2)
    problems = []
    for begun, ended, ask, _, verdict in asked.verdicts:
        hit = begun < again and ended > killed - 0.1
        if verdict.problem and not hit:
            problems.append(f"{ask.kind} around a kill: {verdict.problem}")
    if not any(begun > again and one.outcome is Outcome.RIGHT for begun, _, _, _, one in asked.verdicts):
        problems.append("no right answer after the kill")
    return problems + check_store(serving, good)


def _is_new(serving: Serving, before: int) -> bool:
    return serving.ready() and serving.worker() != before


def terminate(serving: Serving, good: Good, first: int) -> list[str]:
    """SIGTERM under load, while requests wait for images. What is wrong then, in sentences."""
    problems = []
    with ThreadPoolExecutor(_UNDER_WAY) as pool:
        with load(serving, good, first) as asked:
            time.sleep(1)
            good.site.fall_silent()
            addresses = [good.site.address(0, first + n) for n in range(_UNDER_WAY)]
            waiting = [pool.submit(_wait, serving, good, address) for address in addresses]
            serving.wait_until(lambda: all(map(good.site.was_asked, addresses)), 30, "no work was under way")
            told = time.monotonic()
            serving.terminate()
            time.sleep(0.5)
            good.site.answer_again()
            problems += _results(waiting)
            code = serving.wait_end(GRACE + 10)
        seconds = time.monotonic() - told
    if code != 0:
        problems.append(f"the server ended with {code} after {seconds:.0f} s")
    for begun, _, ask, answer, verdict in asked.verdicts:
        if verdict.problem and not (answer.status == 0 and begun > told - _BEFORE):
            problems.append(f"{ask.kind} around SIGTERM: {verdict.problem}")
    if _takes_connections(serving.port):
        problems.append("a server that ended takes connections")
    return problems + check_store(serving, good)


def _wait(serving: Serving, good: Good, address: str) -> tuple[Ask, Answer]:
    """A click on a new image, which has to be fetched."""
    ask = good.click(int(address.rpartition("-")[2].removesuffix(".jpg")), 0, 0, address)
    return ask, send(serving.port, ask.message, Manner.POLITE, random.Random(0))


def _results(waiting: list[Future[tuple[Ask, Answer]]]) -> list[str]:
    """Requests that were under way end well: with an answer, or with a sentence and when to come again."""
    verdicts = [judged(*one.result(), silent=True) for one in waiting]
    problems = [f"a click under way at SIGTERM: {one.problem}" for one in verdicts if one.problem]
    if not any(one.outcome is Outcome.RIGHT for one in verdicts):
        problems.append(f"no click under way at SIGTERM was answered: {[str(one.outcome) for one in verdicts]}")
    return problems


def _takes_connections(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 2):
            return True
    except OSError:
        return False


def check_store(serving: Serving, good: Good) -> list[str]:
    """Whether the store is whole, and has everything that the server said it took note of."""
    with closing(sqlite3.connect(serving.store)) as database:
        (found,) = database.execute("PRAGMA integrity_check").fetchone()
        rows = database.execute("SELECT project, phrases FROM label_phrases").fetchall()
    stored = dict(rows)
    lost = [project for project, phrase in good.known.acknowledged.items() if stored.get(project) != phrase]
    problems = [] if found == "ok" else [f"the store is damaged: {found}"]
    return problems + ([f"{len(lost)} phrases that were acknowledged are not stored"] if lost else [])
