"""Clicks, boxes and text through a real Label Studio, by the call that its editor makes."""

from __future__ import annotations

import base64
from collections.abc import Callable

import numpy as np
import pytest
from ground_truth import SEEDS, Tally, scene_of
from projects import Backend, Project, config_of, interactive_config
from prompts_on_wire import Json, box_around, click_on, typed, visual_centre

from sam3_core import Box, EncodedImage, Mask, Point, VisualPrompt
from sam3_core.demo.scenes import Scene, render_scene
from sam3_core.engine import LocalSegmenter
from sam3_prelabel.demo.client import LabelStudioClient
from sam3_prelabel.demo.regions import read_regions

pytestmark = pytest.mark.e2e

NewProject = Callable[[str], Project]
SCENES = 50
LABELS = ("Round", "Spiky")  # become a polygon and a brush mask, whatever was clicked


def a_scene(number: int) -> Scene:
    """One that the checkpoint was not trained on."""
    return render_scene(1_900_002_000 + number, objects=(2, 4), long_side=(300, 600))


def size_of(scene: Scene) -> tuple[int, int]:
    return scene.width, scene.height


@pytest.fixture(scope="module")
def connected(client: LabelStudioClient, backend: Backend, new_project: NewProject) -> tuple[Project, int]:
    """A project for all prompts, and the id of its backend."""
    project = new_project(interactive_config())
    return project, int(client.connect(project.id, backend.url)["id"])


def ask(client: LabelStudioClient, backend_id: int, task: int, prompt: Json) -> tuple[str, str, Mask]:
    """The label and kind of what answers a prompt about one object, and what its regions cover together."""
    regions = read_regions(client.ask(backend_id, task, [prompt]))
    ((label, kind),) = {(region.label, region.kind) for region in regions}
    return label, kind, Mask.from_full(np.any([region.instance.mask.full() for region in regions], axis=0))


def test_clicks_and_boxes_are_as_good_as_the_core(
    client: LabelStudioClient, connected: tuple[Project, int], segmenter: LocalSegmenter
) -> None:
    """Of every scene one object is clicked and boxed; which of the two becomes a polygon takes turns."""
    project, backend_id = connected
    scenes = [a_scene(number) for number in range(SCENES)]
    files = {f"scene-{number}.jpg": scene.encode() for number, scene in enumerate(scenes)}
    tasks = client.upload(project.id, files)
    ious: dict[str, list[tuple[float, float]]] = {}
    for number, (task, scene, data) in enumerate(zip(tasks, scenes, files.values(), strict=True)):
        item, size = scene.objects[-1], size_of(scene)
        x, y = visual_centre(item.mask)
        truth, image = Mask.from_full(item.mask), EncodedImage(data)
        asked = [
            (click_on((x, y), size, LABELS[number % 2]), VisualPrompt((Point(x, y),))),
            (box_around(item.box, size, LABELS[1 - number % 2]), VisualPrompt(box=Box(*item.box))),
        ]
        for prompt, same in asked:
            label, kind, mask = ask(client, backend_id, task, prompt)
            assert label == prompt["value"]["labels"][0]
            best = segmenter.outline(image, same)[0].mask
            ious.setdefault(f"{prompt['type']} to {kind}", []).append((mask.iou(truth), best.iou(truth)))

    assert sorted(ious) == [
        "keypointlabels to brushlabels",
        "keypointlabels to polygonlabels",
        "rectanglelabels to brushlabels",
        "rectanglelabels to polygonlabels",
    ]
    for kind, pairs in ious.items():
        there, here = np.array(pairs).mean(axis=0)
        assert abs(there - here) <= 0.01, (kind, there, here)
        assert there > 0.8, kind


def test_deleting_the_last_prompt_leaves_nothing(
    client: LabelStudioClient, backend: Backend, connected: tuple[Project, int]
) -> None:
    project, backend_id = connected
    (task,) = client.upload(project.id, {"scene.jpg": a_scene(SCENES).encode()})
    before = backend.counter("sam3_embedding_cache_misses_total")
    assert client.ask(backend_id, task, []) == []
    assert backend.counter("sam3_embedding_cache_misses_total") == before


@pytest.mark.parametrize("page", [0, 1])
def test_a_click_on_a_page_is_answered_on_that_page(
    page: int, client: LabelStudioClient, backend: Backend, new_project: NewProject
) -> None:
    project = new_project(interactive_config('valueList="$pages"'))
    scenes = [a_scene(SCENES + 1 + number) for number in range(2)]
    urls = [f"data:image/jpeg;base64,{base64.b64encode(scene.encode()).decode()}" for scene in scenes]
    (task,) = client.import_tasks(project.id, [{"pages": urls}])
    backend_id = int(client.connect(project.id, backend.url)["id"])
    item = scenes[page].objects[-1]
    prompt = click_on(visual_centre(item.mask), size_of(scenes[page]), "Round") | {"item_index": page}
    result = client.ask(backend_id, task, [prompt])
    assert [region["item_index"] for region in result] == [page]
    assert [(region["original_width"], region["original_height"]) for region in result] == [size_of(scenes[page])]
    (region,) = read_regions(result)
    assert region.instance.mask.iou(Mask.from_full(item.mask)) > 0.8


def test_text_finds_all_of_them(client: LabelStudioClient, connected: tuple[Project, int]) -> None:
    project, backend_id = connected
    scene = scene_of(SEEDS[4])
    (task,) = client.upload(project.id, {"scene.jpg": scene.encode()})
    regions = read_regions(client.ask(backend_id, task, [typed("circle; star")]))
    tally = Tally()
    tally.add(scene, regions, {"Round": "circle", "Spiky": "star"})
    tally.check()
    assert {(region.label, region.kind) for region in regions} == {
        ("Round", "polygonlabels"),
        ("Spiky", "brushlabels"),
    }


def test_a_click_beside_the_image_finds_nothing_and_the_log_says_why(
    client: LabelStudioClient, backend: Backend, connected: tuple[Project, int]
) -> None:
    project, backend_id = connected
    scene = a_scene(SCENES)
    (task,) = client.upload(project.id, {"scene.jpg": scene.encode()})
    beside = click_on((scene.width * 1.2, scene.height / 2), size_of(scene), "Round")
    assert client.ask(backend_id, task, [beside]) == []
    (line,) = (line for line in backend.log().splitlines() if f"task {task}:" in line)
    assert "outside the image" in line


def test_what_was_typed_is_looked_for_in_later_batches(
    client: LabelStudioClient, backend: Backend, new_project: NewProject
) -> None:
    config = config_of("PolygonLabels", {"Thing": "triangle"}).replace("prompt=", 'remember_prompt="true" prompt=')
    project = new_project(config.replace("</View>", '<TextArea name="prompt" toName="picture"/></View>'))
    scene = scene_of(SEEDS[2])
    taught, later = client.upload(project.id, {f"{number}.jpg": scene.encode() for number in range(2)})
    backend_id = int(client.connect(project.id, backend.url)["id"])

    text = typed("circle")
    found = client.ask(backend_id, taught, [text])
    assert found
    client.annotate(taught, [text, *found])
    client.retrieve_predictions(project.id, [later])
    (prediction,) = client.predictions(project.id)[later]
    tally = Tally()
    tally.add(scene, read_regions(prediction["result"]), {"Thing": "circle"})
    tally.check()
