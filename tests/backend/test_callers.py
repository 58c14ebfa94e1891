"""Who waits, as the door sees it: lanes, budgets, and clients that hang up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from flask import Flask
from request_bodies import CONFIG, data_url, keypoint, predict_body
from scene_segmenter import SceneSegmenter

from backend.app import create_app
from backend.bodies import Context, ContextRegion
from backend.callers import both, caller_of, lane_of, watched
from backend.model import Runtime, Sam3Backend
from backend.settings import BackendSettings
from sam3_core import Caller, Lane
from sam3_core.demo.scenes import Scene
from sam3_core.errors import Busy, Dropped, OutOfMemory, OutOfTime

Pair = tuple[socket.socket, socket.socket]
CLICKS = CONFIG.replace(
    "</View>",
    '<KeyPointLabels name="kp" toName="image"><Label value="circle"/><Label value="square"/>'
    '<Label value="triangle"/><Label value="star"/></KeyPointLabels></View>',
)


@pytest.fixture
def ends() -> Iterator[Pair]:
    """A connection: our end, the client's end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize(
    ("tasks", "context", "lane"),
    [
        (1, None, Lane.CLICK),
        (1, {}, Lane.CLICK),
        (2, None, Lane.BULK),
        (2, {}, Lane.BULK),
        (2, Context(), Lane.BULK),
        (0, None, Lane.BULK),
        (1, Context([ContextRegion()]), Lane.CLICK),
        (2, Context([]), Lane.CLICK),  # the last prompt was deleted
        (2, Context(event="prewarm"), Lane.CLICK),
        (2, {"result": []}, Lane.CLICK),
    ],
)
def test_people_before_batches(tasks: int, context: object, lane: Lane) -> None:
    assert lane_of(range(tasks), context) is lane  # type: ignore[arg-type]


def test_a_client_that_hangs_up_is_noticed(ends: Pair) -> None:
    ours, theirs = ends
    caller = caller_of({"gunicorn.socket": ours}, Lane.BULK, 60)
    assert caller.wanted()
    theirs.close()
    assert not caller.wanted()
    with pytest.raises(Dropped):
        caller.check()


def test_a_next_request_in_the_pipe_is_no_farewell_and_hides_none(ends: Pair) -> None:
    ours, theirs = ends
    caller = watched({"gunicorn.socket": ours}, Caller())
    theirs.sendall(b"GET /health HTTP/1.1\r\n")
    assert caller.wanted()
    theirs.close()
    assert not caller.wanted()
    assert ours.recv(3) == b"GET"  # looking took nothing away


@pytest.mark.parametrize("blocking", [None, 0.0, 5.0])
def test_looking_never_waits(ends: Pair, blocking: float | None) -> None:
    ours, _ = ends
    ours.settimeout(blocking)
    looked = threading.Event()
    caller = watched({"gunicorn.socket": ours}, Caller())
    threading.Thread(target=lambda: caller.wanted() and looked.set(), daemon=True).start()
    assert looked.wait(4)
    assert ours.gettimeout() == blocking


def test_our_own_end_closed_means_over(ends: Pair) -> None:
    ours, _ = ends
    caller = watched({"gunicorn.socket": ours}, Caller())
    ours.close()
    assert not caller.wanted()


def test_without_gunicorn_everybody_waits_to_the_end() -> None:
    caller = caller_of({}, Lane.CLICK, 60)
    assert caller.wanted()
    assert 59 < caller.seconds_left <= 60


def test_the_budget_runs_since_the_request_began() -> None:
    caller = caller_of({}, Lane.CLICK, 60, since=time.monotonic() - 50)
    assert 9 < caller.seconds_left <= 10


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("newest", [True, False])
def test_both_must_want_it(connected: bool, newest: bool) -> None:
    assert both(Caller(wanted=lambda: connected), lambda: newest).wanted() is (connected and newest)


def test_the_door_names_lane_and_budget(oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    app = create_app(BackendSettings(request_seconds=33), oracle)
    image = data_url(oracle.add(scenes[0]))
    tasks = [{"id": i, "data": {"image": image}} for i in (1, 2)]
    prompt = {"result": [keypoint(50, 50, "circle")]}
    for body, lane in (
        (predict_body(tasks[:1]), Lane.CLICK),
        (predict_body(tasks), Lane.BULK),
        (predict_body(tasks[:1], CLICKS, prompt), Lane.CLICK),
    ):
        oracle.callers.clear()
        assert app.test_client().post("/predict", json=body).status_code == 200
        assert oracle.callers
        assert {caller.lane for caller in oracle.callers} == {lane}
    assert 0 < oracle.callers[-1].seconds_left <= 33  # of the click; batches may go on without their request


def test_a_click_whose_annotator_left_is_no_empty_answer(
    app: Flask, oracle: SceneSegmenter, scenes: list[Scene], ends: Pair
) -> None:
    ours, theirs = ends
    theirs.close()
    body = predict_body(
        [{"id": 1, "data": {"image": data_url(oracle.add(scenes[0]))}}],
        CLICKS,
        {"result": [keypoint(50, 50, "circle")]},
    )
    answer = app.test_client().post("/predict", json=body, environ_overrides={"gunicorn.socket": ours})
    assert (answer.status_code, answer.json["kind"]) == (409, "dropped")
    assert oracle.calls == 0


def test_label_studio_ml_s_own_server_needs_no_caller(oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    model = Sam3Backend("1", CONFIG, Runtime(BackendSettings(), oracle))
    (prediction,) = model.predict([{"id": 1, "data": {"image": data_url(oracle.add(scenes[0]))}}])
    assert prediction["result"]  # type: ignore[call-overload]
    assert {caller.lane for caller in oracle.callers} == {Lane.CLICK}


@pytest.mark.parametrize("error", [Busy("the line is full"), OutOfTime("too late"), OutOfMemory("no room")])
def test_a_click_that_found_no_room_is_no_empty_answer(
    app: Flask, oracle: SceneSegmenter, scenes: list[Scene], error: Busy
) -> None:
    oracle.error = error
    task = {"id": 1, "data": {"image": data_url(oracle.add(scenes[0]))}}
    body = predict_body([task], CLICKS, {"result": [keypoint(50, 50, "circle")]})
    answer = app.test_client().post("/predict", json=body)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
