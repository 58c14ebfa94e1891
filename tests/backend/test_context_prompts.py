"""Interactive requests: what was drawn or typed, with the regions Label Studio 1.23's editor sends."""

from __future__ import annotations

import math
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from request_bodies import data_url, keypoint, plain, predict_body, rectangle, text
from scene_segmenter import VERSION, SceneSegmenter

from backend.bodies import ContextRegion, convert
from backend.labeling import read_plan
from backend.prompts import Ask, Drawing, Place, find_place, read_asks
from sam3_core import Box, Concept, Exemplar, Mask, Point
from sam3_core.demo.scenes import Scene, SceneObject
from sam3_core.errors import InvalidPrompt
from sam3_core.rules import Rules

LABELS = '<Label value="Circle"/><Label value="Any_Thing" prompt="object; thing" threshold="0.3"/>'
CONFIG = f"""
<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="box" toName="image" smart="true">{LABELS}</RectangleLabels>
  <BrushLabels name="brush" toName="image">{LABELS}</BrushLabels>
  <KeyPointLabels name="kp" toName="image" smart="true">{LABELS}<Label value="Other"/></KeyPointLabels>
  <TextArea name="prompt" toName="image"/>
</View>
"""
PLAIN = """
<View>
  <Image name="image" value="$image"/>
  <Labels name="label" toName="image"><Label value="Circle"/><Label value="Square" exemplar="true"/></Labels>
  <KeyPoint name="kp" toName="image" smart="true" candidates="2"/>
  <Rectangle name="box" toName="image" smart="true"/>
  <Polygon name="outline" toName="image"/>
</View>
"""
SIZE = (800, 600)
EMPTY = {"result": [], "score": 0.0, "model_version": VERSION}


def asks(*regions: dict[str, Any], config: str = CONFIG, size: tuple[int, int] = SIZE) -> list[Ask]:
    parsed, plan = [convert(ContextRegion, region) for region in regions], read_plan(config)
    place = find_place(parsed, plan)
    return read_asks(parsed, place, plan, size) if place else []


def tags(*controls: str) -> str:
    return f'<View><Image name="image" value="$image"/>{"".join(controls)}</View>'


def control(tag: str, name: str, labels: str = '<Label value="Circle"/>', attributes: str = "") -> str:
    return f'<{tag} name="{name}" toName="image" {attributes}>{labels}</{tag}>'


# ---- clicks and boxes --------------------------------------------------------------------------------------------


def test_clicks_of_one_label_are_one_drawing_in_pixels() -> None:
    first, second = keypoint(25, 50, id="a"), keypoint(75, 10, id="b", is_positive=False, image_rotation=90)
    (ask,) = asks(first, second)
    assert ask.prompt == Drawing((Point(200, 300), Point(600, 60, positive=False)))
    assert (ask.target.source.name, ask.target.page, ask.target.label) == ("image", None, "Circle")
    assert (ask.target.control.name, ask.target.rotation) == ("brush", 90)
    assert (ask.origins, ask.candidates) == (("a", "b"), 1)


def test_clicks_of_two_labels_are_two_drawings() -> None:
    first, second = asks(keypoint(25, 50), keypoint(75, 10, label="Any_Thing"))
    assert (first.prompt, first.target.label) == (Drawing((Point(200, 300),)), "Circle")
    assert (second.prompt, second.target.label) == (Drawing((Point(600, 60),)), "Any_Thing")


@pytest.mark.parametrize(
    ("region", "value", "positive"),
    [
        ({}, {}, True),
        ({"is_positive": None}, {}, True),
        ({"is_positive": False}, {}, False),
        ({}, {"positive": False}, False),
        ({}, {"positive": True}, True),
        ({}, {"positive": None}, True),
        ({"is_positive": True}, {"positive": False}, True),
    ],
)
def test_a_click_is_positive_unless_it_says_no(region: dict[str, Any], value: dict[str, Any], positive: bool) -> None:
    click = keypoint(25, 50)
    del click["is_positive"]
    click["value"] |= value
    (ask,) = asks(click | region)
    assert ask.prompt == Drawing((Point(200, 300, positive=positive),))


