"""Regions as Label Studio's own validators, decoders and exporters read them."""

from __future__ import annotations

import base64
import io
import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from label_studio_sdk.converter.brush import decode_rle
from label_studio_sdk.label_interface import LabelInterface
from PIL import Image

from backend.labeling import Control, Output, read_plan
from backend.prompts import Target
from backend.regions import Picture, Region, RegionWriter, mean_score, share
from sam3_core import Instance, Mask

TAGS = ("PolygonLabels", "BrushLabels", "RectangleLabels", "BitmaskLabels")
CONFIG = "<View><Image name='image' valueList='$pages'/>{}</View>".format(
    "".join(f"<{t} name='{t}' toName='image'><Label value='Car'/><Label value='bus'/></{t}>" for t in TAGS)
)
SOURCE = read_plan(CONFIG).sources[0]
SHAPES = ("Polygon", "Brush", "Rectangle", "Bitmask")
PLAIN_CONFIG = (
    "<View><Image name='image' value='$image'/>"
    "<Labels name='label' toName='image'><Label value='Car'/><Label value='bus'/></Labels>{}</View>"
).format("".join(f"<{shape} name='{shape}' toName='image'/>" for shape in SHAPES))
PLAIN = read_plan(PLAIN_CONFIG).sources[0]
PICTURE = Picture("key", "model-1")


def control(output: Output) -> Control:
    return next(control for control in SOURCE.controls if control.output is output)


def write(mask: Mask, output: Output, score: float = 0.5, page: int | None = None) -> list[Region]:
    instance = Instance(mask, score, "red car")
    return RegionWriter().write(instance, Target(SOURCE, page, control(output), "Car"), PICTURE)


def drawn(points: list[list[float]], frame: tuple[int, int]) -> np.ndarray:
    """What the ring covers, as an editor fills it (even-odd)."""
    width, height = frame
    pixels = np.array(points) * (width, height) / 100
    canvas = np.zeros((height * 8, width * 8), np.uint8)
    cv2.fillPoly(canvas, [np.rint(pixels * 8 * 16 - 8).astype(np.int32)], 1, shift=4)
    return canvas[4::8, 4::8].astype(bool)


ring = Mask.from_full(cv2.circle(cv2.circle(np.zeros((90, 120), np.uint8), (60, 45), 40, 1, -1), (60, 45), 15, 0, -1))
two = np.zeros((50, 70), dtype=bool)
two[5:20, 5:30] = two[30:45, 40:65] = True
parts = Mask.from_full(two)


@pytest.mark.parametrize("output", list(Output))
@pytest.mark.parametrize("page", [None, 0, 3])
def test_every_field(output: Output, page: int | None) -> None:
    (region,) = write(ring, output, page=page)
    assert (region["from_name"], region["to_name"], region["type"]) == (control(output).name, "image", output.value)
    assert (region["original_width"], region["original_height"], region["image_rotation"]) == (120, 90, 0)
    assert region["value"][output.value] == ["Car"]
    assert region["score"] == 0.5
    assert region["meta"] == {"text": ["red car", "model-1"]}
    assert region.get("item_index", None) == page
    assert len(region["id"]) >= 10
    assert region["id"].isalnum()


bits = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20))


@given(bits, st.floats(allow_nan=True, allow_infinity=True))
def test_any_mask_and_score_pass_the_validator_of_label_studio(full: np.ndarray, score: float) -> None:
    mask = Mask.from_full(full)
    writer = RegionWriter()
    result = [
        region
        for one in SOURCE.controls
        for region in writer.write(Instance(mask, score), Target(SOURCE, 0, one, "bus"), PICTURE)
    ]
    prediction = {"result": result, "score": mean_score(result), "model_version": "model-1"}
    assert LabelInterface(CONFIG).validate_prediction(prediction, return_errors=True) == []
    json.dumps(prediction, allow_nan=False)
    assert bool(result) == bool(full.any())
    assert len({region["id"] for region in result}) == len(result)
    for region in result:
        assert all(0 <= v <= 100 for point in region["value"].get("points", ()) for v in point)
        assert all(0 <= region["value"].get(key, 0) <= 100 for key in ("x", "y", "width", "height"))


