"""The server as a real process: gunicorn on a free port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from request_bodies import CONFIG, data_url, predict_body
from scene_segmenter import VERSION, SceneSegmenter

from sam3_core.demo.scenes import render_scene

# The segmenter is made where the real one is: in the worker, after the fork. It notes in which process.
PROGRAM = """
import os, sys, time
import backend.server
from backend.settings import BackendSettings
from scene_segmenter import SceneSegmenter
from sam3_core.demo.scenes import render_scene

def make(settings):
    oracle = SceneSegmenter()
    oracle.add(render_scene(9, objects=(2, 4), size=(160, 120)))
    find = oracle.find
    oracle.find = lambda *args: (time.sleep(0.3), find(*args))[1]
    print("made in", os.getpid(), "child of", os.getppid(), flush=True)
    return oracle

backend.server.LocalSegmenter = make
backend.server.run(BackendSettings(), host="127.0.0.1", port=int(sys.argv[1]), threads=4)
"""


@contextmanager
def server(program: str, log: Path, **variables: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server process; its address, once it answers."""
    here = Path(__file__).parent
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(here), str(here.parents[1])])
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(port)],
            env={**os.environ, "PYTHONPATH": path, **variables},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, process, log)
        yield url, process
    finally:
        process.terminate()
        process.wait(60)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            requests.get(f"{url}/health", timeout=2)
            return
        except requests.RequestException:
            time.sleep(0.1)
    pytest.fail(log.read_text())


def test_a_real_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    scene = render_scene(9, objects=(2, 4), size=(160, 120))
    body = predict_body([{"id": 1, "data": {"image": data_url(SceneSegmenter().add(scene))}}])
    with server(PROGRAM, log) as (url, process):
        assert requests.get(f"{url}/health", timeout=5).json()["status"] == "UP"
        setup = {"project": "1.5", "schema": CONFIG, "hostname": url, "access_token": "", "extra_params": None}
        assert requests.post(f"{url}/setup", json=setup, timeout=5).json() == {"model_version": VERSION}
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda _: requests.post(f"{url}/predict", json=body, timeout=60), range(3)))
        assert [len(a.json()["results"][0]["result"]) for a in answers] == [len(scene.objects)] * 3
        assert requests.post(f"{url}/predict", data=b"{", timeout=5).status_code == 400
        chunked = requests.post(f"{url}/predict", data=iter([b"{", b"}"]), timeout=5)
        assert "tasks" in chunked.json()["error"]

        # The one worker made it, once; a request under way is still answered when the server is told to stop.
        made = [line for line in log.read_text().splitlines() if line.startswith("made in")]
        assert len(made) == 1
        assert made[0].endswith(f"child of {process.pid}")
        with ThreadPoolExecutor(1) as pool:
            last = pool.submit(requests.post, f"{url}/predict", json=body, timeout=60)
            time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            assert last.result().status_code == 200
        assert process.wait(60) == 0
    assert "Traceback" not in log.read_text()


def test_a_port_that_is_taken_ends_the_process(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        here = Path(__file__).parent
        path = os.pathsep.join([str(here), str(here.parents[1])])
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(taken.getsockname()[1])],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert run.returncode != 0
