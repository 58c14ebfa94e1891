"""The interactive loop as an annotator has it: Label Studio's editor in a real browser."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ground_truth import SEEDS
from PIL import Image
from projects import Backend, Project, config_of, interactive_config
from prompts_on_wire import Json, visual_centre

from sam3_core import Mask
from sam3_core.demo.scenes import Scene, SceneObject, render_scene
from sam3_prelabel.demo.client import LabelStudioClient
from sam3_prelabel.demo.regions import StoredRegion, read_regions

if TYPE_CHECKING:
    from browser_editor import Editor

pytestmark = pytest.mark.e2e

SHOWN = render_scene(1_900_010_206, objects=(3, 5), size=(900, 450))  # a star, a square, three circles; two are green
PAIR = render_scene(1_900_001_010, objects=(2, 4), long_side=(450, 900))  # a triangle beside a square

PLAIN = """
<View>
  <Labels name="what" toName="picture"><Label value="Round" prompt="zebra"/></Labels>
  <Image name="picture" value="$image"/>
  <KeyPoint name="click" toName="picture" smart="true"/>
  <Rectangle name="box" toName="picture" smart="true"/>
  <Polygon name="outline" toName="picture"/>
</View>
"""

OpenTask = Callable[[bytes], int]


@pytest.fixture(scope="module")
def connected(client: LabelStudioClient, backend: Backend, new_project: Callable[[str], Project]) -> Project:
    project = new_project(interactive_config())
    client.connect(project.id, backend.url)
    return project


@pytest.fixture
def open_task(client: LabelStudioClient, connected: Project, editor: Editor) -> OpenTask:
    """Uploads a picture and opens its task, whose id it returns."""

    def upload_and_open(picture: bytes) -> int:
        (task,) = client.upload(connected.id, {"picture.jpg": picture})
        editor.open(connected.id, task)
        return task

    return upload_and_open


def stored(client: LabelStudioClient, task: int) -> list[Json]:
    """The results of the task's one annotation."""
    (annotation,) = client.annotations(task)
    result: list[Json] = annotation["result"]
    return result


def the_only(regions: Sequence[Json]) -> StoredRegion:
    (region,) = read_regions(regions)
    assert len(regions) == 1
    return region


def shows(region: StoredRegion, item: SceneObject) -> bool:
    return region.instance.mask.iou(Mask.from_full(item.mask)) >= 0.8


def beside_centre(item: SceneObject) -> tuple[float, float]:
    """A place on the object, away from where it was clicked first."""
    x, y = visual_centre(item.mask)
    return x - (item.box[2] - item.box[0]) / 6, y + (item.box[3] - item.box[1]) / 8


