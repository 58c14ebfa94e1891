"""Polygons keep their promise, measured by rasterisers that are not ours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_strategies import disc, full_bits
from PIL import Image, ImageDraw

from sam3_core import Mask
from sam3_core.encodings.outlines import Part, outlines, ring_area
from sam3_core.encodings.polygons import Polygon, bridged, polygons
from sam3_core.finish import Fineness, Finish, Holes, Parts
from sam3_core.rules import Area

EVERYTHING = Area(0)


@given(full_bits(40), st.sampled_from([0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0]))
def test_every_part_keeps_the_promise_and_tells_what_it_reached(bits: np.ndarray, min_iou: float) -> None:
    mask = Mask.from_full(bits)
    found = polygons(mask, Finish(min_iou=min_iou, max_vertices=0, min_area=EVERYTHING))
    parts = outlines(mask.bits)
    assert len(found) == len(parts)
    for polygon, part in zip(found, parts, strict=True):
        iou = _iou(polygon, part.shifted(mask.x, mask.y), bits.shape)
        assert iou >= min_iou
        assert polygon.iou == pytest.approx(iou, abs=1e-12)
        assert len(polygon.holes) == len(part.holes)
        assert polygon.filled == 0


@settings(max_examples=60)
@given(full_bits(60), st.sampled_from([4, 6, 12, 40]))
def test_a_limit_wins_and_what_is_reached_is_told(bits: np.ndarray, limit: int) -> None:
    mask = Mask.from_full(bits)
    parts = [part.shifted(mask.x, mask.y) for part in outlines(mask.bits)]
    found = polygons(mask, Finish(min_iou=0.98, max_vertices=limit, min_area=EVERYTHING))
    free = polygons(mask, Finish(min_iou=0.98, max_vertices=0, min_area=EVERYTHING))
    for polygon, unlimited, part in zip(found, free, parts, strict=True):
        assert polygon.vertices <= limit
        assert polygon.iou == pytest.approx(_iou(polygon, part, bits.shape), abs=1e-12)
        assert polygon.iou >= 0.98 or unlimited.vertices > limit


@given(full_bits(40))
def test_all_of_the_mask_comes_back_at_iou_one(bits: np.ndarray) -> None:
    filled = np.zeros_like(bits)
    for polygon in polygons(Mask.from_full(bits), Finish(min_iou=1, max_vertices=0, min_area=EVERYTHING)):
        filled ^= _centres_inside(polygon, bits.shape)
    assert np.array_equal(filled, bits)


@given(full_bits(40), st.sampled_from([0.5, 0.9, 0.98, 1.0]), st.sampled_from([0, 4, 12]))
def test_polygons_are_valid_and_inside_the_frame(bits: np.ndarray, min_iou: float, limit: int) -> None:
    for polygon in polygons(Mask.from_full(bits), Finish(min_iou=min_iou, max_vertices=limit, min_area=EVERYTHING)):
        shape = shapely.Polygon(polygon.outer, polygon.holes)
        assert shape.is_valid
        assert shape.area > 0
        assert ring_area(polygon.outer) > 0
        assert all(ring_area(hole) < 0 for hole in polygon.holes)
        assert not limit or polygon.vertices <= limit
        for ring in polygon.rings:
            assert ring.dtype == np.float64
            assert len(ring) >= 3
            assert (ring >= 0).all()
            assert (ring <= bits.shape[::-1]).all()


@pytest.mark.parametrize("radius", [6, 20, 60, 200])
def test_area_of_discs_by_supersampling(radius: int) -> None:
    """Seen as areas, drawn by Pillow eight times enlarged, and as drawn by OpenCV and pycocotools' users."""
    mask = disc((640, 480), 300.3, 222.8, radius)
    (polygon,) = polygons(mask)
    canvas = Image.new("1", (640 * 8, 480 * 8))
    ImageDraw.Draw(canvas).polygon([(x * 8 - 0.5, y * 8 - 0.5) for x, y in polygon.outer], fill=1)
    drawn = np.asarray(canvas)
    truth = mask.full().repeat(8, axis=0).repeat(8, axis=1)
    # Where a smooth edge cuts the pixels of a border it differs from them by a quarter of a pixel on the average.
    allowed = 0.02 * mask.area + 0.3 * 2 * np.pi * radius
    assert (drawn ^ truth).sum() / 64 <= allowed
    assert abs(shapely.Polygon(polygon.outer).area - mask.area) <= allowed


def test_simple_shapes_have_few_vertices() -> None:
    box = np.zeros((100, 200), dtype=np.bool_)
    box[10:60, 20:170] = True
    (rectangle,) = polygons(Mask.from_full(box))
    assert sorted(map(tuple, rectangle.outer.tolist())) == [(20, 10), (20, 60), (170, 10), (170, 60)]
    canvas = np.zeros((200, 200), dtype=np.uint8)
    cv2.fillPoly(canvas, [np.array([[100, 10], [190, 100], [100, 190], [10, 60]])], 1)
    assert polygons(Mask.from_full(canvas))[0].vertices == 4
    assert polygons(disc((200, 200), 100, 100, 80))[0].vertices <= 13  # 12 at best; with corners on the circle, 18


def test_thin_shapes_keep_their_ends() -> None:
    """Only staircases are cut to slopes: the end of a line is one pixel long too, and stays square."""
    for height, width in ((1, 1), (1, 30), (30, 1), (2, 2)):
        bits = np.zeros((40, 40), dtype=np.bool_)
        bits[5 : 5 + height, 7 : 7 + width] = True
        (polygon,) = polygons(Mask.from_full(bits))
        assert shapely.equals(shapely.Polygon(polygon.outer), shapely.box(7, 5, 7 + width, 5 + height))