def test_what_was_drawn_is_a_prompt_when_it_names_something() -> None:
    negative = Drawing((Point(1, 2, positive=False),))
    with pytest.raises(InvalidPrompt, match="click on the object first"):
        negative.prompt()
    mask = Mask.from_full([[True]])
    assert negative.prompt(mask).mask is mask
    assert negative.prompt(mask).points == negative.points
    assert Drawing(negative.points, Box(0, 0, 1, 1)).prompt().box == Box(0, 0, 1, 1)


def test_every_box_is_an_object_of_its_own() -> None:
    first, second = asks(rectangle(10, 20, 30, 40, id="a"), rectangle(50, 50, 10, 10, id="b"))
    assert (first.prompt, first.origins) == (Drawing(box=Box(80, 120, 320, 360)), ("a",))
    assert (second.prompt, second.origins) == (Drawing(box=Box(400, 300, 480, 360)), ("b",))
    assert first.target.rotation == 270


def test_clicks_go_to_the_box_they_lie_in_or_are_nearest_to() -> None:
    first, second = asks(
        keypoint(15, 15, id="in the small one"),
        rectangle(0, 0, 50, 50, id="large"),
        keypoint(80, 45, id="beside the large one", is_positive=False),
        rectangle(10, 10, 10, 10, id="small"),
        keypoint(40, 40, id="in the large one"),
    )
    assert first.origins == ("large", "beside the large one", "in the large one")
    assert first.prompt == Drawing((Point(640, 270, positive=False), Point(320, 240)), Box(0, 0, 400, 300))
    assert second.origins == ("in the small one", "small")
    assert second.prompt == Drawing((Point(120, 90),), Box(80, 60, 160, 120))


percent = st.floats(-20, 120)
sizes = st.tuples(st.integers(1, 20_000), st.integers(1, 20_000))


@given(percent, percent, sizes)
def test_a_click_is_its_share_of_the_real_size(x: float, y: float, size: tuple[int, int]) -> None:
    (ask,) = asks(keypoint(x, y, original_width=7, original_height=7), size=size)
    assert isinstance(ask.prompt, Drawing)
    (point,) = ask.prompt.points
    assert (point.x / size[0], point.y / size[1]) == pytest.approx((x / 100, y / 100))


@given(percent, percent, st.floats(0.01, 100), st.floats(0.01, 100), st.floats(-720, 720), sizes)
def test_a_turned_box_is_the_upright_box_around_it(
    x: float, y: float, width: float, height: float, rotation: float, size: tuple[int, int]
) -> None:
    """Against complex numbers: it turns clockwise about its top left corner, in pixels, y pointing down."""
    (ask,) = asks(rectangle(x, y, width, height, rotation=rotation), size=size)
    assert isinstance(ask.prompt, Drawing)
    assert ask.prompt.box is not None
    per_x, per_y = size[0] / 100, size[1] / 100
    turn = complex(math.cos(math.radians(rotation)), math.sin(math.radians(rotation)))
    corners = [
        complex(x * per_x, y * per_y) + turn * complex(dx * width * per_x, dy * height * per_y)
        for dx in (0, 1)
        for dy in (0, 1)
    ]
    xs, ys = [corner.real for corner in corners], [corner.imag for corner in corners]
    assert ask.prompt.box.xyxy == pytest.approx((min(xs), min(ys), max(xs), max(ys)), abs=1e-6 * max(size))


def test_a_quarter_turn_puts_a_box_to_the_left_of_its_corner() -> None:
    (ask,) = asks(rectangle(50, 50, 10, 20, rotation=90))
    assert isinstance(ask.prompt, Drawing)
    assert ask.prompt.box is not None
    assert ask.prompt.box.xyxy == pytest.approx((400 - 120, 300, 400, 380))


# ---- tags without labels -----------------------------------------------------------------------------------------


def test_plain_tags_send_shape_and_label_apart() -> None:
    first, second = keypoint(25, 50, id="a"), keypoint(50, 50, id="b", is_positive=False)
    (ask,) = asks(*plain(first), *plain(second), config=PLAIN)
    assert ask.prompt == Drawing((Point(200, 300), Point(400, 300, positive=False)))
    assert (ask.target.control.name, ask.target.control.labeler) == ("outline", "label")
    assert (ask.target.label, ask.origins, ask.candidates) == ("Circle", ("a", "b"), 2)


