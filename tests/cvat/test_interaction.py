"""An interactor's answer: clicks and boxes in all combinations, on rendered scenes, decoded by cvat-sdk."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cvat_sdk.masks import decode_mask
from function_context import Script
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from cvat_nuclio.interaction import Prompts, find_alike, mask_reply, outline, read_prompts, shapes_reply
from sam3_core import (
    Box,
    Caller,
    EncodedImage,
    Exemplar,
    FindOptions,
    Instance,
    Lane,
    Mask,
    Point,
    Segmenter,
    VisualPrompt,
)
from sam3_core.demo.scenes import Scene, SceneObject
from sam3_core.errors import InvalidInput, InvalidPrompt, NotReady, OutOfTime
from sam3_core.finish import DEFAULT_FINISH, finished

SIZE = (200, 150)
IMAGE = EncodedImage(b"any")
FOUND = Instance(Mask(np.ones((2, 3), np.bool_), 4, 5, (20, 10)), 0.75)


class Late(Script):
    """Whose time is over after so many calls."""

    def __init__(self, *, outlined: list[list[Instance]], after: int) -> None:
        super().__init__(outlined=outlined)
        self._after = after

    def _asked(self, caller: Caller) -> None:
        super()._asked(caller)
        if len(self.callers) > self._after:
            raise OutOfTime("over")


@pytest.fixture(scope="module")
def drawn(scene: Callable[..., Scene]) -> Scene:
    return scene(9, objects=(2, 4), size=SIZE)


@pytest.fixture(scope="module")
def image(drawn: Scene) -> EncodedImage:
    return EncodedImage(drawn.encode("PNG"))


def middle(item: SceneObject) -> list[float]:
    """On the object."""
    rows, columns = np.nonzero(item.mask)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return [float(columns[nearest]) + 0.5, float(rows[nearest]) + 0.5]


def corners(item: SceneObject) -> list[list[float]]:
    x0, y0, x1, y1 = item.box
    return [[x0, y0], [x1, y1]]


def iou(mine: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    return float((mine & theirs).sum() / (mine | theirs).sum())


def decoded(reply: dict[str, Any], size: tuple[int, int] = SIZE) -> list[NDArray[np.bool_]]:
    """The masks of a reply, after JSON, by cvat-sdk's decoder."""
    shapes = json.loads(json.dumps(reply, allow_nan=False))["shapes"]
    for shape in shapes:
        assert shape["type"] == "mask"
        ((spec_id, value),) = ((one["spec_id"], one["value"]) for one in shape["attributes"])
        assert spec_id == 0
        assert 0 <= float(value) <= 1
    return [np.asarray(decode_mask(one["points"], image_width=size[0], image_height=size[1])) for one in shapes]


@pytest.mark.parametrize("used", list(itertools.product((False, True), repeat=3)))
def test_every_combination_of_prompts(
    segmenter: Segmenter, drawn: Scene, image: EncodedImage, used: tuple[bool, bool, bool]
) -> None:
    positive, negative, box = used
    item, other = drawn.objects[0], drawn.objects[1]
    body = {
        "pos_points": [middle(item)] if positive else [],
        "neg_points": [middle(other)] if negative else [],
        "obj_bbox": corners(item) if box else [],
    }
    found = outline(segmenter, image, read_prompts(body, SIZE))
    masks = decoded(shapes_reply(found.instances))
    if not (positive or box):
        assert masks == []
        assert found.remarks == ["nothing to outline: there is neither a box nor a positive click"]
        return
    (mask,) = masks
    assert iou(mask, item.mask) > 0.8
    points = [Point(*middle(item))] * positive + [Point(*middle(other), positive=False)] * negative
    (best,) = segmenter.outline(image, VisualPrompt(tuple(points), Box(*item.box) if box else None))
    np.testing.assert_array_equal(mask, finished(best.mask, DEFAULT_FINISH).full())


def test_several_boxes_are_several_objects_in_their_order(
    segmenter: Segmenter, drawn: Scene, image: EncodedImage
) -> None:
    items = drawn.objects
    assert len(items) >= 3
    body = {"obj_bbox": [corner for item in items for corner in corners(item)]}
    masks = decoded(shapes_reply(outline(segmenter, image, read_prompts(body, SIZE)).instances))
    assert [iou(mask, item.mask) > 0.8 for mask, item in zip(masks, items, strict=True)] == [True] * len(items)


def test_a_click_goes_to_the_box_it_lies_in_or_is_nearest_to() -> None:
    large, small, far = Box(0, 0, 100, 100), Box(10, 10, 30, 30), Box(200, 0, 220, 20)
    inner, outer, beside = Point(20, 20), Point(60, 60, positive=False), Point(190, 40)
    script = Script(outlined=[[], [], []])
    outline(script, IMAGE, Prompts((inner, outer, beside), (large, small, far)))
    assert script.prompts == [
        VisualPrompt((outer,), large),
        VisualPrompt((inner,), small),
        VisualPrompt((beside,), far),
    ]


