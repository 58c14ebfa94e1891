"""The harness itself: a function that misbehaves in every way a handler can, in a process of its own."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from nuclio_wire import Limits, NuclioFunction, WorkerDied

_MAIN = """
import math, os, time

def init_context(context):
    context.user_data.started = os.getpid()
    context.logger.info("ready")

def handler(context, event):
    body = event.body
    if isinstance(body, bytes):
        return context.Response(body=body, content_type="application/octet-stream", status_code=200)
    do = body["do"]
    if do == "pid":
        return {"pid": context.user_data.started, "worker": context.worker_id}
    if do == "log":
        context.logger.warn_with("odd picture", reason="why not")
        return {}
    if do == "list":
        return [{"label": "bus"}]
    if do == "dumped":
        return context.Response(body="[1, 2]", content_type="application/json", headers={}, status_code=200)
    if do == "nan":
        return {"score": math.nan}
    if do == "nan dumped":
        return '{"score": NaN}'
    if do == "raise":
        raise ValueError("broken on purpose")
    if do == "exit":
        os._exit(3)
    if do == "sleep":
        time.sleep(body["seconds"])
        return {}
    if do == "size":
        return {"size": len(body["blob"])}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("function")
    (made / "main.py").write_text(_MAIN)
    return made


@pytest.fixture(scope="module")
def function(folder: Path) -> Iterator[NuclioFunction]:
    with NuclioFunction(folder, Limits(max_body=64 << 20, event_timeout=1.0, availability_timeout=0.2)) as running:
        yield running


def test_the_handler_runs_in_another_process(function: NuclioFunction) -> None:
    reply = function.post({"do": "pid"})
    assert (reply.status, reply.content_type) == (200, "application/json")
    assert reply.json["pid"] == function.pids[0] != os.getpid()
    assert reply.json["worker"] == "0"


def test_only_the_exact_content_type_is_parsed(function: NuclioFunction) -> None:
    sent = json.dumps({"do": "pid"}).encode()
    for content_type in ("application/json; charset=utf-8", "text/plain"):
        assert function.invoke(sent, content_type).body == sent, content_type
    assert function.invoke(b"{broken", "application/json").body == b"{broken"


def test_log_lines_arrive_with_the_event_that_wrote_them(function: NuclioFunction) -> None:
    (record,) = (log for log in function.post({"do": "log"}).logs if log["message"] == "odd picture")
    assert (record["level"], record["with"]["reason"]) == ("warning", "why not")


def test_a_bare_list_is_a_batch_and_no_answer(function: NuclioFunction) -> None:
    assert function.post({"do": "list"}).status == 500
    assert function.post({"do": "dumped"}).json == [1, 2]


def test_nan_is_not_hidden(function: NuclioFunction) -> None:
    # nuclio-sdk's encoder writes the word NaN as a string: JSON, and a wrong type for whoever reads a score.
    assert function.post({"do": "nan"}).json == {"score": "NaN"}
    with pytest.raises(ValueError, match="NaN"):
        _ = function.post({"do": "nan dumped"}).json


def test_an_exception_is_a_500_and_the_worker_lives_on(function: NuclioFunction) -> None:
    before = function.pids
    reply = function.post({"do": "raise"})
    assert (reply.status, reply.content_type) == (500, "text/plain")
    assert b"broken on purpose" in reply.body
    assert function.post({"do": "pid"}).json["pid"] == before[0]


def test_over_the_event_timeout_the_worker_is_killed_and_started_again(function: NuclioFunction) -> None:
    before = function.pids
    reply = function.post({"do": "sleep", "seconds": 60})
    assert (reply.status, reply.json) == (408, {"error": "handler timed out"})
    after = function.post({"do": "pid"}).json["pid"]
    assert after == function.pids[0] != before[0]
    assert not Path(f"/proc/{before[0]}").exists()


def test_a_worker_that_exits_is_replaced(function: NuclioFunction) -> None:
    before = function.pids
    assert function.post({"do": "exit"}).status == 500
    assert function.post({"do": "pid"}).json["pid"] != before[0]


def test_a_busy_function_refuses(function: NuclioFunction) -> None:
    first = threading.Thread(target=function.post, args=({"do": "sleep", "seconds": 0.8},))
    first.start()
    statuses = {function.post({"do": "pid"}).status for _ in range(2)}
    first.join()
    assert 503 in statuses


def test_the_body_limit(function: NuclioFunction) -> None:
    assert function.post({"do": "size", "blob": "x" * (40 << 20)}).json == {"size": 40 << 20}
    assert function.invoke(b"x" * ((64 << 20) + 1)).status == 400


def test_a_failing_start_fails_the_deployment(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "def init_context(context):\n    raise RuntimeError('no weights')\ndef handler(context, event): ..."
    )
    with pytest.raises(WorkerDied, match="no weights"), NuclioFunction(tmp_path, Limits()):
        raise AssertionError("started")


def test_init_context_is_the_one_of_the_handlers_own_module(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text(
        "def handler(context, event):\n    return {'ready': hasattr(context, 'x')}"
    )
    (tmp_path / "main.py").write_text("from elsewhere import handler\ndef init_context(context): context.x = 1")
    with NuclioFunction(tmp_path, Limits()) as function:
        assert function.post({}).json == {"ready": False}
