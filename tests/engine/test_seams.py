"""Seams: pieces of objects that tiles cut come back whole, once, and nothing else changes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sam3_core.engine.found import Found
from sam3_core.engine.seams import merged
from sam3_core.engine.tiles import Tile, tiles_of
from sam3_core.masks import Mask
from sam3_core.results import Instance
from sam3_core.rules import Tiling

SIZE = (100, 60)
LEFT, RIGHT = Tile(0, 0, 60, 60), Tile(40, 0, 100, 60)
BOTH = (LEFT, RIGHT)

Bounds = tuple[int, int, int, int]


def scores(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


def found(*instances: Instance, presence: float = 0.5, rejected: Sequence[float] = ()) -> Found:
    return Found(presence, instances, scores(*rejected))


def box(x0: int, y0: int, x1: int, y1: int, score: float, *, size: tuple[int, int] = SIZE) -> Instance:
    """A rectangle of the image."""
    return Instance(Mask(np.ones((y1 - y0, x1 - x0), dtype=np.bool_), x0, y0, size), score)


def seen(tile: Tile, instance: Instance, score: float | None = None) -> Instance:
    """The part of an instance that lies in the tile, in the tile's pixels."""
    full = instance.mask.full()[tile.y0 : tile.y1, tile.x0 : tile.x1]
    return Instance(Mask.from_full(full), instance.score if score is None else score)


def merge(whole: Sequence[Instance], *views: tuple[Tile, Sequence[Instance]]) -> list[tuple[Bounds, float]]:
    """Box and score of what comes out; views hold instances of the image."""
    inside = [(tile, found(*(seen(tile, instance) for instance in instances))) for tile, instances in views]
    return [(instance.box, instance.score) for instance in merged(found(*whole), inside, SIZE).instances]


# Cut and put together again.


@st.composite
def objects(draw: st.DrawFn) -> tuple[tuple[int, int], list[Mask]]:
    """The size of an image, and connected objects in it that do not overlap."""
    width, height = draw(st.integers(1, 110)), draw(st.integers(1, 110))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        smooth = cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), draw(st.floats(1, 8)))
        labels = cv2.connectedComponents((smooth > 0).astype(np.uint8))[1]
    else:
        labels = np.zeros((height, width), dtype=np.int32)
        for label in range(1, draw(st.integers(1, 4)) + 1):
            left, top = rng.integers(width), rng.integers(height)
            window = (slice(top, rng.integers(top, height) + 1), slice(left, rng.integers(left, width) + 1))
            if not labels[window].any():
                labels[window] = label
    return (width, height), [Mask.from_full(labels == label) for label in np.unique(labels[labels > 0])]


@given(objects(), st.integers(2, 60), st.booleans(), st.randoms(use_true_random=False))
def test_objects_cut_by_a_grid_come_back_once_and_pixel_exact(
    image: tuple[tuple[int, int], list[Mask]], most: int, known: bool, random: np.random.Generator
) -> None:
    size, masks = image
    best = [0.0] * len(masks)

    def scored(place: int, mask: Mask) -> Instance:
        score = random.uniform(0.5, 1.0)
        best[place] = max(best[place], score)
        return Instance(mask, score)

    views = []
    for tile in tiles_of(size, 16, Tiling.ON, most):
        crops = [Mask.from_full(mask.full()[tile.y0 : tile.y1, tile.x0 : tile.x1]) for mask in masks]
        views.append((tile, found(*(scored(i, crop) for i, crop in enumerate(crops) if crop.area))))
    whole = found(*(scored(i, mask) for i, mask in enumerate(masks) if known or not views))
    result = merged(whole, views, size).instances
    assert len(result) == len(masks)
    for mask, score in zip(masks, best, strict=True):
        (same,) = [instance for instance in result if instance.mask.iou(mask) == 1]
        assert same.mask.bits.shape == mask.bits.shape  # tight
        assert same.mask.frame == size
        assert same.score <= score
    assert not views or [i.score for i in result] == sorted((i.score for i in result), reverse=True)


def test_an_object_across_a_seam_is_joined_with_the_best_score() -> None:
    thing = box(20, 10, 80, 30, 0.6)
    assert merge([], (LEFT, [thing]), (RIGHT, [box(20, 10, 80, 30, 0.9)])) == [((20, 10, 80, 30), 0.9)]


def test_an_object_over_four_tiles_is_joined() -> None:
    tiles = [Tile(x, y, x + 40, y + 40) for y in (0, 20) for x in (0, 30, 60)]
    thing = box(10, 10, 95, 50, 0.7)
    assert merge([], *((tile, [thing]) for tile in tiles)) == [((10, 10, 95, 50), 0.7)]