def test_plain_boxes() -> None:
    (ask,) = asks(*plain(rectangle(10, 20, 30, 40)), config=PLAIN)
    assert ask.prompt == Drawing(box=Box(80, 120, 320, 360))


def test_a_plain_box_shows_a_concept_where_its_label_says_so() -> None:
    (ask,) = asks(*plain(rectangle(10, 20, 30, 40), "Square"), config=PLAIN)
    assert ask.prompt == Concept(exemplars=(Exemplar(Box(80, 120, 320, 360)),))
    assert ask.target.label == "Square"


@pytest.mark.parametrize("alone", [0, 1])
def test_one_of_the_two_is_enough_when_it_has_shape_and_label(alone: int) -> None:
    region = plain(keypoint(25, 50))[alone]
    region["value"]["labels"] = ["Circle"]
    (ask,) = asks(region, config=PLAIN)
    assert (ask.prompt, ask.target.label) == (Drawing((Point(200, 300),)), "Circle")
    (ask,) = asks(plain(rectangle(10, 20, 30, 40))[1], config=PLAIN)
    assert ask.prompt == Drawing(box=Box(80, 120, 320, 360))


# ---- exemplars ---------------------------------------------------------------------------------------------------

SHOWING = tags(
    control(
        "RectangleLabels", "like", '<Label value="Circle"/><Label value="One" exemplar="false"/>', 'exemplar="true"'
    ),
    control("RectangleLabels", "unlike", '<Label value="Circle" prompt="disc"/>', 'exemplar="negative"'),
    control(
        "BrushLabels",
        "brush",
        '<Label value="Circle" prompt="ball" negative_prompt="bell" threshold="0.2"/><Label value="One"/>',
    ),
)


def test_exemplars_of_a_label_are_one_concept_without_phrases() -> None:
    (ask,) = asks(
        rectangle(10, 20, 30, 40, from_name="like", id="a"),
        rectangle(50, 50, 10, 10, from_name="like", id="b"),
        config=SHOWING,
    )
    boxes = (Exemplar(Box(80, 120, 320, 360)), Exemplar(Box(400, 300, 480, 360)))
    assert ask.prompt == Concept((), boxes, negatives=("bell",), rules=Rules(threshold=0.2))
    assert (ask.target.control.name, ask.target.label, ask.origins) == ("brush", "Circle", ("a", "b"))


def test_negative_exemplars_and_the_phrase_of_the_label_they_are_drawn_with() -> None:
    like, unlike = rectangle(10, 20, 30, 40, from_name="like"), rectangle(50, 50, 10, 10, from_name="unlike")
    (ask,) = asks(like, unlike, config=SHOWING)
    boxes = (Exemplar(Box(80, 120, 320, 360)), Exemplar(Box(400, 300, 480, 360), positive=False))
    assert ask.prompt == Concept(("disc",), boxes, negatives=("bell",), rules=Rules(threshold=0.2))
    (ask,) = asks(unlike, config=SHOWING)
    assert ask.prompt == Concept(("disc",), boxes[1:], negatives=("bell",), rules=Rules(threshold=0.2))
    with pytest.raises(InvalidPrompt, match="draw a box around one"):
        asks(unlike, config=SHOWING.replace('prompt="disc"', ""))


def test_the_label_may_say_other_than_its_tag() -> None:
    (ask,) = asks(rectangle(10, 20, 30, 40, from_name="like", label="One"), config=SHOWING)
    assert ask.prompt == Drawing(box=Box(80, 120, 320, 360))


# ---- where the answer goes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outputs", "filled"),
    [
        (("RectangleLabels:r", "BrushLabels:b", "PolygonLabels:p"), "r"),
        (("PolygonLabels:p", "BrushLabels:b"), "p"),
        (("BitmaskLabels:m", "PolygonLabels:p"), "m"),
        (("RectangleLabels:box", "PolygonLabels:p", "BrushLabels:b"), "p"),
        (("RectangleLabels:box",), "box"),
    ],
)
def test_the_first_control_that_has_the_label_is_filled_the_one_drawn_with_last(
    outputs: tuple[str, ...], filled: str
) -> None:
    other = control("PolygonLabels", "other", '<Label value="Square"/>')
    config = tags(other, *(control(*output.split(":")) for output in outputs))
    (ask,) = asks(rectangle(10, 20, 30, 40), config=config)
    assert (ask.target.control.name, ask.target.label) == (filled, "Circle")


