"""Masks as crops behave like the full frames they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mask_strategies import full_bits, masks

from sam3_core import Mask


@given(full_bits())
def test_from_full_and_full_are_inverse_and_tight(bits: np.ndarray) -> None:
    mask = Mask.from_full(bits)
    assert np.array_equal(mask.full(), bits)
    assert mask.area == bits.sum()
    assert mask.frame == bits.shape[::-1]
    if mask.area:
        rows, columns = np.nonzero(bits)
        assert mask.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    else:
        assert mask.bits.shape == (0, 0)


@given(masks())
def test_tight_keeps_the_pixels(mask: Mask) -> None:
    tight = mask.tight()
    assert np.array_equal(tight.full(), mask.full())
    assert tight.bits.flags.c_contiguous
    assert not tight.area or (tight.bits[0].any() and tight.bits[-1].any() and tight.bits[:, -1].any())


@given(st.data())
def test_intersection_and_iou_are_those_of_the_full_frames(data: st.DataObject) -> None:
    one = data.draw(masks())
    other = Mask.from_full(np.roll(one.full(), data.draw(st.integers(-5, 5)), axis=1))
    a, b = one.full(), other.full()
    assert one.intersection(other) == other.intersection(one) == (a & b).sum()
    assert one.iou(other) == pytest.approx((a & b).sum() / max(1, (a | b).sum()))


def test_integers_count_as_inside_when_not_zero() -> None:
    assert Mask.from_full(np.array([[0, 2], [0, 255]], dtype=np.uint8)).box == (1, 0, 2, 2)


def test_different_frames_are_refused() -> None:
    one, other = Mask.from_full(np.ones((2, 3))), Mask.from_full(np.ones((3, 2)))
    with pytest.raises(ValueError, match="different frames"):
        one.intersection(other)


@pytest.mark.parametrize(("x", "y"), [(-1, 0), (0, -1), (2, 0), (0, 3)])
def test_a_crop_that_sticks_out_is_refused(x: int, y: int) -> None:
    with pytest.raises(ValueError, match="sticks out"):
        Mask(np.ones((2, 3), dtype=np.bool_), x, y, (4, 4))


@pytest.mark.parametrize("bits", [np.ones((2, 2), np.uint8), np.ones(4, np.bool_), np.ones((1, 2, 2), np.bool_)])
def test_bits_must_be_flat_bools(bits: np.ndarray) -> None:
    with pytest.raises(ValueError, match="2-D bool"):
        Mask(bits, 0, 0, (9, 9))
