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

from backend.bodies import Task, decode
from backend.labeling import Output, read_plan
from backend.memory import ShortMemory
from backend.prompts import Target
from backend.regions import Picture, RegionWriter
from backend.stored import Earlier, StoredRegions
from sam3_core import Box, Instance, Mask, Point

FRAME = (320, 200)
SHAPES = [output.name.capitalize() for output in Output]
BODY = "".join(
    f'<{shape}Labels name="{shape}" toName="image"><Label value="car"/></{shape}Labels>' for shape in SHAPES
)
BODY += '<RectangleLabels name="Turned" toName="image" oriented="true"><Label value="car"/></RectangleLabels>'
(SOURCE,) = read_plan(f'<View><Image name="image" value="$image"/>{BODY}</View>').sources
TILTED = Mask.from_full(cv2.ellipse(np.zeros(FRAME[::-1], np.uint8), (150, 90), (90, 25), 35, 0, 360, 1, -1))


def read(*regions: dict[str, Any]) -> list[Earlier]:
    task = decode(Task, json.dumps({"id": 1, "data": {}, "drafts": [{"id": 1, "result": regions}]}).encode())
    target = Target(SOURCE, None, SOURCE.controls[0], "car")
    return list(StoredRegions(task, target, FRAME, ShortMemory(), without=()))


def written(name: str, mask: Mask = TILTED) -> dict[str, Any]:
    control = next(control for control in SOURCE.controls if control.name == name)
    (region,) = RegionWriter().write(Instance(mask, 0.5), Target(SOURCE, None, control, "car"), Picture("key", "v"))
    return region


@pytest.mark.parametrize(
    ("name", "iou"),
    [("Polygon", 0.97), ("Vector", 0.97), ("Brush", 1), ("Bitmask", 1), ("Ellipse", 0.96), ("Turned", 0.72)],
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