def test_one_prompt_does_not_spoil_the_others(segmenter: Segmenter, drawn: Scene, image: EncodedImage) -> None:
    item = drawn.objects[0]
    body = {"obj_bbox": [[5000, 5000], [5100, 5100], *corners(item), [3, 3], [3, 9]]}
    found = outline(segmenter, image, read_prompts(body, SIZE))
    (mask,) = decoded(shapes_reply(found.instances))
    assert iou(mask, item.mask) > 0.8
    assert len(found.remarks) == 2
    assert "a box needs a width and a height" in found.remarks[0]


def test_what_the_model_does_not_see_is_said() -> None:
    found = outline(Script(outlined=[[]]), IMAGE, Prompts((Point(3, 4),)))
    assert (found.instances, found.remarks) == ([], ["the model sees no object at (3, 4)"])


def test_an_error_is_no_empty_answer() -> None:
    for work in (lambda s, p: outline(s, IMAGE, p), lambda s, p: find_alike(s, IMAGE, p, FindOptions())):
        with pytest.raises(NotReady):
            work(Script(error=NotReady("loading")), Prompts((Point(3, 4),)))


def test_out_of_time_nothing_more_is_begun_and_what_is_there_is_kept() -> None:
    late = Late(outlined=[[FOUND]] * 3, after=2)
    prompts = Prompts(boxes=(Box(0, 0, 2, 2), Box(3, 3, 4, 4), Box(5, 5, 7, 7), Box(6, 6, 9, 9)))
    found = outline(late, IMAGE, prompts, caller=Caller(Lane.CLICK))
    assert len(found.instances) == len(late.prompts) == 2
    assert found.remarks == ["out of time before the box (5, 5, 7, 7)", "out of time before the box (6, 6, 9, 9)"]


def test_out_of_time_before_anything_is_no_empty_answer() -> None:
    over = Caller(Lane.CLICK, time.monotonic() - 1)
    script = Script()
    with pytest.raises(OutOfTime):
        outline(script, IMAGE, Prompts(boxes=(Box(0, 0, 2, 2), Box(5, 5, 7, 7))), caller=over)
    with pytest.raises(OutOfTime):
        find_alike(script, IMAGE, Prompts((Point(9, 9),), (Box(0, 0, 2, 2),)), FindOptions(), caller=over)
    with pytest.raises(OutOfTime):
        find_alike(script, IMAGE, Prompts(boxes=(Box(0, 0, 2, 2),)), FindOptions(), caller=over)
    assert (script.prompts, script.searches) == ([], [])


@pytest.mark.parametrize("kind", ["box", "click"])
def test_an_exemplar_finds_everything_like_it(segmenter: Segmenter, scene: Callable[..., Scene], kind: str) -> None:
    drawn = scene(54, objects=(3, 6), size=SIZE)
    same = max((drawn.matching(item.name) for item in drawn.objects), key=len)
    assert len(same) == 3
    image = EncodedImage(drawn.encode("PNG"))
    body = {"obj_bbox": corners(same[0])} if kind == "box" else {"pos_points": [middle(same[0])]}
    found = find_alike(segmenter, image, read_prompts(body, SIZE), FindOptions())
    masks = decoded(shapes_reply(found.instances))
    for item in same:
        assert max(iou(mask, item.mask) for mask in masks) > 0.7
    scores = [one.score for one in found.instances]
    assert scores == sorted(scores, reverse=True)


def test_clicks_become_exemplars_of_the_objects_they_are_on() -> None:
    frame = (20, 10)
    first, second = (Instance(Mask(np.ones((2, 3), np.bool_), x, 4, frame), 0.5) for x in (6, 12))
    script = Script(outlined=[[first], [second]])
    inside, outside, negative = Point(1, 1), Point(7, 5), Point(13, 5, positive=False)
    options = FindOptions()
    find_alike(script, IMAGE, Prompts((inside, outside, negative), (Box(0, 0, 3, 3),)), options)
    assert script.prompts == [VisualPrompt((Point(7, 5),)), VisualPrompt((Point(13, 5),))]
    (((concept,), asked),) = script.searches
    assert concept.exemplars == (
        Exemplar(Box(0, 0, 3, 3)), Exemplar(Box(6, 4, 9, 6)), Exemplar(Box(12, 4, 15, 6), positive=False),
    )  # fmt: skip
    assert asked is options


def test_without_a_positive_exemplar_nothing_is_searched() -> None:
    mask = Mask(np.ones((2, 2), np.bool_), 0, 0, (20, 10))
    for prompts, outlined in (
        (Prompts(), []),
        (Prompts((Point(1, 1, positive=False),)), [[Instance(mask, 0.5)]]),
        (Prompts((Point(1, 1),)), [[]]),
    ):
        script = Script(outlined=outlined)
        found = find_alike(script, IMAGE, prompts, FindOptions())
        assert (found.instances, script.searches) == ([], [])
        assert found.remarks


