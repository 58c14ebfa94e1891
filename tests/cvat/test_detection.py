"""A detector's items, against cvat-sdk's decoder and a twin of CVAT's server."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from cvat_sdk.masks import decode_mask
from function_context import Script
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from server_twin import TaskLabel, converted

from cvat_nuclio.detection import Detection, detect, items_of, score_text
from cvat_nuclio.labels import LabelRow, LabelType
from sam3_core import Concept, EncodedImage, FindOptions, Instance, Mask, Rules, Segmenter
from sam3_core.demo.scenes import Scene
from sam3_core.errors import InvalidPrompt
from sam3_core.finish import DEFAULT_FINISH, Fineness, Finish, Holes, Parts, finished
from sam3_core.rules import Area, Tiling

IMAGE = EncodedImage(b"any")
EVERY_TYPE = st.sampled_from(list(LabelType))
FULL_BITS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)).filter(np.any)


def row(name: str = "bus", kind: LabelType = LabelType.MASK, finish: Finish = Finish(), **more: Any) -> LabelRow:  # noqa: B008
    return LabelRow(name, kind, Concept((name,)), finish.over(DEFAULT_FINISH), **more)


def instance(bits: NDArray[np.generic], score: float = 0.5) -> Instance:
    return Instance(Mask.from_full(bits), score)


def square(x: int, y: int, side: int, score: float, frame: tuple[int, int] = (20, 10)) -> Instance:
    return Instance(Mask(np.ones((side, side), np.bool_), x, y, frame), score)


def run(script: Segmenter, *rows: LabelRow, **more: Any) -> Detection:
    return detect(script, IMAGE, rows, FindOptions(), **more)


def stored(items: list[dict[str, Any]], row: LabelRow, **more: Any) -> dict[str, list[dict[str, Any]]]:
    """What CVAT's server makes of them, after JSON."""
    kind = "any" if row.type is LabelType.ANY else str(row.type)
    task = {row.name: TaskLabel(1, kind, {"score": ("text", [])})}
    return converted(json.loads(json.dumps(items, allow_nan=False)), task, **more)


def bits_of(shape: dict[str, Any], frame: tuple[int, int]) -> NDArray[np.bool_]:
    return np.asarray(decode_mask(shape["points"], image_width=frame[0], image_height=frame[1]))


def filled(points: list[float], frame: tuple[int, int]) -> NDArray[np.bool_]:
    """A polygon's pixels, by their centres: corners in sixteenths of a pixel."""
    canvas = np.zeros((frame[1] * 8, frame[0] * 8), np.uint8)
    corners = (np.array(points).reshape(-1, 2) * 8 - 0.5).round().astype(np.int32)
    cv2.fillPoly(canvas, [corners], 1)
    return canvas[4::8, 4::8].astype(np.bool_)


def largest_part(bits: NDArray[np.bool_]) -> NDArray[np.bool_]:
    _, parts, stats, _ = cv2.connectedComponentsWithStats(bits.astype(np.uint8), connectivity=4)
    return np.asarray(parts == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA]))


def test_masks_of_the_model_arrive_bit_for_bit(segmenter: Segmenter, scene: Callable[..., Scene]) -> None:
    shapes = 0
    for seed in (7, 9, 12):
        drawn = scene(seed, objects=(2, 4), size=(200, 150))
        image = EncodedImage(drawn.encode("PNG"))
        names = sorted({item.name for item in drawn.objects})
        rows = [row(name, scored=True) for name in names]
        found = detect(segmenter, image, rows, FindOptions())
        results = segmenter.find(image, [one.concept for one in rows])
        expected = {
            (one.name, f"{score_text(i.score)}", finished(i.mask, DEFAULT_FINISH).full().tobytes())
            for one, result in zip(rows, results, strict=True)
            for i in result.instances
        }
        task = {one.name: TaskLabel(number, "mask", {"score": ("text", [])}) for number, one in enumerate(rows)}
        kept = converted(json.loads(json.dumps(found.items)), task)["shapes"]
        got = {
            (names[shape["label_id"]], item["confidence"], bits_of(shape, (200, 150)).tobytes())
            for shape, item in zip(kept, found.items, strict=True)
        }
        assert got == expected
        shapes += len(got)
        scores = [float(item["confidence"]) for item in found.items]
        assert scores == sorted(scores, reverse=True)
    assert shapes >= 6


