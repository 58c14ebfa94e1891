"""Options: every name in every layer, who wins, what is wrong, and that the answer changes."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import msgspec
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from request_bodies import CONFIG, data_url, keypoint, predict_body, rectangle, text
from scene_segmenter import VERSION, SceneSegmenter, score_of

from backend.app import create_app
from backend.bodies import ContextRegion, PredictParams, convert
from backend.extra_params import read_extra
from backend.labeling import Label, Plan, read_plan, resolve_plan
from backend.prompts import find_place, read_asks
from backend.settings import BackendSettings
from sam3_core import Concept, ConceptResult, FindOptions
from sam3_core.choices import OPEN, OPTIONS, Choices, read_choices
from sam3_core.demo.scenes import Scene, render_scene
from sam3_core.engine import LocalSegmenter
from sam3_core.finish import Fineness, Finish, Holes, Parts
from sam3_core.rules import Area, Rules, Tiling

VALUES: dict[str, list[tuple[str, object]]] = {
    "threshold": [("0", 0.0), ("0.35", 0.35), (" 1 ", 1.0), ("1e-1", 0.1)],
    "presence": [("0.2", 0.2), ("0.7", 0.7)],
    "min_area": [("0", Area(0)), ("400", Area(400)), ("400 px", Area(400)), ("0.5%", Area(0.005, relative=True))],
    "max_area": [("90000px", Area(90_000)), ("50 %", Area(0.5, relative=True))],
    "max_instances": [("1", 1), ("20", 20)],
    "top_k": [("0", 0), ("3", 3)],
    "allow_overlap": [("true", True), ("False", False)],
    "fineness": [("low", Fineness.LOW), ("Medium", Fineness.MEDIUM), ("high", Fineness.HIGH)],
    "min_iou": [("0.9", 0.9), ("0.995", 0.995)],
    "max_vertices": [("0", 0), ("4", 4), ("100", 100)],
    "holes": [("bridged", Holes.BRIDGED), ("FILLED", Holes.FILLED)],
    "parts": [("all", Parts.ALL), ("largest", Parts.LARGEST)],
    "tiles": [("off", Tiling.OFF), ("auto", Tiling.AUTO), ("on", Tiling.ON)],
}
WRONG: dict[str, list[str]] = {
    "threshold": ["", "high", "nan", "inf", "-0.1", "1.01", "0,5"],
    "presence": ["2", "none"],
    "min_area": ["", "-1", "small", "101%", "1e9", "5 cm", "1 %%", "9" * 400],
    "max_area": ["-5%", "inf"],
    "max_instances": ["0", "-1", "2.5", "many", "9" * 5000],
    "top_k": ["-1", "0.5", ""],
    "allow_overlap": ["yes", "1", ""],
    "fineness": ["fine", "2", ""],
    "min_iou": ["98", "98%", "-1"],
    "max_vertices": ["3", "-4", "1.5"],
    "holes": ["true", "bridge"],
    "parts": ["one", ""],
    "tiles": ["true", "3x3"],
}
OF_LABELS = [name for name in OPTIONS if name != "tiles"]
Layer = Mapping[str, tuple[str, object]]  # by name: how it is written, and what it means


def layers(names: Sequence[str] = tuple(OPTIONS)) -> st.SearchStrategy[Layer]:
    return st.fixed_dictionaries({}, optional={name: st.sampled_from(VALUES[name]) for name in names})


def written(layer: Layer) -> dict[str, str]:
    return {name: said for name, (said, _) in layer.items()}


def attributes(layer: Layer) -> str:
    return " ".join(f"{name}={quoteattr(said)}" for name, said in written(layer).items())


def as_meant(*most_special_first: Layer) -> dict[str, object]:
    """What holds: written without the product's own way of putting layers over each other."""
    found: dict[str, object] = {}
    for layer in most_special_first:
        for name, (_, meaning) in layer.items():
            found.setdefault(name, meaning)
    return found


def chosen(label: Label, tiles: Tiling | None) -> dict[str, object]:
    """What was resolved for a label, by the option's name. ``min_area`` is in the rules and in the finish."""
    found = {name: getattr(label.concept.rules, name) for name in ("threshold", "presence", "min_area", "max_area")}
    found |= {name: getattr(label.concept.rules, name) for name in ("max_instances", "top_k")}
    found |= {"allow_overlap": label.concept.rules.overlap, "tiles": tiles}
    found |= {name: getattr(label.finish, name) for name in ("fineness", "min_iou", "max_vertices", "holes", "parts")}
    assert label.finish.min_area == label.concept.rules.min_area
    return {name: value for name, value in found.items() if value is not None}


