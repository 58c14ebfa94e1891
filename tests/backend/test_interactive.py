"""The loop an annotator feels: which region an answer is, what it starts from, and what is never asked at all."""

from __future__ import annotations

import logging
import threading
import time
from io import BytesIO
from typing import Any

import pytest
from editor import CONFIG, LABELS, Editor, bare, bounds, brush, spot
from flask import Flask
from flask.testing import FlaskClient
from label_studio_stand_in import label_studio
from PIL import Image
from request_bodies import data_url, predict_body
from scene_segmenter import SceneSegmenter
from test_routes import samples

from backend.app import create_app
from backend.rle import brush_rle
from backend.settings import BackendSettings
from sam3_core import Concept, EncodedImage, Mask, ModelState
from sam3_core.demo.scenes import Scene, render_scene
from sam3_core.errors import NotReady
from sam3_core.rules import Tiling

SHAPES = ("Brush", "Polygon", "Bitmask", "Rectangle", "Ellipse", "Vector")


@pytest.fixture
def scene(scenes: list[Scene]) -> Scene:
    return scenes[0]


@pytest.fixture
def editor(client: FlaskClient, oracle: SceneSegmenter, scene: Scene) -> Editor:
    return Editor(client, data_url(oracle.add(scene)))


def fresh(editor: Editor, name: str = "other", task: int | None = None) -> Editor:
    """The same task in another browser."""
    number = task or editor.task["id"]
    return Editor(editor.client, editor.task["data"]["image"], editor.config, task=number, name=name)


def one(regions: list[dict[str, Any]]) -> dict[str, Any]:
    (region,) = regions
    return region


# ---- pending prompts ---------------------------------------------------------------------------------------------


def test_a_second_click_refines_the_first_answer_under_its_id(
    editor: Editor, oracle: SceneSegmenter, scene: Scene
) -> None:
    below, above = scene.objects[0], scene.objects[1]
    first = one(editor.click(*spot(below, scene)))
    second = one(editor.click(*spot(above, scene)))
    assert second["id"] == first["id"]
    assert oracle.prompts[0].mask is None
    assert oracle.prompts[1].mask is not None
    assert oracle.prompts[1].mask.iou(brush(first)) == 1
    assert len(oracle.prompts[1].points) == 2
    assert (brush(second).full() == (below.mask | above.mask)).all()


def test_the_next_click_goes_on_from_what_the_model_saw(editor: Editor, oracle: SceneSegmenter, scene: Scene) -> None:
    """Not from what a finish made of it for the annotator."""
    editor.config = CONFIG.replace("<BrushLabels ", '<BrushLabels parts="largest" ')
    below, above, *_ = scene.objects
    seen = Mask.from_full(below.mask | above.mask)
    editor.click(*spot(below, scene))
    assert brush(one(editor.click(*spot(above, scene)))).iou(seen) < 0.9
    x, y = spot(above, scene)
    editor.click(x + 0.1, y)
    assert oracle.prompts[2].mask is not None
    assert oracle.prompts[2].mask.iou(seen) == 1


def test_the_id_needs_no_memory(editor: Editor, scene: Scene, app: Flask, oracle: SceneSegmenter) -> None:
    """Another process, with nothing remembered, gives the same id to the same pending prompts."""
    first = one(editor.click(*spot(scene.objects[0], scene)))
    editor.client = create_app(BackendSettings(), oracle).test_client()
    x, y = spot(scene.objects[0], scene)
    assert one(editor.click(x + 0.1, y))["id"] == first["id"]


def test_the_same_request_again_gets_the_same_answer(editor: Editor, scene: Scene, oracle: SceneSegmenter) -> None:
    for item in scene.objects[:2]:
        editor.click(*spot(item, scene))
        before = editor.suggestions
        assert editor.send() == before
    assert oracle.prompts[0] == oracle.prompts[1]
    assert oracle.prompts[2].mask is not None
    assert oracle.prompts[3].mask is not None
    assert oracle.prompts[2].mask.iou(oracle.prompts[3].mask) == 1


def test_a_prompt_that_was_moved_or_deleted_starts_anew_under_the_same_id(
    editor: Editor, scene: Scene, oracle: SceneSegmenter
) -> None:
    first = one(editor.click(*spot(scene.objects[0], scene)))
    x, y = spot(scene.objects[1], scene)
    editor.pending[0]["value"] |= {"x": x, "y": y}
    moved = one(editor.send())
    assert moved["id"] == first["id"]
    assert oracle.prompts[-1].mask is None
    assert (brush(moved).full() == scene.objects[1].mask).all()
    editor.click(*spot(scene.objects[2], scene))
    del editor.pending[0]
    left = one(editor.send())
    assert left["id"] == first["id"]
    assert oracle.prompts[-1].mask is None
    assert (brush(left).full() == scene.objects[2].mask).all()


