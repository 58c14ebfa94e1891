"""``sam3-prelabel cvat annotate`` as users run it: real processes, cvat-sdk, the demo checkpoint; CVAT is a twin."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cvat_server import CvatServer

from cvat_nuclio.resume import alone
from sam3_core.demo.scenes import Scene

LABELS = [
    {"name": "Star", "type": "mask"},
    {"name": "purple_circle_2", "type": "polygon"},
    {"name": "square", "type": "rectangle"},
    {"name": "circle", "type": "tag"},
    {"name": "body", "type": "skeleton"},
]


@pytest.fixture
def server() -> Iterator[CvatServer]:
    with CvatServer() as server:
        yield server


@pytest.fixture
def pictures(scene: Callable[..., Scene]) -> list[tuple[str, bytes]]:
    return [(f"{seed}.jpg", scene(seed, objects=(2, 4), size=(320, 240)).encode()) for seed in range(6)]


def command(server: CvatServer, task: int, home: Path, *options: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "sam3_prelabel", "cvat", "annotate", str(task), "--server-host", server.url]
    environment = {**os.environ, "XDG_STATE_HOME": str(home), "CVAT_ACCESS_TOKEN": "of-the-twin"}
    return subprocess.Popen(
        [*line, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def run(server: CvatServer, task: int, home: Path, *options: str) -> tuple[int, str, str]:
    process = command(server, task, home, *options)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_labels_of_each_type_are_filled_and_the_rest_is_told(
    server: CvatServer, pictures: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    broken = ("broken.jpg", pictures[0][1][:3000])
    task = server.add_task([*pictures, broken], LABELS, deleted_frames=[1])
    code, out, err = run(server, task, tmp_path, "--json")
    assert code == 1, err
    told = json.loads(out)
    assert [one["image"] for one in told["failed"]] == ["frame 6, broken.jpg"]
    assert "damaged or cut off" in told["failed"][0]["reason"]
    assert told["skipped"] == ["label 'body' is left out: nothing fills labels of type skeleton"]
    assert told["images"] == 6, "five frames that are there, and the broken one"
    stored = server.annotations(task)
    names = {label["id"]: label["name"] for label in server.tasks[task].labels}
    kinds = {(names[shape["label_id"]], shape["type"]) for shape in stored["shapes"]}
    assert kinds == {("Star", "mask"), ("purple_circle_2", "polygon"), ("square", "rectangle")}
    assert {tag["frame"] for tag in stored["tags"]} >= {0, 2}
    assert 1 not in {item["frame"] for kind in stored.values() for item in kind}
    assert {shape["source"] for shape in stored["shapes"]} == {"auto"}
    assert all(0.5 <= shape["score"] <= 1 for shape in stored["shapes"])
    again = run(server, task, tmp_path, "--json")
    assert json.loads(again[1])["images"] == 1, "only the broken frame is tried again"
    assert server.annotations(task) == stored


def test_a_killed_run_goes_on_and_nothing_comes_twice(
    server: CvatServer, pictures: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    task = server.add_task(pictures, LABELS)
    process = command(server, task, tmp_path, "--slice", "1", "--in-flight", "1")
    while not any(request.method == "PATCH" for request in server.requests):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = Counter(shape["frame"] for shape in server.annotations(task)["shapes"])
    assert len(before) < 5, "it was killed too late to test anything"
    code, _, err = run(server, task, tmp_path)
    assert code == 0, err
    other = server.add_task(pictures, LABELS)
    assert run(server, other, tmp_path / "other")[0] == 0
    points = [sorted(str(shape["points"]) for shape in server.annotations(t)["shapes"]) for t in (task, other)]
    assert points[0] == points[1] != []


def test_wishes_that_cannot_be_had_are_sentences(
    server: CvatServer, pictures: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    task = server.add_task(pictures[:1], LABELS)
    for options, sentence in (
        (["--label", "nose"], "the task has no label 'nose'"),
        (["--label", "body"], "nothing fills labels of type skeleton"),
        (["--frames", "7"], "none of --frames 7 is there; frames are 0 to 0"),
        (["--frames", "0", "--clear-existing"], "--clear-existing removes the annotations of all frames"),
    ):
        code, out, err = run(server, task, tmp_path, *options)
        assert (code, out) == (2, "")
        assert sentence in err
        assert "Traceback" not in err
    notes = tmp_path / "notes.json"
    with alone(notes):
        code, _, err = run(server, task, tmp_path, "--resume-file", str(notes))
    assert (code, "another run is at work" in " ".join(err.split())) == (2, True), err
    assert server.annotations(task) == {"tags": [], "shapes": []}
