"""Simple shapes around masks, against shapes drawn by an independent rasteriser and by brute force."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mask_strategies import full_bits, masks

from sam3_core import Mask
from sam3_core.encodings.shapes import OrientedBox, ellipse, oriented_box, visual_centre

FRAME = (220, 180)
angles = st.floats(-45, 45, exclude_min=True)
centres = st.tuples(st.floats(95, 125), st.floats(75, 105))


def turned(centre: tuple[float, float], angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Every pixel centre's place along the two axes of a shape turned clockwise by ``angle``."""
    rows, columns = np.mgrid[: FRAME[1], : FRAME[0]] + 0.5
    turn = np.exp(-1j * math.radians(angle))
    place = ((columns - centre[0]) + 1j * (rows - centre[1])) * turn
    return place.real, place.imag


def apart(one: float, other: float) -> float:
    """Degrees between the directions of two crosses, which look the same after a quarter turn."""
    return abs((one - other + 45) % 90 - 45)


@given(centres, st.floats(30, 140), st.floats(8, 60), angles)
def test_a_turned_rectangle_comes_back(
    centre: tuple[float, float], width: float, height: float, angle: float
) -> None:
    across, down = turned(centre, angle)
    box = oriented_box(Mask.from_full((abs(across) <= width / 2) & (abs(down) <= height / 2)))
    # Where width and height change names, as far as pixels can turn the angle.
    assume(apart(angle, 45) > math.degrees(1.5 / min(width, height)) + 0.01)
    # Pixels whose centres lie inside reach out of it by up to half a diagonal on each side.
    assert box.width == pytest.approx(width, abs=1.5)
    assert box.height == pytest.approx(height, abs=1.5)
    assert (box.cx, box.cy) == pytest.approx(centre, abs=1)
    assert apart(box.angle, angle) <= math.degrees(1.5 / min(width, height)) + 0.01
    if max(width, height) > 100 and min(width, height) > 30:
        assert apart(box.angle, angle) <= 1.5


@given(masks())
def test_every_pixel_lies_inside_the_oriented_box_and_none_is_smaller(mask: Mask) -> None:
    assume(mask.area)
    box = oriented_box(mask)
    assert -45 < box.angle <= 45
    rows, columns = np.nonzero(mask.full())
    corners = np.array([(columns + right, rows + below) for right in (0, 1) for below in (0, 1)], dtype=float)
    corners = corners.transpose(0, 2, 1).reshape(-1, 2)

    def along(angle: float) -> np.ndarray:
        turn = math.radians(angle)
        return corners @ np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])

    places = along(box.angle)
    middle = np.array([box.cx, box.cy])
    turn = math.radians(box.angle)
    middle = middle @ np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    half = np.array([box.width, box.height]) / 2
    np.testing.assert_allclose(places.min(axis=0), middle - half, atol=1e-9)
    np.testing.assert_allclose(places.max(axis=0), middle + half, atol=1e-9)
    other = min(float(np.prod(np.ptp(along(angle), axis=0))) for angle in np.arange(0, 90, 1.0))
    assert box.width * box.height <= other + 1e-6


def test_the_corners_of_a_box_go_around_clockwise_from_the_top_left() -> None:
    upright = OrientedBox(5, 7, 4, 2, 0).corners()
    assert upright.tolist() == [[3, 6], [7, 6], [7, 8], [3, 8]]
    left_top, right_top, *_ = OrientedBox(0, 0, 10, 2, 30).corners()
    along = right_top - left_top  # clockwise on the screen: to the right and down
    assert along == pytest.approx([10 * math.cos(math.pi / 6), 5])


