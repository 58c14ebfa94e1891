"""The server as a real process: gunicorn on a free port."""

from __future__ import annotations

import json
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
from editor import Editor, OverHttp, bare, brush, spot
from request_bodies import CONFIG, data_url, predict_body
from scene_segmenter import VERSION, SceneSegmenter

from sam3_core import Mask
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
    oracle.find = lambda *args, **more: (time.sleep(0.3), find(*args, **more))[1]
    print("made in", os.getpid(), "child of", os.getppid(), flush=True)
    return oracle

backend.server.make_segmenter = make
backend.server.run(BackendSettings(), host="127.0.0.1", port=int(sys.argv[1]), threads=4)
"""
# Nothing of it replaced: the demo checkpoint, on two CPU threads.
DEMO = """
import sys, torch
import backend.server
from backend.settings import BackendSettings
torch.set_num_threads(2)
backend.server.run(BackendSettings(), host="127.0.0.1", port=int(sys.argv[1]), threads=32)
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


def test_eight_annotators_click_at_once(tmp_path: Path) -> None:
    """Real weights behind a real server: everybody gets the outline of the own object, and refines it."""
    log = tmp_path / "log"
    scenes = [render_scene(seed, objects=(2, 4), size=(320, 240)) for seed in range(500, 504)]
    with server(DEMO, log, SAM3_DEVICE="cpu") as (url, _):
        editors = [
            Editor(OverHttp(url), data_url(scenes[i % 4].encode(), "image/jpeg"), task=i % 4, name=f"annotator {i} ")
            for i in range(8)
        ]

        def annotate(number: int) -> tuple[bool, bool]:
            editor, scene = editors[number], scenes[number % 4]
            item = scene.objects[-1 - number // 4]
            first = editor.click(*spot(item, scene))
            second = editor.click(*bare(scene), positive=False)
            good = bool(second) and brush(second[0]).iou(Mask.from_full(item.mask)) > 0.7
            return good, [region["id"] for region in first] == [region["id"] for region in second]

        with ThreadPoolExecutor(9) as pool:
            done = [pool.submit(annotate, number) for number in range(8)]
            assert requests.get(f"{url}/health", timeout=30).json()["status"] == "UP"
            results = [one.result() for one in done]
        assert sum(good for good, _ in results) >= 6
        assert sum(same for _, same in results) >= 7
        assert {"parse", "fetch", "queue", "model", "masks", "encode", "total"} <= editors[0].timing.keys()
        text = requests.get(f"{url}/metrics", timeout=5).text
        assert "sam3_interactive_seconds_count 16.0" in text
        assert "sam3_superseded_clicks_total 0.0" in text
        assert 'sam3_embedding_cache_entries{tier="device"} 8.0' in text  # two heads, four pictures
    assert "Traceback" not in log.read_text()


def test_a_request_of_three_megabytes_through_the_server(tmp_path: Path) -> None:
    scene = render_scene(500, objects=(2, 4), size=(320, 240))
    masks = [{"id": f"r{i}", "value": {"rle": [99] * 45_000, "brushlabels": ["Thing"]}} for i in range(20)]
    with server(DEMO, tmp_path / "log", SAM3_DEVICE="cpu") as (url, _):
        editor = Editor(OverHttp(url), data_url(scene.encode(), "image/jpeg"))
        editor.task["annotations"] = [{"id": 1, "result": masks}]
        assert len(json.dumps(editor.body())) > 3_000_000
        (found,) = editor.click(*spot(scene.objects[-1], scene))
    assert brush(found).iou(Mask.from_full(scene.objects[-1].mask)) > 0.7
