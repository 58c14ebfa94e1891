"""Brush RLE against Label Studio's own decoder and encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from label_studio_sdk.converter.brush import decode_rle, encode_rle

from backend.rle import brush_rle, mask_of_rle
from sam3_core import Mask
from sam3_core.errors import InvalidInput


def check(mask: Mask) -> None:
    """Decoded by the SDK: RGBA of exactly the frame, all four channels 255 inside and 0 outside."""
    rle = brush_rle(mask)
    assert all(type(value) is int and 0 <= value <= 255 for value in rle)
    width, height = mask.frame
    rgba = decode_rle(rle).reshape(height, width, 4)
    expected = np.where(mask.full(), 255, 0)
    for channel in range(4):
        np.testing.assert_array_equal(rgba[..., channel], expected)
    check_reading(rle, mask)


def check_reading(rle: Sequence[int], mask: Mask) -> None:
    """Read by us: the same pixels, in the smallest crop."""
    read = mask_of_rle(rle, mask.frame)
    assert read.frame == mask.frame
    np.testing.assert_array_equal(read.full(), mask.full())
    if mask.area:
        assert read.box == mask.tight().box


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


# ---- reading -----------------------------------------------------------------------------------------------------


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(4)), elements=st.integers(0, 255))
)
def test_what_the_sdk_writes_of_any_picture_is_its_alpha(rgba: np.ndarray) -> None:
    """Every value may differ from its neighbours: the SDK writes such as runs of one raw value."""
    height, width, _ = rgba.shape
    read = mask_of_rle(encode_rle(rgba.ravel()), (width, height))
    np.testing.assert_array_equal(read.full(), rgba[..., 3] > 127)


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=30)))
def test_what_the_sdk_writes_of_any_mask(bits: np.ndarray) -> None:
    check_reading(encode_rle(np.repeat(bits.ravel().astype(np.uint8) * 255, 4)), Mask.from_full(bits))


def packed(*fields: tuple[int, int]) -> bytes:
    """(value, bits) one after the other, filled up with zeros."""
    text = "".join(f"{value:0{bits}b}" for value, bits in fields)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


def header(count: int, word: int = 7, sizes: Sequence[int] = (2, 3, 7, 15)) -> list[tuple[int, int]]:
    return [(count, 32), (word, 5), *((size, 4) for size in sizes)]


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(4)), elements=st.integers(0, 255)),
    st.data(),
)
def test_raw_runs_of_any_length_from_any_place(rgba: np.ndarray, data: st.DataObject) -> None:
    """Other writers of the format (thi.ng's, in the editor) put many different values into one run."""
    height, width, _ = rgba.shape
    values, fields = rgba.ravel().tolist(), header(rgba.size)
    while values:
        length = data.draw(st.integers(1, min(len(values), 16)))
        fields += [(0, 1), (1, 2), (length - 1, 4), *((value, 8) for value in values[:length])]
        del values[:length]
    np.testing.assert_array_equal(mask_of_rle(packed(*fields), (width, height)).full(), rgba[..., 3] > 127)


@pytest.mark.parametrize("sizes", [(2, 3, 7, 15), (0, 1, 2, 3), (15, 15, 15, 15)])
def test_other_sizes_of_lengths(sizes: tuple[int, ...]) -> None:
    fields = header(32, sizes=sizes)
    for run in range(4):  # eight pixels of one, two values a pixel ... with the last size
        size = sizes[3] + 1
        fields += [(1, 1), (3, 2), (7, size), (255 * (run % 2), 8)]
    np.testing.assert_array_equal(mask_of_rle(packed(*fields), (8, 1)).full(), [[0, 0, 1, 1, 0, 0, 1, 1]])


GOOD = brush_rle(Mask.from_full(np.eye(5)))


@pytest.mark.parametrize(
    "rle",
    [
        [], [1], GOOD[:7], GOOD[:-1], [256, *GOOD[1:]], [-1, *GOOD[1:]], ["x"], [1.5], [None],
        list(packed(*header(100, word=8))),
        list(packed(*header(99))), list(packed(*header(2**32 - 1))),
        list(packed(*header(100), (1, 1), (3, 2), (100, 16), (255, 8))),  # a run over the end
        list(packed(*header(100), (0, 1), (3, 2), (99, 16), (255, 8))),  # raw values that are missing
        bytes(1 << 21),
    ],
)  # fmt: skip
def test_what_is_no_rle_of_the_picture_is_refused(rle: Sequence[int]) -> None:
    with pytest.raises(InvalidInput, match=r"^a brush mask [^\n]*$"):
        mask_of_rle(rle, (5, 5))


@given(st.binary(max_size=80), st.integers(1, 40), st.integers(1, 40))
def test_any_bytes_are_a_mask_or_refused(tail: bytes, width: int, height: int) -> None:
    data = packed(*header(width * height * 4))[:6] + tail
    try:
        mask = mask_of_rle(data, (width, height))
    except InvalidInput:
        return
    assert mask.frame == (width, height)


def test_a_run_over_most_of_a_huge_picture_costs_its_rows() -> None:
    """Two pixels far apart in a frame of 2**29: only what lies between them is looked at."""
    mask = Mask(np.ones((2, 1), dtype=np.bool_), 5, 7, (1 << 15, 1 << 14))
    assert mask_of_rle(brush_rle(mask), mask.frame).box == mask.box
