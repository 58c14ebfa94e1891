"""The functions for cvat-sdk through the real cvat-cli, in real processes, the demo checkpoint; CVAT is a twin."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from cvat_cli_runs import DETECTOR, bits, cvat_cli, overlap, parameters
from cvat_sdk.auto_annotation import BadFunctionError
from cvat_server import CvatServer
from PIL import Image

from cvat_nuclio.auto_annotation import create, read_rows
from cvat_nuclio.sdk_function import encoded
from sam3_core.demo.scenes import Scene


@pytest.fixture
def server() -> Iterator[CvatServer]:
    with CvatServer() as server:
        yield server


@pytest.fixture
def shown(scene: Callable[..., Scene]) -> Scene:
    """A yellow and a purple circle."""
    return scene(0, objects=(2, 4), size=(320, 240))


@pytest.fixture
def triangles(scene: Callable[..., Scene]) -> Scene:
    """A black, a yellow and two red triangles."""
    return scene(26, objects=(2, 4), size=(320, 240))


def annotated(server: CvatServer, task: int, *options: str, **values: str) -> dict[str, list[dict[str, Any]]]:
    """The task's annotations after ``task auto-annotate``; values are the function's parameters."""
    fill = ["task", "auto-annotate", str(task), "--function-module", DETECTOR, *options]
    done = cvat_cli(server, *fill, *parameters(**values))
    assert done.returncode == 0, done.stderr
    return server.annotations(task)


def test_auto_annotate_fills_a_task(server: CvatServer, shown: Scene) -> None:
    task = server.add_task([("0.png", shown.encode("PNG"))], [{"name": "ball", "type": "mask"}])
    (shape,) = annotated(server, task, labels="ball=purple circle; purple square")["shapes"]
    (purple,) = shown.matching("purple circle")
    assert overlap(bits(shape, (320, 240)), purple.mask) > 0.8
    assert 0.5 < shape["score"] < 1


def test_each_label_is_filled_with_its_own_type(server: CvatServer, triangles: Scene, tmp_path: Path) -> None:
    types = {"black triangle": "mask", "red triangle": "polygon", "yellow triangle": "rectangle", "seen": "tag"}
    task = server.add_task(
        [("0.png", triangles.encode("PNG"))], [{"name": name, "type": kind} for name, kind in types.items()]
    )
    table = tmp_path / "labels.json"
    own: list[dict[str, str]] = [{"name": name, "type": kind} for name, kind in types.items() if kind != "rectangle"]
    own[-1]["prompt"] = "red triangle"
    table.write_text(json.dumps([*own, {"name": "yellow triangle"}]))
    filled = annotated(server, task, labels=str(table), label_type="rectangle")
    names = {label["id"]: label["name"] for label in server.tasks[task].labels}
    assert [names[tag["label_id"]] for tag in filled["tags"]] == ["seen"]
    counts = Counter((names[shape["label_id"]], shape["type"]) for shape in filled["shapes"])
    assert counts == {
        ("black triangle", "mask"): 1,
        ("red triangle", "polygon"): 2,
        ("yellow triangle", "rectangle"): 1,
    }
    for shape in filled["shapes"]:
        truths = triangles.matching(names[shape["label_id"]])
        if shape["type"] == "rectangle":
            assert shape["points"] == pytest.approx(truths[0].box, abs=5)
        else:
            assert max(overlap(bits(shape, (320, 240)), one.mask) for one in truths) > 0.7


def test_masks_become_polygons_where_they_are_asked_for(server: CvatServer, triangles: Scene, tmp_path: Path) -> None:
    names = ["red triangle", "yellow triangle"]
    pictures = [("0.png", triangles.encode("PNG"))]
    task = server.add_task(pictures, [{"name": name, "type": "polygon"} for name in names])
    table = tmp_path / "labels.json"
    table.write_text(json.dumps([{"name": names[0], "type": "mask"}, {"name": names[1]}]))
    shapes = annotated(server, task, "--conv-mask-to-poly", labels=str(table))["shapes"]
    assert [shape["type"] for shape in shapes] == ["polygon"] * 3
    truths = [item for name in names for item in triangles.matching(name)]
    assert all(max(overlap(bits(shape, (320, 240)), one.mask) for shape in shapes) > 0.7 for one in truths)


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
