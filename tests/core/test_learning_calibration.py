"""Scores that mean what they say."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_examples import Ear, cell, world

from sam3_core.learning.calibration import fit_calibration, platt, quality, reliability
from sam3_core.learning.examples import Candidate, Example, Heard, Truth


def answered(seed: int, count: int, slope: float, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and outcomes that are true with sigmoid(slope * logit(score) + offset)."""
    rng = np.random.default_rng(seed)
    values = rng.normal(1.0, 1.2, count)
    return 1 / (1 + np.exp(-values)), rng.random(count) < 1 / (1 + np.exp(-(slope * values + offset)))


def shown(seed: int, count: int, slope: float, offset: float) -> list[Example]:
    """The same as reviewed images with one candidate each."""
    scores, true = answered(seed, count, slope, offset)
    return [
        Example(str(n), (Truth(cell(0 if right else 5)),), {"bus": Heard(1, (Candidate(cell(0), float(score)),))})
        for n, (score, right) in enumerate(zip(scores, true, strict=True))
    ]


@pytest.mark.parametrize(("slope", "offset"), [(1, 0), (0.3, 0.5), (2.0, -1.5)])
def test_with_much_data_slope_and_offset_are_found(slope: float, offset: float) -> None:
    told = platt(*answered(3, 6000, slope, offset))
    assert told.slope == pytest.approx(slope, abs=0.12)
    assert told.offset == pytest.approx(offset, abs=0.12)


def test_with_little_data_they_stay_near_what_changes_nothing() -> None:
    few = platt(np.array([0.9, 0.8, 0.2]), np.array([False, False, True]))
    many = platt(np.array([0.9, 0.8, 0.2] * 200), np.array([False, False, True] * 200))
    assert many.slope == 0.05
    assert few.slope > 0.25
    nothing = platt(np.zeros(0), np.zeros(0, dtype=np.bool_))
    assert (nothing.slope, nothing.offset) == (1.0, 0.0)


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.floats(-3, 3), st.floats(-4, 4))
@settings(max_examples=40)
def test_order_is_kept_even_where_the_worse_scores_were_right(
    seed: int, count: int, slope: float, offset: float
) -> None:
    told = platt(*answered(seed, count, slope, offset))
    assert told.slope > 0
    assert math.isfinite(told.offset)
    probabilities = [told(score) for score in np.linspace(0, 1, 21)]
    assert all(0 <= one <= other <= 1 for one, other in itertools.pairwise(probabilities))


def test_scores_that_are_too_sure_become_honest_on_images_never_seen() -> None:
    examples = shown(5, 400, 0.4, -0.3)
    fit = fit_calibration(examples, ["bus"], 0.3)
    assert fit is not None
    assert fit.after.log_loss < fit.before.log_loss - 0.03
    assert fit.after.ece < 0.5 * fit.before.ece
    scores, true = answered(6, 4000, 0.4, -0.3)
    honest = quality(np.array([fit.calibration(score) for score in scores])[scores >= 0.3], true[scores >= 0.3])
    assert honest.ece < 0.06
    assert honest.log_loss == pytest.approx(fit.after.log_loss, abs=0.05), "what it says of itself is held out"


def test_scores_that_are_honest_already_gain_nothing_worth_having() -> None:
    fits = [fit_calibration(shown(seed, 60, 1, 0), ["bus"], 0.2) for seed in range(6)]
    assert fits.count(None) >= 3
    assert all(0 < fit.before.log_loss - fit.after.log_loss < 0.04 for fit in fits if fit is not None)


def test_only_what_is_shown_counts() -> None:
    """Under the threshold everything is false: nobody rejected that, and it would bend the scores above."""
    told = fit_calibration(world(100, {"bus": Ear(1.5, -1.5)}, seed=1), ["bus"], 0.5)
    all_of_it = fit_calibration(world(100, {"bus": Ear(1.5, -1.5)}, seed=1), ["bus"], 0.05)
    assert told is not None
    assert all_of_it is not None
    assert told.count < all_of_it.count
    assert told.calibration.offset != pytest.approx(all_of_it.calibration.offset, abs=0.05)


@pytest.mark.parametrize("right", [0, 2, 8, 10])
def test_too_few_of_a_kind_or_one_kind_alone_teach_nothing(right: int) -> None:
    found = Heard(1, (Candidate(cell(0), 0.9),))
    examples = [Example(str(n), (Truth(cell(0)),) if n < right else (), {"bus": found}) for n in range(10)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit_calibration(examples, ["bus"], 0.5) is None
        assert fit_calibration([], ["bus"], 0.5) is None
        assert fit_calibration(examples, [], 0.5) is None
        assert fit_calibration(examples, ["bus"], 0.95) is None


def test_everything_in_one_group_is_no_error() -> None:
    examples = [Example("a", one.truth, one.found) for one in shown(1, 80, 0.2, -1)]
    fit = fit_calibration(examples, ["bus"], 0.3)
    assert fit is not None
    assert fit.after.log_loss < fit.before.log_loss


def test_bins_hold_every_probability_once() -> None:
    bins = reliability(np.array([0.0, 0.05, 0.1, 0.95, 1.0]), np.array([False, True, True, True, False]))
    assert [one.count for one in bins] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert (bins[0].low, bins[0].high, bins[0].mean, bins[0].share) == (0.0, 0.1, 0.025, 0.5)
    assert (bins[-1].mean, bins[-1].share, bins[-1].high) == (0.975, 0.5, 1.0)
    assert (bins[4].mean, bins[4].share) == (0.45, 0.0)
    assert [one.count for one in reliability(np.zeros(0), np.zeros(0, np.bool_), bins=3)] == [0, 0, 0]


def test_quality_of_what_is_known() -> None:
    even = quality(np.full(4, 0.5), np.array([True, False, True, False]))
    assert (even.log_loss, even.brier, even.ece) == (pytest.approx(math.log(2)), 0.25, 0.0)
    wrong = quality(np.array([1.0]), np.array([False]))
    assert (wrong.brier, wrong.ece) == (1.0, 1.0)
    assert math.isfinite(wrong.log_loss)