def test_fewer_are_needed_for_a_weaker_promise() -> None:
    mask = disc((300, 300), 150, 150, 30)
    counts = [polygons(mask, Finish(min_iou=share))[0].vertices for share in (1, 0.99, 0.95, 0.8)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 2 * counts[-1]


def test_specks_are_dropped_and_pinholes_filled_unless_asked_for() -> None:
    full = disc((300, 300), 150, 150, 100).full()
    full[2, 2] = True
    full[150:153, 150:153] = False
    (polygon,) = polygons(Mask.from_full(full))
    assert polygon.holes == ()
    largest, speck = polygons(Mask.from_full(full), Finish(min_area=Area(1)))
    assert [sorted(hole.tolist()) for hole in largest.holes] == [[[150, 150], [150, 153], [153, 150], [153, 153]]]
    assert speck.outer.min() == 2
    assert speck.outer.max() == 3


def test_nothing_gives_nothing() -> None:
    assert polygons(Mask.from_full(np.zeros((5, 5)))) == []


def test_a_noisy_mask_of_very_many_runs_ends_with_few_vertices() -> None:
    noise = np.random.default_rng(0).random((1100, 1100)) < 0.59
    found = polygons(Mask.from_full(noise), Finish(max_vertices=200))
    assert found
    assert max(polygon.vertices for polygon in found) <= 200


def test_fineness_sets_the_floor() -> None:
    mask = disc((300, 300), 150, 150, 100)
    counts = []
    for fineness, floor in ((Fineness.LOW, 0.95), (Fineness.MEDIUM, 0.98), (Fineness.HIGH, 0.99)):
        (polygon,) = polygons(mask, Finish(fineness=fineness))
        assert floor <= polygon.iou < floor + 0.02
        counts.append(polygon.vertices)
    assert counts[0] < counts[1] < counts[2]
    assert polygons(mask, Finish(fineness=Fineness.LOW, min_iou=0.98))[0].vertices == counts[2]
    assert polygons(mask)[0].vertices == counts[1]


def test_holes_filled_by_choice_are_counted_and_swallow_what_is_in_them() -> None:
    bits = np.zeros((100, 200), dtype=np.bool_)
    bits[10:90, 10:90] = True
    bits[20:80, 20:50] = bits[20:30, 60:80] = bits[85, 85] = False
    bits[30:60, 30:40] = True  # a part in a hole
    bits[40:45, 33:37] = False
    bits[10:60, 110:160] = True
    block, right = polygons(Mask.from_full(bits), Finish(holes=Holes.FILLED))
    assert (block.holes, block.filled, block.iou) == ((), 2, 1.0)  # one pixel is a speck
    assert sorted(map(tuple, block.outer.tolist())) == [(10, 10), (10, 90), (90, 10), (90, 90)]
    assert (right.filled, right.outer.min()) == (0, 10)
    assert [len(polygon.holes) for polygon in polygons(Mask.from_full(bits))] == [2, 0, 1]


def test_only_the_largest_part_where_asked_for() -> None:
    bits = np.zeros((50, 100), dtype=np.bool_)
    bits[5:15, 5:15] = bits[20:40, 50:90] = True
    (polygon,) = polygons(Mask.from_full(bits), Finish(parts=Parts.LARGEST))
    assert polygon.outer.min(axis=0).tolist() == [50, 20]


@settings(max_examples=60)
@given(full_bits(40), st.sampled_from([0.9, 1.0]))
def test_one_ring_with_bridges_fills_the_same_by_both_rules(bits: np.ndarray, min_iou: float) -> None:
    for polygon in polygons(Mask.from_full(bits), Finish(min_iou=min_iou, min_area=EVERYTHING)):
        ring = bridged(polygon)
        winding = _windings(ring, bits.shape)
        truth = _centres_inside(polygon, bits.shape)
        assert np.array_equal(winding % 2 == 1, truth)
        assert np.array_equal(winding != 0, truth)
        assert abs(ring_area(ring) - shapely.Polygon(polygon.outer, polygon.holes).area) < 1e-6
        inside = shapely.Polygon(polygon.outer, polygon.holes).buffer(1e-6)
        assert inside.covers(shapely.LinearRing(ring))


def test_a_polygon_without_holes_is_its_own_ring() -> None:
    (polygon,) = polygons(disc((50, 50), 25, 25, 10))
    assert bridged(polygon) is polygon.outer


def _iou(polygon: Polygon, part: Part, shape: tuple[int, ...]) -> float:
    truth, drawn = (_centres_inside(one, shape) for one in (Polygon(part.outer, part.holes), polygon))
    return float((truth & drawn).sum() / (truth | drawn).sum())


def _centres_inside(polygon: Polygon, shape: tuple[int, ...]) -> np.ndarray:
    """By shapely: pixels whose centre lies inside; off an edge it is nudged to the lower right, as fillers do."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    area = shapely.Polygon(polygon.outer, polygon.holes)
    shapely.prepare(area)
    return np.asarray(shapely.contains_xy(area, columns + 0.5 + 1e-7, rows + 0.5 + 1e-9))


def _windings(ring: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """How often the ring runs around each pixel's centre: crossings of the ray to the right, signed."""
    count = np.zeros(shape, dtype=np.int64)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    x, y = columns + 0.5 + 1e-7, rows + 0.5 + 1e-9
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if y0 != y1:
            crosses = (np.minimum(y0, y1) <= y) & (y < np.maximum(y0, y1))
            count += np.where(crosses & (x0 + (y - y0) * (x1 - x0) / (y1 - y0) > x), np.sign(y1 - y0), 0).astype(int)
    return count
