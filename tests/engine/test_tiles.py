"""Tiles: where they lie, and what is asked in them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam3_core.engine.plan import EXEMPLARS_ONLY, Exhibit, Prompt
from sam3_core.engine.tiles import Tile, prompts_in, tiles_of
from sam3_core.rules import Tiling

SIDES = st.sampled_from([16, 112, 1008])
SIZES = st.tuples(st.integers(1, 12_000), st.integers(1, 12_000))
COUNTS = st.integers(1, 60)

Axis = list[tuple[int, int]]


def axes(tiles: list[Tile]) -> tuple[Axis, Axis]:
    """The different spans of columns and of rows, in order."""
    return sorted({(t.x0, t.x1) for t in tiles}), sorted({(t.y0, t.y1) for t in tiles})


@given(SIZES, SIDES, COUNTS)
def test_tiles_cover_every_pixel_and_stay_inside(size: tuple[int, int], side: int, most: int) -> None:
    tiles = tiles_of(size, side, Tiling.ON, most)
    for spans, pixels in zip(axes(tiles), size, strict=True):
        if tiles:
            assert (spans[0][0], spans[-1][1]) == (0, pixels)
            assert all(start < after < stop for (start, stop), (after, _) in pairwise(spans))
    columns, rows = axes(tiles)
    assert {(t.x0, t.x1, t.y0, t.y1) for t in tiles} == {(*column, *row) for column in columns for row in rows}
    assert len(tiles) == len(columns) * len(rows)  # so none twice


@given(SIZES, SIDES, COUNTS)
def test_tiles_are_of_one_size_and_share_a_fifth(size: tuple[int, int], side: int, most: int) -> None:
    for spans in axes(tiles_of(size, side, Tiling.ON, most)):
        assert len({stop - start for start, stop in spans}) <= 1
        for (_, stop), (start, end) in pairwise(spans):
            length = end - start
            # A pixel each: the length is rounded up, and so is each of two neighbours' places.
            assert length / 5 - 1 <= stop - start <= length / 5 + 2 + 4 / len(spans)


@given(SIZES, SIDES, COUNTS)
def test_no_more_tiles_than_allowed_and_none_finer_than_the_model_sees(
    size: tuple[int, int], side: int, most: int
) -> None:
    tiles = tiles_of(size, side, Tiling.ON, most)
    assert len(tiles) <= most
    assert len(tiles) != 1
    free = tiles_of(size, side, Tiling.ON, 5000)
    if free and len(free) <= most:
        assert tiles == free
        assert max(*tiles[0].size) <= side
        columns, rows = axes(tiles)
        for spans, pixels in zip((columns, rows), size, strict=True):
            fewer = len(spans) - 1
            assert not fewer or pixels > side * (fewer - (fewer - 1) / 5)  # one less would not do


@given(SIZES, SIDES, st.integers(2, 60))
def test_where_too_many_are_needed_they_are_as_fine_as_allowed(size: tuple[int, int], side: int, most: int) -> None:
    tiles = tiles_of(size, side, Tiling.ON, most)
    if tiles and (longest := max(tiles[0].size)) > side:

        def length(pixels: int, count: int) -> float:
            return pixels / (count - (count - 1) / 5)

        finest = min(max(length(size[0], n), length(size[1], most // n)) for n in range(1, most + 1))
        assert longest < finest + 1


@given(SIZES, SIDES, COUNTS)
def test_auto_is_on_for_images_more_than_twice_as_large_and_off_for_others(
    size: tuple[int, int], side: int, most: int
) -> None:
    on = tiles_of(size, side, Tiling.ON, most)
    assert tiles_of(size, side, Tiling.AUTO, most) == (on if max(size) > 2 * side else [])
    assert tiles_of(size, side, Tiling.OFF, most) == []


@pytest.mark.parametrize(
    ("size", "tiling", "count"),
    [
        ((4000, 3000), Tiling.ON, 20),  # five by four of about 952, as in SAHI's arithmetic
        ((3840, 2160), Tiling.AUTO, 15),
        ((1920, 1080), Tiling.AUTO, 0),  # the commonest size costs one view
        ((1920, 1080), Tiling.ON, 6),
        ((1260, 1260), Tiling.ON, 0),  # about one tile
        ((1261, 1), Tiling.ON, 2),
        ((1, 1), Tiling.ON, 0),
        ((6000, 4000), Tiling.ON, 28),  # forty at full resolution
        ((1, 100_000), Tiling.ON, 30),
        ((100_000, 1), Tiling.AUTO, 30),
    ],
)
def test_counts_for_a_model_that_sees_1008_pixels(size: tuple[int, int], tiling: Tiling, count: int) -> None:
    assert len(tiles_of(size, 1008, tiling, 30)) == count


@given(st.tuples(st.integers(2000, 12_000), st.integers(2000, 12_000)), st.integers(12, 60))
def test_tiles_of_large_images_are_near_square(size: tuple[int, int], most: int) -> None:
    (width, height) = tiles_of(size, 112, Tiling.ON, most)[0].size
    # No worse than a Full HD picture is squashed, unless the image is so long that its rows are few.
    if max(size) < 3 * min(size):
        assert max(width, height) <= 16 / 9 * min(width, height)


# What is asked.

SIZE = (1000, 500)
TILE = Tile(200, 100, 600, 400)


def exhibit(x0: float, y0: float, x1: float, y1: float, positive: bool = True) -> Exhibit:
    width, height = SIZE
    return Exhibit((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height, positive)


def pixels(shown: Exhibit, tile: Tile = TILE) -> list[float]:
    """xyxy in the image."""
    width, height = tile.size
    x, y = tile.x0 + shown.cx * width, tile.y0 + shown.cy * height
    half, tall = shown.width * width / 2, shown.height * height / 2
    return [x - half, y - tall, x + half, y + tall]


def test_text_is_asked_as_it_is() -> None:
    prompts = [Prompt("dog"), Prompt("red circle")]
    assert prompts_in(TILE, prompts, SIZE) == prompts


def test_an_exemplar_inside_keeps_its_pixels() -> None:
    (asked,) = prompts_in(TILE, [Prompt("dog", (exhibit(250, 150, 350, 200, positive=False),))], SIZE)
    assert asked is not None
    assert asked.text == "dog"
    (shown,) = asked.exhibits
    assert pixels(shown) == pytest.approx([250, 150, 350, 200])
    assert not shown.positive


def test_an_exemplar_across_the_edge_is_clipped() -> None:
    (asked,) = prompts_in(TILE, [Prompt(EXEMPLARS_ONLY, (exhibit(550, 350, 630, 410),))], SIZE)
    assert asked is not None
    assert pixels(asked.exhibits[0]) == pytest.approx([550, 350, 600, 400])


@pytest.mark.parametrize(("x1", "kept"), [(699, True), (701, False)])
def test_half_of_an_exemplar_must_be_inside(x1: float, kept: bool) -> None:
    prompt = Prompt("dog", (exhibit(500, 150, x1, 200), exhibit(300, 300, 310, 310)))
    (asked,) = prompts_in(TILE, [prompt], SIZE)
    assert asked is not None
    assert len(asked.exhibits) == 1 + kept


def test_without_text_a_prompt_needs_a_positive_exemplar_in_the_tile() -> None:
    outside, inside = exhibit(0, 0, 50, 50), exhibit(300, 300, 350, 350)
    refused = exhibit(400, 300, 450, 350, positive=False)
    prompts = [
        Prompt(EXEMPLARS_ONLY, (outside, refused)),
        Prompt(EXEMPLARS_ONLY, (outside, inside, refused)),
        Prompt("dog", (outside, refused)),
        Prompt(EXEMPLARS_ONLY),  # the word itself
    ]
    none, some, text, word = prompts_in(TILE, prompts, SIZE)
    assert none is None
    assert some is not None
    assert [shown.positive for shown in some.exhibits] == [True, False]
    assert text is not None
    assert [shown.positive for shown in text.exhibits] == [False]
    assert word == prompts[3]


BOXES = st.tuples(
    st.floats(0, 990), st.floats(0, 490), st.floats(1, 1000, exclude_min=True), st.floats(1, 500, exclude_min=True)
)


@given(BOXES, st.booleans())
def test_what_is_asked_lies_in_the_tile(box: tuple[float, float, float, float], positive: bool) -> None:
    x0, y0, width, height = box
    x1, y1 = min(x0 + width, 1000.0), min(y0 + height, 500.0)
    (asked,) = prompts_in(TILE, [Prompt("dog", (exhibit(x0, y0, x1, y1, positive),))], SIZE)
    assert asked is not None
    inside = [max(x0, 200), max(y0, 100), min(x1, 600), min(y1, 400)]
    area = max(inside[2] - inside[0], 0) * max(inside[3] - inside[1], 0)
    if area > 0.501 * (x1 - x0) * (y1 - y0):
        assert pixels(asked.exhibits[0]) == pytest.approx(inside, abs=1e-6)
    elif area < 0.499 * (x1 - x0) * (y1 - y0):
        assert asked.exhibits == ()
