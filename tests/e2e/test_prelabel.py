"""The main job: images in a real Label Studio get regions that stand on the objects."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ground_truth import LABELS, SEEDS, Tally, scene_of
from label_studio_sdk.label_interface import LabelInterface
from PIL import Image
from projects import Backend, Project, config_of

from sam3_core.demo.scenes import render_scene
from sam3_prelabel.demo.client import LabelStudioClient
from sam3_prelabel.demo.regions import read_regions

pytestmark = pytest.mark.e2e

NewProject = Callable[[str], Project]
SCENES = {seed: scene_of(seed) for seed in SEEDS}
TAGS = ("PolygonLabels", "BrushLabels", "RectangleLabels")


def upload(client: LabelStudioClient, project: Project, *seeds: int) -> list[int]:
    return client.upload(project.id, {f"scene-{seed}.jpg": SCENES[seed].encode() for seed in seeds})


def only_prediction(client: LabelStudioClient, project: Project, task: int) -> dict[str, Any]:
    """The task's prediction; there must be exactly one, with nothing in it that Label Studio cannot show."""
    (prediction,) = client.predictions(project.id)[task]
    assert LabelInterface(project.label_config).validate_prediction(prediction, return_errors=True) == []
    assert 0 <= prediction["score"] <= 1
    regions = prediction["result"]
    assert len({region["id"] for region in regions}) == len(regions)
    for region in regions:
        assert 0 < region["score"] <= 1
        assert region["image_rotation"] == 0
    return prediction


def sizes(regions: list[dict[str, Any]]) -> set[tuple[int, int]]:
    return {(region["original_width"], region["original_height"]) for region in regions}


def test_connecting_is_accepted_and_names_the_demo_weights(
    client: LabelStudioClient, backend: Backend, new_project: NewProject
) -> None:
    project = new_project(config_of("PolygonLabels", LABELS))
    connected = client.connect(project.id, backend.url)
    assert connected["state"] == "CO"
    assert connected["error_message"] is None
    assert "demo" in connected["model_version"]

    body = {
        "project": f"{project.id}.1",
        "schema": project.label_config,
        "hostname": client.url,
        "extra_params": None,
    }
    assert backend.post("/setup", body).json()["model_version"] == connected["model_version"]
    hooks = client.call("GET", f"/api/webhooks/?project={project.id}")
    assert [hook["url"] for hook in hooks] == [f"{backend.url}/webhook"]


@pytest.mark.parametrize("tag", TAGS)
def test_stored_regions_stand_on_the_objects(
    tag: str, client: LabelStudioClient, backend: Backend, new_project: NewProject
) -> None:
    project = new_project(config_of(tag, LABELS))
    tasks = upload(client, project, *SEEDS)
    version = client.connect(project.id, backend.url)["model_version"]
    client.retrieve_predictions(project.id)

    tally = Tally()
    for task, seed in zip(tasks, SEEDS, strict=True):
        prediction = only_prediction(client, project, task)
        assert prediction["model_version"] == version
        assert sizes(prediction["result"]) <= {(SCENES[seed].width, SCENES[seed].height)}
        assert {region["type"] for region in prediction["result"]} <= {tag.lower()}
        tally.add(SCENES[seed], read_regions(prediction["result"]))
    tally.check()


def test_a_config_with_polygons_and_brushes_gets_both(
    client: LabelStudioClient, backend: Backend, new_project: NewProject
) -> None:
    labels = {tag: f'<{tag} name="{tag}" toName="image"><Label value="shape"/></{tag}>' for tag in TAGS[:2]}
    project = new_project(f'<View><Image name="image" value="$image"/>{"".join(labels.values())}</View>')
    (task,) = upload(client, project, SEEDS[0])
    client.connect(project.id, backend.url)
    client.retrieve_predictions(project.id)

    regions = only_prediction(client, project, task)["result"]
    polygons, brushes = ([region for region in regions if region["from_name"] == tag] for tag in TAGS[:2])
    assert polygons
    assert brushes
    for kind in (polygons, brushes):
        tally = Tally()
        tally.add(SCENES[SEEDS[0]], read_regions(kind), {"shape": "shape"})
        assert tally.mean_iou >= 0.8


def test_a_second_retrieve_adds_no_duplicates(
    client: LabelStudioClient, backend: Backend, new_project: NewProject
) -> None:
    project = new_project(config_of("PolygonLabels", LABELS))
    tasks = upload(client, project, *SEEDS[:2])
    client.connect(project.id, backend.url)
    client.retrieve_predictions(project.id)
    first = client.predictions(project.id)
    client.retrieve_predictions(project.id)
    assert client.predictions(project.id) == first
    assert sorted(first) == sorted(tasks)


