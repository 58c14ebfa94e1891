"""Outlines are exact: filled again they give every pixel, and their rings are valid polygons."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given
from mask_strategies import full_bits
from shapely import Polygon

from sam3_core.encodings.outlines import Part, outlines, ring_area


@given(full_bits())
def test_parts_fill_exactly_the_mask(bits: np.ndarray) -> None:
    assert np.array_equal(_filled(outlines(bits), bits.shape), bits)


@given(full_bits())
def test_parts_are_the_connected_components(bits: np.ndarray) -> None:
    parts = outlines(bits)
    _, _, stats, _ = cv2.connectedComponentsWithStats(bits.astype(np.uint8), connectivity=4)
    assert [part.area for part in parts] == sorted(stats[1:, cv2.CC_STAT_AREA].tolist(), reverse=True)


@given(full_bits())
def test_rings_are_valid_and_oriented(bits: np.ndarray) -> None:
    for part in outlines(bits):
        shape = Polygon(part.outer, part.holes)
        assert shape.is_valid
        assert shape.area == part.area
        assert ring_area(part.outer) > 0
        assert all(ring_area(hole) < 0 for hole in part.holes)
        for ring in (part.outer, *part.holes):
            steps = np.roll(ring, -1, axis=0) - ring
            assert ((steps == 0).sum(axis=1) == 1).all()


@given(full_bits())
def test_specks_go_but_never_everything(bits: np.ndarray) -> None:
    parts = outlines(bits, min_area=5)
    every = outlines(bits)
    large = [part.area for part in every if part.area >= 5]
    assert [part.area for part in parts] == (large or [part.area for part in every[:1]])
    assert all(-ring_area(hole) >= 5 for part in parts for hole in part.holes)


def test_a_part_inside_a_hole_is_a_part_of_its_own() -> None:
    bits = np.zeros((9, 9), dtype=np.bool_)
    bits[1:8, 1:8] = True
    bits[2:7, 2:7] = False
    bits[4, 4] = True
    ring, dot = outlines(bits)
    assert (ring.area, len(ring.holes), dot.area, dot.holes) == (24, 1, 1, ())


def test_pixels_that_meet_in_a_corner() -> None:
    assert [part.area for part in outlines(np.eye(3, dtype=np.bool_))] == [1, 1, 1]
    pocket = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=np.bool_)
    (part,) = outlines(pocket)
    assert len(part.holes) == 1  # the pocket opens to the outside through a corner only


def _filled(parts: list[Part], shape: tuple[int, ...]) -> np.ndarray:
    """Even-odd filling by the vertical edges, independent of how rings are made."""
    flips = np.zeros((shape[0], shape[1] + 1), dtype=np.int64)
    for part in parts:
        for ring in (part.outer, *part.holes):
            for (x, y), (next_x, next_y) in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True):
                if x == next_x:
                    flips[min(y, next_y) : max(y, next_y), x] += 1
    return np.cumsum(flips, axis=1)[:, : shape[1]] % 2 == 1
