"""Masks from low-resolution logits against torch's interpolation of the whole map."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mask_strategies import masks

from sam3_core.logits import cell_cover, mask_from_logits
from sam3_core.masks import Mask

torch = pytest.importorskip("torch")


@st.composite
def maps(draw: st.DrawFn) -> np.ndarray:
    """Logits as models give them: a few blobs or noise, -20..20."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.standard_normal((height, width)).astype(np.float32)
    if draw(st.booleans()):
        logits = cv2.GaussianBlur(logits, (0, 0), draw(st.floats(1, 5))).reshape(height, width)
        logits /= np.abs(logits).max()
        logits -= draw(st.floats(-0.5, 1.2))
    return (logits * draw(st.floats(0.1, 8))).astype(np.float32)


@given(maps(), st.integers(1, 300), st.integers(1, 300), st.floats(-3, 3))
def test_same_pixels_as_torch(logits: np.ndarray, width: int, height: int, threshold: float) -> None:
    _check(logits, (width, height), threshold)


@pytest.mark.parametrize(
    ("shape", "frame"),
    [
        ((288, 288), (1777, 999)),  # many cells, no whole ratio
        ((288, 288), (4100, 37)),  # wider than one block of columns
        ((4, 5), (33, 2600)),  # bands higher than one block of rows
        ((288, 288), (50, 70)),  # fewer pixels than cells
        ((288, 288), (1, 900)),
        ((288, 288), (900, 1)),
        ((1, 1), (17, 13)),
        ((72, 72), (72, 72)),
    ],
)
def test_sizes_of_every_kind(shape: tuple[int, int], frame: tuple[int, int]) -> None:
    rng = np.random.default_rng(7)
    _check((rng.standard_normal(shape) * 8).astype(np.float32), frame, 0.0)
    blob = np.full(shape, -6, dtype=np.float32)
    blob[shape[0] // 3 : shape[0] // 2 + 1, shape[1] // 3 : shape[1] // 2 + 1] = 5
    _check(blob, frame, 0.3)


def test_one_cell_in_a_corner() -> None:
    for place in ((0, 0), (0, 15), (15, 0), (15, 15)):
        logits = np.full((16, 16), -4, dtype=np.float32)
        logits[place] = 4
        assert _check(logits, (200, 100), 0.0).area > 0


def test_nothing_above_the_threshold_is_an_empty_mask() -> None:
    mask = mask_from_logits(np.zeros((8, 8), dtype=np.float32), (90, 60))
    assert (mask.area, mask.bits.shape, mask.frame) == (0, (0, 0), (90, 60))
    lost = np.full((100, 100), -5, dtype=np.float32)
    lost[3, 3] = 1  # between the samples of so small a frame
    assert mask_from_logits(lost, (5, 5)).area == 0


def test_values_that_are_no_numbers_are_outside() -> None:
    logits = np.array([[5, np.nan], [np.inf, -np.inf]], dtype=np.float32)
    bits = mask_from_logits(logits, (2, 2)).full()
    assert bits.tolist() == [[True, False], [True, False]]
    assert mask_from_logits(np.full((3, 3), np.nan, dtype=np.float32), (9, 9)).area == 0


def test_a_small_object_in_a_huge_frame_costs_little() -> None:
    """A frame of 40 gigapixels, of which only the object's box may be held."""
    logits = np.full((288, 288), -8, dtype=np.float32)
    logits[100, 200] = 8
    mask = mask_from_logits(logits, (200_000, 200_000))
    assert 0 < mask.bits.size < 3_000_000


@given(masks(most=90), st.integers(1, 40))
def test_cell_cover_is_the_whole_frames_area_average(mask: Mask, side: int) -> None:
    """Against the definition, in exact steps: every pixel split as often as there are cells, then averaged."""
    width, height = mask.frame
    split = np.repeat(np.repeat(mask.full(), side, axis=0), side, axis=1)
    exact = split.reshape(side, height, side, width).mean(axis=(1, 3))
    np.testing.assert_allclose(cell_cover(mask, side), exact, atol=2e-5)


@given(masks(most=300), st.integers(1, 64))
def test_cell_cover_is_opencvs_for_frames_larger_than_the_map(mask: Mask, side: int) -> None:
    assume(min(mask.frame) >= side)
    expected = cv2.resize(mask.full().astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(cell_cover(mask, side), expected, atol=1e-5)


def test_cell_cover_costs_what_the_crop_costs() -> None:
    """A frame of 40 gigapixels."""
    mask = Mask(np.ones((700, 900), dtype=np.bool_), 123_456, 7_891, (200_000, 200_000))
    tracemalloc.start()
    cover = cell_cover(mask, 288)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
    assert cover.sum() * (200_000 / 288) ** 2 == pytest.approx(700 * 900, rel=1e-5)


def test_a_small_object_needs_no_memory_for_the_frames_sides() -> None:
    logits = np.full((288, 288), -8, dtype=np.float32)
    logits[100, 200] = 8
    peaks = []
    for frame in ((1000, 1000), (30_000, 1000), (1000, 30_000)):
        tracemalloc.start()
        mask = mask_from_logits(logits, frame)
        peaks.append(tracemalloc.get_traced_memory()[1] - 4 * mask.bits.size)
        tracemalloc.stop()
    assert max(peaks) < peaks[0] + 200_000  # a position of every column alone would be more


@pytest.mark.parametrize(("shape", "frame"), [((0, 3), (9, 9)), ((3,), (9, 9)), ((3, 3), (0, 9))])
def test_no_map_or_no_frame_is_refused(shape: tuple[int, ...], frame: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="2-D map of logits"):
        mask_from_logits(np.zeros(shape, dtype=np.float32), frame)


def _check(logits: np.ndarray, frame: tuple[int, int], threshold: float) -> Mask:
    width, height = frame
    whole = torch.nn.functional.interpolate(
        torch.from_numpy(logits)[None, None], size=(height, width), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    mask = mask_from_logits(logits, frame, threshold)
    wrong = mask.full() != (whole > threshold)
    assert np.abs(whole - threshold)[wrong].max(initial=0) < 1e-4
    assert np.array_equal(mask.bits, mask.tight().bits)
    assert mask.frame == frame
    return mask
