"""Several phrases together, out of what each found alone: as a search with all of them would have answered."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_strategies import box_instance
from simulated_examples import Ear, Looks, cell, world

from sam3_core import FindOptions, Instance, Mask
from sam3_core.dedupe import Crowd, best_first, duplicates
from sam3_core.learning.combine import Sheet, combined
from sam3_core.learning.examples import Candidate, Example, Heard, Truth
from sam3_core.learning.measure import Tally, tally
from sam3_core.prototypes import Prototypes


def heard(*candidates: tuple[Mask, float]) -> Heard:
    return Heard(1.0, tuple(Candidate(mask, score) for mask, score in candidates))


@st.composite
def crowded(draw: st.DrawFn) -> Example:
    """Overlapping boxes with few distinct scores, under two phrases, and a few objects."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def boxes(count: int) -> list[Instance]:
        corners = [(*rng.integers(0, 60, 2).tolist(), *rng.integers(5, 40, 2).tolist()) for _ in range(count)]
        return [box_instance(x, y, x + w, y + h, float(rng.integers(1, 9)) / 8) for x, y, w, h in corners]

    found = {
        phrase: heard(*((one.mask, one.score) for one in best_first(boxes(draw(st.integers(0, 8))))))
        for phrase in ("bus", "coach")
    }
    return Example("task", tuple(Truth(one.mask) for one in boxes(draw(st.integers(0, 4)))), found)


@given(crowded(), st.floats(0, 1), st.sampled_from([(0.6, 0.85), (0.3, 0.5), (1.0, 1.0)]))
@settings(max_examples=50)
def test_cutting_at_a_threshold_is_searching_with_it(
    example: Example, threshold: float, limits: tuple[float, float]
) -> None:
    """The product drops what is under the threshold first, and its own functions remove duplicates and count."""
    iou, contained = limits
    reached = [
        Instance(one.mask, one.score)
        for phrase in ("coach", "bus")
        for one in example.found[phrase].candidates
        if one.score >= threshold
    ]
    crowd = Crowd.of(best_first(reached))
    crowd = crowd.where(~duplicates(crowd, iou=iou, contained=contained))
    asked = tally([one.mask for one in crowd.instances], example.truth)
    told = combined(example, ["coach", "bus"], duplicate_iou=iou, contained_share=contained)
    shown = [one.mask for one in told.candidates if one.score >= threshold]
    assert all(a is b.mask for a, b in zip(shown, crowd.instances, strict=True))
    counted = told.tally(threshold)
    assert (counted.hits, counted.false, counted.missed) == (asked.hits, asked.false, asked.missed)
    assert counted.ious == pytest.approx(asked.ious)


def test_the_limits_are_those_of_a_search() -> None:
    one, other = box_instance(0, 0, 40, 40, 0.9), box_instance(0, 0, 40, 26, 0.8)
    example = Example("task", (), {"a": heard((one.mask, 0.9)), "b": heard((other.mask, 0.8))})
    options = FindOptions()
    assert len(combined(example, ["a", "b"]).scores) == 1
    assert len(combined(example, ["a", "b"], contained_share=1.0, duplicate_iou=options.duplicate_iou).scores) == 1
    assert len(combined(example, ["a", "b"], contained_share=options.contained_share, duplicate_iou=0.7).scores) == 1
    assert len(combined(example, ["a", "b"], contained_share=1.0, duplicate_iou=0.7).scores) == 2


def test_phrases_that_were_not_asked_or_are_repeated_add_nothing() -> None:
    example = world(1, {"bus": Ear()}, seed=3)[0]
    alone = combined(example, ["bus"])
    assert len(alone.scores) > 0
    assert combined(example, ["bus", "coach", "bus"]).candidates == alone.candidates
    assert combined(example, []).tally(0.5) == Tally(missed=len(example.truth))


def test_prototypes_turn_the_order_and_so_who_is_a_duplicate_of_whom() -> None:
    good, bad = np.eye(2, dtype=np.float32)
    right, wrong = Candidate(cell(0), 0.4, good), Candidate(cell(0, 1), 0.6, bad)
    example = Example("task", (Truth(cell(0)),), {"bus": Heard(1, (wrong,)), "coach": Heard(1, (right,))})
    assert combined(example, ["bus", "coach"]).candidates == (wrong,)
    told = combined(example, ["bus", "coach"], Prototypes.of(good[None], bad[None], 1.0))
    assert told.candidates == (right,)
    assert told.scores[0] == pytest.approx(1 / (1 + 1.5 / np.e), rel=1e-4)
    assert combined(example, ["bus", "coach"]).candidates == (wrong,), "what was kept is without prototypes"


def test_candidates_without_a_feature_keep_their_score() -> None:
    good = np.array([1.0, 0.0], dtype=np.float32)
    with_look, without = Candidate(cell(0), 0.4, good), Candidate(cell(1), 0.5)
    example = Example("task", (), {"bus": Heard(1, (without, with_look))})
    told = combined(example, ["bus"], Prototypes.of(good[None], -good[None], 1.0))
    assert dict(zip(told.candidates, told.scores.tolist(), strict=True))[without] == 0.5
    assert told.candidates[0] is with_look


def test_an_empty_mask_and_a_truth_of_another_frame_match_nothing() -> None:
    empty = Mask(np.zeros((0, 0), dtype=np.bool_), 0, 0, cell(0).frame)
    other = Mask(cell(0).bits, 0, 0, (500, 500))
    told = combined(Example("task", (Truth(other),), {"bus": heard((cell(0), 0.9), (empty, 0.8))}), ["bus"])
    assert told.tally(0.0) == Tally(hits=0, false=1, missed=1)


def test_a_sheet_counts_like_the_examples_one_by_one_in_whatever_order() -> None:
    examples = world(12, {"a": Ear(), "b": Ear(0.5, -0.5, finds=0.7)}, seed=5, looks=Looks())
    sheet = Sheet.of(examples, ["a", "b"])
    for threshold in (0.0, 0.3, 0.7, 1.0):
        alone = sum((combined(one, ["a", "b"]).tally(threshold) for one in examples), Tally())
        counted = sheet.tally(threshold)
        assert (counted.hits, counted.false, counted.missed) == (alone.hits, alone.false, alone.missed)
    turned = Sheet.of(examples[::-1], ["a", "b"])
    assert (turned.groups == sheet.groups).all()
    assert (turned.truths == sheet.truths).all()
    assert (np.diff(sheet.scores) <= 0).all()


def test_what_is_remembered_of_an_example_goes_with_it() -> None:
    example = world(1, {"a": Ear()}, seed=1)[0]
    combined(example, ["a"])
    gone = weakref.ref(example)
    del example
    gc.collect()
    assert gone() is None
