"""Places for requests: bounded, given back whatever happens, and refused at once."""

from __future__ import annotations

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from flask import Flask
from flask.testing import FlaskClient
from request_bodies import data_url, predict_body
from scene_segmenter import SceneSegmenter

from backend.admission import Admission
from backend.app import create_app
from backend.settings import BackendSettings
from sam3_core import Lane
from sam3_core.demo.scenes import Scene
from sam3_core.errors import Busy


def at_work(admission: Admission) -> list[int]:
    return [lane.at_work for lane in admission.info()]


def test_a_lane_takes_as_many_as_it_has_places() -> None:
    admission = Admission(clicks=2, bulk=1)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(admission.work(Lane.CLICK))
        with pytest.raises(Busy, match="SAM3_MAX_CLICKS") as refused, admission.work(Lane.CLICK):
            pytest.fail("let in")
        assert refused.value.retry_after
        with admission.work(Lane.BULK):  # a lane of its own
            assert at_work(admission) == [2, 1]
    assert at_work(admission) == [0, 0]
    assert [lane.refused for lane in admission.info()] == [1, 0]


def test_the_door_takes_as_many_as_all_lanes() -> None:
    admission = Admission(clicks=1, bulk=1)
    with admission.door(), admission.door(), pytest.raises(Busy), admission.door():
        pytest.fail("let in")
    with admission.door():
        pass


def test_a_place_is_given_back_after_an_error() -> None:
    admission = Admission(clicks=1, bulk=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), admission.door(), admission.work(Lane.CLICK):
            raise ZeroDivisionError
    assert at_work(admission) == [0, 0]


def test_many_threads_never_pass_the_limit() -> None:
    admission, most, inside, lock = Admission(clicks=3, bulk=2), 0, 0, threading.Lock()

    def run(_: int) -> None:
        nonlocal most, inside
        try:
            with admission.work(Lane.CLICK):
                with lock:
                    inside += 1
                    most = max(most, inside)
                with lock:
                    inside -= 1
        except Busy:
            pass

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(run, range(2000)))
    assert 1 <= most <= 3
    assert at_work(admission) == [0, 0]


@pytest.fixture
def narrow(oracle: SceneSegmenter) -> Flask:
    """One click and one batch at a time."""
    return create_app(BackendSettings(max_clicks=1, max_bulk=1), oracle)


def test_over_the_limit_is_a_503_at_once_and_the_cheap_routes_answer(
    narrow: Flask, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    task = {"data": {"image": data_url(oracle.add(scenes[0]))}}
    batch = predict_body([{"id": 1} | task, {"id": 2} | task])
    opened = predict_body([{"id": 3} | task])
    client = narrow.test_client
    with ThreadPoolExecutor(2) as pool:
        with oracle.device:  # nobody gets the device
            waiting = pool.submit(client().post, "/predict", json=batch)
            while not oracle.queued:
                assert not waiting.done(), waiting.result().text
            refused = client().post("/predict", json=batch)
            assert (refused.status_code, refused.json["kind"]) == (503, "busy")
            assert int(refused.headers["Retry-After"]) >= 1
            assert "SAM3_MAX_BULK" in refused.json["error"]

            before = oracle.queued
            click = pool.submit(client().post, "/predict", json=opened)  # the other lane still has a place
            while oracle.queued == before:
                assert not click.done(), click.result().text
            at_the_door = client().post("/predict", data=b"not even read")
            assert (at_the_door.status_code, at_the_door.json["kind"]) == (503, "busy")
            for path in ("/health", "/ready", "/status", "/status.json", "/metrics", "/versions"):
                assert client().get(path).status_code == 200, path
        assert waiting.result().status_code == click.result().status_code == 200
    assert client().post("/predict", json=batch).status_code == 200


@pytest.mark.parametrize(("path", "asked"), [("/v1/find", {"concepts": [{"phrases": ["circle"]}]}), ("/v1/warm", {})])
def test_the_api_s_bulk_has_the_same_places(
    narrow: Flask, oracle: SceneSegmenter, scenes: list[Scene], path: str, asked: dict[str, object]
) -> None:
    data = oracle.add(scenes[0])

    def send(lane: str) -> FlaskClient:
        parts = {"request": json.dumps(asked | {"lane": lane}), "image": (io.BytesIO(data), "a.png")}
        return narrow.test_client().post(path, data=parts)  # type: ignore[return-value]

    with ThreadPoolExecutor(1) as pool:
        with oracle.device:
            waiting = pool.submit(send, "bulk")
            while not oracle.queued:
                assert not waiting.done(), waiting.result()
            refused = send("bulk")
            assert (refused.status_code, refused.json["kind"]) == (503, "busy")  # type: ignore[attr-defined]
        assert waiting.result().status_code == 200  # type: ignore[attr-defined]
    assert send("click").status_code == 200  # type: ignore[attr-defined]
