"""An annotation's regions, read into what its reviewer drew: every shape, and nothing that was not drawn to stay."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from drawn_regions import covered
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from backend.labeling import Output, Plan, read_plan
from backend.learning.regions import Reading, read_regions, united
from backend.prompts import Target
from backend.regions import Picture, RegionWriter
from sam3_core import Instance, Mask

LABELS = '<Label value="car"/><Label value="bus"/>'
NAMES = {
    Output.POLYGON: "PolygonLabels", Output.BRUSH: "BrushLabels", Output.RECTANGLE: "RectangleLabels",
    Output.BITMASK: "BitmaskLabels", Output.ELLIPSE: "EllipseLabels", Output.VECTOR: "VectorLabels",
}  # fmt: skip
CONFIG = f"""
<View>
  <Image name="image" valueList="$images"/>
  <Image name="other" value="$other"/>
  {"".join(f'<{tag} name="{output}" toName="image">{LABELS}</{tag}>' for output, tag in NAMES.items())}
  <PolygonLabels name="beside" toName="other">{LABELS}</PolygonLabels>
  <KeyPointLabels name="click" smart="true" toName="image">{LABELS}</KeyPointLabels>
  <RectangleLabels name="prompt-box" smart="true" toName="image">{LABELS}</RectangleLabels>
  <TextArea name="text" toName="image"/>
  <Choices name="quality" toName="image"><Choice value="good"/></Choices>
