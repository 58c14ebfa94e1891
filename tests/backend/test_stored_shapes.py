"""What annotators have on the picture is read back as what was written, kind by kind."""

from __future__ import annotations

import json
import warnings
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backend import stored as stored_module
from backend.bodies import Task, decode
from backend.labeling import ImageSource, Output, read_plan
from backend.memory import ShortMemory
from backend.prompts import Place, Target
from backend.regions import Picture, RegionWriter
from backend.stored import Earlier, StoredRegions, people_drew
from sam3_core import Box, Concept, Instance, Mask, Point, Rules

FRAME = (320, 200)
SHAPES = [output.name.capitalize() for output in Output]
BODY = "".join(
    f'<{shape}Labels name="{shape}" toName="image" smart="false"><Label value="car"/></{shape}Labels>'
    for shape in SHAPES
)
BODY += '<RectangleLabels name="Turned" toName="image" oriented="true"><Label value="car"/></RectangleLabels>'
(SOURCE,) = read_plan(f'<View><Image name="image" value="$image"/>{BODY}</View>').sources
TILTED = Mask.from_full(cv2.ellipse(np.zeros(FRAME[::-1], np.uint8), (150, 90), (90, 25), 35, 0, 360, 1, -1))


def read(*regions: dict[str, Any]) -> list[Earlier]:
    task = decode(Task, json.dumps({"id": 1, "data": {}, "drafts": [{"id": 1, "result": regions}]}).encode())
    return list(StoredRegions(task, Place(SOURCE, None), FRAME, ShortMemory()).of_label("car"))


def written(name: str, mask: Mask = TILTED) -> dict[str, Any]:
    control = next(control for control in SOURCE.controls if control.name == name)
    (region,) = RegionWriter().write(Instance(mask, 0.5), Target(SOURCE, None, control, "car"), Picture("key", "v"))
    return region


@pytest.mark.parametrize(
    ("name", "iou"),
    [("Polygon", 0.96), ("Vector", 0.96), ("Brush", 1), ("Bitmask", 1), ("Ellipse", 0.96), ("Turned", 0.72)],
)
def test_a_region_is_read_back_as_its_pixels(name: str, iou: float) -> None:
    (earlier,) = read(written(name))
    assert earlier.control == name
    assert not isinstance(earlier.outline, Box)
    assert earlier.outline.mask().iou(TILTED) >= iou
    assert earlier.contains(Point(150.5, 90.5))
    assert not earlier.contains(Point(215.5, 40.5))  # in the upright box, beside the object
    assert earlier.rough is (name in ("Ellipse", "Turned"))
    assert (earlier.mask is None) is earlier.rough


def test_an_upright_rectangle_is_a_box() -> None:
    (earlier,) = read(written("Rectangle"))
    assert isinstance(earlier.outline, Box)
    assert earlier.outline.xyxy == pytest.approx(TILTED.box, abs=1e-3)


def test_a_box_that_was_drawn_as_a_prompt_is_nothing_to_edit() -> None:
    """Those of tags that are not filled stay behind when their answer is accepted; other shapes are never prompts."""
    assert read(written("Rectangle") | {"from_name": "prompt"}) == []
    assert read(written("Turned") | {"from_name": "prompt"}) == []
    (earlier,) = read(written("Brush") | {"from_name": "another"})
    assert earlier.control == ""


def test_a_turned_rectangle_lies_where_the_editor_shows_it() -> None:
    """A quarter turn about the top left corner puts a rectangle below and to the left of it."""
    value = {"x": 50, "y": 20, "width": 25, "height": 10, "rotation": 90, "rectanglelabels": ["car"]}
    (earlier,) = read({"id": "a", "from_name": "Turned", "to_name": "image", "value": value})
    assert earlier.box.xyxy == pytest.approx((140, 40, 160, 120), abs=1)


@pytest.mark.parametrize(
    "change",
    [
        {"closed": False},
        {"vertices": []},
        {"vertices": [{"x": 1}]},
        {"vertices": [{"x": 1, "y": 2}] * 2},
        {"closed": 1},
    ],
)
def test_open_and_broken_vectors_have_no_inside(change: dict[str, Any]) -> None:
    region = written("Vector")
    assert read(region | {"value": region["value"] | change}) == []


FINE = {"x": 20, "y": 30, "width": 10, "height": 20, "rotation": 30}
ODD = st.none() | st.sampled_from(["x", [], {}, True, 1e308, -1e308, 10**25, 0, -5, 120, 33.3])


