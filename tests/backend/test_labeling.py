"""Labeling configs to plans: what is filled, with which labels, and what the model is asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.labeling import Label, Output, Plan, read_plan, readable
from sam3_core import Concept


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
        ('value="Car" threshold="0.25"', "Car", Concept(("car",), threshold=0.25)),
        ('value="Car" threshold="1"', "Car", Concept(("car",), threshold=1.0)),
        ('value="Car" threshold="high"', "Car", Concept(("car",))),
        ('value="Car" threshold="nan"', "Car", Concept(("car",))),
        ('value="Car" threshold="1.5"', "Car", Concept(("car",))),
        ('value="汽车"', "汽车", Concept(("汽车",))),
    ],
)
def test_a_label_and_what_is_looked_for(attributes: str, value: str, concept: Concept) -> None:
    assert labels(attributes) == (Label(value, concept),)


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


@pytest.mark.parametrize("tag", ["PolygonLabels", "BrushLabels", "RectangleLabels", "BitmaskLabels", "polygonlabels"])
def test_every_output_control(tag: str) -> None:
    plan = read_plan(config(f'<{tag} name="out" toName="image"><Label value="a"/></{tag}>'))
    (control,) = plan.sources[0].controls
    assert (control.name, control.output) == ("out", Output(tag.lower()))


def test_several_controls_share_their_concepts() -> None:
    body = "".join(
        f'<{tag} name="{tag}" toName="image"><Label value="car"/><Label value="bus" threshold="0.3"/></{tag}>'
        for tag in ("PolygonLabels", "BrushLabels", "RectangleLabels", "BitmaskLabels")
    )
    (source,) = read_plan(config(body)).sources
    assert [control.output for control in source.controls] == list(Output)
    assert source.concepts == (Concept(("car",)), Concept(("bus",), threshold=0.3))


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
