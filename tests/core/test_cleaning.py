"""Parts, holes and specks against OpenCV's connected components."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mask_strategies import disc, full_bits, masks

from sam3_core.cleaning import parts_and_holes, separate_parts, without_specks
from sam3_core.masks import Bits, Mask

AREAS = st.sampled_from([0, 1, 1.5, 2, 3, 5, 9.5, 30, 1000])


@st.composite
def masks_and_limits(draw: st.DrawFn) -> tuple[Mask, float]:
    """A mask and a least area: often just that of a part or a hole."""
    mask = draw(masks())
    exact = [int(area) for bits in (mask.full(), ~mask.full()) for area in np.bincount(_components(bits, 4)[1].flat)]
    return mask, draw(AREAS | st.sampled_from(sorted(set(exact))))


@given(masks_and_limits(), st.booleans())
def test_cleaning_is_what_connected_components_say(mask_and_limit: tuple[Mask, float], largest_only: bool) -> None:
    mask, least = mask_and_limit
    clean = without_specks(mask, least, largest_only=largest_only)
    np.testing.assert_array_equal(clean.full(), _cleaned(mask.full(), least, largest_only))
    assert clean.frame == mask.frame
    assert clean is mask or clean.box == clean.tight().box


@given(masks(), AREAS, st.booleans())
def test_what_is_clean_is_given_back_as_it_is(mask: Mask, least: float, largest_only: bool) -> None:
    clean = without_specks(mask, least, largest_only=largest_only)
    assert without_specks(clean, least, largest_only=largest_only) is clean


@given(masks(), AREAS)
def test_the_mask_that_was_given_stays_as_it_was(mask: Mask, least: float) -> None:
    before = mask.bits.copy()
    without_specks(mask, least, largest_only=True)
    np.testing.assert_array_equal(mask.bits, before)


@given(masks())
def test_separate_parts_are_the_mask_in_pieces(mask: Mask) -> None:
    parts = separate_parts(mask)
    count, labels = _components(mask.full(), 4)
    assert len(parts) == max(1, count)
    for part in parts:
        assert len(np.unique(labels[part.full()])) <= 1
    np.testing.assert_array_equal(np.sum([part.full() for part in parts], axis=0), mask.full())
    firsts = [int(np.flatnonzero(part.full())[0]) for part in parts if part.area]
    assert firsts == sorted(firsts)


@given(full_bits())
def test_parts_and_holes_are_counted(bits: Bits) -> None:
    outside, _ = _components(np.pad(~bits, 1, constant_values=True), 8)
    assert parts_and_holes(bits) == (_components(bits, 4)[0], outside - 1)


def test_shapes_that_wind_are_one_part() -> None:
    """A spiral one pixel wide: hundreds of runs, each met before the one that joins it to the rest."""
    spiral = np.zeros((101, 101), dtype=np.bool_)
    row, column, length, steps = 50, 50, 2, [(0, 1), (1, 0), (0, -1), (-1, 0)]
    spiral[row, column] = True
    for turn in range(48 * 2):
        down, right = steps[turn % 4]
        for _ in range(length):
            row, column = row + down, column + right
            spiral[row, column] = True
        length += turn % 2 * 2
    assert parts_and_holes(spiral) == (1, 0)
    assert separate_parts(mask := Mask.from_full(spiral)) == [mask]


def test_specks_go_and_the_ring_around_a_big_hole_stays() -> None:
    ring = disc((60, 60), 30, 30, 20).full() & ~disc((60, 60), 30, 30, 12).full()
    dirty = ring.copy()
    dirty[2:4, 2:4] = True  # a part of 4
    dirty[30, 30] = True  # a part in the hole
    dirty[30, 13:15] = False  # a hole of 2
    np.testing.assert_array_equal(without_specks(Mask.from_full(dirty), 5).full(), ring)
    np.testing.assert_array_equal(
        without_specks(Mask.from_full(dirty), 1000).full(), disc((60, 60), 30, 30, 20).full()
    )


def test_a_bay_open_to_the_frame_is_no_hole() -> None:
    bits = np.ones((5, 5), dtype=np.bool_)
    bits[2, 0] = bits[0, 3] = bits[4, 4] = False
    mask = Mask.from_full(bits)
    assert without_specks(mask, 9) is mask


@pytest.mark.parametrize("largest_only", [True, False])
def test_an_empty_mask_stays_empty(largest_only: bool) -> None:
    for bits in (np.zeros((0, 0), dtype=np.bool_), np.zeros((3, 2), dtype=np.bool_)):
        mask = Mask(bits, 1, 1, (9, 9))
        assert without_specks(mask, 5, largest_only=largest_only) is mask
        assert parts_and_holes(bits) == (0, 0)


def _components(bits: Bits, connectivity: int) -> tuple[int, np.ndarray]:
    """How many there are, and their labels from 1."""
    count, labels = cv2.connectedComponents(bits.astype(np.uint8), connectivity=connectivity)
    return count - 1, labels


def _cleaned(bits: Bits, least: float, largest_only: bool) -> Bits:
    out = bits.copy()
    count, labels = _components(bits, 4)
    parts = [labels == label for label in range(1, count + 1)]
    parts.sort(key=lambda part: (-np.count_nonzero(part), np.flatnonzero(part)[0]))
    for part in parts[1:]:
        if largest_only or np.count_nonzero(part) < least:
            out[part] = False
    _, labels = _components(np.pad(~out, 1, constant_values=True), 8)
    for label in set(np.unique(labels).tolist()) - {0, int(labels[0, 0])}:
        hole = (labels == label)[1:-1, 1:-1]
        if np.count_nonzero(hole) < least:
            out[hole] = True
    return out
