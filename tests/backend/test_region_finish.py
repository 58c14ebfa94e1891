"""A label's finish in its regions: what is dropped, filled, smoothed and capped, and what is said about it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from drawn_regions import covered
from test_region_writer import PICTURE, PLAIN, SOURCE, control, parts, ring, two, write

from backend.labeling import Output
from backend.prompts import Target
from backend.regions import Region, RegionWriter, remarks_on
from sam3_core import ConceptResult, Instance, Mask, Rules
from sam3_core.finish import Fineness, Finish, Holes, Parts, finished
from sam3_core.rules import Area


def finishing(output: Output, finish: Finish) -> Target:
    """The target of a label that has this finish."""
    one = control(output)
    labels = tuple(replace(label, finish=finish) for label in one.labels)
    return Target(SOURCE, None, replace(one, labels=labels), "Car")


def write_with(mask: Mask, output: Output, **choices: Any) -> list[Region]:
    return RegionWriter().write(Instance(mask, 0.5, "red car"), finishing(output, Finish(**choices)), PICTURE)


REGIONS = (Output.POLYGON, Output.VECTOR, Output.RECTANGLE, Output.ELLIPSE)
PIXELS = (Output.BRUSH, Output.BITMASK)


@pytest.mark.parametrize("output", [*REGIONS, *PIXELS])
def test_a_least_area_takes_the_place_of_the_rule_for_fragments(output: Output) -> None:
    bits = two[:, :36].copy()
    bits[46:49, 31:36] = True  # 15 pixels beside 375
    mask, clean = Mask.from_full(bits), Mask.from_full(two[:, :36])
    for area, left in ((Area(15), mask), (Area(16), clean), (Area(15 / 1800, relative=True), mask)):
        regions = write_with(mask, output, min_area=area)
        assert len(regions) == (2 if left is mask and output in (Output.POLYGON, Output.VECTOR) else 1)
        expected = write_with(left, output, min_area=Area(0))
        assert [region["value"] for region in regions] == [region["value"] for region in expected]
        assert (regions[0]["value"] == write(clean, output)[0]["value"]) is (left is clean or len(regions) == 2)


@pytest.mark.parametrize("output", [*REGIONS, *PIXELS, Output.KEYPOINT])
def test_the_largest_part_only(output: Output) -> None:
    bits = two.copy()
    bits[20:22, 5:30] = True  # the first is larger now
    one = bits.copy()
    one[30:] = False
    (region,) = write_with(Mask.from_full(bits), output, parts=Parts.LARGEST)
    (alone,) = write_with(Mask.from_full(one), output)
    assert region["value"] == alone["value"]
    assert "parentID" not in region


@pytest.mark.parametrize("output", [Output.POLYGON, Output.VECTOR])
def test_filled_holes_are_filled_and_reported(output: Output) -> None:
    solid = cv2.circle(np.zeros((90, 120), np.uint8), (60, 45), 40, 1, -1)
    (region,) = write_with(ring, output, holes=Holes.FILLED)
    assert covered(region).iou(Mask.from_full(solid)) > 0.97
    assert region["meta"]["text"] == ["red car", "1 hole filled", "model-1"]
    holes = solid.copy()
    for x in (40, 60, 80):
        cv2.circle(holes, (x, 45), 6, 0, -1)
    (region,) = write_with(Mask.from_full(holes), output, holes=Holes.FILLED)
    assert region["meta"]["text"] == ["red car", "3 holes filled", "model-1"]


@pytest.mark.parametrize("output", [Output.BRUSH, Output.BITMASK])
def test_shapes_that_have_holes_and_parts_keep_them(output: Output) -> None:
    for mask in (ring, parts):
        (region,) = write_with(mask, output, holes=Holes.FILLED)
        assert covered(region).iou(mask) == 1
        assert region["meta"]["text"] == ["red car", "model-1"]


turns = np.arange(64) * np.pi / 32
radii = np.where(np.arange(64) % 2, 45, 90)
spikes = np.stack([150 + radii * np.cos(turns), 100 + radii * np.sin(turns)], axis=1)
rough = Mask.from_full(cv2.fillPoly(np.zeros((200, 300), np.uint8), [np.rint(spikes).astype(np.int32)], 1))


@pytest.mark.parametrize("most", [4, 8, 20])
def test_a_cap_that_breaks_the_promise_says_what_was_reached(most: int) -> None:
    (region,) = write_with(rough, Output.POLYGON, max_vertices=most)
    assert len(region["value"]["points"]) <= most
    phrase, told, version = region["meta"]["text"]
    match = re.fullmatch(rf"IoU (0\.\d\d) with the mask: stopped at {most} corners", told)
    assert match is not None
    assert covered(region).iou(rough) == pytest.approx(float(match[1]), abs=0.01)
    assert (phrase, version) == ("red car", "model-1")


def test_a_promise_that_is_kept_is_not_talked_about() -> None:
    for choices in ({"max_vertices": 0}, {"min_iou": 0.3, "max_vertices": 20}):
        (region,) = write_with(rough, Output.POLYGON, **choices)
        assert region["meta"]["text"] == ["red car", "model-1"]
    (coarse,) = write_with(rough, Output.VECTOR, min_iou=0.5)
    (fine,) = write_with(rough, Output.VECTOR, min_iou=0.99)
    assert len(coarse["value"]["vertices"]) < len(fine["value"]["vertices"])


@pytest.mark.parametrize("output", [Output.POLYGON, *PIXELS])
def test_low_fineness_smooths(output: Output) -> None:
    (low,), (high,) = (write_with(rough, output, fineness=fineness) for fineness in (Fineness.LOW, Fineness.HIGH))
    assert low["value"] != high["value"]
    smooth = finished(rough, Finish(fineness=Fineness.LOW))
    (expected,) = write_with(smooth, output, fineness=Fineness.MEDIUM, min_iou=0.95)
    assert low["value"] == expected["value"]


def test_further_parts_are_children_of_the_first() -> None:
    for output in (Output.POLYGON, Output.VECTOR):
        first, second = write(parts, output)
        assert "parentID" not in first
        assert second["parentID"] == first["id"] != second["id"]
    labelled = PLAIN.controls[0]
    results = RegionWriter().write(Instance(parts, 0.5), Target(PLAIN, None, labelled, "Car"), PICTURE, region_id="a")
    assert [(region["id"], region.get("parentID")) for region in results] == [
        ("a", None), ("a", None), ("a-2", "a"), ("a-2", "a"),
    ]  # fmt: skip


def test_what_is_said_comes_between_the_phrase_and_the_version() -> None:
    target = finishing(Output.POLYGON, Finish(holes=Holes.FILLED))
    (region,) = RegionWriter().write(Instance(ring, 0.5, "red car"), target, PICTURE, remarks=("one", "two"))
    assert region["meta"]["text"] == ["red car", "1 hole filled", "one", "two", "model-1"]
    (region,) = RegionWriter().write(Instance(ring, 0.5), target, PICTURE, remarks=("one",))
    assert region["meta"]["text"] == ["1 hole filled", "one", "model-1"]


def test_candidates_and_notes() -> None:
    result = ConceptResult((), 1.0, None, Rules(threshold=0.5), (9, 9), notes=("a note",))
    assert remarks_on(Instance(ring, 0.5), result) == ("a note",)
    said = "candidate: score below the threshold 0.50"
    assert remarks_on(Instance(ring, 0.499), result) == (said, "a note")