@given(st.dictionaries(st.sampled_from([*FINE, "radiusX", "radiusY"]), ODD, max_size=3))
@example({"width": 1e308, "height": 1e308})
@example({"radiusX": 1e308, "radiusY": 1e308})
def test_odd_numbers_spoil_nothing(odd: dict[str, Any]) -> None:
    region = {
        "id": "a",
        "from_name": "Turned",
        "to_name": "image",
        "value": FINE | odd | {"rectanglelabels": ["car"]},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read(region, written("Brush"))
    assert found[0].mask is not None
    assert len(found) <= 2


# ---- what is not to be found again -------------------------------------------------------------------------------


CAR = Concept(("car",))
PLAIN_BODY = "".join(f'<{shape} name="{shape}" toName="image"/>' for shape in SHAPES if shape != "Keypoint")
(PLAIN,) = read_plan(
    '<View><Image name="image" value="$image"/><Labels name="label" toName="image"><Label value="car"/></Labels>'
    f'<KeyPoint name="kp" toName="image"/><Rectangle name="prompt" toName="image" smart="true"/>{PLAIN_BODY}</View>'
).sources


def outlined(*regions: dict[str, Any], source: ImageSource = SOURCE, concept: Concept = CAR) -> list[Mask | Box]:
    task = decode(Task, json.dumps({"data": {}, "annotations": [{"id": 1, "result": regions}]}).encode())
    stored = StoredRegions(task, Place(source, None), FRAME, ShortMemory())
    return list(stored.without_drawn(concept, ("car",)).drawn)


@pytest.mark.parametrize("name", ["Polygon", "Vector", "Brush", "Bitmask", "Ellipse", "Turned", "Rectangle"])
def test_every_outline_counts_as_its_pixels_or_its_box(name: str) -> None:
    (outline,) = outlined(written(name))
    if name == "Rectangle":
        assert isinstance(outline, Box)
        assert outline.xyxy == pytest.approx(TILTED.box, abs=1e-3)
    else:
        assert isinstance(outline, Mask)
        assert outline.iou(TILTED) > 0.7


def test_a_point_outlines_nothing() -> None:
    assert written("Keypoint")["value"]["x"]
    assert outlined(written("Keypoint")) == []


@pytest.mark.parametrize("name", ["Polygon", "Brush", "Rectangle", "Ellipse"])
def test_shapes_whose_labels_are_a_tag_of_their_own(name: str) -> None:
    """Both results of a region are one outline; a rectangle drawn as a prompt has the same label, and is none."""
    control = next(control for control in PLAIN.controls if control.name == name)
    target = Target(PLAIN, None, control, "car")
    shape, label = RegionWriter().write(Instance(TILTED, 0.5), target, Picture("key", "v"))
    assert len(outlined(shape, label, source=PLAIN)) == 1
    assert len(outlined(shape, source=PLAIN)) == 1
    prompt = [one | {"id": "x", "from_name": name} for one, name in ((shape, "prompt"), (label, "label"))]
    assert len(outlined(*prompt, source=PLAIN)) == (name != "Rectangle")  # no tag for prompts draws the others
    clicked = StoredRegions(
        decode(Task, json.dumps({"data": {}, "drafts": [{"result": [shape, label]}]}).encode()),
        Place(PLAIN, None), FRAME, ShortMemory(),
    ).of_label("car")  # fmt: skip
    assert [earlier.control for earlier in clicked] == [name]


def test_a_label_that_may_overlap_minds_only_its_own() -> None:
    mine, other = written("Brush"), written("Polygon")
    other["value"]["polygonlabels"] = ["bus"]
    assert len(outlined(mine, other)) == 2
    assert len(outlined(mine, other, concept=Concept(("car",), rules=Rules(overlap=True)))) == 1
    assert len(outlined(other, concept=Concept(("car",), rules=Rules(overlap=True)))) == 0


def test_what_cannot_be_read_is_left_out_with_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "backend.stored")
    broken = written("Brush") | {"id": "broken"}
    broken["value"] = broken["value"] | {"rle": [0, 1, 2]}
    assert len(outlined(broken, written("Polygon"), {"id": 7}, {"value": 3} | written("Bitmask"))) == 2
    assert "region broken is not read" in caplog.text


def test_a_region_is_read_once_however_often_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Output] = []
    real = stored_module.read_encoded
    monkeypatch.setattr(
        stored_module, "read_encoded", lambda output, *rest: (read.append(output), real(output, *rest))[1]
    )
    broken = written("Polygon") | {"id": "broken"}
    broken["value"] = broken["value"] | {"points": [[1, 2]]}
    regions = [written("Brush"), written("Bitmask") | {"id": "b"}, broken]
    task = decode(Task, json.dumps({"data": {}, "drafts": [{"id": 1, "result": regions}]}).encode())
    stored = StoredRegions(task, Place(SOURCE, None), FRAME, ShortMemory())
    assert read == []
    for _ in range(3):
        assert len(stored.without_drawn(CAR, ()).drawn) == 2
        assert len(list(stored.of_label("car"))) == 2
    assert sorted(read) == sorted([Output.BRUSH, Output.BITMASK, Output.POLYGON])
    first, second = (stored.without_drawn(CAR, ()).drawn for _ in range(2))
    assert all(one is other for one, other in zip(first, second, strict=True))


def test_clicks_read_no_further_than_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Output] = []
    real = stored_module.read_encoded
    monkeypatch.setattr(
        stored_module, "read_encoded", lambda output, *rest: (read.append(output), real(output, *rest))[1]
    )
    below, above = written("Polygon"), written("Brush")
    task = decode(Task, json.dumps({"data": {}, "drafts": [{"id": 1, "result": [below, above]}]}).encode())
    stored = StoredRegions(task, Place(SOURCE, None), FRAME, ShortMemory())
    assert next(stored.of_label("car")).region == above["id"]
    assert list(stored.of_label("bus")) == []
    assert read == [Output.BRUSH]


@pytest.mark.parametrize(
    ("fields", "drew"),
    [
        ({}, False),
        ({"annotations": [], "drafts": []}, False),
        ({"annotations": None, "predictions": [{}]}, False),
        ({"annotations": [{}]}, True),
        ({"drafts": [{}]}, True),
    ],
)
def test_whether_people_drew_is_seen_at_a_look(fields: dict[str, Any], drew: bool) -> None:
    assert people_drew(decode(Task, json.dumps({"data": {}} | fields).encode())) is drew