def test_an_alt_click_takes_away_from_the_pending_answer(editor: Editor, scene: Scene) -> None:
    first = one(editor.click(*spot(scene.objects[0], scene)))
    editor.click(*spot(scene.objects[1], scene))
    third = one(editor.click(*spot(scene.objects[0], scene), positive=False))
    assert third["id"] == first["id"]
    assert (brush(third).full() == scene.objects[1].mask).all()


def test_objects_that_are_clicked_anew_are_other_regions(editor: Editor, scene: Scene) -> None:
    ids = set()
    for item in scene.objects:
        ids.add(one(editor.click(*spot(item, scene)))["id"])
        editor.accept()
    assert len(ids) == len(scene.objects)


def test_another_label_or_task_is_another_region(editor: Editor, scene: Scene, oracle: SceneSegmenter) -> None:
    first = one(editor.click(*spot(scene.objects[0], scene)))
    editor.accept()
    other = one(editor.click(*spot(scene.objects[0], scene), "Circle"))
    elsewhere = one(fresh(editor, task=2).click(*spot(scene.objects[0], scene)))
    assert len({first["id"], other["id"], elsewhere["id"]}) == 3
    assert all(prompt.mask is None for prompt in oracle.prompts)


# ---- accepted regions --------------------------------------------------------------------------------------------


def test_a_negative_click_on_an_accepted_region_edits_it(
    editor: Editor, scene: Scene, oracle: SceneSegmenter
) -> None:
    editor.click(*spot(scene.objects[0], scene))
    first = one(editor.click(*spot(scene.objects[1], scene)))
    editor.accept()
    edited = one(editor.click(*spot(scene.objects[1], scene), positive=False))
    assert edited["id"] == first["id"]
    assert (brush(edited).full() == scene.objects[0].mask).all()
    editor.accept()
    assert [region["id"] for region in editor.accepted] == [first["id"]]


@pytest.mark.parametrize("layer", ["drafts", "annotations", "predictions"])
def test_regions_that_ride_along_need_no_memory(
    client: FlaskClient, editor: Editor, scene: Scene, oracle: SceneSegmenter, layer: str
) -> None:
    """A region made by hand, or before the backend started."""
    made = one(editor.click(*spot(scene.objects[0], scene))) | {"id": "by hand"}
    other = fresh(editor, task=77)
    other.task[layer] = [{"id": 5, "result": [made]}]
    other.body = lambda: predict_body([other.task], CONFIG, {"result": other.pending})  # type: ignore[method-assign]
    x, y = spot(scene.objects[1], scene)
    other.pending = [editor.pending[0] | {"id": "x", "value": editor.pending[0]["value"] | {"x": x, "y": y}}]
    assert one(other.click(*spot(scene.objects[0], scene)))["id"] == "by hand"
    assert oracle.prompts[-1].mask is not None
    assert oracle.prompts[-1].mask.iou(Mask.from_full(scene.objects[0].mask)) == 1


def test_drafts_win_over_annotations_and_deleted_regions_stay_deleted(
    client: FlaskClient, editor: Editor, scene: Scene, oracle: SceneSegmenter
) -> None:
    old = one(editor.click(*spot(scene.objects[0], scene))) | {"id": "old"}
    task = editor.task | {
        "id": 78,
        "annotations": [{"id": 5, "result": [old]}],
        "drafts": [{"id": 9, "annotation": 5, "result": [old | {"id": "new"}]}],
        "predictions": [{"id": 3, "result": [old | {"id": "oldest"}]}],
    }
    context = {"result": [editor.pending[0] | {"id": "k", "is_positive": False}]}
    body = predict_body([task], CONFIG, context)
    oracle.prompts.clear()
    client.post("/predict", json=body)
    answer = client.post(
        "/predict", json=predict_body([task | {"drafts": [{"annotation": 5, "result": []}]}], CONFIG, context)
    )
    assert answer.json["results"][0]["result"] == []
    assert len(oracle.prompts) == 1  # "new" was edited; where it was deleted, nothing is left to take away from
    positive = {"result": [editor.pending[0] | {"id": "k2"}]}
    assert (
        client.post("/predict", json=predict_body([task], CONFIG, positive)).json["results"][0]["result"][0]["id"]
        == "new"
    )


