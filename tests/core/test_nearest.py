"""Which box a click is about."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam3_core import Box, Point
from sam3_core.nearest import distance, nearest

places = st.integers(-20, 20)
boxes = st.builds(lambda x, y, w, h: Box(x, y, x + w, y + h), places, places, st.integers(1, 9), st.integers(1, 9))


@pytest.mark.parametrize(
    ("point", "away"),
    [((5, 5), 0), ((0, 10), 0), ((10, 0), 0), ((13, 14), 5), ((-3, -4), 5), ((5, -2), 2), ((12, 5), 2)],
)
def test_distances(point: tuple[float, float], away: float) -> None:
    assert distance(Point(*point), Box(0, 0, 10, 10)) == away


@given(st.builds(Point, places, places), boxes)
def test_the_distance_is_that_of_the_nearest_pixel_corner(point: Point, box: Box) -> None:
    across = range(int(box.x0), int(box.x1) + 1), range(int(box.y0), int(box.y1) + 1)
    corners = itertools.product(*across)
    assert distance(point, box) == pytest.approx(
        min(((point.x - x) ** 2 + (point.y - y) ** 2) ** 0.5 for x, y in corners)
    )


@given(st.builds(Point, places, places), st.lists(boxes, min_size=1, max_size=6))
def test_nobody_is_nearer_and_nobody_around_it_is_smaller(point: Point, drawn: list[Box]) -> None:
    chosen = drawn[nearest(point, drawn)]
    assert all(distance(point, chosen) <= distance(point, box) for box in drawn)
    if distance(point, chosen) == 0:
        around = [box for box in drawn if distance(point, box) == 0]
        assert _area(chosen) == min(map(_area, around))


def _area(box: Box) -> float:
    return (box.x1 - box.x0) * (box.y1 - box.y0)


def test_of_two_alike_the_first() -> None:
    assert nearest(Point(5, 5), [Box(20, 0, 30, 10), Box(0, 0, 10, 10), Box(0, 0, 10, 10)]) == 1


def test_without_boxes_there_is_none() -> None:
    with pytest.raises(ValueError, match="empty"):
        nearest(Point(5, 5), [])
