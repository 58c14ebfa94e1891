"""Clients that say nothing, stop in the middle, do not read or do not close, against the server's own worker."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

# Two threads, so that a few clients would be enough; the app is none of ours, and as slow as it is asked to be.
PROGRAM = """
import sys, time
from types import SimpleNamespace
from flask import Flask, request
from backend.app import EXTENSION
from backend.server import Server

app = Flask("slow")
app.extensions[EXTENSION] = SimpleNamespace(stop=lambda seconds: None)

@app.get("/health")
def health():
    return {"status": "UP"}

@app.get("/big")
def big():
    return b"x" * 50_000_000

@app.post("/work")
def work():
    body = request.get_data()
    time.sleep(float(request.args.get("seconds", 0)))
    return {"length": len(body)}

Server(lambda: app, host="127.0.0.1", port=int(sys.argv[1]), threads=2, receive_seconds=1.5, send_seconds=1.5).run()
"""
WORK = b"POST /work HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, subprocess.Popen[bytes], Path]]:
    log = tmp_path_factory.mktemp("slow") / "log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = str(Path(__file__).parents[2])
    with log.open("wb") as out:
        command = [sys.executable, "-c", PROGRAM, str(port)]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": root}, stdout=out, stderr=out)
    try:
        for _ in range(300):
            assert process.poll() is None, log.read_text()
            try:
                requests.get(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            except requests.RequestException:
                time.sleep(0.1)
        yield port, process, log
    finally:
        process.terminate()
        process.wait(60)
    assert process.returncode == 0
    assert "Traceback" not in log.read_text()


Serving = tuple[int, subprocess.Popen[bytes], Path]


def client(port: int, *said: bytes) -> socket.socket:
    """Somebody who said so much, and now waits."""
    connection = socket.create_connection(("127.0.0.1", port), 20)
    for piece in said:
        connection.sendall(piece)
    return connection


def answer(connection: socket.socket) -> tuple[int, dict[str, str]]:
    """What somebody gets until the server closes: the last answer's status and sentence."""
    received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def work(port: int, seconds: float = 0.0, timeout: float = 20.0) -> int:
    body = b"x" * 10
    answered = requests.post(f"http://127.0.0.1:{port}/work?seconds={seconds}", data=body, timeout=timeout)
    return int(answered.json()["length"])


@pytest.mark.parametrize(
    "said",
    [b"", b"P", WORK[:30], b"GET / HTTP/1.1\r\nX: ", HEALTH + b"GET /hea", WORK + b"x" * 10 + b"POST /"],
    ids=["nothing", "a byte", "half a head", "an open header", "a half head after a request", "and after work"],
)
def test_no_thread_waits_for_a_head(server: Serving, said: bytes) -> None:
    """More clients than threads wait, for longer than the test: work goes on beside them."""
    port, _, _ = server
    with ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(client(port, said))
        # gunicorn's own worker needs five seconds for every two of the silent, and does not return from the others.
        assert work(port, timeout=1.4) == 10


def test_half_a_head_is_answered_408(server: Serving) -> None:
    port, _, _ = server
    with client(port, WORK[:30]) as connection:
        status, said = answer(connection)
    assert status == 408
    assert "SAM3_RECEIVE_SECONDS" in said["error"]


def test_a_body_that_stops_is_answered_408_and_gives_its_thread_back(server: Serving) -> None:
    port, _, _ = server
    with ExitStack() as stack:
        stopped = [stack.enter_context(client(port, WORK + b"abc")) for _ in range(2)]
        assert work(port) == 10
        for connection in stopped:
            status, _ = _http(connection)
            assert status == 408


def test_a_body_that_drips_meets_the_deadline(server: Serving) -> None:
    """Every byte comes in time, the whole does not."""
    port, _, _ = server
    with client(port, WORK.replace(b" 10", b" 1000")) as connection:
        for _ in range(100):
            try:
                connection.sendall(b"x")
            except OSError:
                break
            time.sleep(0.05)
        assert work(port) == 10


def test_a_chunked_body_that_stops(server: Serving) -> None:
    port, _, _ = server
    head = b"POST /work HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"
    with client(port, head) as connection:
        status, _ = _http(connection)
    assert status == 408


def test_a_client_that_does_not_read(server: Serving) -> None:
    port, _, _ = server
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(client(port, b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n"))
        time.sleep(2.0)  # all threads for questions had one of them
        assert requests.get(f"http://127.0.0.1:{port}/health", timeout=20).json() == {"status": "UP"}
        assert work(port) == 10
    assert len(requests.get(f"http://127.0.0.1:{port}/big", timeout=20).content) == 50_000_000


def test_clients_that_do_not_close_keep_nobody_waiting(server: Serving) -> None:
    """gunicorn's own loop gives each of them two seconds, one after the other."""
    port, _, _ = server
    with ExitStack() as stack:
        waiting = [stack.enter_context(client(port, HEALTH.replace(b"1.1", b"1.0"))) for _ in range(20)]
        assert waiting[0].recv(1) == b"H"
        time.sleep(0.3)
        assert work(port, timeout=5) == 10


def test_health_answers_while_all_threads_work(server: Serving) -> None:
    port, _, _ = server
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(client(port, WORK.replace(b"/work", b"/work?seconds=1") + b"x" * 10))
        assert requests.get(f"http://127.0.0.1:{port}/health", timeout=1).json() == {"status": "UP"}


def test_kept_and_pipelined_requests(server: Serving) -> None:
    """What a well-behaved client does still works: several requests at once and one after another."""
    port, _, _ = server
    with client(port, HEALTH, WORK, b"0123456789" + HEALTH[:9], HEALTH[9:]) as connection:
        received = b""
        while received.count(b'"UP"') < 2 or b'"length":10' not in received:
            received += connection.recv(1 << 16)
        connection.sendall(WORK[:-3])
        time.sleep(0.1)
        connection.sendall(WORK[-3:] + b"0123456789")
        while received.count(b'"length":10') < 2:
            piece = connection.recv(1 << 16)
            assert piece, received
            received += piece
    with requests.Session() as session:
        for size in (0, 1, 10_000, 3_000_000):
            answered = session.post(f"http://127.0.0.1:{port}/work", data=b"x" * size, timeout=20)
            assert answered.json()["length"] == size


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nbad header secret-value\r\n\r\n", 400),
        (b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"X-Y: " + b"z" * 10_000 + b"\r\n\r\n", 431),
        (b"POST /work HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: nonsense\r\n\r\n", 501),
    ],
)
def test_what_is_no_http_is_answered_in_one_sentence(server: Serving, said: bytes, status: int) -> None:
    port, _, log = server
    with client(port, said) as connection:
        got, sentence = answer(connection)
    assert got == status
    assert sentence["error"]
    assert "secret-value" not in log.read_text()


def test_a_stopping_server_finishes_its_work_and_leaves_the_silent(server: Serving) -> None:
    """Last in this file: it ends the server."""
    port, process, _ = server
    with client(port), client(port, WORK.replace(b"/work", b"/work?seconds=1") + b"x" * 10) as busy:
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        status, said = _http(busy)
        assert (status, said) == (200, {"length": 10})
        process.wait(20)


def _http(connection: socket.socket) -> tuple[int, object]:
    """One answer, however it ends."""
    status, said = 0, b""
    received = b""
    while not said:
        piece = connection.recv(1 << 16)
        received += piece
        head, _, said = received.partition(b"\r\n\r\n")
        status = int(head.split()[1]) if head else 0
        if not piece:
            break
    try:
        return status, json.loads(said)
    except ValueError:
        return status, said
