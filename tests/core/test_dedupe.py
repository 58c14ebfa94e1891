"""Which of several overlapping instances stay."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from mask_strategies import box_instance

from sam3_core import Instance
from sam3_core.dedupe import without_duplicates, without_lookalikes

BIG = (10, 10, 50, 50)
PART = (12, 12, 30, 30)


@st.composite
def crowds(draw: st.DrawFn) -> list[Instance]:
    """Up to a dozen overlapping boxes with few distinct scores, so that equal ones occur."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found = []
    for _ in range(draw(st.integers(0, 12))):
        x, y = rng.integers(0, 60, 2)
        width, height = rng.integers(5, 40, 2)
        found.append(box_instance(x, y, x + width, y + height, float(rng.integers(1, 6)) / 5))
    return found


@given(crowds(), st.floats(0, 1), st.floats(0, 1))
def test_as_the_rule_written_out(crowd: list[Instance], iou: float, contained: float) -> None:
    expected: list[Instance] = []
    for one in sorted(crowd, key=lambda instance: instance.score, reverse=True):
        full = one.mask.full()
        for better in expected:
            other = better.mask.full()
            shared = (full & other).sum()
            if shared / (full | other).sum() > iou or shared / full.sum() > contained:
                break
        else:
            expected.append(one)
    kept = without_duplicates(crowd, iou=iou, contained=contained)
    assert [id(one) for one in kept] == [id(one) for one in expected]


def test_the_better_of_two_readings_stays() -> None:
    worse, better = box_instance(*BIG, 0.6), box_instance(11, 10, 50, 50, 0.9)
    assert without_duplicates([worse, better], iou=0.6, contained=0.85) == [better]


def test_a_worse_part_of_a_better_whole_goes() -> None:
    whole, part = box_instance(*BIG, 0.9), box_instance(*PART, 0.8)
    assert without_duplicates([part, whole], iou=0.6, contained=0.85) == [whole]


def test_a_worse_whole_around_a_better_part_stays() -> None:
    whole, part = box_instance(*BIG, 0.8), box_instance(*PART, 0.9)
    assert without_duplicates([whole, part], iou=0.6, contained=0.85) == [part, whole]


def test_what_was_dropped_drops_nothing() -> None:
    first, second, third = (box_instance(x, 0, x + 30, 30, score) for x, score in ((0, 0.9), (7, 0.8), (14, 0.7)))
    assert without_duplicates([third, second, first], iou=0.5, contained=1) == [first, third]


def test_boxes_that_overlap_around_masks_that_do_not() -> None:
    lower = np.tri(40, dtype=np.bool_)
    crossing = [
        Instance(type(one.mask)(bits, 10, 10, (100, 100)), one.score)
        for one, bits in zip([box_instance(*BIG, 0.9), box_instance(*BIG, 0.8)], [lower, ~lower], strict=True)
    ]
    assert without_duplicates(crossing, iou=0.1, contained=0.1) == crossing


def test_lookalikes_go_when_the_negative_is_as_sure() -> None:
    cat, far = box_instance(*BIG, 0.7), box_instance(60, 60, 90, 90, 0.7)
    for score, stays in ((0.9, False), (0.7, False), (0.6, True)):
        dog = box_instance(12, 10, 50, 50, score)
        assert without_lookalikes([far, cat], [dog]) == ([far, cat] if stays else [far])


def test_lookalikes_need_enough_overlap() -> None:
    cat, part = box_instance(*BIG, 0.7), box_instance(*PART, 0.9)
    assert without_lookalikes([cat], [part]) == [cat]
    assert without_lookalikes([cat], [part], iou=0.1) == []
    assert without_lookalikes([cat], []) == [cat]
    assert without_lookalikes([], [part]) == []
