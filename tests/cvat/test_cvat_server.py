"""The loopback server, asked by the real cvat-sdk and cvat-cli: it keeps, refuses and fails as the tests need it."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cvat_sdk
import cvat_sdk.auto_annotation as cvataa
import pytest
from cvat_sdk import models
from cvat_server import CvatServer
from PIL import Image

_FUNCTION = """
import cvat_sdk.auto_annotation as aa
spec = aa.DetectionFunctionSpec(labels=[aa.label_spec("box", 0)])
def detect(context, image):
    return [aa.rectangle(0, [1, 2, image.width - 1, image.height - 1])]
"""


class Marks:
    """A detection function: a rectangle and a mask in every picture."""

    spec = cvataa.DetectionFunctionSpec(labels=[cvataa.label_spec("box", 0)])

    def detect(self, context: object, image: Image.Image) -> list[models.LabeledShapeRequest]:
        return [cvataa.rectangle(0, [1, 2, 3, 4]), cvataa.mask(0, [0, 1, 5, 5, 5, 5], score=0.5)]


def _png(red: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (red, 0, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def server() -> Iterator[CvatServer]:
    with CvatServer() as running:
        yield running


@pytest.fixture
def task(server: CvatServer) -> int:
    return server.add_task([(f"{each}.png", _png(each)) for each in range(3)], [{"name": "box"}], deleted_frames=[1])


@pytest.fixture
def client(server: CvatServer, tmp_path: Path) -> Iterator[cvat_sdk.Client]:
    with cvat_sdk.make_client(server.url, credentials=("admin", "secret")) as logged_in:
        logged_in.config.cache_dir = tmp_path / "cache"
        yield logged_in


def _polygon(server: CvatServer, task: int, points: list[float]) -> Any:
    label = server.tasks[task].labels[0]["id"]
    shape = models.LabeledShapeRequest(type="polygon", label_id=label, frame=0, points=points)
    return models.PatchedLabeledDataRequest(shapes=[shape])


def test_annotations_are_kept_and_replaced(server: CvatServer, task: int, client: cvat_sdk.Client) -> None:
    cvataa.annotate_task(client, task, Marks())
    cvataa.annotate_task(client, task, Marks())
    shapes = server.annotations(task)["shapes"]
    assert [shape["frame"] for shape in shapes] == [0, 0, 2, 2] * 2, "deleted frames are left out"
    assert len({shape["id"] for shape in shapes}) == 8
    cvataa.annotate_task(client, task, Marks(), clear_existing=True)
    assert len(server.annotations(task)["shapes"]) == 4
    assert len(client.tasks.retrieve(task).get_annotations().shapes) == 4


def test_one_bad_shape_refuses_the_upload(server: CvatServer, task: int, client: cvat_sdk.Client) -> None:
    upload = _polygon(server, task, [1.0, 2.0, 3.0, 4.0])
    with pytest.raises(cvat_sdk.exceptions.ApiException) as refused:
        client.tasks.api.partial_update_annotations("create", task, patched_labeled_data_request=upload)
    assert refused.value.status == 400
    assert server.annotations(task)["shapes"] == []


def test_failures_on_demand(server: CvatServer, task: int, client: cvat_sdk.Client) -> None:
    upload = _polygon(server, task, [1.0, 2.0, 3.0, 4.0, 5.0, 9.0])
    server.fail_next("/annotations", 502)
    server.fail_next("/annotations", 502, after=True)
    for stored in (0, 1):
        with pytest.raises(cvat_sdk.exceptions.ApiException):
            client.tasks.api.partial_update_annotations("create", task, patched_labeled_data_request=upload)
        assert len(server.annotations(task)["shapes"]) == stored
    assert [request.status for request in server.requests if request.method == "PATCH"] == [502, 502]


def test_nobody_gets_in_without_logging_in(server: CvatServer, task: int) -> None:
    with cvat_sdk.make_client(server.url) as stranger, pytest.raises(cvat_sdk.exceptions.ApiException) as refused:
        stranger.tasks.retrieve(task)
    assert refused.value.status == 401


def test_an_agent_of_cvat_cli_serves_both_queues(server: CvatServer, task: int, tmp_path: Path) -> None:
    file = tmp_path / "marks.py"
    file.write_text(_FUNCTION)

    def cli(*words: str) -> str:
        where = ["--server-host", server.host, "--server-port", str(server.port), "--auth", "admin:secret"]
        command = [sys.executable, "-m", "cvat_cli", *where, "function", *words, "--function-file", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    function = int(cli("create-native", "marks"))
    params = {"task": task, "mapping": {"box": {"name": "box"}}, "threshold": None, "conv_mask_to_poly": False}
    batch = server.ask_agent(function, "batch", {"type": "annotate_task", **params})
    crop = {"type": "annotate_frame", "frame": 0, "roi": [10, 5, 30, 25], **params}
    click = server.ask_agent(function, "interactive", crop)
    cli("run-agent", str(function), "--burst")
    assert {request.state for request in server.agent_requests.values()} == {"completed"}
    (shape,) = server.agent_requests[click].result["annotations"]["shapes"]
    assert shape["points"] == [1, 2, 19, 19], "in pixels of the crop"
    assert len(server.agent_requests[batch].result["annotations"]["shapes"]) == 2
    assert len(server.annotations(task)["shapes"]) == 2, "what a frame got is the browser's, a batch is stored"
