"""The threshold that serves best: found where there is data, left alone where there is not."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_examples import Ear, cell, world

from sam3_core.learning.combine import Sheet
from sam3_core.learning.examples import Candidate, Example, Heard, Truth
from sam3_core.learning.thresholds import THIN, best_threshold, fit_threshold

UNSURE = Ear(hit=-0.3, miss=-2.6)
"""Right at about 0.18, where 0.5 misses most."""


@cache
def unseen_images(ear: Ear) -> Sheet:
    return Sheet.of(world(500, {"bus": ear}, seed=999), ["bus"])


def loss(ear: Ear, threshold: float) -> float:
    """How much F1 is lost on images never seen, against the best fixed threshold."""
    unseen = unseen_images(ear)
    best = max(unseen.tally(step / 100).f1 for step in range(1, 100))
    return best - unseen.tally(threshold).f1


@pytest.mark.parametrize("ear", [UNSURE, Ear(2.8, 0.2), Ear(1.2, -1.2)], ids=["too low", "too high", "right"])
def test_thirty_images_are_enough_for_nearly_the_best_threshold(ear: Ear) -> None:
    for seed in range(4):
        fit = best_threshold(world(30, {"bus": ear}, seed=seed), ["bus"], default=0.5)
        assert loss(ear, fit.threshold) < 0.02
        assert fit.f1 >= fit.f1_default - 0.02


def test_thin_data_moves_it_less_and_less_data_less() -> None:
    moves = []
    for count in (1, 3, 10, 100):
        fits = [best_threshold(world(count, {"bus": UNSURE}, seed=seed), ["bus"], default=0.5) for seed in range(8)]
        moves.append(float(np.mean([0.5 - fit.threshold for fit in fits])))
    assert moves == sorted(moves)
    assert moves[0] < 0.6 * moves[-1]


def test_where_the_default_is_as_good_as_any_it_stays_to_the_last_digit() -> None:
    examples = world(50, {"bus": Ear(4, -4, spread=0.3)}, seed=1)
    for default in (0.3, 0.5, 0.7):
        fit = best_threshold(examples, ["bus"], default=default)
        assert (fit.threshold, fit.best) == (default, default)
        assert fit.f1 == fit.f1_default == 1.0


def test_a_plateau_is_cut_in_its_middle_not_at_an_edge() -> None:
    """Objects at 0.3, others at 0.1: on logits the middle is 0.18; only the pull of the default is left of 0.5."""
    candidates = [Candidate(cell(place), 0.3 if place < 8 else 0.1) for place in range(16)]
    truth = tuple(Truth(cell(place)) for place in range(8))
    examples = [Example(str(n), truth, {"bus": Heard(1, tuple(candidates))}) for n in range(20)]
    fit = best_threshold(examples, ["bus"], default=0.5)
    assert fit.best == pytest.approx(0.179, abs=0.001)
    pull = fit.positives / (fit.positives + THIN)
    assert np.log(fit.threshold / (1 - fit.threshold)) == pytest.approx(
        pull * np.log(fit.best / (1 - fit.best)), rel=1e-6
    )


def test_the_curve_is_that_of_the_examples() -> None:
    examples = world(20, {"bus": UNSURE}, seed=2)
    fit, sheet = best_threshold(examples, ["bus"], default=0.5), Sheet.of(examples, ["bus"])
    assert [point for point, _ in fit.curve] == [step / 100 for step in range(1, 100)]
    assert dict(fit.curve)[0.2] == sheet.tally(0.2).f1 > dict(fit.curve)[0.5] == fit.f1_default


def nothing_to_learn() -> dict[str, list[Example]]:
    heard = Heard(0.9, tuple(Candidate(cell(place), 0.9 - place / 20) for place in range(4)))
    truths = tuple(Truth(cell(place)) for place in range(4))
    return {
        "no examples": [],
        "nothing there, nothing found": [Example("a", (), {"bus": Heard(0.0)}), Example("b", (), {})],
        "nothing found": [Example("a", truths, {"bus": Heard(0.0)})],
        "nothing there": [Example("a", (), {"bus": heard})],
        "all true": [Example("a", truths, {"bus": heard})],
        "sure and impossible scores": [
            Example("a", truths[:1], {"bus": Heard(1, (Candidate(cell(0), 1.0), Candidate(cell(1), 0.0)))})
        ],
    }


@pytest.mark.parametrize("case", nothing_to_learn())
def test_data_that_says_nothing_changes_nothing_and_raises_nothing(case: str) -> None:
    examples = nothing_to_learn()[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = best_threshold(examples, ["bus"], default=0.5)
    assert fit.threshold == 0.5
    assert len(fit.curve) == 99


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 4),
    st.sampled_from([0.0, 0.05, 0.5, 0.93, 1.0]),
    st.floats(-3, 3),
    st.floats(0, 2),
)
@settings(max_examples=40)
def test_it_is_a_share_between_the_default_and_the_best_and_the_same_every_time(
    seed: int, count: int, default: float, hit: float, spread: float
) -> None:
    sheet = Sheet.of(world(count, {"bus": Ear(hit, -hit, finds=0.8, spread=spread)}, seed=seed), ["bus"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = fit_threshold(sheet, default)
    assert fit == fit_threshold(sheet, default)
    assert min(default, fit.best) - 1e-3 <= fit.threshold <= max(default, fit.best) + 1e-3
    assert 0 <= fit.threshold <= 1
    assert all(0 <= f1 <= 1 for _, f1 in fit.curve)