def test_every_option_is_tested_and_read_from_bodies() -> None:
    assert set(VALUES) == set(WRONG) == set(OPTIONS)
    assert {field.name for field in msgspec.structs.fields(PredictParams)} == {"context", *OPTIONS}


# ---- who wins ----------------------------------------------------------------------------------------------------


@given(layers(), layers(OF_LABELS), layers(OF_LABELS), layers(OF_LABELS), layers(), layers(), st.booleans())
def test_request_label_tag_image_tag_and_extra_parameters_win_in_this_order(
    request: Layer, label: Layer, tag: Layer, labels_tag: Layer, image: Layer, extra: Layer, plain: bool
) -> None:
    own, other = f"<Label value='car' {attributes(label)}/>", "<Label value='bus'/>"
    body = (
        f"<Labels name='l' toName='image' {attributes(labels_tag)}>{own}{other}</Labels>"
        f"<Brush name='out' toName='image' {attributes(tag)}/>"
        if plain
        else f"<BrushLabels name='out' toName='image' {attributes(tag)}>{own}{other}</BrushLabels>"
    )
    config = f"<View><Image name='image' value='$image' {attributes(image)}/>{body}</View>"
    asked, wrong = read_choices(written(request))
    assert not wrong
    (source,) = resolve_plan(config, asked, read_extra("1", written(extra))).sources
    tags = (tag, labels_tag) if plain else (tag,)
    of_image = as_meant(*({"tiles": layer["tiles"]} for layer in (request, image, extra) if "tiles" in layer))
    assert chosen(source.labels[0], source.tiles) == as_meant(request, label, *tags, image, extra) | of_image
    assert chosen(source.labels[1], source.tiles) == as_meant(request, *tags, image, extra) | of_image


@given(layers(OF_LABELS))
def test_a_plan_is_not_changed_by_what_is_asked_under_it(asked: Layer) -> None:
    before = read_plan(CONFIG)
    known = str(before)
    under = before.under(read_choices(written(asked))[0])
    assert str(before) == known
    assert under.under() == before  # layers are kept apart: nothing of a request stays


@given(layers(), layers())
def test_layers_put_over_each_other_are_one_layer(special: Layer, general: Layer) -> None:
    one, other = (read_choices(written(layer))[0] for layer in (special, general))
    assert one.over(other).chosen == as_meant(special, general)
    assert one.over(OPEN) == one
    assert OPEN.over(one) == one


# ---- what is wrong -----------------------------------------------------------------------------------------------

CASES = [(name, value) for name, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CASES)
@pytest.mark.parametrize("where", ["label", "tag", "image"])
def test_a_wrong_attribute_is_ignored_with_a_line_that_says_what_is_right(
    name: str, value: str, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    said = dict.fromkeys(("label", "tag", "image"), "")
    said[where] = f"{name}={quoteattr(value)} " + ('holes="filled"' if name == "parts" else 'parts="largest"')
    (source,) = read_plan(
        f"<View><Image name='image' value='$image' {said['image']}/>"
        f"<PolygonLabels name='out' toName='image' {said['tag']}><Label value='car' {said['label']}/></PolygonLabels>"
        "</View>"
    ).sources
    kept: dict[str, object] = {"holes": Holes.FILLED} if name == "parts" else {"parts": Parts.LARGEST}
    assert chosen(source.labels[0], source.tiles) == kept
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    line = record.getMessage()
    assert line.startswith({"label": "label 'car': ", "tag": "out: ", "image": "image: "}[where] + name + '="')
    right = "whole images" if name == "tiles" and where != "image" else OPTIONS[name].wanted
    assert right in line
    assert len(line) < 300


def test_tiles_are_for_whole_images(caplog: pytest.LogCaptureFixture) -> None:
    config = (
        "<View><Image name='image' value='$image'/><BrushLabels name='out' toName='image' tiles='on'>"
        "<Label value='a' tiles='on'/></BrushLabels></View>"
    )
    assert read_plan(config).sources[0].tiles is None
    assert sum("whole images, not for one label" in record.getMessage() for record in caplog.records) == 2


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({"threshold": 1}, Choices(Rules(threshold=1.0))),
        ({"threshold": 0.25, "top_k": 2.0}, Choices(Rules(threshold=0.25, top_k=2))),
        ({"min_area": 400}, Choices(Rules(min_area=Area(400)), Finish(min_area=Area(400)))),
        ({"max_area": 12.5}, Choices(Rules(max_area=Area(12.5)))),
        ({"allow_overlap": False}, Choices(Rules(overlap=False))),
        ({"fineness": "low", "tiles": "on"}, Choices(finish=Finish(fineness=Fineness.LOW), tiles=Tiling.ON)),
        ({"threshold": None, "login": None, "x": 5}, OPEN),
    ],
)
def test_json_has_numbers_and_truth_values(given: dict[str, object], chosen: Choices) -> None:
    assert read_choices(given) == (chosen, [])


