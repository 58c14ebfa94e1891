"""What simplifying rests on: exact filling, collapses that cost what they say; and how few corners it leaves."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mask_strategies import disc, full_bits

from sam3_core import Mask
from sam3_core.encodings.collapse import GRID, Rings, State, next_round
from sam3_core.encodings.filling import filled, iou
from sam3_core.encodings.outlines import outlines
from sam3_core.encodings.polygons import polygons
from sam3_core.encodings.simplify import Promise, simplified
from sam3_core.finish import Finish

SIDE = 24


@given(st.lists(st.tuples(st.integers(0, 16 * SIDE), st.integers(0, 16 * SIDE)), min_size=3, max_size=12))
def test_filling_takes_the_pixels_whose_centres_are_inside(sixteenths: list[tuple[int, int]]) -> None:
    """Crossing rings too, by the even-odd rule; on a grid of sixteenths many centres lie on edges."""
    ring = np.array(sixteenths) / 16
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    inside = np.zeros((SIDE, SIDE), dtype=np.bool_)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if y0 != y1:
            left = (x0 - columns) * abs(y1 - y0) + (rows - y0) * (x1 - x0) * np.sign(y1 - y0) <= 0
            inside ^= ((y0 <= rows) != (y1 <= rows)) & left
    assert np.array_equal(_drawn(filled([ring])), inside)


@given(full_bits(SIDE), full_bits(SIDE))
def test_iou_of_filled_rings_is_that_of_their_pixels(one: np.ndarray, other: np.ndarray) -> None:
    assume(one.any() and other.any())
    drawn = [filled([ring for part in outlines(bits) for ring in (part.outer, *part.holes)]) for bits in (one, other)]
    pixels = [_drawn(runs) for runs in drawn]
    assert iou(*drawn) == pytest.approx((pixels[0] & pixels[1]).sum() / (pixels[0] | pixels[1]).sum())


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.integers(4, 14))
def test_a_collapse_keeps_the_area_and_displaces_what_it_costs(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * math.pi, count))
    reach = rng.uniform(200, 900, count)
    ring = np.rint((np.stack([np.cos(angles), np.sin(angles)], axis=1) * reach[:, None] + 1000) * GRID) / GRID
    assume(shapely.Polygon(ring).is_valid)
    state = State.of(Rings.join([ring]))
    found = next_round(state, (2000, 2000), None)
    assert found is not None
    moves, _ = found
    before, after = shapely.Polygon(ring), shapely.Polygon(state.moved(moves.take(slice(1))).rings.corners)
    assume(after.is_valid)
    assert len(after.exterior.coords) == len(ring)  # shapely repeats the first
    rounding = after.length / GRID
    assert shapely.symmetric_difference(before, after).area <= moves.cost[0] + rounding
    if moves.kind[0] < 2:
        assert after.area == pytest.approx(before.area, abs=rounding)
    else:
        assert shapely.symmetric_difference(before, after).area == pytest.approx(moves.cost[0])


@pytest.mark.parametrize("floor", [0.9, 0.95, 0.98, 0.99, 0.998])
def test_a_disc_needs_hardly_more_than_the_fewest_corners_there_can_be(floor: float) -> None:
    """An arc of 2 pi / n strays from its best chord by 3/8 of what lies beyond the chord through its ends, and
    that is (2 pi / n)^2 / 6 of the sector: so n >= sqrt((2 pi)^2 / 6 * 3/8 / (1 - floor)), if n is large."""
    (polygon,) = polygons(disc((1000, 1000), 500.2, 499.7, 450), Finish(min_iou=floor))
    fewest = math.sqrt((2 * math.pi) ** 2 / 16 / (1 - floor))
    assert 0.9 * fewest <= polygon.vertices <= 1.25 * fewest + 1


@given(st.integers(0, 2**32 - 1))
def test_straight_edges_at_any_angle_stay_straight(seed: int) -> None:
    """Drawn with stairs of all lengths, a rectangle or a triangle comes back with its own corners."""
    rng = np.random.default_rng(seed)
    box = cv2.boxPoints(((200, 200), rng.uniform(60, 250, 2).tolist(), rng.uniform(0, 90)))
    corners = box if rng.random() < 0.5 else box[:3]
    canvas = np.zeros((400, 400), dtype=np.uint8)
    cv2.fillPoly(canvas, [np.rint(corners).astype(np.int32)], 1)
    (polygon,) = polygons(Mask.from_full(canvas))
    assert polygon.vertices == len(corners)
    distances = np.hypot(*(polygon.outer[:, None] - corners).T)
    assert distances.min(axis=0).max() < 8  # at sharp corners the drawn stairs end before the point


@pytest.mark.parametrize("floor", [0.0, 0.5, 0.9, 1.0])
def test_rectangles_and_small_holes_keep_their_shape_at_any_floor(floor: float) -> None:
    bits = np.zeros((80, 80), dtype=np.bool_)
    bits[10:70, 10:70] = True
    bits[30:33, 30:34] = False
    (part,) = outlines(bits)
    rings, reached = simplified(part, (80, 80), Promise(floor))
    assert reached == 1
    assert [len(ring) for ring in rings] == [4, 4]


@pytest.mark.parametrize("seed", range(6))
def test_a_lower_floor_needs_no_more_corners(seed: int) -> None:
    """On masks that are not tiny; where a few pixels decide, chance turns it round once in a few hundred times."""
    field = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal((256, 256)), (0, 0), 4 + 4 * seed)
    mask = Mask.from_full(field > 0)
    finishes = [Finish(min_iou=floor, max_vertices=0) for floor in (1, 0.99, 0.95, 0.8)]
    counts = np.array([[polygon.vertices for polygon in polygons(mask, finish)] for finish in finishes])
    assert (np.diff(counts, axis=0) <= 0).all()


def test_what_a_limit_allows_is_used() -> None:
    """A thin winding line: much better than tolerances that happen to end below the limit."""
    along = np.linspace(0, 1, 400)
    line = np.stack([20 + 460 * along, 250 + 150 * np.sin(along * 25)], axis=1)
    canvas = np.zeros((500, 500), dtype=np.uint8)
    cv2.polylines(canvas, [np.rint(line).astype(np.int32)], False, 1, 4)
    mask = Mask.from_full(canvas)
    (free,), (limited,) = (polygons(mask, Finish(min_iou=0.98, max_vertices=limit)) for limit in (0, 100))
    assert free.vertices > 100
    assert limited.vertices == 100
    assert 0.9 < limited.iou < 0.98 <= free.iou
    (part,) = outlines(mask.bits)
    contour = (part.outer + np.array([mask.x, mask.y]))[:, None].astype(np.float32)
    truth = filled([contour[:, 0]])
    for tolerance in np.geomspace(0.3, 30, 60):
        simple = cv2.approxPolyDP(contour, tolerance, True)[:, 0]
        if 3 <= len(simple) <= 100:
            assert iou(truth, filled([simple])) < limited.iou


def _drawn(runs: np.ndarray) -> np.ndarray:
    picture = np.zeros((SIDE, SIDE + 1), dtype=np.int64)
    np.add.at(picture, (runs >> 32, runs & 0xFFFFFFFF), 1)
    return np.cumsum(picture, axis=1)[:, :SIDE] % 2 == 1