def test_the_newest_draft_and_the_last_drawn_come_first(client: FlaskClient, editor: Editor, scene: Scene) -> None:
    made = one(editor.click(*spot(scene.objects[0], scene)))
    days = {"2026-01-02": ["below", "above"], "2026-01-03": ["lower", "upper"], "2026-01-01": ["old"]}
    drafts = [
        {"id": day, "updated_at": f"{day}T00:00:00Z", "result": [made | {"id": name} for name in names]}
        for day, names in days.items()
    ]
    context = {"result": [editor.pending[0] | {"id": "k"}]}
    body = predict_body([editor.task | {"id": 90, "drafts": drafts}], CONFIG, context)
    assert one(client.post("/predict", json=body).json["results"][0]["result"])["id"] == "upper"


def test_with_auto_accept_a_follow_up_click_edits_the_answer_though_no_draft_was_saved_yet(
    editor: Editor, scene: Scene, oracle: SceneSegmenter
) -> None:
    editor.click(*spot(scene.objects[0], scene))
    first = one(editor.click(*spot(scene.objects[1], scene)))
    editor.reject()  # nothing rides along, as right after an automatic accept
    follow = one(editor.click(*spot(scene.objects[1], scene), positive=False))
    assert follow["id"] == first["id"]
    assert (brush(follow).full() == scene.objects[0].mask).all()


def test_an_object_clicked_again_after_its_answer_was_rejected_starts_anew_under_the_same_id(
    editor: Editor, scene: Scene, oracle: SceneSegmenter
) -> None:
    first = one(editor.click(*spot(scene.objects[0], scene)))
    editor.reject()
    x, y = spot(scene.objects[0], scene)
    again = one(editor.click(x + 0.5, y))
    assert again["id"] == first["id"]
    assert oracle.prompts[-1].mask is None


def test_a_click_on_an_object_that_an_earlier_answer_reached_into_does_not_overwrite_that(
    editor: Editor, scene: Scene
) -> None:
    small, large = sorted(scene.objects[:2], key=lambda item: int(item.mask.sum()))
    editor.click(*spot(large, scene))
    both = one(editor.click(*spot(small, scene)))
    editor.reject()
    other = one(editor.click(*spot(small, scene)))
    assert (brush(other).full() == small.mask).all()
    assert other["id"] != both["id"]


def test_a_box_around_an_accepted_region_edits_it(editor: Editor, scene: Scene) -> None:
    first = one(editor.click(*spot(scene.objects[0], scene)))
    editor.accept()
    assert one(editor.box(*bounds(scene.objects[0], scene)))["id"] == first["id"]
    editor.accept()
    assert one(editor.box(*bounds(scene.objects[1], scene)))["id"] != first["id"]


def test_the_same_object_clicked_beside_its_region_is_that_region(
    client: FlaskClient, editor: Editor, scene: Scene, oracle: SceneSegmenter
) -> None:
    """The region covers most of the object, but not where the click is."""
    item = scene.objects[0]
    editor.click(*spot(item, scene))
    part = item.mask.copy()
    rows, columns = part.nonzero()
    part[rows[:20], columns[:20]] = False
    made = one(editor.suggestions)
    made = made | {"id": "most", "value": made["value"] | {"rle": brush_rle(Mask.from_full(part))}}
    other = fresh(editor, task=79)
    other.accepted = [made]
    x, y = (columns[0] + 0.5) * 100 / scene.width, (rows[0] + 0.5) * 100 / scene.height
    assert one(other.click(x, y))["id"] == "most"
    assert oracle.prompts[-1].mask is None