@pytest.mark.parametrize(
    "given",
    [
        {"threshold": True},
        {"threshold": [0.5]},
        {"threshold": {}},
        {"top_k": False},
        {"top_k": 0.5},
        {"max_instances": 1e308 * 10},
        {"allow_overlap": 1},
        {"fineness": 2},
        {"holes": None, "min_area": ["400"]},
    ],
)
def test_other_json_is_wrong(given: dict[str, object]) -> None:
    choices, (sentence,) = read_choices(given)
    assert choices == OPEN
    assert "\n" not in sentence


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
anything = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=5), scalars, max_size=3)


@given(st.dictionaries(st.sampled_from(list(OPTIONS)), anything))
def test_anything_is_chosen_or_wrong(given: dict[str, object]) -> None:
    choices, wrong = read_choices(given)
    asked = {name for name, value in given.items() if value is not None}
    assert len(choices.chosen) + len(wrong) == len(asked)
    assert set(choices.chosen) <= asked


HOSTILE = [
    "&quot;",
    "&#0;",
    "&#x110000;",
    "&bomb;",
    "<",
    "]]>",
    "\x00",
    "\ud800",
    "$image",
    "🚗" * 1000,
    "9" * 99_999,
]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("tag", ["Image", "PolygonLabels", "Label"])
def test_a_config_with_hostile_options_is_a_plan_or_has_a_reason(value: str, tag: str) -> None:
    said = " ".join(f'{name}="{value}"' for name in OPTIONS)
    config = (
        '<View><Image name="image" value="$image"/><PolygonLabels name="p" toName="image"><Label value="a"/>'
        "</PolygonLabels></View>"
    ).replace(f"<{tag} ", f"<{tag} {said} ")
    plan = resolve_plan(config)
    assert isinstance(plan, Plan)
    assert bool(plan.sources) != bool(plan.problem)
    for source in plan.sources:
        assert chosen(source.labels[0], source.tiles) == {}


# ---- the same words, other choices -------------------------------------------------------------------------------


def outlines(labels: str) -> str:
    return f'<PolygonLabels name="p" toName="image">{labels}</PolygonLabels>'


def the_plan(body: str) -> Plan:
    return read_plan(f'<View><Image name="image" value="$image"/>{body}</View>')


def test_labels_that_differ_only_in_how_they_are_drawn_are_searched_once() -> None:
    (source,) = the_plan(
        '<PolygonLabels name="p" toName="image" fineness="low"><Label value="car"/></PolygonLabels>'
        '<BrushLabels name="b" toName="image" fineness="high"><Label value="car"/></BrushLabels>'
    ).sources
    assert source.concepts == (Concept(("car",)),)
    assert [control.labels[0].finish.fineness for control in source.controls] == [Fineness.LOW, Fineness.HIGH]


def test_labels_with_other_rules_are_searched_each_by_its_own() -> None:
    (source,) = the_plan(outlines('<Label value="car"/><Label value="auto" prompt="car" threshold="0.9"/>')).sources
    assert source.concepts == (Concept(("car",)), Concept(("car",), rules=Rules(threshold=0.9)))


# ---- through the server ------------------------------------------------------------------------------------------


class Ear:
    """What the segmenter was asked, in place of its ``find``."""

    def __init__(self, oracle: SceneSegmenter) -> None:
        self.heard: list[tuple[Sequence[Concept], FindOptions | None]] = []
        self._find = oracle.find
        oracle.find = self  # type: ignore[method-assign, assignment]

    def __call__(
        self, image: Any, concepts: Sequence[Concept], options: FindOptions | None = None, **more: Any
    ) -> list[ConceptResult]:
        self.heard.append((concepts, options))
        return self._find(image, concepts, options, **more)


@pytest.fixture
def scene(scenes: list[Scene]) -> Scene:
    return scenes[0]


@pytest.fixture
def task(oracle: SceneSegmenter, scene: Scene) -> dict[str, Any]:
    return {"id": 1, "data": {"image": data_url(oracle.add(scene))}}