def test_an_exemplar_that_cannot_be_is_a_remark() -> None:
    class Refusing(Script):
        def find(self, *_: object, **__: object) -> Any:
            raise InvalidPrompt("the box lies outside the image")

    found = find_alike(Refusing(), IMAGE, Prompts(boxes=(Box(500, 0, 501, 1),)), FindOptions())
    assert (found.instances, found.remarks) == ([], ["the box lies outside the image"])


@pytest.mark.parametrize("body", [{}, {"pos_points": None, "neg_points": None, "obj_bbox": None}, {"obj_bbox": []}])
def test_prompts_may_be_missing(body: dict[str, Any]) -> None:
    assert read_prompts(body, SIZE) == Prompts()


def test_prompts_are_read_in_pairs() -> None:
    body = {"pos_points": [[1, 2]], "neg_points": [(3.5, 4)], "obj_bbox": [[9, 8], [5, 6], [0, 0], [1, 1]]}
    points = (Point(1, 2), Point(3.5, 4, positive=False))
    assert read_prompts(body, SIZE) == Prompts(points, (Box(5, 6, 9, 8), Box(0, 0, 1, 1)))


@pytest.mark.parametrize("key", ["pos_points", "neg_points", "obj_bbox"])
@pytest.mark.parametrize(
    "value",
    [
        "[[1, 2]]",
        5,
        {},
        [1, 2],
        [[1]],
        [[1, 2, 3]],
        [["1", "2"]],
        [[True, 2]],
        [[math.nan, 1]],
        [[1, math.inf]],
        [[10**400, 1]],
        [None],
    ],
)
def test_what_is_no_list_of_points_is_refused(key: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=key):
        read_prompts({key: value}, SIZE)


def test_a_negative_click_outside_the_picture_takes_nothing_away() -> None:
    body = {"pos_points": [[3, 4]], "neg_points": [[-1, 4], [SIZE[0] + 1, 0], [SIZE[0], SIZE[1]]]}
    prompts = read_prompts(body, SIZE)
    assert prompts.points == (Point(3, 4), Point(*SIZE, positive=False))
    assert ["left out" in said for said in prompts.unusable] == [True, True]
    script = Script(outlined=[[]])
    assert outline(script, IMAGE, prompts).remarks[:2] == list(prompts.unusable)


places = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.integers(-5, SIZE[0] + 5))
some_points = st.lists(st.lists(places, min_size=2, max_size=2), max_size=3)


@given(some_points, some_points, some_points.map(lambda some: some * 2), st.booleans())
def test_no_numbers_break_the_model(
    segmenter: Segmenter, image: EncodedImage, positive: Any, negative: Any, boxes: Any, alike: bool
) -> None:
    body = {"pos_points": positive, "neg_points": negative, "obj_bbox": boxes}
    try:
        prompts = read_prompts(json.loads(json.dumps(body)), SIZE)
    except InvalidInput:
        return  # whole numbers of hundreds of digits
    found = find_alike(segmenter, image, prompts, FindOptions()) if alike else outline(segmenter, image, prompts)
    decoded(shapes_reply(found.instances))
    assert found.instances or found.remarks


def test_half_a_box_is_refused() -> None:
    with pytest.raises(InvalidInput, match="3 points"):
        read_prompts({"obj_bbox": [[1, 2], [3, 4], [5, 6]]}, SIZE)


FULL_BITS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)).filter(np.any)


@given(FULL_BITS, st.floats())
def test_replies_decode_to_the_mask(bits: NDArray[np.bool_], score: float) -> None:
    height, width = bits.shape
    one = Instance(Mask.from_full(bits), score)
    (mask,) = decoded(shapes_reply([one]), (width, height))
    np.testing.assert_array_equal(mask, bits)
    legacy = json.loads(json.dumps(mask_reply([one], (width, height)), allow_nan=False))
    assert list(legacy) == ["mask"]
    np.testing.assert_array_equal(np.array(legacy["mask"]), bits.astype(int))


def test_the_legacy_mask_holds_all_objects_and_is_never_without_rows() -> None:
    frame = (5, 3)
    one = Instance(Mask(np.ones((2, 2), np.bool_), 0, 0, frame), 0.5)
    two = Instance(Mask(np.array([[False, True], [True, True]]), 1, 1, frame), 0.5)
    assert mask_reply([one, two], frame) == {"mask": [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 0, 0]]}
    assert mask_reply([], frame) == {"mask": [[0] * 5] * 3}
    assert shapes_reply([]) == {"shapes": []}


def test_specks_do_not_leave() -> None:
    bits = np.zeros((80, 80), np.bool_)
    bits[10:60, 10:60] = True
    bits[75, 75] = True
    found = outline(Script(outlined=[[Instance(Mask.from_full(bits), 0.5)]]), IMAGE, Prompts((Point(20, 20),)))
    assert found.instances[0].mask.box == (10, 10, 60, 60)