@pytest.mark.parametrize("tag", [f"{shape}Labels" for shape in SHAPES])
def test_a_region_stays_with_its_control(client: FlaskClient, oracle: SceneSegmenter, scene: Scene, tag: str) -> None:
    """Where several controls have the label, an edited region keeps its own; its shape is read back."""
    kinds = [f"{shape}Labels" for shape in SHAPES]
    image = data_url(oracle.add(scene))
    tools = f'<KeyPointLabels name="kp" toName="image" smart="true">{LABELS}</KeyPointLabels>'
    only = f'<View><Image name="image" value="$image"/>{{}}{tools}</View>'
    every = only.format("".join(f'<{kind} name="{kind}" toName="image">{LABELS}</{kind}>' for kind in kinds))
    maker = Editor(client, image, only.format(f'<{tag} name="{tag}" toName="image">{LABELS}</{tag}>'), task=5)
    made = one(maker.click(*spot(scene.objects[0], scene)))
    assert made["type"] == tag.lower()
    editor = Editor(client, image, every, task=6)
    editor.accepted = [made | {"id": "made"}]
    edited = one(editor.click(*spot(scene.objects[0], scene)))
    assert (edited["id"], edited["from_name"], edited["type"]) == ("made", tag, tag.lower())
    prompt = oracle.prompts[-1]
    if tag in ("RectangleLabels", "EllipseLabels"):
        slack = 0.01 if tag == "RectangleLabels" else 6
        assert prompt.box is not None
        assert prompt.box.xyxy == pytest.approx(Mask.from_full(scene.objects[0].mask).box, abs=slack)
    else:
        outlined = tag in ("PolygonLabels", "VectorLabels")
        assert prompt.mask is not None
        assert prompt.mask.iou(Mask.from_full(scene.objects[0].mask)) > (0.8 if outlined else 0.999)


@pytest.mark.parametrize("tag", [shape for shape in SHAPES if shape != "Rectangle"])
def test_a_plain_region_stays_with_its_control(
    client: FlaskClient, oracle: SceneSegmenter, scene: Scene, tag: str
) -> None:
    """One ``Labels`` tag labels them all, and every region comes under its name too."""
    image = data_url(oracle.add(scene))
    frame = '<View><Image name="image" value="$image"/>{}<Labels name="label" toName="image">%s</Labels></View>'
    frame %= LABELS
    every = "".join(f'<{kind} name="{kind}" toName="image"/>' for kind in SHAPES)
    maker = Editor(client, image, frame.format(f'<{tag} name="{tag}" toName="image"/>'), task=7)
    made = maker.click(*spot(scene.objects[0], scene))
    assert sorted(result["type"] for result in made) == sorted([tag.lower(), "labels"])
    editor = Editor(client, image, frame.format(every), task=8)
    editor.accepted = [result | {"id": "made"} for result in made]
    edited = editor.click(*spot(scene.objects[0], scene))
    assert {result["id"] for result in edited} == {"made"}
    assert {result["from_name"] for result in edited} == {tag, "label"}
    assert (oracle.prompts[-1].mask is None) is (tag == "Ellipse")


def test_only_negative_clicks_on_nothing_are_an_empty_answer_with_the_reason(
    editor: Editor, scene: Scene, oracle: SceneSegmenter, caplog: pytest.LogCaptureFixture
) -> None:
    assert editor.click(*spot(scene.objects[0], scene), positive=False) == []
    assert oracle.calls == 0
    assert "task 1: only what the object is not was clicked" in caplog.text


def test_prompts_and_other_labels_in_a_draft_are_no_outlines(
    editor: Editor, scene: Scene, oracle: SceneSegmenter
) -> None:
    """The editor saves drawn prompts like regions, and may send them for some time after they are gone."""
    place = spot(scene.objects[0], scene)
    first = one(editor.click(*place))
    drawn = editor.pending[0]
    value = {key: drawn["value"][key] for key in ("x", "y", "width", "keypointlabels")}
    other = first["value"] | {"brushlabels": ["Other"]}
    editor.reject()
    editor.accepted = [drawn | {"id": "left", "value": value}, first | {"id": "another", "value": other}]
    assert one(editor.click(*place))["id"] not in ("left", "another")
    assert oracle.prompts[-1].mask is None
    assert one(editor.suggestions)["value"] == first["value"]


def test_regions_that_cannot_be_read_are_left_out(editor: Editor, scene: Scene) -> None:
    good = one(editor.click(*spot(scene.objects[0], scene))) | {"id": "good"}
    label = {"brushlabels": ["Thing"]}
    shapes: list[Any] = [
        {"rle": [1, 2, 3]}, {"rle": "x"}, {"rle": [0] * 20}, {"rle": [-1]}, {"rle": None}, {"points": []},
        {"points": [[0, 0], [1, 1]]}, {"points": [["a", 1]]},
        {"imageDataURL": "data:image/png;base64,!"}, {"imageDataURL": "x" * 50}, {"imageDataURL": 5},
        {"x": 1, "y": 1, "width": 5, "height": 5, "rotation": 30}, {"x": 1, "y": 1, "width": 0, "height": 5}, {},
    ]  # fmt: skip
    other = fresh(editor, task=80)
    other.accepted = [good] + [good | {"id": f"bad{i}", "value": shape | label} for i, shape in enumerate(shapes)]
    other.accepted += [{"type": "relation", "from_id": "a", "to_id": "b"}, {"id": 5, "value": {}}]
    assert one(other.click(*spot(scene.objects[0], scene)))["id"] == "good"