def test_what_does_not_agree_where_both_see_it_is_not_joined() -> None:
    one, other = box(20, 10, 60, 30, 0.8), box(40, 26, 80, 46, 0.7)  # they share 20 x 4 of 20 x 36 pixels
    assert merge([], (LEFT, [one]), (RIGHT, [other])) == [((20, 10, 60, 30), 0.8), ((40, 26, 80, 46), 0.7)]


def test_an_unsure_candidate_is_not_joined_to_a_sure_one() -> None:
    sure, unsure = box(20, 10, 80, 30, 0.9), box(20, 8, 80, 30, 0.1)
    assert merge([], (LEFT, [sure]), (RIGHT, [unsure])) == [((20, 10, 60, 30), 0.9), ((40, 8, 80, 30), 0.1)]


def test_parts_in_one_tile_are_not_joined() -> None:
    one, other = box(10, 10, 60, 30, 0.9), box(14, 10, 60, 31, 0.8)
    expected = [((10, 10, 60, 30), 0.9), ((14, 10, 60, 31), 0.8)]
    assert merge([], (LEFT, [one, other]), (RIGHT, [])) == expected


def test_a_joined_mask_has_what_either_tile_saw() -> None:
    low, high = np.zeros((2, *SIZE[::-1]), dtype=np.bool_)
    low[12:30, 20:60] = high[10:28, 40:80] = True
    low[20:22, 52:54] = high[16:18, 42:44] = False  # holes that only one of them has
    parts = [
        (tile, found(seen(tile, Instance(Mask.from_full(b), 0.9)))) for tile, b in zip(BOTH, (low, high), strict=True)
    ]
    (instance,) = merged(found(), parts, SIZE).instances
    assert np.array_equal(instance.mask.full(), low | high)


# Several views of one object.


def test_a_part_goes_where_a_tile_shows_the_whole_whatever_its_score() -> None:
    thing = box(45, 10, 70, 30, 0.6)
    assert merge([], (LEFT, [box(45, 10, 70, 30, 0.99)]), (RIGHT, [thing])) == [((45, 10, 70, 30), 0.6)]


def test_a_part_goes_where_the_whole_view_shows_all_of_it() -> None:
    thing = box(10, 10, 70, 30, 0.6)
    assert merge([thing], (LEFT, [box(10, 10, 70, 30, 0.99)]), (RIGHT, [])) == [((10, 10, 70, 30), 0.6)]


def test_most_of_a_part_is_enough() -> None:
    thing = box(10, 10, 55, 30, 0.6)  # 45 of the part's 50 columns
    assert merge([thing], (LEFT, [box(10, 10, 60, 30, 0.99)])) == [((10, 10, 55, 30), 0.6)]
    half = box(10, 10, 35, 30, 0.6)
    assert len(merge([half], (LEFT, [box(10, 10, 60, 30, 0.99)]))) == 2


def test_what_joined_parts_leave_open_the_whole_view_tells() -> None:
    first, second, third = (Tile(x, 0, x + 40, 60) for x in (0, 30, 60))
    thing = box(35, 10, 75, 30, 0.9)
    coarse = box(33, 8, 77, 32, 0.6)
    assert merge([coarse], (first, [thing]), (second, [thing]), (third, [])) == [((33, 8, 77, 32), 0.6)]


def test_a_candidate_that_nobody_believes_in_takes_no_part_away() -> None:
    thing, doubtful = box(10, 10, 70, 30, 0.9), box(10, 10, 70, 30, 0.1)
    assert merge([doubtful], (LEFT, [thing]), (RIGHT, [])) == [((10, 10, 60, 30), 0.9), ((10, 10, 70, 30), 0.1)]


def test_a_tiles_mask_is_finer_than_the_whole_views_and_keeps_the_better_score() -> None:
    coarse, fine = box(8, 8, 32, 32, 0.9), box(10, 10, 30, 30, 0.6)
    assert merge([coarse], (LEFT, [fine])) == [((10, 10, 30, 30), 0.9)]
    assert merge([box(8, 8, 32, 32, 0.5)], (LEFT, [fine])) == [((10, 10, 30, 30), 0.6)]


def test_a_joined_mask_is_finer_than_the_whole_views() -> None:
    coarse, fine = box(22, 8, 72, 32, 0.9), box(25, 10, 70, 30, 0.6)
    assert merge([coarse], (LEFT, [fine]), (RIGHT, [fine])) == [((25, 10, 70, 30), 0.9)]


def test_the_whole_views_mask_stays_where_the_object_is_larger_than_a_tile() -> None:
    large = box(2, 3, 98, 57, 0.6)
    parts = box(5, 5, 95, 55, 0.9)
    assert merge([large], (LEFT, [parts]), (RIGHT, [parts])) == [((2, 3, 98, 57), 0.6)]