@given(centres, st.floats(8, 60), st.floats(8, 60), angles)
def test_a_turned_ellipse_comes_back(centre: tuple[float, float], rx: float, ry: float, angle: float) -> None:
    across, down = turned(centre, angle)
    mask = Mask.from_full((across / rx) ** 2 + (down / ry) ** 2 <= 1)
    shape = ellipse(mask)
    assert (shape.cx, shape.cy) == pytest.approx(centre, abs=0.25)
    assert math.pi * shape.rx * shape.ry == pytest.approx(mask.area)
    if apart(angle, 45) > 2 or abs(rx - ry) < 0.5:
        assert (shape.rx, shape.ry) == pytest.approx((rx, ry), abs=0.5)
    if abs(rx - ry) > 4:
        assert apart(shape.angle, angle) <= 1
    left, top, right, bottom = shape.box()
    assert (left, top, right, bottom) == pytest.approx(mask.box, abs=1.5)


@given(masks())
def test_any_mask_has_an_ellipse_of_its_area_and_moments(mask: Mask) -> None:
    assume(mask.area)
    shape = ellipse(mask)
    assert -45 < shape.angle <= 45
    assert math.pi * shape.rx * shape.ry == pytest.approx(mask.area)
    fine = np.kron(mask.full(), np.ones((9, 9)))  # squares, as many points
    rows, columns = np.nonzero(fine)
    place = (columns + 0.5) / 9 + 1j * (rows + 0.5) / 9
    assert (shape.cx, shape.cy) == pytest.approx((place.mean().real, place.mean().imag))
    own = (place - place.mean()) * np.exp(-1j * math.radians(shape.angle))
    assert (own.real * own.imag).mean() == pytest.approx(0, abs=1e-2 * place.var())
    assert math.sqrt(own.real.var() / own.imag.var()) == pytest.approx(shape.rx / shape.ry, rel=0.01)


@given(full_bits())
def test_the_visual_centre_is_the_deepest_pixel(bits: np.ndarray) -> None:
    mask = Mask.from_full(bits)
    assume(mask.area)
    x, y = visual_centre(mask)
    assert bits[int(y), int(x)]
    assert (x % 1, y % 1) == (0.5, 0.5)
    rows, columns = np.nonzero(np.pad(~bits, 1, constant_values=True))
    outside = (columns - 0.5) + 1j * (rows - 0.5)
    inside = np.argwhere(bits)[:, ::-1] @ np.array([1, 1j]) + (0.5 + 0.5j)
    depth = abs(inside[:, None] - outside).min(axis=1)
    assert abs(x + 1j * y - outside).min() == pytest.approx(depth.max(), rel=1e-5)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 9), (9, 1), (8, 4), (21, 5)])
def test_boxes_of_pixels(width: int, height: int) -> None:
    mask = Mask(np.ones((height, width), dtype=np.bool_), 30, 40, (100, 90))
    assert oriented_box(mask) == (30 + width / 2, 40 + height / 2, width, height, 0)
    assert ellipse(mask)[:2] == (30 + width / 2, 40 + height / 2)
    assert ellipse(mask).rx / ellipse(mask).ry == pytest.approx(width / height)
    assert ellipse(mask).angle == 0
    x, y = visual_centre(mask)
    assert abs(x - 30 - width / 2) <= 0.5
    assert abs(y - 40 - height / 2) <= 0.5


def test_a_ring_has_its_visual_centre_on_it() -> None:
    across, down = turned((110, 90), 0)
    away = np.hypot(across, down)
    ring = (away < 60) & (away > 30)
    x, y = visual_centre(Mask.from_full(ring))
    assert math.hypot(x - 110, y - 90) == pytest.approx(45, abs=1)


@pytest.mark.parametrize("shape", [oriented_box, ellipse, visual_centre])
def test_an_empty_mask_has_no_shape(shape: object) -> None:
    assert callable(shape)
    with pytest.raises(ValueError, match="empty"):
        shape(Mask(np.zeros((3, 3), dtype=np.bool_), 0, 0, (9, 9)))


@pytest.mark.parametrize("shape", [oriented_box, ellipse, visual_centre])
def test_the_cost_goes_with_the_crop(shape: object) -> None:
    assert callable(shape)
    mask = Mask(np.ones((50, 50), dtype=np.bool_), 20_000, 30_000, (50_000, 50_000))
    tracemalloc.start()
    try:
        shape(mask)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