@pytest.mark.parametrize(
    ("text", "candidates"),
    [("3", 3), (" 2 ", 2), ("1", 1), ("4", 1), ("0", 1), ("-1", 1), ("many", 1), ("", 1), ("2.0", 1), ("²", 1)],
)
def test_candidates(text: str, candidates: int, caplog: pytest.LogCaptureFixture) -> None:
    read_plan.cache_clear()
    tool = control("KeyPointLabels", "kp", attributes=f'candidates="{text}"')
    (ask,) = asks(keypoint(25, 50), config=tags(tool, control("BrushLabels", "b")))
    assert ask.candidates == candidates
    assert (f'kp: candidates="{text}" is not 1, 2 or 3' in caplog.text) == (text.strip() not in ("1", "2", "3"))


# ---- images and pages --------------------------------------------------------------------------------------------

TWO_IMAGES = f"""
<View>
  <Image name="left" valueList="$pages"/><Image name="right" value="$image"/><Image name="bare" value="$bare"/>
  <BrushLabels name="brush" toName="left,right">{LABELS}</BrushLabels>
  <KeyPointLabels name="kp" toName="left,right,bare" smart="true">{LABELS}</KeyPointLabels>
</View>
"""


def test_only_the_newest_prompts_image_and_page_are_looked_at() -> None:
    (ask,) = asks(
        keypoint(1, 1, to_name="right"),
        keypoint(2, 2, to_name="left", item_index=1),
        keypoint(3, 3, to_name="left", item_index=2),
        keypoint(4, 4, to_name="left", item_index=1),
        keypoint(5, 5, to_name="bare"),
        config=TWO_IMAGES,
        size=(100, 100),
    )
    assert ask.prompt == Drawing((Point(2, 2), Point(4, 4)))
    assert (ask.target.source.name, ask.target.page) == ("left", 1)


def test_the_first_page_may_go_without_a_number() -> None:
    (ask,) = asks(keypoint(1, 1), keypoint(2, 2, item_index=0), size=(100, 100))
    assert ask.prompt == Drawing((Point(1, 1), Point(2, 2)))


def test_the_place_of_a_prompt() -> None:
    plan = read_plan(TWO_IMAGES)
    known, unknown = keypoint(1, 1, to_name="left", item_index=3), keypoint(1, 1, to_name="bare")

    def place(*regions: dict[str, Any]) -> Place | None:
        return find_place([convert(ContextRegion, region) for region in regions], plan)

    assert place(known, unknown) == Place(plan.sources[0], 3)
    assert place({"type": "choices", "to_name": "left", "value": {"choices": ["good"]}}) is None
    assert place(text("", " ; ", to_name="left")) is None
    assert place() is None
    with pytest.raises(InvalidPrompt, match="'bare', which is no image"):
        place(unknown)


def test_other_regions_are_no_prompt() -> None:
    relation = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}
    polygon = {"type": "labels", "to_name": "image", "value": {"points": [[1, 1]], "labels": ["Circle"]}}
    assert asks({"type": "choices", "to_name": "image", "value": {"choices": ["x"]}}, relation, polygon) == []


# ---- text --------------------------------------------------------------------------------------------------------

WORDS = tags(
    control(
        "PolygonLabels",
        "outline",
        '<Label value="Passenger_Car" predicted_values="car, auto" prompt="sedan; estate" negative_prompt="toy"'
        ' threshold="0.25"/><Label value="p" alias="Person"/><Label value="car_1"/><Label value="car_2"/>',
    ),
    control("BrushLabels", "brush", '<Label value="Person" prompt="somebody"/><Label value="Sky"/>'),
    '<TextArea name="prompt" toName="image"/>',
)


