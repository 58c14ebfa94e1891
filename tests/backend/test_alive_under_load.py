"""A real server that is as busy as it can be: the routes that watch it, and Label Studio's setup, answer as ever.

No test here looks at a clock: a server where they waited for work would never answer, as that work is held up.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from request_bodies import CONFIG, data_url, predict_body
from test_gunicorn import server

from sam3_core.demo.scenes import render_scene

# While the file is there, whatever thread runs the model does not get on.
PROGRAM = """
import pathlib, sys, time, torch
import backend.server
from backend.settings import BackendSettings

torch.set_num_threads(1)
gate = pathlib.Path(GATE)

def hold(module, inputs):
    while gate.exists():
        time.sleep(0.01)

torch.nn.modules.module.register_module_forward_pre_hook(hold)
backend.server.run(BackendSettings(), host="127.0.0.1", port=int(sys.argv[1]), threads=8)
"""
SETUP = {"project": "1.5", "schema": CONFIG, "hostname": "", "access_token": "", "extra_params": None}
CHEAP = ("/health", "/", "/ready", "/status", "/status.json", "/metrics", "/versions")


@pytest.fixture
def silent_host() -> Iterator[str]:
    """A host that takes every connection and says nothing until the test is over."""
    taken: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def take() -> None:
        while True:
            try:
                taken.append(listener.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for one in taken:
        one.close()


@contextmanager
def busy_server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Two clicks and two batches at a time, with the demo's weights loaded; its address, and its model's gate."""
    gate = tmp_path / "gate"
    variables = {
        "SAM3_DEVICE": "cpu",
        "SAM3_MAX_CLICKS": "2",
        "SAM3_MAX_BULK": "2",
        "SAM3_FETCH_SECONDS": "8",
        "SAM3_ALLOWED_HOSTS": "public, 127.0.0.1",
    }
    program = PROGRAM.replace("GATE", repr(str(gate)))
    with server(program, tmp_path / "log", **variables) as (url, _):
        until(lambda: requests.get(f"{url}/ready", timeout=60).status_code == 200)
        yield url, gate
    assert "Traceback" not in (tmp_path / "log").read_text()


def until(true: Callable[[], bool]) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.1)
    pytest.fail("it never came to that")


def at_work(url: str) -> dict[str, int]:
    lanes = requests.get(f"{url}/status.json", timeout=60).json()["lanes"]
    return {lane["lane"]: lane["at_work"] for lane in lanes}


def fill(pool: ThreadPoolExecutor, url: str, image: Callable[[], str]) -> list[Future[requests.Response]]:
    """As many batches and opened tasks as there are places, all of them at work."""
    numbers = iter(range(100))

    def post(tasks: int) -> requests.Response:
        body = predict_body([{"id": next(numbers), "data": {"image": image()}} for _ in range(tasks)])
        return requests.post(f"{url}/predict", json=body, timeout=300)

    sent = [pool.submit(post, tasks) for tasks in (2, 2, 1, 1)]
    until(lambda: at_work(url) == {"click": 2, "bulk": 2})
    return sent


def check_alive(url: str) -> None:
    for _ in range(5):
        for path in CHEAP:
            assert requests.get(url + path, timeout=60).status_code == 200, path
        answer = requests.post(f"{url}/setup", json=SETUP, timeout=60)
        assert answer.json()["model_version"].startswith("sam3-demo")
        assert requests.post(f"{url}/webhook", json={"action": "TASKS_CREATED"}, timeout=60).status_code == 200
    one_more: dict[str, Any] = predict_body([{"id": 99, "data": {"image": "x"}}])
    refused = requests.post(f"{url}/predict", json=one_more, timeout=60)
    assert (refused.status_code, refused.json()["kind"]) == (503, "busy")
    assert refused.headers["Retry-After"]


def test_while_every_place_is_held_by_a_fetch_that_hangs(tmp_path: Path, silent_host: str) -> None:
    with busy_server(tmp_path) as (url, _), ThreadPoolExecutor(4) as pool:
        sent = fill(pool, url, lambda: f"{silent_host}/{time.monotonic_ns()}.jpg")
        check_alive(url)
        assert not any(one.done() for one in sent)


def test_while_the_device_is_stuck(tmp_path: Path) -> None:
    scenes = iter([data_url(render_scene(seed, objects=(2, 4), size=(160, 120)).encode()) for seed in range(50, 56)])
    with busy_server(tmp_path) as (url, gate), ThreadPoolExecutor(4) as pool:
        gate.touch()
        try:
            sent = fill(pool, url, lambda: next(scenes))
            check_alive(url)
            assert not any(one.done() for one in sent)
        finally:
            gate.unlink()
        assert [one.result().status_code for one in sent] == [200] * 4
        assert at_work(url) == {"click": 0, "bulk": 0}
