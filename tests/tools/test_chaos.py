"""The chaos run in its short form, and its judges: a storm that finds nothing proves nothing if it cannot find."""

from __future__ import annotations

import json
import random
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sam3_core.errors import TooLarge
from sam3_core.images import displayed_size
from tools.chaos.__main__ import _enough, _grown, _log
from tools.chaos.bad import bomb
from tools.chaos.bodies import same_instances, same_regions
from tools.chaos.clients import Answer, Manner, Message, send
from tools.chaos.ends import check_store
from tools.chaos.good import Good
from tools.chaos.server import API_TOKEN, Footprint
from tools.chaos.stand_in import TOKEN, LabelStudio
from tools.chaos.storm import Plan, Tally
from tools.chaos.verdicts import Ask, Outcome, Verdict, judged, refusal

ROOT = Path(__file__).parents[2]
SQUARE = [[10.0, 10.0], [30.0, 10.0], [30.0, 30.0], [10.0, 30.0]]


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_the_short_form(tmp_path: Path) -> None:
    """Whatever it finds is in the message."""
    file = tmp_path / "told.json"
    command = [
        sys.executable, "-m", "tools.chaos", "--requests", "90", "--warm-up", "40", "--seconds", "10", "--seed", "7",
        "--clients", "12", "--keep", str(tmp_path / "kept"), "--json", str(file),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    told = json.loads(file.read_text())
    assert set(map(tuple, told["checks"].values())) == {()}
    assert {"kill -9", "SIGTERM", "log", "store", "answers", "memory, threads, sockets"} <= set(told["checks"])
    outcomes = [outcome for kind in told["requests"].values() for outcome in kind]
    assert {"right", "client left"} <= set(outcomes)
    assert "wrong" not in outcomes


@pytest.fixture
def good() -> Iterator[Good]:
    with LabelStudio() as site:
        yield Good(site)


def test_a_plan_is_the_same_for_the_same_seed(good: Good) -> None:
    def told(seed: int) -> list[tuple[object, ...]]:
        plan = Plan(seed, good)
        asked = [plan.at(number) for number in range(150)]
        return [(ask.kind, ask.message.head, ask.message.body, manner) for ask, manner, _ in asked]

    first = told(3)
    assert told(3) == first != told(4)
    plan = Plan(3, good)
    asked = [plan.at(number)[0] for number in range(1500)]
    assert 0.28 < sum(ask.bad for ask in asked) / len(asked) < 0.39
    manners = {plan.at(number)[1] for number in range(1500)}
    assert manners == set(Manner)


def region(points: list[list[float]] = SQUARE, label: str = "circle", score: float = 0.9) -> dict[str, Any]:
    return {"score": score, "value": {"points": points, "polygonlabels": [label]}}


def test_regions_are_the_same_up_to_rounding() -> None:
    shifted = [[x + 0.05, y] for x, y in SQUARE]
    assert same_regions([region(), region(label="star")], [region(shifted, "star", 0.9001), region()])
    for other in (region([[x + 2, y] for x, y in SQUARE]), region(label="star"), region(score=0.7)):
        assert not same_regions([region()], [other])
    assert not same_regions([region()], [])
    assert not same_regions([], [region()])
    assert not same_regions([region()], [region(), region()])


def test_instances_are_the_same_up_to_rounding() -> None:
    one = {"phrase": "star", "score": 0.8, "box": [1, 2, 30, 40]}
    assert same_instances([one], [one | {"score": 0.801, "box": [2, 2, 30, 39]}])
    for change in ({"box": [9, 2, 30, 40]}, {"score": 0.5}, {"phrase": "circle"}):
        assert not same_instances([one], [one | change])
    assert not same_instances([one], [])


def answer(status: int, body: object = None, **headers: str) -> Answer:
    return Answer(status, headers, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("got", "outcome"),
    [
        (answer(400, {"error": "this is not JSON"}), Outcome.RIGHT),
        (answer(500, {"error": "this is a defect"}), Outcome.WRONG),
        (answer(200, {"results": []}), Outcome.WRONG),
        (answer(400, {"error": "Traceback (most recent call last)"}), Outcome.WRONG),
        (answer(400, "no object"), Outcome.WRONG),
        (Answer(400, {}, b"<html>"), Outcome.WRONG),
        (Answer(0, {}, b"reset"), Outcome.WRONG),
        (answer(503, {"error": "come again later"}, **{"retry-after": "2"}), Outcome.REFUSED),
        (answer(503, {"error": "come again later"}), Outcome.WRONG),
        (answer(503, {}, **{"retry-after": "2"}), Outcome.WRONG),
    ],
)
def test_what_is_said_to_a_bad_request(got: Answer, outcome: Outcome) -> None:
    verdict = judged(Ask("bad", Message("POST", "/predict"), refusal(400)), got, silent=True)
    assert (verdict.outcome, bool(verdict.problem)) == (outcome, outcome is Outcome.WRONG)


@pytest.mark.parametrize(
    ("entries", "silent", "outcome"),
    [
        ([{"result": [region()]}, {"result": [], "meta": {"problem": "no such file"}}], False, Outcome.RIGHT),
        ([[], {"result": [], "meta": {"problem": "no such file"}}], True, Outcome.LEFT_OPEN),
        ([{"result": [region()]}, []], False, Outcome.LEFT_OPEN),
        ([[], {"result": [], "meta": {"problem": "no such file"}}], False, Outcome.WRONG),
        ([{"result": []}, {"result": [], "meta": {"problem": "no such file"}}], False, Outcome.WRONG),
        ([{"result": [region(label="star")]}, {"result": [], "meta": {"problem": "no"}}], False, Outcome.WRONG),
        # A bad image that finds nothing, without a reason; a good one that was out of reach, and counts as done.
        ([{"result": [region()]}, {"result": []}], False, Outcome.WRONG),
        ([{"result": [], "meta": {"problem": "silence"}}] * 2, True, Outcome.WRONG),
        ([{"result": [], "meta": {"problem": "silence"}}] * 2, False, Outcome.WRONG),
        ([{"result": [region()]}], False, Outcome.WRONG),
        ([None, None], False, Outcome.WRONG),
    ],
)
def test_what_a_batch_with_a_bad_task_gets(good: Good, entries: list[Any], silent: bool, outcome: Outcome) -> None:
    good.known.batch.append([region()])
    ask = good.batch(1, [0, -1], ["a.jpg", "b.jpg"])
    assert judged(ask, answer(200, {"results": entries}), silent=silent).outcome is outcome


@contextmanager
def echo(reply: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server for one connection: its port, and what it got until the client stopped speaking, or all came."""
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                received = b""
                while b"end" not in received:
                    try:
                        piece = connection.recv(100)
                    except ConnectionResetError:
                        piece = b""
                    if not piece:
                        break
                    received += piece
                got.append(received)
                if b"end" in received:
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], got
        thread.join(30)


MESSAGE = Message("POST", "/predict", b"x" * 50 + b"end", login="Bearer x")
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nRetry-After: 3\r\n\r\n{}"


@pytest.mark.parametrize("manner", [Manner.POLITE, Manner.SLOW])
def test_clients_that_stay_send_all_and_read_all(manner: Manner) -> None:
    with echo(REPLY) as (port, got):
        answered = send(port, MESSAGE, manner, random.Random(1))
    assert got == [MESSAGE.head + MESSAGE.body]
    assert (answered.status, answered.headers["retry-after"], answered.json()) == (200, "3", {})


@pytest.mark.parametrize("manner", [Manner.LEAVES_HEAD, Manner.LEAVES_BODY])
@pytest.mark.parametrize("seed", range(4))
def test_clients_that_leave_early_send_a_part(manner: Manner, seed: int) -> None:
    with echo(REPLY) as (port, got):
        assert send(port, MESSAGE, manner, random.Random(seed)).status == 0
    whole = MESSAGE.head + MESSAGE.body
    assert whole.startswith(got[0])
    assert (b"\r\n\r\n" not in got[0]) or manner is Manner.LEAVES_BODY


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"], ids=["none", "cut off"])
def test_an_answer_that_breaks_off_is_none(reply: bytes) -> None:
    with echo(reply) as (port, _):
        assert send(port, MESSAGE, Manner.POLITE, random.Random(1)).status == 0


def test_a_bomb_is_small_and_would_be_large() -> None:
    data = bomb()
    assert len(data) < 200_000
    with pytest.raises(TooLarge):
        displayed_size(data, max_megapixels=100)


def test_a_silent_label_studio_answers_later(good: Good) -> None:
    site, answers = good.site, list[int]()
    site.fall_silent()
    login = f"Token {TOKEN}"
    asking = threading.Thread(target=lambda: answers.append(site.get(site.address(0, 5), login)[0]))
    asking.start()
    asking.join(0.2)
    assert answers == []
    site.answer_again()
    asking.join(30)
    assert answers == [200]
    assert site.was_silent(0, float("inf"))
    assert site.get(site.address(0, 5), None)[0] == 401


def test_what_is_lost_or_twice_or_more_is_found(tmp_path: Path, good: Good) -> None:
    store = tmp_path / "phrases"
    with closing(sqlite3.connect(store)) as database:
        database.execute("CREATE TABLE label_phrases (project TEXT, label TEXT, phrases TEXT)")
        database.execute("INSERT INTO label_phrases VALUES ('1', 'circle', 'phrase 1')")
        database.commit()
    serving: Any = SimpleNamespace(store=store)
    good.known.acknowledged["1"] = "phrase 1"
    assert check_store(serving, good) == []
    good.known.acknowledged["2"] = "phrase 2"
    assert "1 phrases" in check_store(serving, good)[0]

    good.known.batch.append([region()])
    good.batch(1, [0, 0, -1], ["a.jpg", "b.jpg", "c.jpg"])
    good.site.stored = [{"task": 100, "result": [region()]}, {"task": 102, "result": []}]
    assert good.pushed() == ""
    good.site.stored.append({"task": 101, "result": []})
    assert good.pushed() == "1 of 3 are not right, 1 of them empty"
    good.site.stored[-1] = good.site.stored[0]
    assert good.pushed() == "1 predictions were stored twice"

    warm = Footprint(900.0, 50, 3)
    assert _grown(warm, Footprint(950.0, 52, 5)) == []
    assert len(_grown(warm, Footprint(1500.0, 90, 60))) == 3

    log = tmp_path / "log"
    log.write_text(
        "12:00 WARNING backend.app: 400 the body is not JSON\n[7] [ERROR] Worker (pid:8) was sent SIGKILL!\n"
    )
    assert _log(log) == []
    log.write_text(f"Traceback (most recent call last):\n12:00 ERROR backend.app: a request failed\nx {API_TOKEN}\n")
    assert len(_log(log)) == 3


def test_a_server_that_refuses_everything_is_no_good() -> None:
    tally, ask = Tally(), Ask("click", Message("POST", "/predict"), refusal(400))
    for outcome in (Outcome.RIGHT, *[Outcome.REFUSED] * 3, Outcome.LEFT):
        tally.add(ask, Verdict(outcome), "request 1")
    assert _enough(tally) == []
    tally.add(ask, Verdict(Outcome.NO_IMAGE), "request 2")
    tally.add(Ask("types", ask.message, ask.judge, bad=True), Verdict(Outcome.RIGHT), "request 3")
    assert _enough(tally) == ["only 1 of 5 good requests got their answer"]
