"""CVAT's masks against cvat-sdk's encoder and decoder, in both directions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from cvat_sdk.masks import decode_mask, encode_mask
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cvat_nuclio.masks import cvat_rle, flat_crop, mask_of_rle
from sam3_core import Mask
from sam3_core.errors import InvalidInput
from sam3_core.masks import Bits

FULL_BITS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20))


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    """A mask with a pixel at least, tight or padded, at the frame's border or not."""
    bits = draw(FULL_BITS.filter(np.any))
    left, top, right, bottom = (draw(st.integers(0, 5)) for _ in range(4))
    height, width = bits.shape
    return Mask(bits, left, top, (left + width + right, top + height + bottom))


@given(masks())
def test_runs_are_those_of_the_sdk(mask: Mask) -> None:
    encoded = cvat_rle(mask)
    assert encoded == encode_mask(mask.full())
    assert all(type(number) is int for number in encoded)
    width, height = mask.frame
    np.testing.assert_array_equal(decode_mask(encoded, image_width=width, image_height=height), mask.full())


@given(masks())
def test_flat_crop_is_the_pixels_and_an_inclusive_box(mask: Mask) -> None:
    *values, left, top, right, bottom = flat_crop(mask)
    assert all(type(number) is int for number in (*values, left, top, right, bottom))
    assert set(values) <= {0, 1}
    full = np.zeros_like(mask.full())
    full[top : bottom + 1, left : right + 1] = np.reshape(values, (bottom - top + 1, right - left + 1))
    np.testing.assert_array_equal(full, mask.full())
    assert [left, top, right, bottom] == encode_mask(mask.full())[-4:]


def test_runs_of_a_mask_by_hand() -> None:
    bits = np.array([[0, 1, 1], [1, 1, 0]], dtype=np.bool_)
    mask = Mask(bits, 5, 7, (20, 10))
    assert cvat_rle(mask) == [1, 4, 1, 5, 7, 7, 8]
    assert flat_crop(mask) == [0, 1, 1, 1, 1, 0, 5, 7, 7, 8]
    assert cvat_rle(Mask(np.ones((2, 3), dtype=np.bool_), 5, 7, (20, 10))) == [0, 6, 5, 7, 7, 8]


@given(masks(), st.sampled_from([int, float, np.int32]))
def test_reading_gives_the_mask_back(mask: Mask, number: type) -> None:
    read = mask_of_rle([number(value) for value in cvat_rle(mask)], mask.frame)
    np.testing.assert_array_equal(read.full(), mask.full())
    assert (read.frame, read.box) == (mask.frame, mask.tight().box)


@given(FULL_BITS)
def test_what_the_sdk_writes_is_read(bits: Bits) -> None:
    """With any box, and without a pixel inside too."""
    frame = bits.shape[1], bits.shape[0]
    for box in (None, [0, 0, *frame]):
        read = mask_of_rle(encode_mask(bits, box), frame)
        np.testing.assert_array_equal(read.full(), bits)
        assert read.box == read.tight().box


@given(st.lists(st.integers(-3, 12) | st.floats(width=16), max_size=12), st.integers(1, 6), st.integers(1, 6))
def test_any_numbers_are_read_as_the_sdk_does_or_refused(points: list[float], width: int, height: int) -> None:
    try:
        expected = decode_mask(points, image_width=width, image_height=height)
    except (ValueError, OverflowError):
        with pytest.raises(InvalidInput, match="CVAT mask"):
            mask_of_rle(points, (width, height))
    else:
        np.testing.assert_array_equal(mask_of_rle(points, (width, height)).full(), expected)


@pytest.mark.parametrize(
    "points",
    [
        None, 5, "0 4 0 0 1 1", b"\0\4\0\0\1\1", {}, [], [0, 0, 1, 1], ["0", "4", "0", "0", "1", "1"], [None] * 6,
        [[0, 4], [0, 0, 1, 1]], [[0, 4, 0, 0, 1, 1]], [True] * 6, [0, 4.5, 0, 0, 1, 1], [0, math.nan, 0, 0, 1, 1],
        [0, math.inf, 0, 0, 1, 1], [0, 3, 0, 0, 1, 1], [0, 5, 0, 0, 1, 1], [3, -1, 2, 0, 0, 1, 1],
        [-(2**63), 4, 0, 0, 1, 1], [1e300, 4, 0, 0, 1, 1], [2**80, 4, 0, 0, 1, 1],
        [2**63 - 1, 2**63 - 1, 6, 0, 0, 1, 1],
        [2**62, 2**62, 2**62, 2**62, 4, 0, 0, 1, 1], [0, 4, 1, 0, 0, 1], [0, 4, 0, 1, 1, 0], [0, 4, -1, 0, 0, 1],
        [0, 4, 0, -1, 1, 0], [0, 4, 4, 0, 5, 1], [0, 4, 0, 3, 1, 4], [10**9, 0, 0, 10**9, 10**9],
    ],
    ids=repr,
)  # fmt: skip
def test_nonsense_is_refused(points: Any) -> None:
    with pytest.raises(InvalidInput, match=r"CVAT mask[^\n]*$"):
        mask_of_rle(points, (5, 4))


def test_runs_whose_sum_overflows_are_refused() -> None:
    """4096 runs of 2**52 pixels add up to 0 in 64 bits."""
    with pytest.raises(InvalidInput, match="do not add up"):
        mask_of_rle([2**52] * 4096 + [4, 0, 0, 1, 1], (5, 4))


@pytest.mark.parametrize("encode", [cvat_rle, flat_crop])
def test_an_empty_mask_has_no_box(encode: Any) -> None:
    with pytest.raises(ValueError, match="empty"):
        encode(Mask(np.zeros((3, 3), dtype=np.bool_), 1, 1, (9, 9)))


def test_the_frame_itself_is_never_built() -> None:
    """A dot in a frame of 4 gigapixels: as an array it would not fit."""
    mask = Mask(np.ones((2, 3), dtype=np.bool_), 40_000, 50_000, (60_000, 65_000))
    assert cvat_rle(mask) == [0, 6, 40_000, 50_000, 40_002, 50_001]
    assert mask_of_rle(cvat_rle(mask), mask.frame).box == mask.box