def predict(
    client: FlaskClient, task: dict[str, Any], config: str = CONFIG, **params: object
) -> list[dict[str, Any]]:
    body = predict_body([task], config)
    body["params"] |= params
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    return list(answer.json["results"][0]["result"])


def setup(client: FlaskClient, extra: object, project: str = "1.1795263632") -> None:
    body = {"project": project, "schema": CONFIG, "hostname": "", "access_token": "", "extra_params": extra}
    answer = client.post("/setup", json=body)
    assert (answer.status_code, answer.json) == (200, {"model_version": VERSION})


def middle(scene: Scene) -> float:
    """A threshold that some objects of the scene reach and others do not."""
    scores = sorted(score_of(item) for item in scene.objects)
    return (scores[0] + scores[-1]) / 2


def test_a_request_chooses_for_itself_alone(client: FlaskClient, task: dict[str, Any], scene: Scene) -> None:
    every = predict(client, task)
    assert len(every) == len(scene.objects)
    some = predict(client, task, threshold=middle(scene))
    assert 0 < len(some) < len(every)
    assert [region["score"] >= middle(scene) for region in some] == [True] * len(some)
    assert predict(client, task, threshold="0.99") == []
    assert predict(client, task) == every
    strict = CONFIG.replace("<Label ", '<Label threshold="0.99" ')
    assert predict(client, task, strict) == []
    assert predict(client, task, strict, threshold=0.1) == every


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"threshold": "high"}, 'threshold="high" is not a number between 0 and 1'),
        ({"threshold": 1.5}, 'threshold="1.5" is not a number between 0 and 1'),
        ({"threshold": [0.5]}, "$.params.threshold"),
        ({"top_k": {"a": 1}}, "$.params.top_k"),
        ({"parts": "some", "tiles": "on"}, 'parts="some" is not all or largest'),
        ({"tiles": True}, "off, auto or on"),
        ({"max_instances": 0}, "a whole number from 1"),
    ],
)
@pytest.mark.parametrize("context", [None, {"result": []}])
def test_a_wrong_choice_of_a_request_is_a_400_sentence(
    client: FlaskClient, task: dict[str, Any], params: dict[str, Any], named: str, context: dict[str, Any] | None
) -> None:
    body = predict_body([task], context=context)
    body["params"] |= params
    answer = client.post("/predict", json=body)
    assert (answer.status_code, list(answer.json)) == (400, ["error", "kind", "request_id"])
    assert named in answer.json["error"]
    assert "\n" not in answer.json["error"]


def test_what_else_a_request_says_is_skipped(client: FlaskClient, task: dict[str, Any], scene: Scene) -> None:
    assert len(predict(client, task, login="me", colour=[1], Threshold=7)) == len(scene.objects)


@pytest.mark.parametrize("written", [lambda extra: extra, json.dumps])
def test_extra_parameters_hold_for_their_project(
    client: FlaskClient, task: dict[str, Any], scene: Scene, written: Any
) -> None:
    every = predict(client, task)
    setup(client, written({"threshold": 0.99}), project="2.1795263632")
    assert predict(client, task) == every
    setup(client, written({"threshold": 0.99}))
    assert predict(client, task) == []
    assert predict(client, task, CONFIG.replace("<Image ", '<Image threshold="0.1" ')) == every
    assert predict(client, task, threshold=0.1) == every
    setup(client, written({"threshold": middle(scene)}))
    assert 0 < len(predict(client, task)) < len(every)
    setup(client, None)
    assert predict(client, task) == every


def test_unknown_extra_parameters_are_named_once_and_the_others_hold(
    client: FlaskClient, task: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):  # Label Studio calls /setup each time that it looks whether we are there
        setup(client, {"treshold": 0.2, "threshold": 0.99, "fineness": "finest"}, project="3.1")
    lines = [record.getMessage() for record in caplog.records if "extra" in record.getMessage()]
    assert len(lines) == 2
    assert 'fineness="finest" is not low, medium or high' in lines[0]
    assert '"treshold" is unknown' in lines[1]
    assert all(name in lines[1] for name in OPTIONS)
    body = predict_body([task]) | {"project": "3.1"}
    assert client.post("/predict", json=body).json["results"][0]["result"] == []


@pytest.mark.parametrize("extra", ["not json", "[1]", [1], 5, "5", "[" * 100_000, {"a": {"b": []}}, True])
def test_extra_parameters_that_are_no_choices_change_nothing(
    client: FlaskClient, task: dict[str, Any], scene: Scene, extra: object, caplog: pytest.LogCaptureFixture
) -> None:
    read_extra.__globals__["_read_extra"].cache_clear()  # a line is only logged once
    setup(client, extra)
    assert "extra parameters" in caplog.text
    assert len(predict(client, task)) == len(scene.objects)