def test_what_lies_in_the_overlap_of_two_tiles_comes_once() -> None:
    worse, better = box(44, 10, 54, 20, 0.7), box(44, 10, 54, 21, 0.8)
    assert merge([], (LEFT, [worse]), (RIGHT, [better])) == [((44, 10, 54, 21), 0.8)]


def test_a_copy_that_is_gone_takes_no_other_with_it() -> None:
    tiles = [Tile(x, y, x + 60, y + 40) for y in (0, 20) for x in (0, 40)]
    best, copy, third = box(44, 24, 54, 34, 0.9), box(47, 24, 57, 34, 0.8), box(49, 24, 59, 36, 0.7)
    result = merge([], *zip(tiles, [[best], [copy], [third]], strict=False))
    assert result == [((44, 24, 54, 34), 0.9), ((49, 24, 59, 36), 0.7)]


def test_a_coarse_instance_and_an_unsure_fine_one_both_stay() -> None:
    coarse, unsure = box(8, 8, 32, 32, 0.9), box(10, 10, 30, 30, 0.1)
    assert merge([coarse], (LEFT, [unsure])) == [((8, 8, 32, 32), 0.9), ((10, 10, 30, 30), 0.1)]


def test_instances_of_one_view_do_not_replace_each_other() -> None:
    one, other = box(10, 10, 30, 30, 0.8), box(10, 10, 30, 25, 0.7)
    expected = [((10, 10, 30, 30), 0.8), ((10, 10, 30, 25), 0.7)]
    assert merge([], (LEFT, [one, other]), (RIGHT, [])) == expected
    assert merge([one, other], (RIGHT, [])) == expected


def test_a_part_and_its_surroundings_both_stay() -> None:
    whole, part = box(4, 4, 40, 40, 0.8), box(10, 10, 20, 20, 0.7)
    assert merge([whole], (LEFT, [part])) == [((4, 4, 40, 40), 0.8), ((10, 10, 20, 20), 0.7)]


# Parts that stay parts.


def test_a_part_that_another_tile_shows_more_of_and_does_not_find_goes() -> None:
    assert merge([], (LEFT, [box(45, 10, 60, 30, 0.9)]), (RIGHT, [])) == []


def test_a_part_that_two_tiles_agree_on_stays() -> None:
    tiles = [Tile(x, y, x + 60, y + 40) for y in (0, 20) for x in (0, 40)]
    thing = box(20, 22, 80, 50, 0.9)
    upper, lower = tiles[:2], tiles[2:]
    result = merge([], *((tile, [thing]) for tile in upper), *((tile, []) for tile in lower))
    assert result == [((20, 22, 80, 40), 0.9)]


def test_a_part_that_no_other_tile_shows_the_most_of_stays() -> None:
    assert merge([], (LEFT, [box(10, 10, 60, 30, 0.9)]), (RIGHT, [])) == [((10, 10, 60, 30), 0.9)]


def test_the_images_own_border_is_no_seam() -> None:
    instance = box(80, 0, 100, 60, 0.9)
    assert merge([box(40, 0, 100, 60, 0.9)], (RIGHT, [instance])) == [
        ((80, 0, 100, 60), 0.9),
        ((40, 0, 100, 60), 0.9),
    ]


# The rest of the answer.


def test_without_tiles_the_answer_is_the_whole_views() -> None:
    whole = found(box(1, 1, 5, 5, 0.9), rejected=(0.3, 0.1))
    assert merged(whole, [], SIZE) is whole


def test_presence_is_the_best_and_rejected_scores_are_all_in_order() -> None:
    whole = found(presence=0.3, rejected=(0.4, 0.1))
    views = [(LEFT, found(presence=0.2, rejected=(0.45,))), (RIGHT, found(presence=0.7, rejected=(0.3, 0.0)))]
    result = merged(whole, views, SIZE)
    assert (result.presence, result.instances) == (0.7, ())
    assert result.rejected.tolist() == pytest.approx([0.45, 0.4, 0.3, 0.1, 0.0])
    assert result.rejected.dtype == np.float32


def test_a_huge_image_costs_only_crops() -> None:
    size = (60_000, 60_000)
    tiles = tiles_of(size, 1008, Tiling.ON, 30)
    objects = [box(x, x, x + 40, x + 40, 0.9, size=size) for x in range(100, 59_000, 300)]
    views = []
    for tile in tiles:
        here = [i for i in objects if tile.x0 <= i.box[0] and i.box[2] <= tile.x1]
        here = [i for i in here if tile.y0 <= i.box[1] and i.box[3] <= tile.y1]
        masks = [Mask(i.mask.bits, i.box[0] - tile.x0, i.box[1] - tile.y0, tile.size) for i in here]
        views.append((tile, found(*(Instance(mask, 0.8) for mask in masks))))
    tracemalloc.start()
    result = merged(found(*objects), views, size)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sorted(i.box for i in result.instances) == [i.box for i in objects]
    assert peak < 4e6