def test_a_mask_that_is_converted_becomes_its_outline(segmenter: Segmenter, scene: Callable[..., Scene]) -> None:
    drawn = scene(9, objects=(2, 4), size=(200, 150))
    one = row(drawn.objects[0].shape)
    items = detect(segmenter, EncodedImage(drawn.encode("PNG")), [one], FindOptions()).items
    masks = stored(items, one)["shapes"]
    outlines = stored(items, one, conv_mask_to_poly=True)["shapes"]
    assert {shape["type"] for shape in masks} == {"mask"}
    assert {shape["type"] for shape in outlines} == {"polygon"}
    for mask, outline in zip(masks, outlines, strict=True):
        part, drawn_bits = largest_part(bits_of(mask, (200, 150))), filled(outline["points"], (200, 150))
        assert (part & drawn_bits).sum() / (part | drawn_bits).sum() > 0.95


@given(FULL_BITS, EVERY_TYPE, st.floats(), st.sampled_from(list(Fineness)), st.sampled_from(list(Holes)))
def test_cvat_takes_every_mask_as_every_type(
    bits: NDArray[np.bool_], kind: LabelType, score: float, fineness: Fineness, holes: Holes
) -> None:
    one = row(kind=kind, finish=Finish(fineness, holes=holes), scored=True)
    height, width = bits.shape
    items = items_of(instance(bits, score), one, group=5)
    assert items
    for convert in (False, True):
        kept = stored(items, one, conv_mask_to_poly=convert)
        assert len(kept["tags"]) + len(kept["shapes"]) == len(items)
    for item in items:
        assert 0 <= float(item["confidence"]) <= 1
        assert item["attributes"] == [{"name": "score", "value": item["confidence"]}]
        if points := item.get("points"):
            assert all(math.isfinite(value) for value in points)
            assert all(0 <= x <= width for x in points[::2])
            assert all(0 <= y <= height for y in points[1::2])


@given(FULL_BITS)
def test_flat_crops_are_the_finished_mask(bits: NDArray[np.bool_]) -> None:
    height, width = bits.shape
    one = row(finish=Finish(Fineness.LOW))
    (item,) = items_of(instance(bits), one, group=1)
    (shape,) = stored([item], one)["shapes"]
    expected = finished(Mask.from_full(bits), one.finish).full()
    np.testing.assert_array_equal(bits_of(shape, (width, height)), expected)


def two_parts() -> NDArray[np.bool_]:
    """The larger one at the right, with a hole."""
    bits = np.zeros((30, 40), np.bool_)
    bits[5:15, 2:12] = True
    bits[5:25, 20:38] = True
    bits[10:15, 26:32] = False
    return bits


def test_a_mask_of_two_parts_is_one_item_with_the_outline_of_the_larger() -> None:
    bits, one = two_parts(), row()
    (item,) = items_of(instance(bits), one, group=5)
    assert "group_id" not in item
    (shape,) = stored([item], one)["shapes"]
    np.testing.assert_array_equal(bits_of(shape, (40, 30)), bits)
    larger = bits.copy()
    larger[:, :15] = False
    np.testing.assert_array_equal(filled(item["points"], (40, 30)), larger)  # the hole as well


def test_polygons_of_two_parts_are_a_group_the_larger_first() -> None:
    bits, one = two_parts(), row(kind=LabelType.POLYGON)
    items = items_of(instance(bits), one, group=5)
    assert [item["group_id"] for item in items] == [5, 5]
    assert {item["type"] for item in items} == {"polygon"}
    assert not any("mask" in item for item in items)
    left, right = bits.copy(), bits.copy()
    left[:, 15:], right[:, :15] = False, False
    np.testing.assert_array_equal(filled(items[0]["points"], (40, 30)), right)
    np.testing.assert_array_equal(filled(items[1]["points"], (40, 30)), left)


def test_finish_says_what_becomes_of_parts_and_holes() -> None:
    bits = two_parts()
    finish = Finish(parts=Parts.LARGEST, holes=Holes.FILLED)
    (item,) = items_of(instance(bits), row(kind=LabelType.POLYGON, finish=finish), group=5)
    assert "group_id" not in item
    expected = bits.copy()
    expected[:, :15] = False
    expected[10:15, 26:32] = True
    np.testing.assert_array_equal(filled(item["points"], (40, 30)), expected)


