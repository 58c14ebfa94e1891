"""Smoothing keeps its promises on any mask, and does what it is for on those it is made for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mask_strategies import disc, full_bits, masks

from sam3_core.cleaning import parts_and_holes, separate_parts, without_specks
from sam3_core.masks import Bits, Mask
from sam3_core.smoothing import smoothed


@st.composite
def rough_masks(draw: st.DrawFn) -> Mask:
    """Masks of coarse blocks, which have something to smooth: noise of blocks with bridges, bays and holes."""
    bits, side = draw(full_bits(12)), draw(st.integers(1, 24))
    return Mask.from_full(np.kron(bits, np.ones((side, side), dtype=np.bool_)))


@given(masks(60) | rough_masks(), st.sampled_from([0.0, 0.5, 0.9, 0.95, 0.99, 1.0]), st.sampled_from([0, 4]))
def test_the_floor_holds_and_nothing_vanishes(mask: Mask, floor: float, least: float) -> None:
    smooth = smoothed(mask, floor, least)
    assert smooth.frame == mask.frame
    assert smooth.box == smooth.tight().box
    assert (smooth.area == 0) == (mask.area == 0)
    if mask.area:
        assert smooth.iou(mask) >= floor
    for part in separate_parts(mask):
        assert part.area == 0 or smooth.intersection(part) > 0


@given(masks(60) | rough_masks())
def test_one_part_stays_one_and_keeps_its_holes(mask: Mask) -> None:
    (part, *_) = separate_parts(mask)
    assert parts_and_holes(smoothed(part, 0.0).bits) == parts_and_holes(part.bits)


@given(masks(60) | rough_masks())
def test_a_perfect_floor_changes_nothing(mask: Mask) -> None:
    np.testing.assert_array_equal(smoothed(mask, 1.0).full(), mask.full())


@pytest.mark.parametrize("scale", [1, 4])
def test_jags_spikes_and_notches_go(scale: int) -> None:
    """No pixel is left on the wrong side that is not next to the clean disc's border, which is as short again."""
    clean = disc((200 * scale, 200 * scale), 100 * scale, 100 * scale, 70 * scale).full()
    jagged = clean.copy()
    rng = np.random.default_rng(0)
    for angle in rng.uniform(0, 2 * np.pi, 60):
        x, y = (100 + 70 * np.array([np.cos(angle), np.sin(angle)])) * scale
        jagged[int(y) - scale : int(y) + scale, int(x) - scale : int(x) + scale] = rng.random() < 0.5
    jagged[100 * scale : 101 * scale, 160 * scale : 180 * scale] = True  # a spike
    jagged[150 * scale : 171 * scale, 100 * scale : 102 * scale] = False  # a notch
    result = smoothed(Mask.from_full(jagged), 0.9)
    kernel = np.ones((4 * scale + 1, 4 * scale + 1), dtype=np.uint8)
    band = cv2.morphologyEx(clean.astype(np.uint8), cv2.MORPH_GRADIENT, kernel) > 0
    assert ((jagged != clean) & ~band).any()
    assert not ((result.full() != clean) & ~band).any()
    assert _border(result.full()) < 1.03 * _border(clean) < _border(jagged)


def test_a_neck_holds_and_a_slit_stays_open() -> None:
    """Two blocks joined by a bridge, and a block with a slit in it: a reach that breaks or fills them is too long."""
    bridged = np.zeros((220, 420), dtype=np.bool_)
    bridged[10:210, 10:205] = bridged[10:210, 215:410] = bridged[110:112, 200:220] = True
    result = smoothed(Mask.from_full(bridged), 0.0).full()
    assert parts_and_holes(result) == (1, 0)
    assert not result[10, 10]  # a shorter reach rounds the corners all the same
    slit = np.ones((300, 300), dtype=np.bool_)
    slit[50:250, 150:152] = False
    assert parts_and_holes(smoothed(Mask.from_full(slit), 0.0).bits) == (1, 1)


