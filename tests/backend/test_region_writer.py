"""Regions as Label Studio's own validators, decoders and exporters read them."""

from __future__ import annotations

import base64
import io
import json

import cv2
import numpy as np
import pytest
from drawn_regions import drawn, ellipse_drawn, rectangle_drawn, vector_drawn
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from label_studio_sdk.converter.brush import decode_rle
from label_studio_sdk.label_interface import LabelInterface
from PIL import Image

from backend.labeling import Control, Output, read_plan
from backend.prompts import Target
from backend.regions import Picture, Region, RegionWriter, mean_score, share
from sam3_core import Instance, Mask

SHAPES = ("Polygon", "Brush", "Rectangle", "Bitmask", "Ellipse", "Vector", "KeyPoint")
TAGS = tuple(f"{shape}Labels" for shape in SHAPES)
SMART = {tag: " smart='false'" if tag.startswith("KeyPoint") else "" for tag in (*TAGS, *SHAPES)}
CONFIG = "<View><Image name='image' valueList='$pages'/>{}</View>".format(
    "".join(f"<{t} name='{t}' toName='image'{SMART[t]}><Label value='Car'/><Label value='bus'/></{t}>" for t in TAGS)
)
SOURCE = read_plan(CONFIG).sources[0]
PLAIN_CONFIG = (
    "<View><Image name='image' value='$image'/>"
    "<Labels name='label' toName='image'><Label value='Car'/><Label value='bus'/></Labels>{}</View>"
).format("".join(f"<{shape} name='{shape}' toName='image'{SMART[shape]}/>" for shape in SHAPES))
PLAIN = read_plan(PLAIN_CONFIG).sources[0]
ORIENTED_CONFIG = (
    "<View><Image name='image' value='$image'/>"
    "<RectangleLabels name='box' toName='image' oriented='true'><Label value='Car'/></RectangleLabels></View>"
)
ORIENTED = read_plan(ORIENTED_CONFIG).sources[0]
PICTURE = Picture("key", "model-1")


def control(output: Output) -> Control:
    return next(control for control in SOURCE.controls if control.output is output)


def write(mask: Mask, output: Output, score: float = 0.5, page: int | None = None) -> list[Region]:
    instance = Instance(mask, score, "red car")
    return RegionWriter().write(instance, Target(SOURCE, page, control(output), "Car"), PICTURE)


def write_oriented(mask: Mask) -> Region:
    (region,) = RegionWriter().write(
        Instance(mask, 0.5), Target(ORIENTED, None, ORIENTED.controls[0], "Car"), PICTURE
    )
    return region


def tilted(frame: tuple[int, int], centre: tuple[float, float], size: tuple[float, float], angle: float) -> Mask:
    """A rectangle turned clockwise about its centre, cut by the frame."""
    rows, columns = np.mgrid[: frame[1], : frame[0]] + 0.5
    place = ((columns - centre[0]) + 1j * (rows - centre[1])) * np.exp(-1j * np.radians(angle))
    return Mask.from_full((abs(place.real) <= size[0] / 2) & (abs(place.imag) <= size[1] / 2))


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
        assert all(0 <= vertex[key] <= 100 for vertex in region["value"].get("vertices", ()) for key in ("x", "y"))
        assert all(0 <= region["value"].get(key, 0) <= 100 for key in ("x", "y", "width", "height"))
        assert all(0 < region["value"].get(key, 1) <= 50 for key in ("radiusX", "radiusY"))
        assert 0 <= region["value"].get("rotation", 0) < 360


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


@given(bits)
def test_any_mask_has_an_oriented_rectangle_that_passes_the_validator(full: np.ndarray) -> None:
    assume(full.any())
    mask = Mask.from_full(full)
    region = write_oriented(mask)
    prediction = {"result": [region], "score": 0.5, "model_version": "model-1"}
    assert LabelInterface(ORIENTED_CONFIG).validate_prediction(prediction, return_errors=True) == []
    value = region["value"]
    assert all(0 <= value[key] <= 100 for key in ("x", "y", "width", "height"))
    assert 0 <= value["rotation"] < 360
    upright = write(mask, Output.RECTANGLE)[0]["value"]
    assert value["width"] * value["height"] <= upright["width"] * upright["height"] + 0.1


@pytest.mark.parametrize("angle", [-80, -40, -15, 0, 20, 45, 70])
@pytest.mark.parametrize("frame", [(400, 200), (200, 400), (300, 300)])
def test_an_oriented_rectangle_lies_on_the_object(frame: tuple[int, int], angle: float) -> None:
    mask = tilted(frame, (frame[0] / 2, frame[1] / 2), (120, 40), angle)
    value = write_oriented(mask)["value"]
    shape = rectangle_drawn(value, frame)
    assert Mask.from_full(shape).iou(mask) > 0.93
    assert mask.intersection(Mask.from_full(shape)) >= mask.area - 8  # roundings of a ten-thousandth of a percent
    upright = write(mask, Output.RECTANGLE)[0]["value"]
    assert (value["rotation"] == 0) is (angle == 0)
    assert angle or value | upright == value


