"""What a real Label Studio keeps of a prediction besides its outlines, and what it keeps out of the next one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ground_truth import LABELS, SEEDS, scene_of
from label_studio_sdk.label_interface import LabelInterface
from projects import Backend, Project, config_of, interactive_config
from prompts_on_wire import typed

from backend.labeling import read_plan
from backend.prompts import Target
from backend.regions import Picture, RegionWriter
from sam3_core import Instance, Mask
from sam3_prelabel.demo.client import LabelStudioClient
from sam3_prelabel.demo.regions import read_regions

if TYPE_CHECKING:
    from browser_editor import Editor

pytestmark = pytest.mark.e2e

NewProject = Callable[[str], Project]
Json = dict[str, Any]


def upload(client: LabelStudioClient, project: Project, *seeds: int) -> list[int]:
    return client.upload(project.id, {f"scene-{seed}.jpg": scene_of(seed).encode() for seed in seeds})


def stored(client: LabelStudioClient, project: Project, task: int) -> Json:
    """The task's only prediction, which Label Studio can show."""
    (prediction,) = client.predictions(project.id)[task]
    assert LabelInterface(project.label_config).validate_prediction(prediction, return_errors=True) == []
    assert client.open_task(task)["predictions"][0]["id"] == prediction["id"]
    return dict(prediction)


def test_a_polygon_that_was_capped_says_what_it_lost(
    client: LabelStudioClient, backend: Backend, new_project: NewProject
) -> None:
    config = config_of("PolygonLabels", {"Round": "circle"}).replace("<Label ", '<Label max_vertices="4" ')
    project = new_project(config)
    (task,) = upload(client, project, SEEDS[4])
    version = client.connect(project.id, backend.url)["model_version"]
    client.retrieve_predictions(project.id)
    regions = stored(client, project, task)["result"]
    assert regions
    for region in regions:
        assert len(region["value"]["points"]) <= 4
        phrase, told, last = region["meta"]["text"]
        assert re.fullmatch(r"IoU 0\.\d\d with the mask: stopped at 4 corners", told)
        assert (phrase, last) == ("circle", version)


def test_what_an_annotator_drew_is_not_suggested_again(
    client: LabelStudioClient, backend: Backend, new_project: NewProject
) -> None:
    project = new_project(config_of("BrushLabels", LABELS))
    (task,) = upload(client, project, SEEDS[4])
    client.connect(project.id, backend.url)
    client.retrieve_predictions(project.id)
    drawn, *rest = stored(client, project, task)["result"]
    assert rest
    by_hand = {key: drawn[key] for key in drawn if key not in ("score", "meta")} | {
        "id": "by-hand",
        "origin": "manual",
    }
    client.annotate(task, [by_hand])
    chosen = {"all": True, "excluded": []}
    path = f"/api/dm/actions?id=delete_tasks_predictions&project={project.id}"
    client.call("POST", path, json={"selectedItems": chosen})
    client.retrieve_predictions(project.id)
    again = stored(client, project, task)["result"]
    assert [region["id"] for region in again] == [region["id"] for region in rest]


def test_an_empty_prediction_is_kept_and_opens_and_its_reasons_can_be_read(
    client: LabelStudioClient, backend: Backend, new_project: NewProject
) -> None:
    """It keeps no ``meta`` of a prediction; the log has the reasons, Send Test Request and answers to text too."""
    project = new_project(interactive_config())
    (task,) = upload(client, project, SEEDS[0])
    backend_id = client.connect(project.id, backend.url)["id"]
    client.retrieve_predictions(project.id)
    prediction = stored(client, project, task)
    assert prediction["result"] == []
    assert "meta" not in prediction
    (line,) = (line for line in backend.log().splitlines() if f"task {task}:" in line)
    test = client.call("POST", f"/api/ml/{backend_id}/predict/test?random=true")
    (answer,) = test["response"]
    assert answer["meta"]["nothing"].keys() == {"Round", "Spiky"}
    assert all(f"{label!r}: {reason}" in line for label, reason in answer["meta"]["nothing"].items())

    body = {"task": task, "context": {"result": [typed("zebra")]}}
    asked = client.call("POST", f"/api/ml/{backend_id}/interactive-annotating", json=body)
    assert asked["data"]["result"] == []
    assert asked["data"]["meta"]["nothing"]["Round"] in backend.log()


def test_the_editor_keeps_the_parts_of_an_object_together(
    client: LabelStudioClient, backend: Backend, new_project: NewProject, editor: Editor
) -> None:
    """As a group that may lose its first member: the others stay, and count as regions of their own."""
    project = new_project(interactive_config())
    scene = scene_of(SEEDS[0])
    (task,) = upload(client, project, SEEDS[0])
    bits = np.zeros((scene.height, scene.width), dtype=np.bool_)
    for column in range(3):
        start = scene.width // 8 + column * scene.width // 4
        bits[scene.height // 4 : scene.height // 2, start : start + scene.width // 8 - column] = True
    (source,) = read_plan(project.label_config).sources
    target = Target(source, None, source.controls[0], "Round")
    result = RegionWriter().write(Instance(Mask.from_full(bits), 0.9, "three"), target, Picture("key", "by hand"))
    first, *others = [region["id"] for region in result]
    client.connect(project.id, backend.url)
    client.call("POST", "/api/predictions/", json={"task": task, "result": result, "model_version": "by hand"})

    editor.open(project.id, task)
    shown = {region["id"]: region for region in editor.regions()}
    assert [shown[name].get("parentID") for name in (first, *others)] == [None, first, first]
    assert all(region["meta"] == {"text": ["three", "by hand"]} for region in shown.values())
    editor.delete(first)
    assert {region["id"] for region in editor.regions()} == set(others)
    editor.submit()
    (annotation,) = client.annotations(task)
    assert {region["id"] for region in annotation["result"]} == set(others)
    union = np.logical_or.reduce([region.instance.mask.full() for region in read_regions(annotation["result"])])
    largest = Mask.from_full(bits & (np.arange(scene.width) < scene.width // 4))
    left = Mask.from_full(bits & ~largest.full())
    assert left.iou(Mask.from_full(union)) > 0.97