def test_a_fragment_is_no_polygon_and_widens_no_rectangle_unless_it_may() -> None:
    bits = np.zeros((30, 40), np.bool_)
    bits[5:25, 20:38] = True
    bits[2:4, 1:4] = True  # 6 of 366
    for kind in (LabelType.RECTANGLE, LabelType.POLYGON):
        (item,) = items_of(instance(bits), row(kind=kind), group=5)
        assert min(item["points"][::2]) == 20
    (wide,) = items_of(instance(bits), row(kind=LabelType.RECTANGLE, finish=Finish(min_area=Area(2))), group=5)
    assert wide == {"label": "bus", "type": "rectangle", "points": [1, 2, 38, 25], "confidence": "0.5"}
    assert len(items_of(instance(bits), row(kind=LabelType.POLYGON, finish=Finish(min_area=Area(2))), group=5)) == 2


def test_a_tag_comes_once() -> None:
    script = Script({"bus": [square(0, 0, 3, 0.75), square(5, 5, 3, 0.5)]})
    assert run(script, row(kind=LabelType.TAG)).items == [{"label": "bus", "type": "tag", "confidence": "0.75"}]


def test_any_is_a_mask() -> None:
    (item,) = run(Script({"bus": [square(1, 2, 3, 0.75)]}), row(kind=LabelType.ANY)).items
    assert item["type"] == "mask"
    assert item["mask"] == [1] * 9 + [1, 2, 3, 4]
    assert "attributes" not in item


def test_items_of_all_labels_come_best_first_and_groups_are_their_own() -> None:
    parts = two_parts()
    script = Script(
        {"bus": [instance(parts, 0.75), instance(parts[:, ::-1], 0.25)], "car": [instance(parts[::-1], 0.5)]}
    )
    polygon = LabelType.POLYGON
    items = run(script, row("bus", polygon), row("car", polygon)).items
    assert [(item["label"], item["confidence"]) for item in items] == [
        ("bus", "0.75"), ("bus", "0.75"), ("car", "0.5"), ("car", "0.5"), ("bus", "0.25"), ("bus", "0.25"),
    ]  # fmt: skip
    groups = [item["group_id"] for item in items]
    assert groups[0] == groups[1] != groups[2] == groups[3] != groups[4] == groups[5]
    assert len(set(groups)) == 3
    assert all(0 < group < 2**31 for group in groups)
    other = detect(script, EncodedImage(b"another"), [row("bus", polygon)], FindOptions()).items
    assert other[0]["group_id"] not in groups


def test_every_concept_is_asked_once() -> None:
    script = Script({"bus": [square(0, 0, 3, 0.75)]})
    same = LabelRow("coach", LabelType.TAG, Concept(("bus",)))
    options = FindOptions(tiles=Tiling.ON)
    found = detect(script, IMAGE, [row("bus"), same], options)
    assert script.searches == [((Concept(("bus",)),), options)]
    assert [item["label"] for item in found.items] == ["bus", "coach"]


def test_a_threshold_of_the_request_wins() -> None:
    script = Script()
    own = LabelRow("bus", LabelType.MASK, Concept(("bus",), rules=Rules(threshold=0.75, top_k=2)))
    run(script, own, row("car"), threshold=0.25)
    run(script, own, row("car"))
    asked = [[concept.rules for concept in concepts] for concepts, _ in script.searches]
    assert asked == [
        [Rules(threshold=0.25, top_k=2), Rules(threshold=0.25)],
        [Rules(threshold=0.75, top_k=2), Rules()],
    ]
    with pytest.raises(InvalidPrompt):
        run(script, own, threshold=2)


def test_nothing_found_has_its_reason() -> None:
    found = run(Script({"car": [square(0, 0, 3, 0.75)]}), row("bus"), row("car"))
    assert [item["label"] for item in found.items] == ["car"]
    (said,) = found.remarks
    assert said.startswith("bus: nothing found: presence 0.25, best score 0.12")


def test_an_empty_mask_is_nothing() -> None:
    empty = Instance(Mask(np.zeros((0, 0), np.bool_), 0, 0, (20, 10)), 0.5)
    for kind in LabelType:
        assert run(Script({"bus": [empty]}), row(kind=kind)).items == []


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (0.93, "0.93"),
        (0.00001, "0.0"),
        (0.000051, "0.0001"),
        (1.5, "1.0"),
        (-1, "0.0"),
        (math.nan, "0.0"),
        (math.inf, "0.0"),
        (np.float32(0.5), "0.5"),
    ],
)
def test_scores_are_plain_text(score: float, text: str) -> None:
    assert score_text(score) == text