@pytest.mark.parametrize("layers", [5, "x", [5], [{"result": 5}], [{"result": [{"value": 5}]}], None, {}])
def test_odd_drafts_spoil_no_click(editor: Editor, scene: Scene, layers: object) -> None:
    editor.task["annotations"] = layers
    editor.task["drafts"] = layers
    editor.task["predictions"] = layers
    editor.pending = []
    x, y = spot(scene.objects[0], scene)
    editor.click(x, y)
    context = {"result": editor.pending}
    body = predict_body([editor.task], CONFIG, context)
    assert len(editor.client.post("/predict", json=body).json["results"][0]["result"]) == 1


# ---- several readings --------------------------------------------------------------------------------------------


def test_three_candidates_are_three_regions_best_first(
    client: FlaskClient, oracle: SceneSegmenter, scene: Scene
) -> None:
    config = CONFIG.replace('smart="true"', 'smart="true" candidates="3"')
    editor = Editor(client, data_url(oracle.add(scene)), config)
    found = editor.click(*spot(scene.objects[0], scene))
    assert [region["score"] for region in found] == [0.9, 0.8, 0.7]
    assert len({region["id"] for region in found}) == 3
    best = found[0]["id"]
    again = editor.click(*spot(scene.objects[1], scene))
    assert again[0]["id"] == best
    assert oracle.prompts[-1].mask is not None
    assert oracle.prompts[-1].mask.iou(Mask.from_full(scene.objects[0].mask)) == 1
    assert [r["id"] for r in again] == [r["id"] for r in found]


# ---- text --------------------------------------------------------------------------------------------------------


def test_all_that_was_typed_is_one_pass(editor: Editor, scene: Scene, oracle: SceneSegmenter) -> None:
    asked: list[list[Concept]] = []
    real = oracle.find

    def find(image: Any, concepts: Any, *rest: Any, **more: Any) -> Any:
        asked.append(list(concepts))
        return real(image, concepts, *rest, **more)

    oracle.find = find  # type: ignore[method-assign]
    found = editor.type("circle; thing; nothing like it")
    assert [len(concepts) for concepts in asked] == [2]
    circles = [item for item in scene.objects if item.shape == "circle"]
    labels = [region["value"]["brushlabels"][0] for region in found]
    assert labels.count("Circle") == len(circles)
    assert len({region["id"] for region in found}) == len(found)


