"""Prototypes of what was accepted and rejected: they help where looks tell, and are not kept where they do not."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from simulated_examples import Ear, Looks, cell, world

from sam3_core.learning import memory
from sam3_core.learning.combine import Sheet
from sam3_core.learning.examples import Candidate, Example, Heard, Truth
from sam3_core.learning.memory import MOST_PROTOTYPES, fit_prototypes

CONFUSED = {"bus": Ear(0.6, -0.2)}
"""Scores hardly tell objects from others."""


def unseen_f1(examples: list[Example], looks: Looks, learn_threshold: bool) -> tuple[float, float]:
    """Without and with what was learned, on images never seen."""
    unseen = world(300, CONFUSED, seed=999, looks=looks)
    fit = fit_prototypes(examples, ["bus"], default=0.5, learn_threshold=learn_threshold)
    assert fit.prototypes is not None, fit.why
    threshold = 0.5 if fit.threshold is None else fit.threshold
    return Sheet.of(unseen, ["bus"]).tally(0.5).f1, Sheet.of(unseen, ["bus"], fit.prototypes).tally(threshold).f1


@pytest.mark.parametrize("learn_threshold", [False, True])
def test_what_looks_like_past_rejects_sinks(learn_threshold: bool) -> None:
    looks = Looks(0.7, width=32)
    before, after = unseen_f1(world(30, CONFUSED, seed=1, looks=looks), looks, learn_threshold)
    assert after > before + 0.15


def test_features_that_are_all_nearly_alike_still_tell() -> None:
    """A vision encoder's means all have high cosines: the little that differs has to count."""
    looks = Looks(0.7, width=32)

    def nearly(examples: list[Example]) -> list[Example]:
        base = np.ones(32, dtype=np.float32) * 0.5
        return [
            Example(
                one.group,
                one.truth,
                {
                    "bus": Heard(
                        1, tuple(Candidate(c.mask, c.score, base + c.feature) for c in one.found["bus"].candidates)
                    )
                },
            )
            for one in examples
        ]

    fit = fit_prototypes(nearly(world(60, CONFUSED, seed=1, looks=looks)), ["bus"], default=0.5, learn_threshold=True)
    assert fit.prototypes is not None, fit.why
    unseen = nearly(world(200, CONFUSED, seed=999, looks=looks))
    after = Sheet.of(unseen, ["bus"], fit.prototypes).tally(fit.threshold or 0.5).f1
    assert after > Sheet.of(unseen, ["bus"]).tally(0.5).f1 + 0.1


def test_looks_that_say_nothing_are_hardly_ever_kept() -> None:
    """Prototypes know the very instances they were made of: judged by those, every look would seem to tell."""
    kept = [
        fit_prototypes(world(15, CONFUSED, seed=seed, looks=Looks(0.0)), ["bus"], default=0.5, learn_threshold=False)
        for seed in range(12)
    ]
    assert sum(fit.prototypes is not None for fit in kept) <= 1
    assert all(fit.why for fit in kept if fit.prototypes is None)
    assert np.mean([fit.gain.mean for fit in kept]) > -0.06, "nor do they weigh much"


def test_prototypes_are_few_of_length_one_and_the_same_every_time() -> None:
    examples = world(60, CONFUSED, seed=2, looks=Looks(1.0))
    one, other = (fit_prototypes(examples, ["bus"], default=0.5, learn_threshold=True) for _ in range(2))
    assert one == other
    assert one.prototypes is not None
    assert one.accepted > 3 * MOST_PROTOTYPES
    for packed in (one.prototypes.accepted, one.prototypes.rejected):
        rows = np.frombuffer(packed, dtype="<f2").reshape(-1, 16).astype(np.float32)
        assert 1 <= len(rows) <= MOST_PROTOTYPES
        assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=0.01)
    assert one.gain.low > 0


def test_the_better_way_to_make_prototypes_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kinds that differ in one direction out of many, and hardly: what is near says less than where they differ."""
    rng = np.random.default_rng(5)

    def example(number: int) -> Example:
        kinds = rng.random(8) < 0.5
        looks = rng.normal(0, 0.2, (8, 48)).astype(np.float32) + np.float32(1)
        looks[:, 0] += np.where(kinds, 0.35, -0.35).astype(np.float32)
        found = tuple(
            Candidate(cell(place), float(score), looks[place])
            for place, score in enumerate(np.sort(rng.uniform(0.3, 0.7, 8))[::-1])
        )
        truth = tuple(Truth(cell(place)) for place in np.flatnonzero(kinds).tolist())
        return Example(str(number), truth, {"bus": Heard(1.0, found)})

    examples = [example(number) for number in range(40)]
    gains = {}
    for kind in memory._KINDS:
        monkeypatch.setattr(memory, "_KINDS", (kind,))
        gains[kind] = fit_prototypes(examples, ["bus"], default=0.5, learn_threshold=True).gain.low
    monkeypatch.undo()
    assert gains[memory._opposite] > gains[memory._nearest] + 0.05
    both = fit_prototypes(examples, ["bus"], default=0.5, learn_threshold=True)
    assert both.gain.low == max(gains.values())
    assert both.prototypes is not None
    assert len(both.prototypes.accepted) == 48 * 2


def test_several_looks_of_one_concept_are_all_remembered() -> None:
    """One mean would lie between them, where nothing is."""
    rng = np.random.default_rng(0)
    ways = np.eye(8, dtype=np.float32)

    def example(number: int) -> Example:
        kinds = rng.permutation(8)
        candidates = [
            Candidate(
                cell(place), float(rng.uniform(0.3, 0.7)), ways[kind] + rng.normal(0, 0.05, 8).astype(np.float32)
            )
            for place, kind in enumerate(kinds)
        ]
        truth = tuple(Truth(cell(place)) for place, kind in enumerate(kinds) if kind % 2)
        return Example(str(number), truth, {"bus": Heard(1, tuple(sorted(candidates, key=lambda one: -one.score)))})

    examples = [example(number) for number in range(40)]
    fit = fit_prototypes(examples, ["bus"], default=0.5, learn_threshold=False)
    assert Sheet.of([example(99 + n) for n in range(20)], ["bus"], fit.prototypes).tally(0.5).f1 > 0.95


def poor_outlines(count: int) -> list[Example]:
    """Objects with a good candidate and one that is too small to be a hit."""
    good, small = np.eye(2, dtype=np.float32)
    found = Heard(1, (Candidate(cell(0), 0.9, good), Candidate(cell(1, 4), 0.6, small)))
    return [Example(str(n), (Truth(cell(0)), Truth(cell(1))), {"bus": found}) for n in range(count)]


@pytest.mark.parametrize(
    "examples",
    [
        [],
        [Example("a", (Truth(cell(0)),), {})],
        world(40, CONFUSED, seed=1),
        world(1, CONFUSED, seed=1, looks=Looks()),
        world(40, CONFUSED, seed=1, looks=Looks(), others=0),
        world(40, CONFUSED, seed=1, looks=Looks(), objects=0),
        [Example("one", e.truth, e.found) for e in world(40, CONFUSED, seed=1, looks=Looks())],
        poor_outlines(30),
    ],
    ids=["none", "nothing found", "no looks", "one image", "no others", "no objects", "one group", "poor outlines"],
)
@pytest.mark.parametrize("learn_threshold", [False, True])
def test_too_little_to_compare_teaches_nothing(examples: list[Example], learn_threshold: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = fit_prototypes(examples, ["bus"], default=0.5, learn_threshold=learn_threshold)
    assert (fit.prototypes, fit.threshold) == (None, None)
    assert fit.why