def test_typed_text_and_exemplars_follow_the_label_and_the_request(
    client: FlaskClient, oracle: SceneSegmenter, task: dict[str, Any]
) -> None:
    config = """
    <View><Image name="image" value="$image"/>
    <BrushLabels name="b" toName="image" top_k="2"><Label value="Circle" presence="0.4"/></BrushLabels>
    <RectangleLabels name="box" toName="image" exemplar="true"><Label value="Circle"/></RectangleLabels>
    <TextArea name="prompt" toName="image"/></View>"""
    setup(client, {"max_instances": 7, "top_k": 9})
    for prompt in (text("red thing"), rectangle(10, 10, 30, 30)):
        ear = Ear(oracle)
        predict(client, task, config, context={"result": [prompt]}, threshold=0.3)
        ((concept,), _) = ear.heard[0]
        assert concept.rules == Rules(threshold=0.3, presence=0.4, max_instances=7, top_k=2)
    setup(client, None)


def test_what_is_clicked_is_drawn_as_its_label_says() -> None:
    plan = the_plan(
        '<BrushLabels name="p" toName="image" parts="largest"><Label value="Circle" fineness="low"/></BrushLabels>'
        '<KeyPointLabels name="kp" toName="image" fineness="high"><Label value="Circle"/></KeyPointLabels>'
    ).under(read_choices({"max_vertices": 9})[0])
    regions = [convert(ContextRegion, keypoint(25, 50))]
    place = find_place(regions, plan)
    assert place is not None
    (ask,) = read_asks(regions, place, plan, (100, 100))
    assert ask.target.finish == Finish(fineness=Fineness.LOW, parts=Parts.LARGEST, max_vertices=9)


def test_the_resolved_plan_is_told_once(
    client: FlaskClient, task: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = CONFIG.replace('value="circle"', 'value="circle" prompt="disc; ring" min_area="0.5%"')
    for _ in range(3):
        predict(client, task, config, threshold=0.123)
    (line,) = [record.getMessage() for record in caplog.records if "0.123" in record.getMessage()]
    assert "'circle': disc, ring, threshold=0.123, min_area=0.5%" in line


# ---- with real weights -------------------------------------------------------------------------------------------

THINGS = """
<View><Image name="image" value="$image"/>
  <BrushLabels name="loose" toName="image"><Label value="thing" prompt="object" threshold="0.2"/></BrushLabels>
  <BitmaskLabels name="strict" toName="image"><Label value="thing" prompt="object" threshold="0.6"/></BitmaskLabels>
</View>
"""


@pytest.fixture
def weights(segmenter: LocalSegmenter) -> FlaskClient:
    return create_app(BackendSettings(), segmenter).test_client()


@pytest.fixture
def photo() -> dict[str, Any]:
    return {"id": 1, "data": {"image": data_url(render_scene(501, objects=(3, 4), long_side=(300, 400)).encode())}}


def test_one_phrase_under_two_rules_fills_both(weights: FlaskClient, photo: dict[str, Any]) -> None:
    """The objects of one are not kept from the other: they ask the same."""
    together = predict(weights, photo, THINGS)
    for tag, other in (("loose", "strict"), ("strict", "loose")):
        alone = predict(weights, photo, THINGS.replace(f'"{other}" toName="image"', f'"{other}" toName="nothing"'))
        assert alone
        assert [region["score"] for region in together if region["from_name"] == tag] == [
            region["score"] for region in alone
        ]


@pytest.mark.parametrize(
    ("params", "left"),
    [
        ({"max_instances": 1}, 1),
        ({"min_area": "60%"}, 0),
        ({"max_area": 30}, 0),
        ({"presence": 1}, 0),
        ({"threshold": 1}, 0),
        ({"threshold": 1, "top_k": 2}, 2),
    ],
)
def test_rules_of_a_request_reach_the_model(
    weights: FlaskClient, photo: dict[str, Any], params: dict[str, Any], left: int
) -> None:
    config = THINGS.replace('threshold="0.2"', "").replace('threshold="0.6"', "")
    every = [region for region in predict(weights, photo, config) if region["from_name"] == "loose"]
    some = [region for region in predict(weights, photo, config, **params) if region["from_name"] == "loose"]
    assert len(every) > 2
    assert [region["score"] for region in some] == [region["score"] for region in every][:left]