def test_what_is_not_there_is_an_empty_answer_with_the_reason(
    editor: Editor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert editor.type("zebra") == []
    assert "nothing found: presence 0.02" in caplog.text


# ---- nothing to answer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["ground", "outside"])
def test_a_click_on_nothing_is_an_empty_answer_with_the_place(
    editor: Editor, scene: Scene, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    x, y = bare(scene) if place == "ground" else (180.0, -20.0)
    with caplog.at_level(logging.INFO):
        assert editor.click(x, y) == []
    at = f"({x * scene.width / 100:.0f}, {y * scene.height / 100:.0f})"
    assert f"task 1: 'Thing': the model sees no object at {at}" in caplog.text


@pytest.mark.parametrize("context", [{"result": []}, {"result": [{"type": "relation"}]}])
def test_an_empty_context_waits_for_nothing(
    client: FlaskClient, oracle: SceneSegmenter, context: dict[str, Any]
) -> None:
    """The last prompt was deleted. Neither the picture nor weights that still load are asked for."""
    oracle.state = ModelState.LOADING
    oracle.error = NotReady("loading")
    with label_studio() as site:
        task = {"id": 1, "data": {"image": f"{site.url}/public/a.png"}}
        answer = client.post("/predict", json=predict_body([task], CONFIG, context))
        assert site.requests == []
    assert answer.status_code == 200
    assert answer.json["results"][0]["result"] == []
    assert oracle.calls == 0


def test_weights_that_still_load_are_a_503(editor: Editor, oracle: SceneSegmenter, scene: Scene) -> None:
    oracle.error = NotReady("loading", retry_after=3)
    editor.pending = [
        {"id": "k", "type": "keypointlabels", "to_name": "image", "value": {"x": 5, "y": 5, "labels": ["Thing"]}}
    ]
    assert editor.client.post("/predict", json=editor.body()).status_code == 503


# ---- pictures ----------------------------------------------------------------------------------------------------


def test_opening_a_task_makes_the_first_click_a_repeat_click(
    client: FlaskClient, oracle: SceneSegmenter, scene: Scene
) -> None:
    with label_studio() as site:
        site.files["/public/a.png"] = oracle.add(scene)
        task = {"id": 1, "data": {"image": f"{site.url}/public/a.png"}}
        opened = client.post("/predict", json=predict_body([task], CONFIG))
        assert opened.status_code == 200
        assert len(oracle.warmed) == 1
        editor = Editor(client, task["data"]["image"])
        for item in scene.objects:
            assert editor.click(*spot(item, scene))
            editor.accept()
        assert len(site.requests) == 1


def test_clicks_on_a_picture_fetch_it_once(client: FlaskClient, oracle: SceneSegmenter, scene: Scene) -> None:
    """Without the task having been opened here, as after a restart."""
    with label_studio() as site:
        site.files["/public/a.png"] = oracle.add(scene)
        editor = Editor(client, f"{site.url}/public/a.png")
        for item in scene.objects:
            assert editor.click(*spot(item, scene))
        assert len(site.requests) == 1


def test_outlines_of_another_picture_are_no_start(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    """The task's picture was exchanged for one of another size."""
    editor = Editor(client, data_url(oracle.add(scenes[0])))
    first = one(editor.click(*spot(scenes[0].objects[0], scenes[0])))
    editor.accept()
    editor.task["data"]["image"] = data_url(oracle.add(scenes[1]))
    for item in scenes[1].objects:
        second = one(editor.click(*spot(item, scenes[1])))
        assert second["id"] != first["id"]
        assert oracle.prompts[-1].mask is None
        editor.reject()


def test_a_batch_neither_warms_nor_keeps(client: FlaskClient, oracle: SceneSegmenter, scene: Scene) -> None:
    with label_studio() as site:
        site.files["/public/a.png"] = oracle.add(scene)
        tasks = [{"id": i, "data": {"image": f"{site.url}/public/a.png"}} for i in range(2)]
        client.post("/predict", json=predict_body(tasks, CONFIG))
        assert oracle.warmed == []
        assert Editor(client, tasks[0]["data"]["image"]).click(*spot(scene.objects[0], scene))
        assert len(site.requests) == 3


def test_a_config_without_tools_is_not_warmed(client: FlaskClient, oracle: SceneSegmenter, scene: Scene) -> None:
    client.post("/predict", json=predict_body([{"id": 1, "data": {"image": data_url(oracle.add(scene))}}]))
    assert oracle.warmed == []


def test_warming_that_fails_spoils_nothing(client: FlaskClient, oracle: SceneSegmenter, scene: Scene) -> None:
    def warm(image: object, **more: object) -> None:
        raise RuntimeError("out of memory")

    oracle.warm = warm  # type: ignore[method-assign]
    config = CONFIG.replace('value="Thing"', 'value="Thing" prompt="object"')
    task = {"id": 1, "data": {"image": data_url(oracle.add(scene))}}
    (prediction,) = client.post("/predict", json=predict_body([task], config)).json["results"]
    assert len(prediction["result"]) >= len(scene.objects)


def test_prewarm_warms_every_page_and_answers_empty(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    pages = [data_url(oracle.add(scene)) for scene in scenes]
    config = CONFIG.replace('value="$image"', 'valueList="$image"')
    body = predict_body([{"id": 1, "data": {"image": pages}}], config, {"event": "prewarm"})
    assert client.post("/predict", json=body).json["results"][0]["result"] == []
    assert len(oracle.warmed) == len(scenes)
    assert oracle.calls == len(scenes)


def test_pages_are_different_places(client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    scene = scenes[0]
    pages = [data_url(oracle.add(scene)), data_url(oracle.add(scene, "WEBP"))]
    editor = Editor(client, pages, CONFIG.replace('value="$image"', 'valueList="$image"'))
    first = one(editor.click(*spot(scene.objects[0], scene), item_index=0))
    editor.accept()
    second = one(editor.click(*spot(scene.objects[0], scene), item_index=1))
    assert (first["item_index"], second["item_index"]) == (0, 1)
    assert first["id"] != second["id"]
    assert oracle.prompts[-1].mask is None
    editor.accept()
    assert one(editor.click(*spot(scene.objects[0], scene), item_index=1))["id"] == second["id"]
    assert oracle.prompts[-1].mask is not None
    editor.pending = []
    assert editor.click(50, 50, item_index=2) == []


def test_a_turned_photo_is_clicked_as_it_is_shown(client: FlaskClient, oracle: SceneSegmenter) -> None:
    """A stored 800x600 with orientation 6 is shown as 600x800."""
    scene = render_scene(3, objects=(2, 4), size=(600, 800))
    stored = Image.open(BytesIO(scene.encode("PNG"))).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = BytesIO()
    stored.save(file, "JPEG", exif=exif)
    oracle.scenes[EncodedImage(file.getvalue()).key] = scene
    editor = Editor(client, data_url(file.getvalue(), "image/jpeg"))
    found = one(editor.click(*spot(scene.objects[0], scene)))
    assert stored.size == (800, 600)
    assert (found["original_width"], found["original_height"]) == (600, 800)
    assert (brush(found).full() == scene.objects[0].mask).all()


def test_the_turn_of_the_view_is_repeated_and_moves_nothing(editor: Editor, scene: Scene) -> None:
    plain = one(editor.click(*spot(scene.objects[0], scene)))
    editor.pending[0]["image_rotation"] = 270
    turned = one(editor.send())
    assert turned == plain | {"image_rotation": 270}


def test_clicks_on_the_border(editor: Editor, scene: Scene) -> None:
    for x, y in ((0, 0), (100, 100), (100, 0), (0, 100)):
        editor.reject()
        editor.click(x, y)  # an object or nothing, but an answer


# ---- what was drawn already, and why there is nothing ------------------------------------------------------------


def test_text_does_not_find_again_what_was_accepted(editor: Editor, scene: Scene, oracle: SceneSegmenter) -> None:
    found = editor.type("shape")
    assert len(found) == len(scene.objects)
    editor.suggestions = [region for region in found if region is not found[0]]
    editor.accept()
    (left,) = editor.type("shape")
    assert brush(left).iou(brush(found[0])) == 1
    editor.accept()
    assert editor.type("shape") == []


def test_a_click_may_be_on_what_was_drawn(editor: Editor, scene: Scene) -> None:
    made = one(editor.click(*spot(scene.objects[0], scene)))
    editor.accept()
    assert one(editor.click(*spot(scene.objects[0], scene)))["id"] == made["id"]


BOXES_ONLY = """
<View>
  <Image name="image" value="$image" tiles="on"/>
  <RectangleLabels name="box" toName="image"><Label value="Thing"/></RectangleLabels>
  <RectangleLabels name="like" toName="image" smart="true" exemplar="true"><Label value="Thing" prompt="shape"/>
  </RectangleLabels>
  <TextArea name="prompt" toName="image"/>
</View>
"""


def test_the_prompts_of_a_request_are_no_drawings(
    client: FlaskClient, editor: Editor, scene: Scene, oracle: SceneSegmenter
) -> None:
    """Exemplars are drawn with a tag that is not filled; the same box of a filled one is a drawing, or pending."""
    other = Editor(client, editor.task["data"]["image"], BOXES_ONLY)
    x, y, width, height = bounds(scene.objects[0], scene)
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": ["Thing"]}
    box = {"id": "b", "from_name": "like", "to_name": "image", "type": "rectanglelabels", "value": value}

    def ask(pending: dict[str, Any], *accepted: dict[str, Any]) -> int:
        other.pending, other.accepted = [pending], list(accepted)
        return len(other.send())

    every = len(scene.objects)
    assert ask(box) == every
    assert ask(box, box, box | {"id": "left behind"}) == every
    assert ask(box, box | {"id": "c", "from_name": "box"}) == every - 1
    assert ask(box, box | {"from_name": "box"}) == every  # the pending prompt itself, whatever its tag
    assert {options.tiles for options in oracle.options} == {Tiling.ON}


def test_an_empty_answer_says_why(
    editor: Editor, scene: Scene, oracle: SceneSegmenter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def meta() -> dict[str, Any]:
        (prediction,) = editor.client.post("/predict", json=editor.body()).json["results"]
        assert prediction["result"] == []
        return dict(prediction["meta"])

    editor.type("zebra")
    assert "presence 0.02" in meta()["nothing"]["Circle"]
    assert f"task 1: 'Circle': {meta()['nothing']['Circle']}" in caplog.messages
    editor.reject()
    editor.click(*bare(scene))
    assert meta()["nothing"]["Thing"].startswith("the model sees no object at (")
    assert f"task 1: 'Thing': {meta()['nothing']['Thing']}" in caplog.messages
    editor.reject()
    editor.click(50, 50, "Unknown")
    assert "no output control" in meta()["problem"]
    editor.reject()
    editor.click(*spot(scene.objects[0], scene))
    (answer,) = editor.client.post("/predict", json=editor.body()).json["results"]
    assert "meta" not in answer


def test_a_typed_phrase_that_may_not_be_understood(
    editor: Editor, oracle: SceneSegmenter, caplog: pytest.LogCaptureFixture
) -> None:
    oracle.notes = ("'shape' was not translated",)
    for _ in range(2):
        texts = [region["meta"]["text"] for region in editor.type("shape")]
        editor.reject()
        assert texts
        assert all(text[:2] == ["shape", *oracle.notes] for text in texts)
    assert caplog.messages.count(oracle.notes[0]) == 1


# ---- superseded clicks -------------------------------------------------------------------------------------------


def _clicked(app: Flask, body: dict[str, Any], answers: list[Any]) -> threading.Thread:
    thread = threading.Thread(target=lambda: answers.append(app.test_client().post("/predict", json=body).json))
    thread.start()
    return thread


def _wait_for_line(app: Flask, oracle: SceneSegmenter, number: int) -> None:
    """Until so many requests have come to the held device."""
    deadline = time.monotonic() + 30
    while oracle.queued < number:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_click_that_a_newer_one_replaces_never_reaches_the_device(
    app: Flask, editor: Editor, scene: Scene, oracle: SceneSegmenter, caplog: pytest.LogCaptureFixture
) -> None:
    x, y = spot(scene.objects[0], scene)
    keypoint = {"type": "keypointlabels", "to_name": "image", "value": {"x": x, "y": y, "labels": ["Thing"]}}
    bodies = []
    for n in range(3):
        editor.pending.append(keypoint | {"id": f"k{n}"})
        bodies.append(editor.body())
    threads, answers = [], []
    with caplog.at_level(logging.INFO):
        with oracle.device:
            for number, body in enumerate(bodies, start=1):
                threads.append(_clicked(app, body, answers))
                _wait_for_line(app, oracle, number)
        for thread in threads:
            thread.join(30)
    assert oracle.calls == 1
    assert sorted(len(answer["results"][0]["result"]) for answer in answers) == [0, 0, 1]
    assert len(oracle.prompts[0].points) == 3
    assert caplog.text.count("task 1: a click was dropped") == 2
    assert samples(app.test_client())["sam3_superseded_clicks_total",] == 2


def test_two_annotators_do_not_drop_each_other(
    app: Flask, editor: Editor, scene: Scene, oracle: SceneSegmenter
) -> None:
    x, y = spot(scene.objects[0], scene)
    keypoint = {"type": "keypointlabels", "to_name": "image", "value": {"x": x, "y": y, "labels": ["Thing"]}}
    threads, answers = [], []
    with oracle.device:
        for number, name in enumerate("ab", start=1):
            editor.pending = [keypoint | {"id": name}]
            threads.append(_clicked(app, editor.body(), answers))
            _wait_for_line(app, oracle, number)
    for thread in threads:
        thread.join(30)
    assert oracle.calls == 2
    assert all(answer["results"][0]["result"] for answer in answers)


# ---- big requests, timing ----------------------------------------------------------------------------------------


def test_a_request_of_megabytes(editor: Editor, scene: Scene) -> None:
    """Every stored mask of the task rides along, as predictions, annotations and drafts."""
    made = one(editor.click(*spot(scene.objects[0], scene)))
    heavy = [made | {"id": f"r{i}", "value": {"rle": [7] * 50_000, "brushlabels": ["Circle"]}} for i in range(6)]
    editor.task["annotations"] = [{"id": 1, "result": heavy}]
    editor.task["predictions"] = [{"id": 1, "result": heavy}]
    editor.reject()
    assert one(editor.click(*spot(scene.objects[0], scene)))["id"] == made["id"]


def test_server_timing_tells_where_the_time_went(editor: Editor, scene: Scene, client: FlaskClient) -> None:
    editor.click(*spot(scene.objects[0], scene))
    assert {"parse", "fetch", "encode", "total"} <= set(editor.timing)
    assert list(editor.timing)[-1] == "total"
    assert 0 <= sum(taken for name, taken in editor.timing.items() if name != "total") <= editor.timing["total"] + 1
    for path in ("/health", "/nothing"):
        assert client.get(path).headers["Server-Timing"].split(", ")[-1].startswith("total;dur=")
    assert "parse" in client.post("/predict", data=b"{").headers["Server-Timing"]
