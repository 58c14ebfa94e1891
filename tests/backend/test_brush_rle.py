"""Brush RLE against Label Studio's own decoder and encoder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from label_studio_sdk.converter.brush import decode_rle, encode_rle

from backend.rle import brush_rle
from sam3_core import Mask


def check(mask: Mask) -> None:
    """Decoded by the SDK: RGBA of exactly the frame, all four channels 255 inside and 0 outside."""
    rle = brush_rle(mask)
    assert all(type(value) is int and 0 <= value <= 255 for value in rle)
    width, height = mask.frame
    rgba = decode_rle(rle).reshape(height, width, 4)
    expected = np.where(mask.full(), 255, 0)
    for channel in range(4):
        np.testing.assert_array_equal(rgba[..., channel], expected)


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)))
def test_any_small_mask(bits: np.ndarray) -> None:
    check(Mask.from_full(bits))


@given(
    bits=hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=12)),
    margins=st.tuples(*[st.integers(0, 9)] * 4),
)
def test_any_crop_anywhere_in_a_frame_tight_or_not(bits: np.ndarray, margins: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = margins
    height, width = bits.shape
    frame = (max(1, left + width + right), max(1, top + height + bottom))
    check(Mask(bits, left, top, frame))


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_noise(density: int, seed: int) -> None:
    check(Mask.from_full(np.random.default_rng(seed).random((61, 83)) < density / 5))


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("values", [8, 12, 16, 20, 256, 260, 65_532, 65_536, 65_540, 131_072, 131_076, 196_612])
def test_runs_around_every_size_limit(values: int, inside: bool) -> None:
    """Lengths at and beside the limits of the four size fields; up to the longest the SDK writes the same bytes."""
    row = np.zeros((1, values // 4 + 1), dtype=np.bool_)
    row[0, : values // 4] = True
    row = row if inside else ~row
    mask = Mask.from_full(row)
    check(mask)
    if values <= 65_536:  # beyond, the SDK spends 16 bits on any rest
        theirs = encode_rle(np.repeat(row.ravel().astype(np.uint8) * 255, 4))
        assert brush_rle(mask) in (theirs, theirs[:-1])  # the SDK adds a zero byte when the bits end on a byte


@pytest.mark.parametrize("shape", [(300, 400), (1, 70_000), (70_000, 1)])
@pytest.mark.parametrize("value", [True, False])
def test_whole_frame_full_or_empty(shape: tuple[int, int], value: bool) -> None:
    check(Mask.from_full(np.full(shape, value)))


def test_runs_that_go_on_in_the_next_row_are_one_run() -> None:
    """A full-width band is one run, not one per row."""
    bits = np.zeros((40, 10), dtype=np.bool_)
    bits[10:30] = True
    assert len(brush_rle(Mask.from_full(bits))) == -(-(53 + (3 + 16 + 8) * 2 + (3 + 16 + 8)) // 8)


def test_a_large_frame_costs_its_crop_only() -> None:
    """A frame of 2**29 pixels would be 2 GiB as RGBA; its one pixel is some runs of background."""
    rle = brush_rle(Mask(np.ones((1, 1), dtype=np.bool_), 5, 7, (1 << 15, 1 << 14)))
    assert int.from_bytes(bytes(rle[:4]), "big") == (1 << 29) * 4


def test_a_frame_too_large_for_the_format_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        brush_rle(Mask(np.ones((1, 1), dtype=np.bool_), 0, 0, (1 << 15, 1 << 15)))
