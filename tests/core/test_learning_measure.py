"""What was found against what is there: matching, counts and the measures made of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_strategies import disc

from sam3_core import Mask
from sam3_core.learning.examples import Truth
from sam3_core.learning.measure import Tally, match, matched, overlaps, tally

FRAME = (60, 40)
tallies = st.builds(Tally, *[st.integers(0, 50)] * 3, st.floats(0, 50), asked=st.just(20), right=st.integers(0, 20))
tables = st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 2**32 - 1)).map(
    lambda drawn: np.round(np.random.default_rng(drawn[2]).random(drawn[:2]), 1)
)


def box(x0: int, y0: int, x1: int, y1: int, frame: tuple[int, int] = FRAME) -> Mask:
    return Mask(np.ones((y1 - y0, x1 - x0), dtype=np.bool_), x0, y0, frame)


def test_the_better_score_takes_the_object_even_where_a_worse_one_fits_it_better() -> None:
    loose, exact = box(0, 0, 10, 10), box(0, 0, 10, 8)
    matching = match([loose, exact], [Truth(box(0, 0, 10, 8))])
    assert [(pair.found, pair.truth) for pair in matching.pairs] == [(0, 0)]
    assert matching.pairs[0].iou == pytest.approx(0.8)
    assert (matching.false, matching.missed) == ((1,), ())


def test_nearest_gives_the_object_to_what_fits_it_best() -> None:
    loose, exact = box(0, 0, 10, 10), box(0, 0, 10, 8)
    matching = match([loose, exact], [Truth(box(0, 0, 10, 8))], nearest=True)
    assert [(pair.found, pair.truth, pair.iou) for pair in matching.pairs] == [(1, 0, 1.0)]
    assert matching.false == (0,)


def test_one_that_lost_its_object_takes_the_next_best_that_is_free() -> None:
    left, right = Truth(box(0, 0, 10, 10)), Truth(box(2, 0, 12, 10))
    matching = match([box(0, 0, 10, 10), box(1, 0, 10, 10)], [left, right])
    assert [(pair.found, pair.truth) for pair in matching.pairs] == [(0, 0), (1, 1)]


def test_masks_of_another_frame_never_match_and_are_no_error() -> None:
    there = Truth(box(0, 0, 10, 10))
    matching = match([box(0, 0, 10, 10, (61, 40))], [there, Truth(box(0, 0, 10, 10), around=True)])
    assert (matching.pairs, matching.false, matching.missed) == ((), (0,), (0, 1))


def test_a_rectangle_around_an_object_is_compared_by_boxes() -> None:
    found = disc(FRAME, 20, 20, 8)
    drawn = Mask(np.ones((16, 16), dtype=np.bool_), 12, 12, FRAME)
    assert overlaps([found], [Truth(drawn, around=True)])[0, 0] == 1.0
    assert overlaps([found], [Truth(drawn)])[0, 0] == pytest.approx(np.pi / 4, abs=0.03)


def test_exactly_the_least_iou_matches_and_nothing_without_overlap_does() -> None:
    half = match([box(0, 0, 10, 5)], [Truth(box(0, 0, 10, 10))])
    assert half.pairs[0].iou == 0.5
    assert not match([box(0, 0, 10, 5)], [Truth(box(0, 0, 10, 10))], 0.51).pairs
    assert not match([box(0, 0, 5, 5)], [Truth(box(20, 20, 30, 30))], 0.0).pairs


@given(tables, st.booleans(), st.sampled_from([0.0, 0.3, 0.5]))
@settings(max_examples=50)
def test_every_matching_is_one_to_one_and_leaves_no_pair_that_both_could_have(
    ious: np.ndarray, nearest: bool, least: float
) -> None:
    pairs = matched(ious, least, nearest=nearest)
    rows, columns = [pair.found for pair in pairs], [pair.truth for pair in pairs]
    assert len(set(rows)) == len(rows)
    assert len(set(columns)) == len(columns)
    assert all(pair.iou == ious[pair.found, pair.truth] >= least for pair in pairs)
    for row, column in itertools.product(range(ious.shape[0]), range(ious.shape[1])):
        if row not in rows and column not in columns:
            assert ious[row, column] < max(least, 1e-9)


@given(tables)
@settings(max_examples=50)
def test_worse_instances_change_nothing_for_better_ones(ious: np.ndarray) -> None:
    whole = matched(ious, 0.5)
    for count in range(len(ious)):
        assert matched(ious[:count], 0.5) == [pair for pair in whole if pair.found < count]


@given(tables)
@settings(max_examples=50)
def test_nearest_pairs_do_not_depend_on_the_order_of_what_was_found(ious: np.ndarray) -> None:
    distinct = ious + np.arange(ious.size).reshape(ious.shape) * 1e-6
    turned = matched(distinct[::-1], 0.3, nearest=True)
    pairs = matched(distinct, 0.3, nearest=True)
    assert {(len(ious) - 1 - pair.found, pair.truth) for pair in turned} == {(p.found, p.truth) for p in pairs}


def test_a_tally_counts_one_image() -> None:
    truth = [Truth(box(0, 0, 10, 10)), Truth(box(20, 0, 30, 10)), Truth(box(40, 0, 50, 10))]
    counted = tally([box(0, 0, 10, 8), box(0, 20, 10, 30)], truth, presence=0.4)
    assert counted == Tally(hits=1, false=1, missed=2, ious=0.8, asked=1, right=0)
    assert (counted.precision, counted.recall, counted.f1) == (0.5, pytest.approx(1 / 3), 0.4)
    assert tally([], [], presence=0.4) == Tally(asked=1, right=1)
    assert tally([], []) == Tally()


def test_where_nothing_could_be_wrong_nothing_was() -> None:
    nothing = Tally()
    assert (nothing.f1, nothing.precision, nothing.recall, nothing.presence) == (1.0, 1.0, 1.0, 1.0)
    assert nothing.mean_iou == 0.0
    assert Tally(missed=3).f1 == 0.0
    assert Tally(false=3).f1 == 0.0


@given(tallies, tallies)
@settings(max_examples=50)
def test_measures_are_shares_and_sums_are_micro_averages(one: Tally, other: Tally) -> None:
    both = one + other
    for measure in ("f1", "precision", "recall", "presence"):
        assert 0.0 <= getattr(both, measure) <= 1.0
    assert both.hits + both.missed == one.hits + one.missed + other.hits + other.missed
    assert both == other + one
    if both.precision + both.recall and both.hits:
        assert both.f1 == pytest.approx(2 * both.precision * both.recall / (both.precision + both.recall))
    assert one + Tally() == one
