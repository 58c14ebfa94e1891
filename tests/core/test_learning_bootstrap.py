"""Differences against luck, and which groups are kept apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3_core.learning.bootstrap import NO_DIFFERENCE, difference
from sam3_core.learning.folds import folds, held_out
from sam3_core.learning.measure import Tally

counts = st.builds(Tally, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))


def drawn(seed: int, groups: int, recall: float) -> dict[str, Tally]:
    rng = np.random.default_rng(seed)
    hits = rng.binomial(5, recall, groups).tolist()
    return {f"task {number}": Tally(hit, 5 - hit, 5 - hit) for number, hit in enumerate(hits)}


@given(st.lists(counts, max_size=12), st.integers(0, 3))
@settings(max_examples=30)
def test_equal_tallies_do_not_differ(tallies: list[Tally], seed: int) -> None:
    groups = dict(zip("abcdefghijkl", tallies, strict=False))
    assert difference(groups, groups, rounds=100, seed=seed) == NO_DIFFERENCE


@given(st.lists(st.tuples(counts, counts), min_size=1, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_names_and_order_of_groups_say_nothing(pairs: list[tuple[Tally, Tally]], random) -> None:  # type: ignore[no-untyped-def]
    names = [f"task {number}" for number in range(len(pairs))]
    before, after = ({name: pair[side] for name, pair in zip(names, pairs, strict=True)} for side in (0, 1))
    random.shuffle(pairs)
    other = [f"image {number * 7}" for number in range(len(pairs))]
    told = difference(before, after, rounds=200)
    assert told == difference(
        {name: pair[0] for name, pair in zip(other, pairs, strict=True)},
        {name: pair[1] for name, pair in zip(other, pairs, strict=True)},
        rounds=200,
    )
    turned = difference(after, before, rounds=200)
    assert turned.mean == pytest.approx(-told.mean)
    assert -1 <= told.low <= told.high <= 1


def test_the_mean_is_the_difference_of_the_micro_f1() -> None:
    before, after = {"a": Tally(1, 1, 1), "b": Tally(0, 0, 8)}, {"a": Tally(2, 0, 0), "b": Tally(4, 4, 4)}
    whole = sum(after.values(), Tally()).f1 - sum(before.values(), Tally()).f1
    assert difference(before, after).mean == pytest.approx(whole)


def test_it_is_paired_so_that_hard_and_easy_groups_do_not_drown_a_steady_gain() -> None:
    rng = np.random.default_rng(0)
    hits = rng.integers(0, 10, 40).tolist()
    before = {str(n): Tally(hit, 0, 10 - hit) for n, hit in enumerate(hits)}
    after = {str(n): Tally(hit + 1, 0, 9 - hit) for n, hit in enumerate(hits)}
    told = difference(before, after)
    assert told.low > 0.04
    assert told.high - told.low < 0.03
    assert told.share_better == 1.0


def test_luck_is_called_better_about_as_often_as_the_level_says() -> None:
    """Ninety of a hundred intervals hold the truth, so its lower end is above it in about five."""
    above = sum(difference(drawn(s, 40, 0.6), drawn(1000 + s, 40, 0.6), rounds=400).low > 0 for s in range(200))
    assert 2 <= above <= 22
    real = sum(difference(drawn(s, 40, 0.6), drawn(1000 + s, 40, 0.8), rounds=400).low > 0 for s in range(50))
    assert real >= 47


def test_without_groups_in_common_nothing_is_known() -> None:
    assert difference({}, {}) == NO_DIFFERENCE
    assert difference({"a": Tally(1)}, {"b": Tally(2)}) == NO_DIFFERENCE
    told = difference({"a": Tally(0, 1, 1), "b": Tally(5)}, {"a": Tally(1), "c": Tally(0, 9, 9)})
    assert told.mean == 1.0


def test_a_higher_level_is_a_wider_interval_and_a_seed_is_a_seed() -> None:
    before, after = drawn(1, 30, 0.5), drawn(2, 30, 0.6)
    narrow, wide = difference(before, after, level=0.5), difference(before, after, level=0.99)
    assert wide.low < narrow.low <= narrow.mean <= narrow.high < wide.high
    assert difference(before, after, seed=1) == difference(before, after, seed=1) != difference(before, after, seed=2)


@given(st.lists(st.text(max_size=8), unique=True, max_size=20), st.integers(1, 7))
@settings(max_examples=30)
def test_a_group_stays_in_its_fold_whatever_comes_after(groups: list[str], count: int) -> None:
    whole = folds(groups, count)
    assert folds(groups[::-1][:5], count).items() <= whole.items()
    assert set(whole.values()) <= set(range(count))


def test_folds_are_even_stable_between_processes_and_say_nothing_about_who_is_held_out() -> None:
    names = [str(number) for number in range(5000)]
    of, out = folds(names), [held_out(name) for name in names]
    assert [of[name] for name in ("0", "1", "2", "3", "4", "5")] == [2, 2, 3, 0, 0, 3]
    sizes = np.bincount(list(of.values()), minlength=5)
    assert sizes.min() > 900
    assert np.mean(out) == pytest.approx(0.25, abs=0.02)
    shares = [np.mean([out[number] for number, name in enumerate(names) if of[name] == fold]) for fold in range(5)]
    assert max(shares) - min(shares) < 0.06
    assert not any(held_out(name, 0.0) for name in names)
    assert all(held_out(name, 1.0) for name in names)
    fewer = {name for name in names if held_out(name, 0.1)}
    assert fewer < {name for name in names if held_out(name)}


def test_no_fold_is_no_answer() -> None:
    with pytest.raises(ValueError, match="at least one fold"):
        folds(["a"], 0)