def test_a_side_too_long_for_one_axis_is_stored_along_the_other() -> None:
    """label-studio-sdk refuses a width above 100 % of the image's width, turned or not."""
    pole = tilted((100, 500), (50, 250), (118, 12), 43)
    value = write_oriented(pole)["value"]
    assert (value["width"], value["height"]) == (pytest.approx(12, abs=2), pytest.approx(118 / 5, abs=0.5))
    assert value["rotation"] == pytest.approx(133, abs=1)
    assert Mask.from_full(rectangle_drawn(value, pole.frame)).iou(pole) > 0.8
    value = write(pole, Output.ELLIPSE)[0]["value"]
    assert value["radiusX"] < 10
    assert value["rotation"] == pytest.approx(133, abs=1)
    assert Mask.from_full(ellipse_drawn(value, pole.frame)).iou(pole) > 0.8


@pytest.mark.parametrize(
    "mask",
    [tilted((200, 150), (20, 75), (120, 40), 30), tilted((200, 200), (100, 100), (270, 3), 45)],
    ids=["reaches out of the image", "longer than either side"],
)
def test_shapes_that_cannot_be_turned_are_upright_in_the_box(mask: Mask) -> None:
    upright = write(mask, Output.RECTANGLE)[0]["value"]
    assert write_oriented(mask)["value"] == upright
    value = write(mask, Output.ELLIPSE)[0]["value"]
    assert value == {
        "x": pytest.approx(upright["x"] + upright["width"] / 2, abs=1e-3),
        "y": pytest.approx(upright["y"] + upright["height"] / 2, abs=1e-3),
        "radiusX": pytest.approx(upright["width"] / 2, abs=1e-3),
        "radiusY": pytest.approx(upright["height"] / 2, abs=1e-3),
        "rotation": 0, "ellipselabels": ["Car"],
    }  # fmt: skip


@pytest.mark.parametrize("angle", [-60, -20, 0, 35, 50, 85])
@pytest.mark.parametrize("frame", [(400, 200), (200, 400), (300, 300)])
def test_an_ellipse_lies_on_the_object(frame: tuple[int, int], angle: float) -> None:
    full = np.zeros(frame[::-1], np.uint8)
    cv2.ellipse(full, (frame[0] // 2, frame[1] // 2), (80, 30), angle, 0, 360, 1, -1)
    mask = Mask.from_full(full)
    (region,) = write(mask, Output.ELLIPSE)
    assert Mask.from_full(ellipse_drawn(region["value"], frame)).iou(mask) > 0.96


@pytest.mark.parametrize("mask", [ring, parts], ids=["ring", "parts"])
def test_a_vector_is_the_polygon_by_other_words(mask: Mask) -> None:
    vectors, outlines = write(mask, Output.VECTOR), write(mask, Output.POLYGON)
    for vector, outline in zip(vectors, outlines, strict=True):
        value = vector["value"]
        assert value["closed"] is True
        assert [[vertex["x"], vertex["y"]] for vertex in value["vertices"]] == outline["value"]["points"]
        shape = vector_drawn(value, mask.frame)
        np.testing.assert_array_equal(shape, drawn(outline["value"]["points"], mask.frame))
    union = np.logical_or.reduce([vector_drawn(vector["value"], mask.frame) for vector in vectors])
    assert Mask.from_full(union).iou(mask) > 0.95


def test_a_rectangle_ignores_the_slack_of_a_loose_crop() -> None:
    loose = Mask(two, 0, 0, (70, 50))
    assert write(loose, Output.RECTANGLE)[0]["value"] == write(parts, Output.RECTANGLE)[0]["value"]


def test_fragments_are_no_regions_and_stretch_no_box() -> None:
    bits = two[:, :36].copy()
    speck, part = bits.copy(), bits.copy()
    speck[46:49, 31:36] = True  # 15 pixels beside 375
    part[40:46, 30:36] = True  # 36 of them
    for output in (Output.POLYGON, Output.RECTANGLE, Output.ELLIPSE, Output.VECTOR):
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
    assert [write(empty, output) for output in Output] == [[]] * len(Output)


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


def test_a_keypoint_lies_deep_inside() -> None:
    """Also where the middle of the mask is a hole."""
    (region,) = write(ring, Output.KEYPOINT)
    x, y = region["value"]["x"] / 100 * 120, region["value"]["y"] / 100 * 90
    assert set(region["value"]) == {"x", "y", "width", "keypointlabels"}
    assert 24 <= np.hypot(x - 60.5, y - 45.5) <= 31  # half way between the ring's two edges
