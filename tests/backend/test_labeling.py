"""Labeling configs to plans: what is filled, with which labels, and what the model is asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.labeling import Label, Output, Plan, read_plan
from sam3_core import Concept
from sam3_core.choices import OPTIONS
from sam3_core.finish import Fineness
from sam3_core.rules import Area, Rules, Tiling
from sam3_core.wording import readable


def config(body: str, image: str = '<Image name="image" value="$image"/>') -> str:
    return f"<View>{image}{body}</View>"


def labels(attributes: str, tag: str = "PolygonLabels") -> tuple[Label, ...]:
    plan = read_plan(config(f'<{tag} name="out" toName="image"><Label {attributes}/></{tag}>'))
    assert not plan.problem
    return plan.sources[0].controls[0].labels


@pytest.mark.parametrize(
    ("attributes", "value", "concept"),
    [
        ('value="Car"', "Car", Concept(("car",))),
        ('value="school_bus"', "school_bus", Concept(("school bus",))),
        ('value="SchoolBus"', "SchoolBus", Concept(("school bus",))),
        ('value="Car" alias="passenger car"', "passenger car", Concept(("passenger car",))),
        ('value="Car" prompt="red car"', "Car", Concept(("red car",))),
        ('value="Car" alias="c" prompt="Red Car; truck ;; red  car"', "c", Concept(("Red Car", "truck"))),
        ('value="Car" prompt=" ; "', "Car", Concept(("car",))),
        (
            'value="Car" negative_prompt="toy car; model car"',
            "Car",
            Concept(("car",), negatives=("toy car", "model car")),
        ),
        ('value="Car" threshold="0.25"', "Car", Concept(("car",), rules=Rules(threshold=0.25))),
        ('value="Car" threshold="1"', "Car", Concept(("car",), rules=Rules(threshold=1.0))),
        ('value="Car" threshold="high"', "Car", Concept(("car",))),
        ('value="Car" threshold="nan"', "Car", Concept(("car",))),
        ('value="Car" threshold="1.5"', "Car", Concept(("car",))),
        ('value="汽车"', "汽车", Concept(("汽车",))),
    ],
)
def test_a_label_and_what_is_looked_for(attributes: str, value: str, concept: Concept) -> None:
    (label,) = labels(attributes)
    assert (label.value, label.concept) == (value, concept)


def test_other_names_of_a_label() -> None:
    (label,) = labels('value="Car" alias="c" predicted_values="auto, , passenger car ,"')
    assert label == Label("c", Concept(("c",)), shown="Car", predicted=("auto", "passenger car"))


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("school_bus", "school bus"),
        ("SchoolBus", "school bus"),
        ("schoolBus", "school bus"),
        ("School-Bus_02", "school bus"),
        ("  Red   circle ", "red circle"),
        ("HTMLElement", "html element"),
        ("car_1", "car"),
        ("car#12", "car"),
        ("Car (2)", "car"),
        ("car [3]", "car"),
        ("formula 1", "formula 1"),
        ("Boeing 747", "boeing 747"),
        ("COVID-19", "covid-19"),
        ("x-ray", "x-ray"),
        ("_3", "3"),
        ("__", "__"),
    ],
)
def test_readable_names(name: str, phrase: str) -> None:
    assert readable(name) == phrase


@given(st.text(max_size=30))
def test_readable_never_fails_and_keeps_something(name: str) -> None:
    assert bool(readable(name)) == bool(name.strip())


SHAPES = ("Polygon", "Brush", "Rectangle", "Bitmask", "Ellipse", "Vector")


@pytest.mark.parametrize("tag", [*(f"{shape}Labels" for shape in SHAPES), "polygonlabels"])
def test_every_output_control(tag: str) -> None:
    plan = read_plan(config(f'<{tag} name="out" toName="image"><Label value="a"/></{tag}>'))
    (control,) = plan.sources[0].controls
    assert (control.name, control.output) == ("out", Output(tag.lower()))


def test_several_controls_share_their_concepts() -> None:
    body = "".join(
        f'<{tag} name="{tag}" toName="image"><Label value="car"/><Label value="bus" threshold="0.3"/></{tag}>'
        for tag in (f"{shape}Labels" for shape in SHAPES)
    )
    (source,) = read_plan(config(body)).sources
    assert [control.output for control in source.controls] == [Output(f"{shape.lower()}labels") for shape in SHAPES]
    assert source.concepts == (Concept(("car",)), Concept(("bus",), rules=Rules(threshold=0.3)))


def test_labels_may_be_nested_in_views() -> None:
    body = (
        '<BrushLabels name="out" toName="image"><View><Header value="Cars"/><Label value="car"/></View></BrushLabels>'
    )
    assert [label.value for label in read_plan(config(body)).sources[0].controls[0].labels] == ["car"]


def test_two_images_have_their_own_controls_and_one_control_may_have_both() -> None:
    plan = read_plan(
        '<View><Image name="a" value="$left"/><Image name="b" valueList="$pages"/>'
        '<PolygonLabels name="p" toName="a"><Label value="car"/></PolygonLabels>'
        '<BrushLabels name="q" toName="a, b"><Label value="dog"/></BrushLabels></View>'
    )
    assert [(s.name, s.key, [c.name for c in s.controls]) for s in plan.sources] == [
        ("a", "left", ["p", "q"]),
        ("b", "pages", ["q"]),
    ]


@pytest.mark.parametrize(
    ("said", "oriented"),
    [("", False), ('oriented="true"', True), ('oriented="TRUE"', True), ('oriented="no"', False)],
)
@pytest.mark.parametrize("shape", ["Rectangle", "Polygon", "Ellipse"])
def test_rectangles_alone_may_be_oriented(shape: str, said: str, oriented: bool) -> None:
    labels = '<Labels name="l" toName="image"><Label value="car"/></Labels>'
    own = f'<{shape}Labels name="a" toName="image" {said}><Label value="car"/></{shape}Labels>'
    plan = read_plan(config(f'{labels}{own}<{shape} name="b" toName="image" {said}/>'))
    found = {(control.name, control.oriented) for control in plan.sources[0].controls}
    assert found == {(name, oriented and shape == "Rectangle") for name in ("a", "b")}


ATTRIBUTES = [
    "smart", "smartOnly", "exemplar", "candidates", "prompt", "negative_prompt", "threshold", "predicted_values",
    "remember_prompt", "oriented", *OPTIONS,
]  # fmt: skip
TOOLS = ["KeyPointLabels", "RectangleLabels", "KeyPoint", "Rectangle", "TextArea"]
PROMPTS = '<KeyPointLabels name="k" toName="image" smart="true"><Label value="car"/></KeyPointLabels>'


@pytest.mark.parametrize(
    ("rectangle", "other", "outputs"),
    [
        ("", True, ["r", "b"]),
        ('smart="true"', True, ["b"]),
        ('smart="true"', False, ["r"]),
        ('smart="false"', True, ["r", "b"]),
        ('smartOnly="true"', True, ["b"]),
    ],
)
def test_boxes_for_prompting_are_not_filled(rectangle: str, other: bool, outputs: list[str]) -> None:
    body = f'{PROMPTS}<RectangleLabels name="r" toName="image" {rectangle}><Label value="car"/></RectangleLabels>'
    if other:
        body += '<BrushLabels name="b" toName="image" smart="true"><Label value="car"/></BrushLabels>'
    assert [control.name for control in read_plan(config(body)).sources[0].controls] == outputs


@pytest.mark.parametrize(
    ("tags", "outputs"),
    [
        ('<RectangleLabels name="a" {} smart="true"/><RectangleLabels name="b" {} smart="true"/>', ["a", "b"]),
        ('<RectangleLabels name="a" {} exemplar="true"/><RectangleLabels name="b" {} exemplar="negative"/>', ["a"]),
        ('<RectangleLabels name="a" {} exemplar="true"/><BrushLabels name="b" {}/>', ["b"]),
        ('<RectangleLabels name="a" {} exemplar="false"/><BrushLabels name="b" {}/>', ["a", "b"]),
        ('<RectangleLabels name="a" {} exemplar="maybe"/><BrushLabels name="b" {}/>', ["a", "b"]),
        ('<RectangleLabels name="a" {} smart="true"/><BrushLabels name="b" {} smartOnly="true"/>', ["a"]),
    ],
)
def test_where_there_are_only_boxes_for_prompting_the_answers_go_to_them(tags: str, outputs: list[str]) -> None:
    body = re.sub(r"<(\w+) ([^>]*)/>", r'<\1 \2><Label value="car"/></\1>', tags.format(*['toName="image"'] * 2))
    assert [control.name for control in read_plan(config(body)).sources[0].controls] == outputs


PLAIN_LABELS = '<Labels name="l" toName="image"><Label value="car" prompt="lorry"/><Label value="bus"/></Labels>'


def test_keypoints_are_filled_only_where_they_are_not_for_prompting() -> None:
    def filled(tags: str) -> list[Output]:
        plan = read_plan(f'<View><Image name="image" value="$image"/>{tags}</View>')
        return [control.output for source in plan.sources for control in source.controls]

    points = '<KeyPointLabels name="k" toName="image"{}><Label value="car"/></KeyPointLabels>'
    outlines = '<PolygonLabels name="p" toName="image"><Label value="car"/></PolygonLabels>'
    assert filled(points.format(' smart="false"')) == [Output.KEYPOINT]
    assert filled(outlines + points.format(' smart="false"')) == [Output.POLYGON, Output.KEYPOINT]
    assert filled(outlines + points.format("")) == [Output.POLYGON]
    assert filled(points.format("")) == []
    plain = '<Labels name="l" toName="image"><Label value="car"/></Labels><KeyPoint name="k" toName="image"{}/>'
    assert filled(plain.format(' smart="false"')) == [Output.KEYPOINT]
    assert filled(plain.format("")) == []


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("tag", SHAPES)
def test_tags_without_labels_take_those_of_a_labels_tag(tag: str, before: bool) -> None:
    shape = f'<{tag} name="shape" toName="image"/>'
    (source,) = read_plan(config(PLAIN_LABELS + shape if before else shape + PLAIN_LABELS)).sources
    (control,) = source.controls
    assert (control.name, control.labeler, control.output.plain) == ("shape", "l", tag.lower())
    assert [(label.value, label.concept.phrases) for label in control.labels] == [
        ("car", ("lorry",)),
        ("bus", ("bus",)),
    ]


def test_only_labels_of_the_same_image_go_with_a_shape() -> None:
    text = '<Text name="t" value="$t"/><Labels name="n" toName="t"><Label value="noun"/></Labels>'
    shape = '<Polygon name="shape" toName="image"/>'
    assert "no PolygonLabels" in read_plan(config(text + shape)).problem
    (source,) = read_plan(config(text + shape + PLAIN_LABELS)).sources
    assert [label.value for label in source.labels] == ["car", "bus"]


def test_several_labels_tags_and_a_plain_prompt_box() -> None:
    other = '<Labels name="m" toName="image"><Label value="dog"/></Labels>'
    boxes, shape = '<Rectangle name="box" toName="image" smart="true"/>', '<Brush name="b" toName="image"/>'
    (source,) = read_plan(config(boxes + shape + PLAIN_LABELS + other)).sources
    assert [(control.name, control.labeler) for control in source.controls] == [("b", "l"), ("b", "m")]
    (source,) = read_plan(config(boxes + PLAIN_LABELS + other)).sources
    assert [(control.name, control.labeler) for control in source.controls] == [("box", "l"), ("box", "m")]


def test_controls_and_labels_are_in_the_order_of_the_config() -> None:
    (source,) = read_plan(
        config(
            '<RectangleLabels name="r" toName="image"><Label value="b"/></RectangleLabels>'
            '<View><PolygonLabels name="p" toName="image"><Label value="a"/><Label value="b" prompt="x"/>'
            '</PolygonLabels></View><BitmaskLabels name="m" toName="image"><Label value="c"/></BitmaskLabels>'
        )
    ).sources
    assert [control.name for control in source.controls] == ["r", "p", "m"]
    assert [(label.value, label.concept.phrases) for label in source.labels] == [
        ("b", ("b",)), ("a", ("a",)), ("c", ("c",)),
    ]  # fmt: skip


OUTPUT = '<BrushLabels name="b" toName="image"><Label value="car"/></BrushLabels>'


@pytest.mark.parametrize(
    ("body", "interactive"),
    [
        ("", False),
        ('<TextArea name="t" toName="image"/>', False),
        ('<KeyPointLabels name="k" toName="image"><Label value="car"/></KeyPointLabels>', True),
        ('<KeyPointLabels name="k" toName="image" smart="false"><Label value="car"/></KeyPointLabels>', False),
        ('<KeyPoint name="k" toName="image"/>', True),
        ('<RectangleLabels name="r" toName="image"><Label value="car"/></RectangleLabels>', False),
        ('<RectangleLabels name="r" toName="image" smart="true"><Label value="car"/></RectangleLabels>', True),
        ('<RectangleLabels name="r" toName="image" exemplar="true"><Label value="car"/></RectangleLabels>', True),
        ('<RectangleLabels name="r" toName="image"><Label value="car" exemplar="negative"/></RectangleLabels>', True),
        ('<Rectangle name="r" toName="image" smartOnly="true"/>', True),
        ('<Image name="other" value="$other"/><KeyPoint name="k" toName="other"/>', False),
    ],
)
def test_whether_prompts_can_be_drawn(body: str, interactive: bool) -> None:
    assert read_plan(config(OUTPUT + body)).interactive is interactive


@pytest.mark.parametrize(
    ("label", "text", "remembers"),
    [("", "", False), ("true", "", True), ("", "true", True), ("false", "true", False), ("TRUE", "false", True)],
)
@pytest.mark.parametrize("plain", [False, True])
def test_labels_that_remember(label: str, text: str, remembers: bool, plain: bool) -> None:
    def said(value: str) -> str:
        return value and f'remember_prompt="{value}"'

    tag = "Labels" if plain else "BrushLabels"
    body = (
        f'<{tag} name="l" toName="image"><Label value="car" {said(label)}/></{tag}><Brush name="b" toName="image"/>'
    )
    body += f'<TextArea name="t" toName="image" {said(text)}/>'
    (control,) = read_plan(config(body)).sources[0].controls
    assert control.labels[0].remember is remembers


@given(
    st.dictionaries(st.sampled_from(ATTRIBUTES), st.text(alphabet="tru e1-.;,$é", max_size=6)), st.sampled_from(TOOLS)
)
def test_any_attributes_are_a_plan(attributes: dict[str, str], tag: str) -> None:
    said = " ".join(f'{name}="{value}"' for name, value in attributes.items())
    body = f'<{tag} name="x" toName="image" {said}><Label value="car" {said}/></{tag}>'
    (source,) = read_plan(config(OUTPUT + PLAIN_LABELS + body)).sources
    assert "b" in [control.name for control in source.controls]
    assert all(1 <= tool.candidates <= 3 for tool in source.tools)


BOMB = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10 if i else "ha" * 10}">' for i in range(12))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read"),
        ("<View>", "cannot be read"),
        ("not xml", "cannot be read"),
        ("\ud800", "cannot be read"),
        ("<View/>", "no Image"),
        ('<?xml version="1.0" encoding="utf-8"?><View/>', "cannot be read"),
        (config(PROMPTS), "no PolygonLabels"),
        (config('<PolygonLabels name="p" toName="image"></PolygonLabels>'), "no PolygonLabels"),
        (config('<PolygonLabels name="p" toName="other"><Label value="a"/></PolygonLabels>'), "no PolygonLabels"),
        (config('<PolygonLabels name="p" toName="image"><Label value=" "/></PolygonLabels>'), "no PolygonLabels"),
        (config('<PolygonLabels name="p" toName="image"><Label value="a"/></PolygonLabels>', image=""), "no Image"),
        (config('<Labels name="l" toName="t"/>', image='<Text name="t" value="$text"/>'), "no Image"),
        (f'<!DOCTYPE x [{BOMB}]><View><Image name="image" value="&a11;"/></View>', "DOCTYPE"),
        ('<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><View>&f;</View>', "DOCTYPE"),
        ("<View>" * 100_000, "cannot be read"),
        ("<View>" + " " * 1_100_000 + "</View>", "characters"),
    ],
)  # fmt: skip
def test_nothing_to_predict_is_an_empty_plan_with_a_reason(text: str, reason: str) -> None:
    plan = read_plan(text)
    assert plan.sources == ()
    assert reason in plan.problem


@given(st.text(max_size=200) | st.text(alphabet="<>/\"'= &;!-[]ViewImagelabP$", max_size=200))
def test_any_text_is_a_plan(text: str) -> None:
    assert isinstance(read_plan(text), Plan)


def test_a_bad_threshold_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    labels('value="lorry" threshold="lots"')
    assert "lorry" in caplog.text
    assert "lots" in caplog.text


def test_the_configs_to_copy_say_what_they_mean(caplog: pytest.LogCaptureFixture) -> None:
    docs = (Path(__file__).parents[2] / "docs" / "label-studio.md").read_text(encoding="utf-8")
    batch, options, prompts, plain = (read_plan(xml) for xml in re.findall(r"```xml\n(.*?)```", docs, re.DOTALL))
    assert [plan.problem for plan in (batch, options, prompts, plain)] == [""] * 4
    assert [plan.interactive for plan in (batch, prompts, plain)] == [False, True, True]
    (source,) = options.sources
    assert source.tiles is Tiling.AUTO
    assert {label.value: (label.finish.fineness, label.concept.rules.chosen) for label in source.labels} == {
        "car": (Fineness.LOW, {"min_area": Area(0.0001, relative=True)}),
        "wheel": (Fineness.LOW, {"threshold": 0.35, "min_area": Area(0.0001, relative=True), "overlap": True}),
        "road": (Fineness.HIGH, {"min_area": Area(0.0001, relative=True), "max_instances": 1, "top_k": 1}),
    }
    (source,) = prompts.sources
    assert [control.name for control in source.controls] == ["mask"]
    assert [source.tool(name).label("car").exemplar for name in ("box", "like", "unlike")] == [None, True, False]
    assert [label.remember for label in source.labels] == [True, False]
    assert [(control.name, control.labeler) for control in plain.sources[0].controls] == [("outline", "label")]
    assert not caplog.text