@given(bits)
def test_tags_without_labels_are_filled_as_the_editor_stores_them(full: np.ndarray) -> None:
    """Shape and label are two results of one id, both with the geometry: without it the validator refuses labels."""
    mask, writer = Mask.from_full(full), RegionWriter()
    for one, labelled in zip(PLAIN.controls, SOURCE.controls, strict=True):
        instance, target = Instance(mask, 0.5), Target(PLAIN, None, one, "bus")
        result = writer.write(instance, target, PICTURE)
        prediction = {"result": result, "score": mean_score(result), "model_version": "model-1"}
        assert LabelInterface(PLAIN_CONFIG).validate_prediction(prediction, return_errors=True) == []
        shapes, labels = result[::2], result[1::2]
        assert [region["type"] for region in shapes] == [one.name.lower()] * len(shapes)
        assert [region["id"] for region in shapes] == [region["id"] for region in labels]
        assert len({region["id"] for region in shapes}) == len(shapes) == len(labels)
        assert {(region["from_name"], region["type"]) for region in labels} <= {("label", "labels")}
        assert all(region["score"] == 0.5 for region in result)
        expected = RegionWriter().write(instance, Target(SOURCE, None, labelled, "bus"), PICTURE)
        for shape, label, whole in zip(shapes, labels, expected, strict=True):
            assert shape["value"] | {labelled.output.value: ["bus"]} == whole["value"]
            assert label["value"] == shape["value"] | {"labels": ["bus"]}


@given(bits)
def test_brush_and_bitmask_hold_the_mask_exactly(full: np.ndarray) -> None:
    mask = Mask.from_full(full)
    height, width = full.shape
    for region in write(mask, Output.BRUSH):
        alpha = decode_rle(region["value"]["rle"]).reshape(height, width, 4)[..., 3]
        np.testing.assert_array_equal(alpha, full * 255)
    for region in write(mask, Output.BITMASK):
        head, _, data = region["value"]["imageDataURL"].partition(",")
        assert head == "data:image/png;base64"
        rgba = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))
        np.testing.assert_array_equal(rgba[..., 3], full * 255)
        assert not rgba[full][:, :3].any()


def test_a_rectangle_is_the_box_of_all_parts() -> None:
    (region,) = write(parts, Output.RECTANGLE)
    value = region["value"]
    box = (value["x"] * 0.7, value["y"] * 0.5, value["width"] * 0.7, value["height"] * 0.5)
    assert box == pytest.approx((5, 5, 60, 40), abs=1e-3)
    assert value["rotation"] == 0


def test_a_rectangle_ignores_the_slack_of_a_loose_crop() -> None:
    loose = Mask(two, 0, 0, (70, 50))
    assert write(loose, Output.RECTANGLE)[0]["value"] == write(parts, Output.RECTANGLE)[0]["value"]


def test_fragments_are_no_regions_and_stretch_no_box() -> None:
    bits = two[:, :36].copy()
    speck, part = bits.copy(), bits.copy()
    speck[46:49, 31:36] = True  # 15 pixels beside 375
    part[40:46, 30:36] = True  # 36 of them
    for output in (Output.POLYGON, Output.RECTANGLE):
        clean, specked = write(Mask.from_full(bits), output), write(Mask.from_full(speck), output)
        assert [region["value"] for region in specked] == [region["value"] for region in clean]
        assert len(clean) == 1
    assert len(write(Mask.from_full(part), Output.POLYGON)) == 2
    brushed = write(Mask.from_full(speck), Output.BRUSH)[0]["value"]["rle"]
    assert int((decode_rle(brushed)[3::4] > 0).sum()) == int(speck.sum())


def test_every_part_is_a_polygon_of_its_own_with_the_same_score() -> None:
    regions = write(parts, Output.POLYGON, score=0.8)
    assert [region["score"] for region in regions] == [0.8, 0.8]
    union = np.logical_or.reduce([drawn(region["value"]["points"], parts.frame) for region in regions])
    assert Mask.from_full(union).iou(parts) > 0.97


