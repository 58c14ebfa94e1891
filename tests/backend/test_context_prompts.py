"""Interactive requests: what was drawn or typed, with the regions Label Studio 1.23's editor sends."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from request_bodies import data_url, predict_body
from scene_segmenter import VERSION, SceneSegmenter

from backend.bodies import Context, ContextRegion, parse
from backend.labeling import read_plan
from backend.prompts import Ask, read_context
from sam3_core import Box, Concept, Point, VisualPrompt
from sam3_core.demo.scenes import Scene, SceneObject
from sam3_core.errors import InvalidPrompt

LABELS = '<Label value="Circle"/><Label value="Any_Thing" prompt="object; thing"/>'
CONFIG = f"""
<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="box" toName="image">{LABELS}</RectangleLabels>
  <BrushLabels name="brush" toName="image">{LABELS}</BrushLabels>
  <KeyPointLabels name="kp" toName="image" smart="true">{LABELS}<Label value="Other"/></KeyPointLabels>
  <TextArea name="prompt" toName="image"/>
</View>
"""
EMPTY = {"result": [], "score": 0.0, "model_version": VERSION}


def keypoint(x: float, y: float, label: str = "Circle", **more: Any) -> dict[str, Any]:
    return {
        "id": "KtxRQZA2J9", "from_name": "kp", "to_name": "image", "type": "keypointlabels", "origin": "manual",
        "original_width": 800, "original_height": 600, "image_rotation": 0, "is_positive": True,
        "value": {"x": x, "y": y, "width": 0.23, "labels": [label], "keypointlabels": [label]},
    } | more  # fmt: skip


def rectangle(x: float, y: float, width: float, height: float, **value: Any) -> dict[str, Any]:
    return {
        "id": "YQFvsDPsTB", "from_name": "box", "to_name": "image", "type": "rectanglelabels", "origin": "manual",
        "original_width": 800, "original_height": 600, "image_rotation": 270,
        "value": {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": ["Circle"]}
        | value,
    }  # fmt: skip


def text(*lines: str) -> dict[str, Any]:
    return {
        "id": "S9TF3qmWtE", "from_name": "prompt", "to_name": "image", "type": "textarea", "origin": "manual",
        "value": {"text": list(lines)},
    }  # fmt: skip


def asks(*regions: dict[str, Any], config: str = CONFIG) -> list[Ask]:
    return read_context(parse(list[ContextRegion], list(regions)), read_plan(config))


def test_clicks_are_one_visual_prompt_in_pixels() -> None:
    (ask,) = asks(keypoint(25, 50), keypoint(75, 10, is_positive=False))
    assert ask.prompt == VisualPrompt((Point(200, 300), Point(600, 60, positive=False)))
    assert (ask.target.source.name, ask.target.page, ask.target.label) == ("image", None, "Circle")
    assert ask.target.control.name == "brush"


def test_a_missing_is_positive_is_positive() -> None:
    region = keypoint(25, 50)
    del region["is_positive"]
    (ask,) = asks(region)
    assert ask.prompt == VisualPrompt((Point(200, 300),))


def test_plain_keypoints_with_labels() -> None:
    region = keypoint(25, 50) | {"type": "keypoint", "value": {"x": 25, "y": 50, "labels": ["Circle"]}}
    (ask,) = asks(region)
    assert ask.target.label == "Circle"


def test_a_box_is_one_object() -> None:
    (ask,) = asks(rectangle(10, 20, 30, 40))
    assert ask.prompt == VisualPrompt(box=Box(80, 120, 320, 360))


def test_a_turned_box_is_the_upright_box_around_it() -> None:
    """A quarter turn clockwise about the top left corner puts the box to the left of it."""
    (ask,) = asks(rectangle(50, 50, 10, 20, rotation=90))
    assert isinstance(ask.prompt, VisualPrompt)
    assert ask.prompt.box is not None
    assert ask.prompt.box.xyxy == pytest.approx((400 - 120, 300, 400, 380))


def test_the_page_comes_along() -> None:
    (ask,) = asks(keypoint(25, 50, item_index=2))
    assert ask.target.page == 2


@pytest.mark.parametrize(
    ("typed", "label"),
    [
        ("circle", "Circle"), ("CIRCLE", "Circle"),
        ("any thing", "Any_Thing"), ("Object", "Any_Thing"), ("thing", "Any_Thing"),
    ],
)  # fmt: skip
def test_typed_text_goes_to_the_label_it_names(typed: str, label: str) -> None:
    (ask,) = asks(text(typed))
    assert ask.prompt == Concept((typed,))
    assert (ask.target.label, ask.target.control.name) == (label, "brush")


def test_several_phrases_at_once() -> None:
    assert [(a.prompt, a.target.label) for a in asks(text("circle; object"))] == [
        (Concept(("circle",)), "Circle"),
        (Concept(("object",)), "Any_Thing"),
    ]


def test_any_text_goes_to_the_only_label() -> None:
    config = CONFIG.replace('<Label value="Any_Thing" prompt="object; thing"/>', "")
    (ask,) = asks(text("rusty bolt"), config=config)
    assert ask.target.label == "Circle"


@pytest.mark.parametrize(
    "region",
    [
        text("rusty bolt"),
        keypoint(25, 50, label="Other"),
        keypoint(25, 50, to_name="elsewhere"),
        keypoint(25, 50, is_positive=False),
        keypoint(25, 50, original_width=None),
        keypoint(25, 50, value={"x": 25, "y": 50}),
        keypoint(25, 50, value={"x": "25", "y": 50, "labels": ["Circle"]}),
        keypoint(float("nan"), 50),
        rectangle(10, 20, 0, 40),
        rectangle(10, 20, float("inf"), 40),
    ],
)
def test_what_cannot_be_used_is_a_sentence_in_the_log_and_an_empty_answer(
    client: FlaskClient, region: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidPrompt):
        asks(region)
    body = predict_body([{"id": 5, "data": {"image": "x"}}], CONFIG, {"result": [region]})
    assert client.post("/predict", json=body).json == {"results": [EMPTY]}
    assert "task 5" in caplog.text


def test_other_regions_are_no_prompt() -> None:
    relation = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}
    assert asks({"type": "choices", "to_name": "image", "value": {"choices": ["good"]}}, relation) == []


@pytest.mark.parametrize("context", [{"result": []}, {"event": "prewarm"}])
def test_an_empty_context_is_answered_without_looking(
    client: FlaskClient, oracle: SceneSegmenter, context: dict[str, Any]
) -> None:
    body = predict_body([{"id": 1, "data": {"image": "http://127.0.0.1:9/a.png"}}], CONFIG, context)
    assert client.post("/predict", json=body).json == {"results": [EMPTY]}
    assert oracle.calls == 0


values = st.none() | st.floats() | st.text(max_size=5) | st.lists(st.text(max_size=5), max_size=2)
prompt_regions = st.fixed_dictionaries(
    {"type": st.sampled_from(["keypointlabels", "rectanglelabels", "textarea"])},
    optional={
        "to_name": st.just("image"),
        "original_width": st.integers(1, 9),
        "original_height": st.integers(1, 9),
        "value": st.dictionaries(
            st.sampled_from(["x", "y", "width", "height", "rotation", "labels", "text"]), values
        ),
    },
)


@given(st.lists(prompt_regions, max_size=3))
def test_any_context_is_asks_or_a_sentence(regions: list[dict[str, Any]]) -> None:
    sentence = ""
    try:
        read_context(parse(Context, {"result": regions}).result, read_plan(CONFIG))
    except InvalidPrompt as error:
        sentence = str(error)
    assert "\n" not in sentence


# ---- through the door --------------------------------------------------------------------------------------------


def centre(item: SceneObject, scene: Scene) -> tuple[float, float]:
    """A pixel of the object, in percent."""
    rows, columns = item.mask.nonzero()
    middle = len(rows) // 2
    return (columns[middle] + 0.5) * 100 / scene.width, (rows[middle] + 0.5) * 100 / scene.height


def ask(client: FlaskClient, image: object, region: dict[str, Any]) -> list[dict[str, Any]]:
    body = predict_body([{"id": 1, "data": {"image": image}}], CONFIG, {"result": [region]})
    (prediction,) = client.post("/predict", json=body).json["results"]
    return list(prediction["result"])


def test_a_click_outlines_the_object_under_it(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    scene = scenes[0]
    x, y = centre(scene.objects[0], scene)
    region = keypoint(x, y, original_width=scene.width, original_height=scene.height)
    (found,) = ask(client, data_url(oracle.add(scene)), region)
    assert (found["type"], found["value"]["brushlabels"], found["score"]) == ("brushlabels", ["Circle"], 0.9)
    assert (found["original_width"], found["original_height"]) == (scene.width, scene.height)


def test_typed_text_finds_every_instance(client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    found = ask(client, data_url(oracle.add(scenes[0])), text("object"))
    assert len(found) == len(scenes[0].objects)
    assert {region["value"]["brushlabels"][0] for region in found} == {"Any_Thing"}


def test_a_click_on_a_page_answers_on_that_page(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    pages = [data_url(oracle.add(scene)) for scene in scenes]
    scene = scenes[1]
    x, y = centre(scene.objects[0], scene)
    region = keypoint(x, y, original_width=scene.width, original_height=scene.height, item_index=1)
    (found,) = ask(client, pages, region)
    assert found["item_index"] == 1
    assert found["original_width"] == scene.width
    assert ask(client, pages, region | {"item_index": 9}) == []