@pytest.mark.parametrize(
    ("typed", "label", "phrases"),
    [
        ("Passenger_Car", "Passenger_Car", ("sedan", "estate")),
        ("passenger  car", "Passenger_Car", ("sedan", "estate")),
        ("PASSENGER CAR", "Passenger_Car", ("sedan", "estate")),
        ("Auto", "Passenger_Car", ("Auto",)),
        ("car", "car_1", ("car",)),
        ("car_2", "car_2", ("car",)),
        ("Sedan", "Passenger_Car", ("Sedan",)),
        ("person", "Person", ("person",)),
        ("P", "Person", ("person",)),
        ("sky", "Sky", ("sky",)),
        ("rusty bolt", "Passenger_Car", ("rusty bolt",)),
        ("汽车", "Passenger_Car", ("汽车",)),
    ],
)
def test_typed_text_goes_to_the_label_it_names_or_the_first(typed: str, label: str, phrases: tuple[str, ...]) -> None:
    (ask,) = asks(text(typed), config=WORDS)
    assert isinstance(ask.prompt, Concept)
    assert (ask.target.label, ask.prompt.phrases) == (label, phrases)
    rules = (("toy",), 0.25) if label == "Passenger_Car" else ((), None)
    assert (ask.prompt.negatives, ask.prompt.rules.threshold) == rules
    assert ask.target.control.name == ("brush" if label == "Sky" else "outline")


@pytest.mark.parametrize("rows", [("sky; person",), ("sky", "person"), ("sky\nperson",), (" ;sky;; ", "", "person;")])
def test_phrases_of_two_labels_are_two_asks(rows: tuple[str, ...]) -> None:
    first, second = asks(text(*rows), config=WORDS)
    assert (first.target.label, second.target.label) == ("Sky", "Person")
    assert first.origins == ("S9TF3qmWtE",)


def test_phrases_of_one_label_are_synonyms() -> None:
    first, second = asks(text("rusty bolt; sky; Passenger_Car", "rusty  bolt; auto"), config=WORDS)
    rules = Rules(threshold=0.25)
    assert first.prompt == Concept(("rusty bolt", "sedan", "estate", "auto"), negatives=("toy",), rules=rules)
    assert second.target.label == "Sky"


@pytest.mark.parametrize("attributes", ['smart="false"', 'perRegion="true"'])
def test_notes_are_no_prompts(attributes: str) -> None:
    """The editor sends the text of every TextArea on the image along with a typed prompt."""
    config = WORDS.replace("</View>", f'<TextArea name="note" toName="image" {attributes}/></View>')
    note = text("look at this again", from_name="note")
    assert asks(note, config=config) == []
    (ask,) = asks(text("sky"), note, config=config)
    assert ask.prompt == Concept(("sky",))


def test_too_many_phrases_are_refused() -> None:
    with pytest.raises(InvalidPrompt, match="65 phrases"):
        asks(text(";".join(map(str, range(65)))))