def test_a_hole_stays_empty_in_the_one_ring() -> None:
    (region,) = write(ring, Output.POLYGON)
    assert region["value"]["closed"] is True
    filled = drawn(region["value"]["points"], ring.frame)
    assert not filled[45, 60]
    assert Mask.from_full(filled).iou(ring) > 0.95


def test_the_whole_image_is_0_to_100() -> None:
    whole = Mask.from_full(np.ones((33, 77), bool))
    (polygon,), (box,) = write(whole, Output.POLYGON), write(whole, Output.RECTANGLE)
    assert sorted(polygon["value"]["points"]) == [[0, 0], [0, 100], [100, 0], [100, 100]]
    assert [box["value"][key] for key in ("x", "y", "width", "height")] == [0, 0, 100, 100]


def test_an_empty_mask_is_no_region() -> None:
    empty = Mask(np.zeros((0, 0), bool), 3, 3, (9, 9))
    assert [write(empty, output) for output in Output] == [[], [], [], []]


def test_ids_are_the_same_for_the_same_input_and_differ_for_any_other() -> None:
    target = Target(SOURCE, None, control(Output.BRUSH), "Car")
    instance, other = Instance(ring, 0.5), Instance(parts, 0.5)

    def first(instance: Instance, target: Target, picture: Picture) -> str:
        return str(RegionWriter().write(instance, target, picture)[0]["id"])

    assert first(instance, target, PICTURE) == first(instance, target, PICTURE)
    changed = [
        first(other, target, PICTURE),
        first(instance, Target(SOURCE, 1, target.control, "Car"), PICTURE),
        first(instance, Target(SOURCE, None, target.control, "bus"), PICTURE),
        first(instance, Target(SOURCE, None, control(Output.BITMASK), "Car"), PICTURE),
        first(instance, target, Picture("another image", "model-1")),
    ]
    assert len({first(instance, target, PICTURE), *changed}) == 6


def test_the_same_mask_twice_in_a_task_gets_two_ids() -> None:
    writer, target = RegionWriter(), Target(SOURCE, None, control(Output.BRUSH), "Car")
    ids = [writer.write(Instance(ring, 0.5), target, PICTURE)[0]["id"] for _ in range(3)]
    assert len(set(ids)) == 3


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_score_is_always_a_share(score: float) -> None:
    assert 0.0 <= share(score) <= 1.0


def test_the_score_of_a_prediction_is_the_mean() -> None:
    assert mean_score([]) == 0.0
    assert mean_score([{"score": 0.5}, {"score": 0.9}]) == pytest.approx(0.7)


def test_the_answer_repeats_the_rotation_of_the_view() -> None:
    target = Target(SOURCE, None, control(Output.BRUSH), "Car", 270)
    (region,) = RegionWriter().write(Instance(ring, 0.5, "red car"), target, PICTURE)
    (upright,) = write(ring, Output.BRUSH)
    assert region == upright | {"image_rotation": 270}


def test_a_region_that_is_edited_keeps_its_id_and_its_parts_get_new_ones() -> None:
    writer = RegionWriter()

    def ids(output: Output, region_id: str | None) -> list[str]:
        target = Target(SOURCE, None, control(output), "Car")
        return [region["id"] for region in writer.write(Instance(parts, 0.5), target, PICTURE, region_id=region_id)]

    assert ids(Output.POLYGON, "a") == ["a", "a-2"]
    assert ids(Output.BRUSH, "a") == ["a-3"]
    assert ids(Output.POLYGON, "a-2") == ["a-2-2", "a-2-3"]
    assert ids(Output.POLYGON, "a") == ["a-4", "a-5"]
    free = ids(Output.POLYGON, None)
    assert ids(Output.POLYGON, free[0]) == [f"{free[0]}-2", f"{free[0]}-3"]


def test_both_results_of_a_region_that_is_edited_keep_its_id() -> None:
    target = Target(PLAIN, None, PLAIN.controls[0], "Car")
    regions = RegionWriter().write(Instance(parts, 0.5), target, PICTURE, region_id="a")
    assert [region["id"] for region in regions] == ["a", "a", "a-2", "a-2"]