def test_straight_borders_and_gentle_curves_stay() -> None:
    for frame, mask in (((400, 300), disc((400, 300), 200, 150, 100)), ((90, 90), disc((90, 90), 45, 45, 30))):
        assert smoothed(mask, 0.9).iou(mask) > 0.995, frame
    square = np.zeros((400, 400), dtype=np.bool_)
    square[100:300, 100:300] = True
    changed = square != smoothed(Mask.from_full(square), 0.9).full()
    near_corners = np.zeros_like(square)
    for y, x in ((100, 100), (100, 300), (300, 100), (300, 300)):
        near_corners[y - 8 : y + 8, x - 8 : x + 8] = True
    assert changed.any()
    assert not (changed & ~near_corners).any()


@pytest.mark.parametrize("turns", range(4))
def test_objects_go_on_beyond_the_picture(turns: int) -> None:
    """A band and half a disc meet the picture's edge at a right angle: nothing is rounded there."""
    band = np.zeros((300, 300), dtype=np.bool_)
    band[100:180] = True
    band = np.rot90(band, turns)
    np.testing.assert_array_equal(smoothed(Mask.from_full(band), 0.5).full(), band)
    half = np.rot90(disc((300, 300), 0, 150, 100).full(), turns)
    assert smoothed(Mask.from_full(half), 0.5).full()[half & _edge_pixels(half.shape)].all()


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_thin_lines_stay(width: int) -> None:
    canvas = np.zeros((500, 500), dtype=np.uint8)
    cv2.polylines(canvas, [np.array([[20, 40], [460, 100], [60, 300], [470, 470]])], False, 1, width)
    line = Mask.from_full(canvas)
    assert smoothed(line, 0.95).iou(line) >= 0.95


def test_a_line_beside_a_large_part_stays_and_the_part_is_smoothed() -> None:
    """Each part has its own reach: for the line's sake none of the disc's jags stay."""
    canvas = disc((600, 600), 330, 300, 200).full().astype(np.uint8)
    canvas[300:303, 530:540] = 1  # a spike
    cv2.line(canvas, (20, 20), (40, 580), 1, 2)
    disc_part, line = separate_parts(Mask.from_full(canvas))[::-1]
    result = smoothed(Mask.from_full(canvas), 0.95)
    assert not result.full()[301, 536]
    assert result.intersection(line) > 0.97 * line.area
    assert result.intersection(disc_part) > 0.97 * disc_part.area


def test_one_pixel_stays() -> None:
    for frame, place in (((1, 1), (0, 0)), ((9, 9), (4, 4)), ((9, 9), (8, 0))):
        dot = Mask(np.ones((1, 1), dtype=np.bool_), *place, frame)
        assert (smoothed(dot, 0.0).area, smoothed(dot, 0.0).box) == (1, dot.box)


@pytest.mark.parametrize("reach", [1.0, 4.0, 11.3, 20.0])
def test_the_lower_resolution_does_not_show(reach: float) -> None:
    """Against the Gaussian at full resolution: differences are single pixels on the border."""
    radius = reach / 0.02 / np.pi**0.5
    side = int(2.4 * radius) + 3
    rng = np.random.default_rng(1)
    rough = disc((side, side), side / 2, side / 2, radius).full()
    rough &= cv2.GaussianBlur(rng.standard_normal((side, side)).astype(np.float32), (0, 0), 2) < 0.1
    full = disc((side, side), side / 2, side / 2, radius - 10).full() | rough  # a ragged border
    part = without_specks(Mask.from_full(full), full.size, largest_only=True)
    exact = cv2.GaussianBlur(np.pad(part.full(), side).astype(np.float32), (0, 0), 0.02 * part.area**0.5) > 0.5
    exact = exact[side:-side, side:-side]
    result = smoothed(part, 0.0, least=part.area).full()
    assert np.count_nonzero(result != exact) <= 0.03 * _border(exact)


def _border(bits: Bits) -> int:
    """How many pixel edges lie between inside and outside."""
    padded = np.pad(bits, 1)
    return int(np.count_nonzero(padded[1:] != padded[:-1]) + np.count_nonzero(padded[:, 1:] != padded[:, :-1]))


def _edge_pixels(shape: tuple[int, ...]) -> Bits:
    edge = np.ones(shape, dtype=np.bool_)
    edge[1:-1, 1:-1] = False
    return edge
