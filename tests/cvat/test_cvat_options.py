"""The options of ``sam3-prelabel cvat annotate``, in this process: cvat-sdk and the demo checkpoint are real."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result
from cvat_server import CvatServer
from runner_work import short_waits
from typer.testing import CliRunner

from cvat_nuclio import runner
from sam3_core import ModelInfo, ModelState, Segmenter
from sam3_core.demo.scenes import Scene
from sam3_core.errors import ModelUnavailable, ServerUnavailable
from sam3_prelabel import cvat_annotate, report
from sam3_prelabel.cvat import cvat_app


@pytest.fixture
def server() -> Iterator[CvatServer]:
    with CvatServer() as server:
        yield server


@pytest.fixture
def task(server: CvatServer, scene: Callable[..., Scene]) -> int:
    pictures = [(f"{seed}.jpg", scene(seed, objects=(2, 4), size=(320, 240)).encode()) for seed in range(5)]
    return server.add_task(pictures, [{"name": "circle"}, {"name": "square", "type": "rectangle"}])


@pytest.fixture
def annotate(
    server: CvatServer, task: int, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Result]:
    """The command on the task, which shares the demo checkpoint with other tests."""
    monkeypatch.setattr(cvat_annotate, "make_segmenter", lambda settings: segmenter)
    monkeypatch.setenv("CVAT_ACCESS_TOKEN", "of-the-twin")
    short_waits(monkeypatch)
    always = ["annotate", str(task), "--server-host", server.url, "--resume-file", str(tmp_path / "notes.json")]
    return lambda *options: CliRunner().invoke(cvat_app, [*always, *options])


def uploads(server: CvatServer) -> list[set[int]]:
    """The frames of each."""
    patches = [request for request in server.requests if request.method == "PATCH"]
    return [{item["frame"] for kind in ("tags", "shapes") for item in patch.body[kind]} for patch in patches]


def test_frames_slices_and_how_many_are_in_flight(
    server: CvatServer, annotate: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    class Pool(runner.ThreadPoolExecutor):
        def __init__(self, workers: int, **named: Any) -> None:
            threads.append(workers)
            super().__init__(workers, **named)

    monkeypatch.setattr(runner, "ThreadPoolExecutor", Pool)
    told = annotate("--frames", "0-1,3,4", "--slice", "3", "--in-flight", "7", "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["images"] == 4
    first, second = uploads(server)
    assert first <= {0, 1, 3}
    assert second <= {4}
    assert threads == [7]


def test_a_job_and_the_type_of_labels_without_one(
    server: CvatServer, task: int, annotate: Callable[..., Result]
) -> None:
    job = server.add_job(task, 1, 2)
    assert annotate("--job", str(job), "--type", "polygon").exit_code == 0
    stored = server.annotations(task)["shapes"]
    assert {shape["frame"] for shape in stored} <= {1, 2} != set()
    names = {label["id"]: label["name"] for label in server.tasks[task].labels}
    kinds = {(names[shape["label_id"]], shape["type"]) for shape in stored}
    assert ("circle", "polygon") in kinds
    assert kinds <= {("circle", "polygon"), ("square", "rectangle")}


def test_again_is_nothing_restart_adds_and_clear_replaces(
    server: CvatServer, task: int, annotate: Callable[..., Result]
) -> None:
    counts = []
    for options in ((), (), ("--restart",), ("--clear-existing",), ("--clear-existing", "--restart")):
        told = annotate(*options)
        assert told.exit_code == 0, told.output
        counts.append(len(server.annotations(task)["shapes"]))
    once = counts[0]
    assert once > 0
    assert counts == [once, once, 2 * once, once, once]
    assert "5 of 5 frames were filled by an earlier run" in " ".join(annotate().output.split())


def test_progress_and_the_reasons_for_nothing(
    annotate: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, bars = report.progress_bar, []
    monkeypatch.setattr(report, "progress_bar", lambda console: bars.append(real(console)) or bars[-1])  # type: ignore[func-returns-value]
    told = annotate("--label", "circle=hexagon")
    assert told.exit_code == 0, told.output
    ((job,),) = [bar.tasks for bar in bars]
    assert (job.completed, job.total) == (5, 5)
    assert "frame 0, 0.jpg" in told.output
    assert "hexagon" in told.output


def test_a_model_that_cannot_work_is_told_before_anything_is_fetched(
    server: CvatServer, annotate: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    info = ModelInfo("v", ModelState.FAILED, "cpu", "float32", can_outline=False, problem="no such weights")
    monkeypatch.setattr(cvat_annotate, "make_segmenter", lambda settings: SimpleNamespace(info=lambda: info))
    told = annotate()
    assert isinstance(told.exception, ModelUnavailable)
    assert "no such weights" in str(told.exception)
    assert not [request for request in server.requests if request.query.get("type") == "frame"]


def test_pictures_over_the_limit_fail_with_their_reason(
    annotate: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAM3_MAX_MEGAPIXELS", "0.01")
    told = annotate("--json")
    assert told.exit_code == 1
    failed = json.loads(told.stdout)["failed"]
    assert [one["image"] for one in failed] == [f"frame {number}, {number}.jpg" for number in range(5)]
    assert "megapixels" in failed[0]["reason"]


def test_a_login_that_is_refused_is_a_sentence(server: CvatServer, annotate: Callable[..., Result]) -> None:
    server.fail_next("/data/", 401, times=1000)
    told = annotate()
    assert isinstance(told.exception, ServerUnavailable)
    assert "CVAT_ACCESS_TOKEN or --auth says who asks" in str(told.exception)


@pytest.mark.parametrize(("options", "same"), [((), "same command goes"), (("--restart",), "without --restart goes")])
def test_a_run_that_is_stopped_says_how_it_goes_on(
    annotate: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], same: str
) -> None:
    def stopped(*_: object, **__: object) -> Iterator[runner.Outcome]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(cvat_annotate, "fill", stopped)
    told = annotate(*options)
    assert told.exit_code == 1
    assert same in " ".join(told.output.split())


def test_a_cut_off_run_is_waited_for_with_a_sentence(
    annotate: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def waiting(*_: object, waits: Callable[[float], None], **__: object) -> None:
        waits(93.2)
        raise KeyboardInterrupt

    monkeypatch.setattr(cvat_annotate, "begin", waiting)
    assert "waiting 93 s at most" in " ".join(annotate().output.split())
