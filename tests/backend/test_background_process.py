"""Batches that outlive their request in a real process: gunicorn, the demo checkpoint, and clients that hang up."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from predictions_api import PredictionsStandIn, predictions_api
from request_bodies import CONFIG, data_url, predict_body
from test_gunicorn import DEMO, server

from backend.bodies import Task
from backend.model import Runtime, Sam3Backend
from backend.settings import BackendSettings
from sam3_core.demo.scenes import render_scene
from sam3_core.engine import LocalSegmenter

IMAGE = "/data/upload/1/a.jpg"


class Desk(PredictionsStandIn):
    """A Label Studio that keeps its images back until they are wanted. asked: how often one was."""

    def __init__(self) -> None:
        super().__init__()
        self.given = threading.Event()
        self.asked = 0

        def image(_: object) -> tuple[int, dict[str, str], bytes]:
            self.asked += 1
            self.given.wait(60)
            return 200, {"Content-Type": "image/jpeg"}, scene

        scene = render_scene(500, objects=(2, 4), size=(320, 240)).encode()
        self.routes[IMAGE] = image


@pytest.fixture
def desk() -> Iterator[Desk]:
    with predictions_api(Desk()) as site:
        yield site
        site.given.set()


def body(count: int) -> dict[str, object]:
    return predict_body([{"id": number, "data": {"image": IMAGE}} for number in range(1, count + 1)], CONFIG)


def until(what: Callable[[], bool], log: Path, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)


def variables(desk: Desk, **more: str) -> dict[str, str]:
    return {
        "SAM3_DEVICE": "cpu",
        "SAM3_LABEL_STUDIO_URL": desk.url,
        "SAM3_LABEL_STUDIO_API_KEY": desk.personal,
    } | more


def test_a_client_that_hangs_up_finds_its_predictions_stored(tmp_path: Path, desk: Desk) -> None:
    """As Label Studio does after 100 s, and gateways sooner."""
    log = tmp_path / "log"
    with server(DEMO, log, **variables(desk)) as (url, _):
        parts, text = urlsplit(url), json.dumps(body(6)).encode()
        with socket.create_connection((parts.hostname, parts.port)) as client:
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\n\r\n"
            client.sendall(head.encode() + text)
            until(lambda: desk.asked >= 4, log)  # beside each other: none has come
        until(lambda: "lost their client" in log.read_text(), log)
        desk.given.set()
        until(lambda: desk.tasks() == list(range(1, 7)), log)
        assert all(stored["result"] and "demo" in stored["model_version"] for stored in desk.stored)
    assert "Traceback" not in log.read_text()


def test_sigterm_ends_a_batch_in_order(tmp_path: Path, desk: Desk) -> None:
    log = tmp_path / "log"
    with server(DEMO, log, **variables(desk, SAM3_REQUEST_SECONDS="1")) as (url, process):
        answer = requests.post(f"{url}/predict", json=body(400), timeout=30)
        assert answer.json()["results"] == [[]] * 400
        desk.given.set()
        until(lambda: len(desk.stored) >= 3, log)
        # A request that waits for its images is answered now, not when its time is over.
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    said = log.read_text()
    tasks = desk.tasks()
    assert 3 <= len(set(tasks)) == len(tasks) < 400
    assert f"{400 - len(tasks)} of 400 tasks are left open: the server was stopped" in said
    assert "Traceback" not in said


def test_sigterm_answers_a_batch_that_waits(tmp_path: Path, desk: Desk) -> None:
    log = tmp_path / "log"
    answers: list[requests.Response] = []
    with server(DEMO, log, **variables(desk)) as (url, process):
        asking = threading.Thread(
            target=lambda: answers.append(requests.post(f"{url}/predict", json=body(9), timeout=60))
        )
        asking.start()
        until(lambda: desk.asked >= 4, log)
        process.send_signal(signal.SIGTERM)
        asking.join(20)
        assert [answer.json()["results"] for answer in answers] == [[[]] * 9]
        desk.given.set()
        assert process.wait(60) == 0
    assert "9 of 9 tasks are left open" in log.read_text()


def test_images_of_a_batch_go_through_the_model_together() -> None:
    scenes = [render_scene(seed, objects=(2, 4), size=(320, 240)) for seed in range(600, 624)]
    segmenter = LocalSegmenter(BackendSettings(device="cpu"))
    runtime = Runtime(BackendSettings(device="cpu", tasks_in_flight=8), segmenter)
    tasks = [Task({"image": data_url(scene.encode(), "image/jpeg")}, number) for number, scene in enumerate(scenes)]
    results = Sam3Backend("1", CONFIG, runtime).predict(tasks)
    for scene, prediction in zip(scenes, results, strict=True):
        assert isinstance(prediction, dict)
        sizes = {(region["original_width"], region["original_height"]) for region in prediction["result"]}
        assert sizes <= {(scene.width, scene.height)}
    assert sum(bool(prediction["result"]) for prediction in results if isinstance(prediction, dict)) >= 22
    (vision,) = (one for one in segmenter.info().load.passes if one.kind == "vision")
    assert sum(items * passes for items, passes in vision.sizes) == 24
    assert vision.sizes[-1][0] > 1