def keep(picture: bytes, name: str) -> None:
    """Save a picture as a small file where SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page = Image.open(io.BytesIO(picture)).convert("RGB")
        page.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
            Path(folder) / name, optimize=True
        )


def test_clicks_outline_objects_that_are_accepted_submitted_and_stored(
    open_task: OpenTask, editor: Editor, client: LabelStudioClient, backend: Backend
) -> None:
    """One label becomes polygons, one brush masks. Set SCREENSHOTS to a folder to keep a picture of the page."""
    task = open_task(SHOWN.encode())
    vision_passes = backend.counter("sam3_embedding_cache_misses_total")
    wanted = [("Spiky", SHOWN.matching("star")[0]), ("Round", SHOWN.matching("blue circle")[0])]
    for label, item in wanted:
        editor.choose("click", label)
        editor.click(*visual_centre(item.mask))
        (first,) = editor.suggestions()
        assert the_only([first]).label == label
        assert shows(the_only([first]), item)

        editor.choose("click", label)
        editor.click(*beside_centre(item))
        (second,) = editor.suggestions()
        assert second["id"] == first["id"]
        assert shows(the_only([second]), item)
        keep(editor.screenshot(), "interactive.png")  # the last one stays
        editor.accept()
    assert backend.counter("sam3_embedding_cache_misses_total") == vision_passes, "opening the task warms the cache"

    editor.submit()
    regions = read_regions(stored(client, task))
    assert [(region.label, region.kind) for region in regions] == [
        ("Spiky", "brushlabels"),
        ("Round", "polygonlabels"),
    ]
    assert len(stored(client, task)) == 2, "no prompt is left in the annotation"
    for region, (_, item) in zip(regions, wanted, strict=True):
        assert shows(region, item)


def test_alt_click_takes_away_what_it_points_at(open_task: OpenTask, editor: Editor) -> None:
    open_task(PAIR.encode())
    kept, dropped = PAIR.objects
    boxes = np.array([kept.box, dropped.box])
    editor.choose("box", "Spiky")
    editor.draw([*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)])
    (both,) = editor.suggestions()
    assert the_only([both]).instance.mask.iou(Mask.from_full(kept.mask | dropped.mask)) >= 0.8

    editor.choose("click", "Spiky")
    editor.click(*visual_centre(dropped.mask), positive=False, inside_region=True)  # in the box that was drawn
    (one,) = editor.suggestions()
    assert one["id"] == both["id"]
    assert shows(the_only([one]), kept)
    editor.accept()
    assert [region["id"] for region in editor.regions()] == [both["id"]]


def test_a_box_outlines_what_is_in_it(open_task: OpenTask, editor: Editor) -> None:
    open_task(PAIR.encode())
    item = PAIR.objects[0]
    editor.choose("box", "Round")
    editor.draw(item.box)
    assert shows(the_only(editor.suggestions()), item)
    editor.reject()
    assert editor.regions() == []


def test_text_and_an_exemplar_find_all_of_them(
    open_task: OpenTask, editor: Editor, client: LabelStudioClient
) -> None:
    task = open_task(SHOWN.encode())
    circles = SHOWN.matching("circle")
    editor.type("prompt", "circle")
    assert all_shown(editor.suggestions(), circles)
    editor.reject()
    editor.choose("like", "Round")
    alike = SHOWN.matching("green circle")
    editor.draw(alike[0].box)
    assert all_shown(editor.suggestions(), alike)
    editor.accept()
    editor.submit()
    text, *found = sorted(stored(client, task), key=lambda region: bool(region["type"] != "textarea"))
    assert text["value"] == {"text": ["circle"]}
    assert all_shown(found, alike)


def all_shown(regions: Sequence[Json], items: Sequence[SceneObject]) -> bool:
    """Whether these are circles, one for each of the items."""
    found = read_regions(regions)
    assert {(region.label, region.kind) for region in found} == {("Round", "polygonlabels")}
    return len(regions) == len(items) and all(any(shows(region, item) for region in found) for item in items)


def test_an_accepted_region_is_edited_under_its_id(open_task: OpenTask, editor: Editor) -> None:
    """With Auto-Accept each click is a request of its own."""
    open_task(SHOWN.encode())
    item = SHOWN.matching("blue circle")[0]
    editor.auto_accept(on=True)
    ids = []
    for place, inside in ((visual_centre(item.mask), False), (beside_centre(item), True)):
        editor.choose("click", "Spiky")
        editor.click(*place, inside_region=inside)
        region = the_only(editor.regions())
        assert shows(region, item)
        ids.append(editor.regions()[0]["id"])
    assert ids[0] == ids[1]


def test_a_region_that_was_there_on_opening_is_edited_too(
    editor: Editor, client: LabelStudioClient, backend: Backend, new_project: Callable[[str], Project]
) -> None:
    """It comes from a prediction, and until it is changed Label Studio has no draft of it."""
    project = new_project(config_of("BrushLabels", {"Round": "blue circle"}, smart=True))
    client.connect(project.id, backend.url)
    (task,) = client.upload(project.id, {"picture.jpg": SHOWN.encode()})
    item = SHOWN.matching("blue circle")[0]
    editor.open(project.id, task)
    (predicted,) = editor.regions()
    editor.choose("click", "Round")
    editor.click(*beside_centre(item), inside_region=True)
    editor.accept()
    (edited,) = editor.regions()
    assert edited["id"] == predicted["id"]
    assert shows(the_only([edited]), item)


def test_tags_without_labels_of_their_own(
    editor: Editor, client: LabelStudioClient, backend: Backend, new_project: Callable[[str], Project]
) -> None:
    project = new_project(PLAIN)
    client.connect(project.id, backend.url)
    (task,) = client.upload(project.id, {"picture.jpg": SHOWN.encode()})
    item = SHOWN.matching("circle")[0]
    editor.open(project.id, task)
    editor.choose("click", "Round", labeler="what")
    editor.click(*visual_centre(item.mask))
    editor.accept()
    editor.submit()
    shape, label = stored(client, task)
    assert (shape["from_name"], shape["type"]) == ("outline", "polygon")
    assert (label["from_name"], label["type"], label["id"]) == ("what", "labels", shape["id"])
    assert label["value"]["points"] == shape["value"]["points"]
    with_label = label | {
        "type": "polygonlabels",
        "value": label["value"] | {"polygonlabels": label["value"]["labels"]},
    }
    assert the_only([with_label]).label == "Round"
    assert shows(the_only([with_label]), item)


def test_a_click_on_a_phone_photo(open_task: OpenTask, editor: Editor) -> None:
    """Stored lying down, with an orientation that browsers apply."""
    scene: Scene = render_scene(SEEDS[0], objects=(3, 3), size=(480, 720))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn anticlockwise of how it is to be shown
    file = io.BytesIO()
    Image.fromarray(np.rot90(scene.image)).save(file, "JPEG", quality=92, exif=exif)
    open_task(file.getvalue())
    item = scene.objects[0]
    editor.choose("click", "Spiky")
    editor.click(*visual_centre(item.mask))
    (suggestion,) = editor.suggestions()
    assert (suggestion["original_width"], suggestion["original_height"]) == (480, 720)
    assert shows(the_only([suggestion]), item)
