"""What an annotator sees on opening a pre-annotated task."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browser import open_task
from projects import Backend, Project
from prompts_on_wire import visual_centre

from sam3_core import Mask
from sam3_core.demo.scenes import SceneObject, render_scene
from sam3_prelabel.demo.client import LabelStudioClient
from sam3_prelabel.demo.label_studio import LabelStudioServer
from sam3_prelabel.demo.regions import read_regions
from sam3_prelabel.demo.world import LABEL_CONFIG, LABELS, Sample, samples

if TYPE_CHECKING:
    from browser_editor import Editor

pytestmark = pytest.mark.e2e


def test_the_editor_draws_what_is_stored(
    client: LabelStudioClient,
    backend: Backend,
    label_studio: LabelStudioServer,
    new_project: Callable[[str], Project],
    browser: Any,
    tmp_path: Path,
) -> None:
    """Set SCREENSHOTS to a folder to keep the picture."""
    project = new_project(LABEL_CONFIG)
    task, *_ = client.upload(project.id, {sample.name: sample.scene.encode() for sample in samples(4)})
    client.connect(project.id, backend.url)
    client.retrieve_predictions(project.id)
    (prediction,) = client.predictions(project.id)[task]
    stored = read_regions(prediction["result"])
    assert {region.kind for region in stored} == {"polygonlabels", "brushlabels"}

    drawn = open_task(browser, label_studio, project.id, task)
    picture = Path(os.environ.get("SCREENSHOTS") or tmp_path) / "label-studio.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    assert browser.save_screenshot(str(picture))

    assert [region["label"] for region in drawn] == [region.label for region in stored]
    for there, here in zip(drawn, stored, strict=True):
        width, height = here.instance.mask.frame
        percent = np.array(here.instance.box) / (width, height, width, height) * 100
        assert np.abs(np.array(there["box"]) - percent).max() < 0.5, here.label


def test_the_demo_can_be_asked(
    client: LabelStudioClient, backend: Backend, new_project: Callable[[str], Project], editor: Editor
) -> None:
    """In a pre-annotated task, by a click on an object that no label of the demo means, and by text."""
    sample = next(one for one in samples(8) if _bare(one))
    project = new_project(LABEL_CONFIG)
    task, *_ = client.upload(project.id, {sample.name: sample.scene.encode()})
    client.connect(project.id, backend.url)
    client.retrieve_predictions(project.id)
    editor.open(project.id, task)
    before = len(editor.regions())
    editor.choose("point", "Triangle")
    editor.click(*visual_centre(_bare(sample)[0].mask))
    (clicked,) = read_regions(editor.suggestions())
    assert (clicked.label, clicked.kind) == ("Triangle", "brushlabels")
    assert clicked.instance.mask.iou(Mask.from_full(_bare(sample)[0].mask)) > 0.7
    editor.reject()
    editor.type("prompt", "object")
    assert {region.label for region in read_regions(editor.suggestions())} == {"Red circle"}
    assert before


def _bare(sample: Sample) -> list[SceneObject]:
    """The objects that no label of the demo is for."""
    found = [item for phrase in LABELS.values() for item in sample.scene.matching(phrase)]
    return [item for item in sample.scene.objects if not any(item is other for other in found)]


SHAPES = """
<View>
  <Image name="image" value="$image"/>
  <EllipseLabels name="ellipse" toName="image"><Label value="Round" prompt="circle"/></EllipseLabels>
  <VectorLabels name="vector" toName="image" closable="true"><Label value="Any" prompt="object"/></VectorLabels>
  <RectangleLabels name="box" toName="image" oriented="true"><Label value="Square" prompt="square"/></RectangleLabels>
  <KeyPointLabels name="point" toName="image" smart="false"><Label value="Centre" prompt="circle"/></KeyPointLabels>
</View>
"""


def test_the_editor_keeps_shapes_as_they_are_stored(
    client: LabelStudioClient, backend: Backend, new_project: Callable[[str], Project], editor: Editor, tmp_path: Path
) -> None:
    """Ellipses, closed vectors, turned rectangles and keypoints. Set SCREENSHOTS to a folder to keep the picture."""
    project = new_project(SHAPES)
    scene = render_scene(1_900_010_206, objects=(3, 5), size=(900, 450))  # a star, a turned square, three circles
    task, *_ = client.upload(project.id, {"scene.png": scene.encode()})
    client.connect(project.id, backend.url)
    client.retrieve_predictions(project.id)
    (prediction,) = client.predictions(project.id)[task]
    stored = {region["id"]: region for region in prediction["result"]}
    assert {region["type"] for region in stored.values()} == {
        "ellipselabels", "vectorlabels", "rectanglelabels", "keypointlabels",
    }  # fmt: skip

    editor.open(project.id, task)
    shown = {region["id"]: region for region in editor.regions()}
    picture = Path(os.environ.get("SCREENSHOTS") or tmp_path) / "shapes.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(editor.screenshot())
    assert shown.keys() == stored.keys()
    for name, region in stored.items():
        assert shown[name]["type"] == region["type"]
        assert _numbers(shown[name]["value"]) == pytest.approx(_numbers(region["value"]), abs=0.01)


def _numbers(value: dict[str, Any]) -> list[float]:
    """What makes the shape, in percent and degrees."""
    if "vertices" in value:
        return [vertex[axis] for vertex in value["vertices"] for axis in ("x", "y")]
    return [value[key] for key in ("x", "y", "width", "height", "radiusX", "radiusY", "rotation") if key in value]