</View>
"""
PLAN = read_plan(CONFIG)
APART = read_plan(
    f'<View><Image name="image" value="$image"/><Labels name="labels" toName="image">{LABELS}</Labels>'
    '<Polygon name="polygon" toName="image"/><Brush name="brush" toName="image"/></View>'
)
FRAME = (64, 48)


def read(results: list[Any], plan: Plan = PLAN) -> Reading:
    return read_regions([Raw(msgspec.json.encode(result)) for result in results], plan)


def blob(seed: int = 0, *, parts: int = 1) -> Mask:
    """One convex object, or several apart."""
    rows, columns = np.mgrid[: FRAME[1], : FRAME[0]]
    bits = np.zeros((FRAME[1], FRAME[0]), dtype=np.bool_)
    for part in range(parts):
        bits |= (rows - 22) ** 2 + (columns - 14 - 30 * part - seed) ** 2 < 100
    return Mask.from_full(bits)


def target_of(plan: Plan, output: Output, page: int | None = None) -> Target:
    source = plan.sources[0]
    return Target(source, page, next(control for control in source.controls if control.output is output), "car")


def written(mask: Mask, output: Output, plan: Plan = PLAN, page: int | None = None) -> list[dict[str, Any]]:
    """As we write an instance into a prediction."""
    instance = Instance(mask=mask, score=0.75, phrase="red car")
    return RegionWriter().write(instance, target_of(plan, output, page), Picture("key", "v1"))


def polygon(name: str = "p", label: str = "car", **more: Any) -> dict[str, Any]:
    value = {"points": [[10, 10], [50, 10], [50, 50], [10, 50]], "polygonlabels": [label]}
    return {
        "id": name, "from_name": "polygonlabels", "to_name": "image", "type": "polygonlabels", "value": value,
        "original_width": FRAME[0], "original_height": FRAME[1], "image_rotation": 0,
    } | more  # fmt: skip


@pytest.mark.parametrize("output", NAMES)
def test_every_shape_that_we_write_is_read_back(output: Output) -> None:
    regions = written(blob(), output, page=2)
    reading = read(regions)
    (drawn,) = reading.drawn
    assert (drawn.region, drawn.label, drawn.source, drawn.page) == (regions[0]["id"], "car", "image", 2)
    assert (drawn.score, drawn.phrase, reading.unread) == (0.75, "red car", 0)
    assert drawn.around is (output in (Output.RECTANGLE, Output.ELLIPSE))
    assert drawn.mask.frame == FRAME
    # Against decoders that are not ours.
    assert drawn.mask.iou(covered(regions[0])) > 0.98


def test_a_turned_rectangle_is_around_its_object() -> None:
    value = {"x": 50, "y": 20, "width": 20, "height": 10, "rotation": 30, "rectanglelabels": ["bus"]}
    region = polygon("r", from_name="rectanglelabels", type="rectanglelabels", value=value)
    (drawn,) = read([region]).drawn
    assert (drawn.label, drawn.around) == ("bus", True)
    assert drawn.mask.iou(covered(region)) > 0.94


def test_parts_are_one_object_and_stay_one_without_the_first() -> None:
    regions = written(blob(parts=2), Output.POLYGON)
    assert len(regions) == 2
    first, second = regions[0]["id"], regions[1]["id"]
    reading = read(regions)
    (drawn,) = reading.drawn
    assert drawn.mask.iou(united([covered(region) for region in regions])) > 0.9
    assert reading.parts == {first: {first, second}}
    (rest,) = read(regions[1:]).drawn
    assert rest.region == first
    assert rest.mask.area < drawn.mask.area * 0.6


def test_a_child_of_another_label_or_shape_is_an_object_of_its_own() -> None:
    brush = written(blob(), Output.BRUSH)[0] | {"parentID": "p"}
    reading = read([polygon("p"), polygon("q", "bus", parentID="p"), brush])
    assert sorted((drawn.region, drawn.label) for drawn in reading.drawn) == sorted(
        [("p", "car"), ("p", "bus"), (brush["id"], "car")]
    )


@pytest.mark.parametrize("output", [Output.POLYGON, Output.BRUSH])
def test_where_labels_are_a_tag_of_their_own_two_results_are_one_region(output: Output) -> None:
    regions = written(blob(), output, APART)
    assert len(regions) == 2
    for order in (regions, regions[::-1]):
        (drawn,) = read(order, APART).drawn
        assert (drawn.region, drawn.label) == (regions[0]["id"], "car")
        assert drawn.mask.iou(covered(regions[0])) > 0.9
    assert read(regions[:1], APART).drawn == ()  # a shape that nobody named


def test_several_labels_of_a_region_are_several_objects() -> None:
    both = polygon() | {"value": polygon()["value"] | {"polygonlabels": ["car", "bus"]}}
    assert sorted(drawn.label for drawn in read([both]).drawn) == ["bus", "car"]


NOT_TO_STAY = [
    polygon(from_name="click", type="keypointlabels", is_positive=True,
            value={"x": 5, "y": 5, "width": 1, "keypointlabels": ["car"]}),
    polygon(from_name="prompt-box", type="rectanglelabels",
            value={"x": 5, "y": 5, "width": 9, "height": 9, "rotation": 0, "rectanglelabels": ["car"]}),
    polygon(is_positive=False),
    polygon(from_name="text", type="textarea", value={"text": ["car"]}),
    polygon(from_name="quality", type="choices", value={"choices": ["good"]}),
    {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right", "labels": []},
    polygon(label="plane"), polygon(from_name="gone"), polygon(to_name="elsewhere"), polygon(to_name=[1]),
]  # fmt: skip


@pytest.mark.parametrize("result", NOT_TO_STAY)
def test_prompts_texts_and_foreign_labels_are_passed_over(result: dict[str, Any]) -> None:
    reading = read([result, polygon("stays")])
    assert [drawn.region for drawn in reading.drawn] == ["stays"]
    assert reading.unread == 0


UNREADABLE = [
    polygon(original_width=0), polygon(original_width=None), polygon(original_height="48"),
    polygon(original_width=-5),
    polygon(original_width=10**6, original_height=10**6),
    polygon(item_index=-1), polygon(item_index="x"),
    polygon(value={"points": [], "polygonlabels": ["car"]}), polygon(value={"points": "x", "polygonlabels": ["car"]}),
    polygon(value={"points": [[1, 1]] * 2, "polygonlabels": ["car"]}),
    polygon(from_name="brushlabels", value={"rle": [1, 2, 3], "brushlabels": ["car"]}),
    polygon(from_name="brushlabels", value={"rle": [0, 0, 48, 0, 999], "brushlabels": ["car"]}),
    polygon(from_name="bitmasklabels", value={"imageDataURL": "data:image/png;base64,AA", "bitmasklabels": ["car"]}),
    polygon(from_name="rectanglelabels", value={"x": "a", "height": 2, "rectanglelabels": ["car"]}),
    5, None, "text", [],
]  # fmt: skip


@pytest.mark.parametrize("result", UNREADABLE)
def test_what_cannot_be_read_is_counted_and_spoils_nothing(result: object, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    reading = read([result, polygon("stays")])
    assert [drawn.region for drawn in reading.drawn] == ["stays"]
    assert reading.unread == 1
    assert "1 regions are not learned from" in caplog.text


def test_pages_and_images_are_kept_apart() -> None:
    beside = polygon("p", from_name="beside", to_name="other")
    reading = read([polygon(), polygon(item_index=0) | {"id": "q"}, polygon(item_index=3), beside])
    assert sorted((drawn.region, drawn.source, drawn.page) for drawn in reading.drawn) == [
        ("p", "image", 0), ("p", "image", 3), ("p", "other", 0), ("q", "image", 0),
    ]  # fmt: skip


def test_what_a_prediction_left_untouched() -> None:
    regions = [
        polygon("a", origin="prediction"), polygon("b", origin="prediction-changed"), polygon("c", origin="manual"),
        polygon("d"), polygon("e", origin="prediction"), polygon("f", parentID="e", origin="manual"),
    ]  # fmt: skip
    assert read(regions).untouched == {"a"}


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 200) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
spoilt = st.builds(
    lambda name, value: polygon() | {name: value}, st.sampled_from(sorted(polygon())), anything
) | st.builds(
    lambda name, value: polygon() | {"value": polygon()["value"] | {name: value}},
    st.sampled_from(["points", "rle", "vertices", "closed", "height", "radiusX", "polygonlabels", "imageDataURL"]),
    anything,
)  # fmt: skip


@given(st.lists(spoilt | anything, max_size=3))
def test_nothing_that_arrives_breaks_the_reader(results: list[Any]) -> None:
    kept = read([*results, polygon("stays", item_index=99)]).drawn
    assert "stays" in {drawn.region for drawn in kept if drawn.page == 99}


def test_masks_of_one_object_are_united() -> None:
    left, right = blob(), blob(25)
    both = united([left, right, Mask.from_full(np.ones((5, 5)))])
    assert np.array_equal(both.full(), left.full() | right.full())
