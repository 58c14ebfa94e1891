"""The functions for cvat-sdk through the real cvat-cli, in real processes, the demo checkpoint; CVAT is a twin."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from cvat_sdk.auto_annotation import BadFunctionError
from cvat_sdk.masks import decode_mask
from cvat_server import CvatServer
from PIL import Image

from cvat_nuclio.auto_annotation import create, read_rows
from cvat_nuclio.sdk_function import encoded
from sam3_core.demo.scenes import Scene

DETECTOR, INTERACTOR = "cvat_nuclio.auto_annotation", "cvat_nuclio.auto_interaction"


@pytest.fixture
def server() -> Iterator[CvatServer]:
    with CvatServer() as server:
        yield server


@pytest.fixture
def shown(scene: Callable[..., Scene]) -> Scene:
    """A yellow and a purple circle."""
    return scene(0, objects=(2, 4), size=(320, 240))


def cvat_cli(server: CvatServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name("cvat-cli"))
    login = ["--server-host", server.host, "--server-port", str(server.port), "--auth", "u:p"]
    return subprocess.run([program, *login, *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_auto_annotate_fills_a_task(server: CvatServer, shown: Scene) -> None:
    task = server.add_task([("0.png", shown.encode("PNG"))], [{"name": "ball", "type": "mask"}])
    fill = ["task", "auto-annotate", str(task), "--function-module", DETECTOR]
    done = cvat_cli(server, *fill, "-p", "labels=str:ball=purple circle; purple square")
    assert done.returncode == 0, done.stderr
    (shape,) = server.annotations(task)["shapes"]
    found = decode_mask(shape["points"], image_width=320, image_height=240)
    (purple,) = shown.matching("purple circle")
    assert (found & purple.mask).sum() / (found | purple.mask).sum() > 0.8
    assert 0.5 < shape["score"] < 1


@pytest.mark.parametrize(
    ("label_type", "options", "points"),
    [("any", ["--conv-mask-to-poly"], 6), ("polygon", [], 6), ("rectangle", [], 4)],
)
def test_types_fit_the_task(
    server: CvatServer, shown: Scene, label_type: str, options: list[str], points: int
) -> None:
    kind = "polygon" if label_type == "any" else label_type
    task = server.add_task([("0.png", shown.encode("PNG"))], [{"name": "circle", "type": kind}])
    fill = ["task", "auto-annotate", str(task), "--function-module", DETECTOR, *options]
    done = cvat_cli(server, *fill, "-p", "labels=str:circle", "-p", f"label_type=str:{label_type}")
    assert done.returncode == 0, done.stderr
    shapes = server.annotations(task)["shapes"]
    assert {shape["type"] for shape in shapes} == {kind}
    assert all(len(shape["points"]) >= points for shape in shapes)
    assert len(shapes) == 2


def test_an_agent_answers_clicks_boxes_and_nothing(server: CvatServer, shown: Scene) -> None:
    task = server.add_task([("0.png", shown.encode("PNG"))], [{"name": "circle"}])
    made = cvat_cli(server, "function", "create-native", "SAM 3", "--function-module", INTERACTOR)
    assert made.returncode == 0, made.stderr
    function = int(made.stdout)
    boxes = [[list(item.box[:2]), list(item.box[2:])] for item in shown.objects]
    for corners in ([], boxes[0], [*boxes[0], *boxes[1]]):
        params = {
            "type": "interact",
            "task": task,
            "frame": 0,
            "pos_points": [],
            "neg_points": [],
            "obj_bbox": corners,
        }
        server.ask_agent(function, "interactive", params)
    run = cvat_cli(server, "function", "run-agent", str(function), "--burst", "--function-module", INTERACTOR)
    assert run.returncode == 0, run.stderr
    asked = list(server.agent_requests.values())
    assert {one.state for one in asked} == {"completed"}, [one.result for one in asked]
    assert [len(one.result["shapes"]) for one in asked] == [0, 1, 2]
    for shape, item in zip(asked[2].result["shapes"], shown.objects, strict=True):
        found = decode_mask(shape["points"], image_width=320, image_height=240)
        assert (found & item.mask).sum() / (found | item.mask).sum() > 0.7
        assert 0 < float(shape["attributes"][0]["value"]) <= 1


def test_labels_are_read_or_refused_with_a_sentence(tmp_path: Path) -> None:
    rows = read_rows("school_bus=yellow school bus; bus, Traffic_Light")
    assert [row.concept.phrases for row in rows] == [("yellow school bus", "bus"), ("traffic light",)]
    table = tmp_path / "labels.json"
    table.write_text('[{"name": "bus", "type": "polygon", "threshold": 0.4}]')
    assert [(label.name, label.type) for label in create(str(table), "tag").spec.labels] == [("bus", "polygon")]
    for labels, kind, sentence in (("", "", "no labels"), ("a, a", "", "twice"), ("a", "circle", "is not one of")):
        with pytest.raises(BadFunctionError, match=sentence):
            create(labels, kind)


def test_pictures_are_known_by_what_they_show(shown: Scene) -> None:
    picture = Image.fromarray(shown.image)
    assert encoded(picture).key == encoded(picture.copy()).key != encoded(picture.rotate(180)).key
    assert Image.open(BytesIO(encoded(picture).data)).tobytes() == picture.tobytes()