def test_opening_a_task_predicts_it(client: LabelStudioClient, backend: Backend, new_project: NewProject) -> None:
    project = new_project(config_of("PolygonLabels", LABELS))
    task, untouched = upload(client, project, *SEEDS[:2])
    client.connect(project.id, backend.url)
    opened = client.open_task(task)
    assert [len(prediction["result"]) > 0 for prediction in opened["predictions"]] == [True]
    assert list(client.predictions(project.id)) == [task]
    assert untouched not in client.predictions(project.id)


def test_a_broken_image_does_not_spoil_the_others(
    client: LabelStudioClient, backend: Backend, new_project: NewProject
) -> None:
    project = new_project(config_of("PolygonLabels", LABELS))
    good = [SCENES[seed].encode() for seed in SEEDS[:2]]
    files = {
        "one.jpg": good[0],
        "broken.jpg": good[0][: len(good[0]) // 3],
        "nonsense.jpg": b"no image",
        "two.jpg": good[1],
    }
    tasks = client.upload(project.id, files)
    client.connect(project.id, backend.url)
    client.retrieve_predictions(project.id)

    results = [only_prediction(client, project, task)["result"] for task in tasks]
    assert [bool(result) for result in results] == [True, False, False, True]
    for task in tasks[1:3]:
        assert f"task {task}" in backend.log()
        assert client.open_task(task)["predictions"]


def test_a_phone_photo_gets_regions_as_it_is_displayed(
    client: LabelStudioClient, backend: Backend, new_project: NewProject
) -> None:
    scene = render_scene(SEEDS[0], objects=(3, 3), size=(480, 720))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn anticlockwise of how it is to be shown
    stored = io.BytesIO()
    Image.fromarray(np.rot90(scene.image)).save(stored, "JPEG", quality=92, exif=exif)

    project = new_project(config_of("BrushLabels", LABELS))
    (task,) = client.upload(project.id, {"photo.jpg": stored.getvalue()})
    client.connect(project.id, backend.url)
    client.retrieve_predictions(project.id)

    result = only_prediction(client, project, task)["result"]
    assert sizes(result) == {(480, 720)}
    tally = Tally()
    tally.add(scene, read_regions(result))
    tally.check(share=0.5)


def test_images_of_a_local_files_storage(
    client: LabelStudioClient, backend: Backend, new_project: NewProject, documents: Path
) -> None:
    scene = SCENES[SEEDS[2]]
    folder = documents / "shelf"
    folder.mkdir()
    (folder / "a scene.png").write_bytes(scene.encode("PNG"))
    project = new_project(config_of("PolygonLabels", LABELS))
    storage = client.call(
        "POST",
        "/api/storages/localfiles",
        json={"project": project.id, "path": str(folder), "use_blob_urls": True, "regex_filter": ".*png"},
    )
    client.call("POST", f"/api/storages/localfiles/{storage['id']}/sync")
    client.connect(project.id, backend.url)
    client.retrieve_predictions(project.id)

    (task,) = client.predictions(project.id)
    tally = Tally()
    tally.add(scene, read_regions(only_prediction(client, project, task)["result"]))
    tally.check(share=0.5)


def test_images_inside_the_task(client: LabelStudioClient, backend: Backend, new_project: NewProject) -> None:
    scene = SCENES[SEEDS[3]]
    project = new_project(config_of("PolygonLabels", LABELS))
    data_url = "data:image/jpeg;base64," + base64.b64encode(scene.encode()).decode()
    (task,) = client.import_tasks(project.id, [{"image": data_url}])
    client.connect(project.id, backend.url)
    client.retrieve_predictions(project.id)
    tally = Tally()
    tally.add(scene, read_regions(only_prediction(client, project, task)["result"]))
    tally.check(share=0.5)


def test_the_score_of_a_task_can_order_tasks(
    client: LabelStudioClient, backend: Backend, new_project: NewProject
) -> None:
    project = new_project(config_of("PolygonLabels", LABELS))
    upload(client, project, *SEEDS)
    client.connect(project.id, backend.url)
    client.retrieve_predictions(project.id)
    scores = [prediction["score"] for (prediction,) in client.predictions(project.id).values()]
    assert all(math.isfinite(score) for score in scores)
    assert len(set(scores)) > 1