# ---- what cannot be used -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "region",
    [
        keypoint(25, 50, label="Other"),
        keypoint(25, 50, to_name="elsewhere"),
        keypoint(25, 50, value={"x": 25, "y": 50}),
        keypoint(25, 50, value={"x": 25, "y": 50, "labels": [7], "keypointlabels": "Circle"}),
        keypoint(25, 50, value={"x": "25", "y": 50, "labels": ["Circle"]}),
        keypoint(25, 50, value={"x": True, "y": 50, "labels": ["Circle"]}),
        keypoint(25, 50, value={"y": 50, "labels": ["Circle"]}),
        keypoint(10**400, 50),
        keypoint(1e308, 50),
        rectangle(10, 20, 0, 40),
        rectangle(10, 20, 1e308, 40),
        rectangle(10, 20, 30, 40, rotation=10**400),
        rectangle(10, 20, 30, 40, rotation=[]),
        text("sky", to_name="elsewhere"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(region: dict[str, Any]) -> None:
    with pytest.raises(InvalidPrompt, match=r"^[^\n]+$"):
        asks(region)


odd = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
values = odd | st.just(10**400) | st.lists(odd, max_size=2) | st.just(["Circle"]) | st.just(["Any_Thing"])
prompt_regions = st.fixed_dictionaries(
    {"type": st.sampled_from(["keypointlabels", "rectanglelabels", "textarea", "keypoint", "rectangle", "labels"])},
    optional={
        "id": st.sampled_from(["", "a", "b"]),
        "to_name": st.just("image"),
        "from_name": st.sampled_from(["kp", "box", "label", "nothing"]),
        "is_positive": st.none() | st.booleans(),
        "item_index": st.none() | st.integers(0, 2),
        "image_rotation": st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        "value": st.dictionaries(
            st.sampled_from(
                ["x", "y", "width", "height", "rotation", "labels", "keypointlabels", "rectanglelabels", "text"]
            ),
            values,
        ),
    },
)


@given(st.lists(prompt_regions, max_size=4), st.sampled_from([CONFIG, PLAIN, SHOWING]))
def test_any_context_is_asks_or_a_sentence(regions: list[dict[str, Any]], config: str) -> None:
    sentence = ""
    try:
        for ask in asks(*regions, config=config):
            assert ask.target.control.label(ask.target.label)
    except InvalidPrompt as error:
        sentence = str(error)
    assert "\n" not in sentence


# ---- through the door --------------------------------------------------------------------------------------------


def centre(item: SceneObject, scene: Scene) -> tuple[float, float]:
    """A pixel of the object, in percent."""
    rows, columns = item.mask.nonzero()
    middle = len(rows) // 2
    return (columns[middle] + 0.5) * 100 / scene.width, (rows[middle] + 0.5) * 100 / scene.height


@pytest.mark.parametrize("region", [keypoint(25, 50, label="Other"), keypoint(25, 50, is_positive=False)])
def test_what_cannot_be_used_is_an_empty_answer_and_a_line_in_the_log(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene], region: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    image = data_url(oracle.add(scenes[0]))
    body = predict_body([{"id": 5, "data": {"image": image}}], CONFIG, {"result": [region]})
    (prediction,) = client.post("/predict", json=body).json["results"]
    problem = prediction.pop("meta")["problem"]
    assert prediction == EMPTY
    assert f"task 5: {problem}" in caplog.text


@pytest.mark.parametrize("context", [{"result": []}, {"event": "prewarm"}])
def test_an_empty_context_is_answered_without_looking(
    client: FlaskClient, oracle: SceneSegmenter, context: dict[str, Any]
) -> None:
    body = predict_body([{"id": 1, "data": {"image": "http://127.0.0.1:9/a.png"}}], CONFIG, context)
    assert client.post("/predict", json=body).json == {"results": [EMPTY]}
    assert oracle.calls == 0


def ask(client: FlaskClient, image: object, region: dict[str, Any]) -> list[dict[str, Any]]:
    body = predict_body([{"id": 1, "data": {"image": image}}], CONFIG, {"result": [region]})
    (prediction,) = client.post("/predict", json=body).json["results"]
    return list(prediction["result"])


def test_a_click_outlines_the_object_under_it(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    scene = scenes[0]
    x, y = centre(scene.objects[0], scene)
    region = keypoint(x, y)
    (found,) = ask(client, data_url(oracle.add(scene)), region)
    assert (found["type"], found["value"]["brushlabels"], found["score"]) == ("brushlabels", ["Circle"], 0.9)
    assert (found["original_width"], found["original_height"]) == (scene.width, scene.height)


def test_a_config_of_tags_without_labels(client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    """In a batch and for a click: a polygon and its label for each object."""
    image = data_url(oracle.add(scenes[0]))
    x, y = centre(scenes[0].objects[0], scenes[0])
    config = PLAIN.replace('value="Circle"', 'value="Circle" prompt="object"').replace('candidates="2"', "")
    (batch,) = client.post("/predict", json=predict_body([{"id": 1, "data": {"image": image}}], config)).json[
        "results"
    ]
    assert len(batch["result"]) >= 2 * len(scenes[0].objects)
    body = predict_body([{"id": 1, "data": {"image": image}}], config, {"result": plain(keypoint(x, y))})
    (clicked,) = client.post("/predict", json=body).json["results"]
    for prediction in (batch, clicked):
        kinds = [(region["type"], region["from_name"]) for region in prediction["result"]]
        assert kinds == [("polygon", "outline"), ("labels", "label")] * (len(kinds) // 2)
    shape, label = clicked["result"]
    assert shape["id"] == label["id"]
    assert label["value"] == shape["value"] | {"labels": ["Circle"]}


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
    region = keypoint(x, y, item_index=1)
    (found,) = ask(client, pages, region)
    assert found["item_index"] == 1
    assert found["original_width"] == scene.width
    assert ask(client, pages, region | {"item_index": 9}) == []
