"""RemoteSegmenter and servers that are slow, busy, gone, or not ours."""

from __future__ import annotations

import json
import math
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from http_servers import scripted, served

from backend.app import create_app
from backend.settings import BackendSettings
from sam3_core import Caller, Concept, EncodedImage, Lane, ModelState
from sam3_core import remote as remote_module
from sam3_core.engine import LocalSegmenter
from sam3_core.errors import (
    InvalidPrompt,
    ModelUnavailable,
    NotReady,
    OutOfTime,
    Sam3Error,
    TooLarge,
    Unauthorized,
    UnknownImage,
)
from sam3_core.remote import Lost, RemoteSegmenter

ROOT = Path(__file__).parents[2]

DATA = b"\x89PNG"
WARMED = (200, {}, json.dumps({"model": "m", "image": {"key": EncodedImage(DATA).key, "size": [1, 1]}}).encode())
BUSY = (503, {"Retry-After": "0"}, b'{"error": "the weights are still loading", "kind": "not_ready"}')


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of each pause, which takes none."""
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        assert len(pauses) < 9, "it waits for ever"

    monkeypatch.setattr(remote_module.time, "sleep", sleep)
    return pauses


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_when_it_says_so(status: int, slept: list[float]) -> None:
    busy = [(status, {"Retry-After": text}, BUSY[2]) for text in ("0", "7")]
    with scripted(*busy, WARMED) as (url, script):
        RemoteSegmenter(url).warm(DATA)
        assert len(script.seen) == 3
    assert slept == [0.0, 7.0]


@pytest.mark.parametrize(("seconds", "callers"), [(60, math.inf), (5000, 60)])
def test_a_wait_that_is_longer_than_the_time_is_not_begun(slept: list[float], seconds: float, callers: float) -> None:
    busy = (503, {"Retry-After": "1000"}, BUSY[2])
    with scripted(busy) as (url, script):
        with pytest.raises(NotReady, match="still loading") as caught:
            RemoteSegmenter(url, seconds=seconds).warm(DATA, caller=Caller.within(callers))
        assert caught.value.retry_after == 1000
        assert len(script.seen) == 1
    assert slept == []


def test_who_waits_and_how_long_is_told_to_the_server() -> None:
    with scripted(WARMED) as (url, script):
        far = RemoteSegmenter(url, seconds=40)
        far.warm(DATA, caller=Caller.within(30, Lane.CLICK))
        far.warm(DATA)
        far.warm(DATA, caller=Caller.within(50))
    told = [(body["lane"], body["seconds"]) for _, body in script.seen]
    assert [lane for lane, _ in told] == ["click", "bulk", "bulk"]
    for (_, seconds), most in zip(told, (30, 40, 40), strict=True):
        assert most - 20 < seconds <= most


def test_no_time_left_sends_nothing() -> None:
    with scripted(WARMED) as (url, script):
        with pytest.raises(OutOfTime):
            RemoteSegmenter(url).warm(DATA, caller=Caller.within(-1))
        assert script.seen == []


def test_the_file_goes_only_after_the_server_said_that_it_has_none() -> None:
    unknown = (404, {}, b'{"error": "no image of the key", "kind": "unknown_image"}')
    with scripted(unknown, WARMED) as (url, script):
        RemoteSegmenter(url).warm(DATA)
        (_, by_key), (_, with_file) = script.seen
    assert by_key["image"] == {"key": EncodedImage(DATA).key}
    assert with_file == {}  # no JSON: parts
    with scripted(unknown) as (url, script):
        with pytest.raises(UnknownImage):
            RemoteSegmenter(url).warm(DATA)
        assert len(script.seen) == 2


def test_a_request_that_may_have_been_worked_on_is_not_sent_twice() -> None:
    with scripted(None) as (url, script):
        with pytest.raises(NotReady, match="broke"):
            RemoteSegmenter(url).warm(DATA)
        assert len(script.seen) == 1


@pytest.mark.parametrize(("seconds", "callers"), [(0.3, math.inf), (90, 0.3)])
def test_no_answer_in_time_is_not_asked_for_twice(seconds: float, callers: float) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(NotReady, match="did not answer"):
            RemoteSegmenter(url, seconds=seconds).warm(DATA, caller=Caller.within(callers))
        deaf.setblocking(False)
        deaf.accept()
        with pytest.raises(BlockingIOError):
            deaf.accept()


def test_a_server_that_is_not_there_yet_is_tried_again() -> None:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
        far = RemoteSegmenter(f"http://127.0.0.1:{port}")
        calls = []
        real = socket.socket.connect

        def connect(self: socket.socket, where: Any) -> None:
            calls.append(where)
            if len(calls) == 2:
                place.listen()
            real(self, where)

        with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
            patch.setattr(socket.socket, "connect", connect)
            call = pool.submit(far.warm, DATA)
            connection = _accepted(place, call)
            body = WARMED[2]
            _read_request(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            call.result()
            connection.close()
    assert len(calls) == 2


def _accepted(place: socket.socket, call: Future[None]) -> socket.socket:
    place.settimeout(0.1)
    while not call.done():
        try:
            return place.accept()[0]
        except OSError:  # it does not listen yet, or nobody came
            time.sleep(0.01)
    call.result()
    pytest.fail("nobody came")


def _read_request(connection: socket.socket) -> None:
    got = b""
    while b"\r\n\r\n" not in got or not got.endswith(b"}"):
        got += connection.recv(65536)


def test_a_server_that_is_gone_is_named() -> None:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{place.getsockname()[1]}"
        far = RemoteSegmenter(url.replace("//", "//user:secret@"))
        for call in (lambda: far.warm(DATA), lambda: far.find(DATA, [Concept(phrases=("x",))])):
            with pytest.raises(ModelUnavailable, match="cannot reach") as caught:
                call()
            assert url in str(caught.value)
            assert "refused" in str(caught.value)
            assert "secret" not in str(caught.value)
        info = far.info()
        assert (info.state, info.version, info.can_outline) == (ModelState.FAILED, "unknown", False)
        assert "cannot reach" in info.problem


def test_a_server_that_went_away_keeps_its_version(segmenter: LocalSegmenter) -> None:
    with served(create_app(BackendSettings(), segmenter)) as url:
        far = RemoteSegmenter(url)
        before = far.info()
    after = far.info()
    assert (before.state, after.state) == (ModelState.READY, ModelState.FAILED)
    assert (after.version, after.can_outline) == (before.version, before.can_outline)


def test_names_that_cannot_be_resolved() -> None:
    with pytest.raises(ModelUnavailable, match=re.escape("SAM 3 server at http://nowhere.invalid:1")):
        RemoteSegmenter("http://nowhere.invalid:1").warm(DATA)


@pytest.mark.parametrize(
    ("answer", "raised", "said"),
    [
        ((422, {}, b'{"error": "outside", "kind": "invalid_prompt"}'), InvalidPrompt, "outside"),
        ((503, {}, b'{"error": "no token", "kind": "model_unavailable"}'), ModelUnavailable, "no token"),
        ((500, {}, b'{"error": "this is a defect"}'), Sam3Error, "500: this is a defect"),
        ((404, {}, b'{"error": "no such path"}'), ModelUnavailable, "404"),
        ((404, {}, b"<html>nginx</html>"), ModelUnavailable, "is it a sam3-prelabel server"),
        ((413, {}, b"<html>nginx</html>"), TooLarge, "413"),
        ((403, {}, b"<html>proxy</html>"), Unauthorized, "403"),
        ((502, {}, b""), Lost, "502"),
        ((504, {"Retry-After": "0"}, b""), Lost, "504"),
        ((503, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, b""), Lost, "503"),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), ModelUnavailable, "302"),
        ((200, {}, b"<html>welcome</html>"), ModelUnavailable, "cannot be read"),
        ((200, {}, b'{"model": "m"}'), ModelUnavailable, "image"),
        ((200, {}, b"null"), ModelUnavailable, "cannot be read"),
        ((409, {}, b'{"error": "x", "kind": "something_new"}'), ModelUnavailable, "409: x"),
    ],
)
def test_answers_of_every_kind(answer: tuple[int, dict[str, str], bytes], raised: type[Sam3Error], said: str) -> None:
    with scripted(answer) as (url, script):
        with pytest.raises(Sam3Error, match=re.escape(said)) as caught:
            RemoteSegmenter(url, seconds=5).warm(DATA)
        assert type(caught.value) is raised
        assert len(script.seen) == 1


def test_idle_connections_are_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that closes them just then would look as if it broke off."""
    now = time.monotonic()
    with scripted(WARMED) as (url, _):
        far = RemoteSegmenter(url)
        far.warm(DATA)
        first = far._session
        far.warm(DATA)
        assert far._session is first
        monkeypatch.setattr(remote_module.time, "monotonic", lambda: now + 100)
        far.warm(DATA)
        assert far._session is not first


def test_a_path_before_the_api_is_kept() -> None:
    with scripted(WARMED) as (url, script):
        for address in (f"{url}/sam3/", f"{url}/sam3/v1", f" {url}/sam3 "):
            RemoteSegmenter(address).warm(DATA)
        assert [path for path, _ in script.seen] == ["/sam3/v1/warm"] * 3


def test_it_needs_no_torch() -> None:
    heavy = {"torch", "transformers", "msgspec", "flask", "prometheus_client"}
    script = f"import sam3_core.remote, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
