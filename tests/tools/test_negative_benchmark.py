"""The benchmark of negatives counts what it says."""

from __future__ import annotations

import random

import numpy as np
import pytest

from benchmarks.negatives import FIRST_SEED, MARGINS, Case, _counted, cases_of, measure
from sam3_core import Concept, FindOptions, Instance, Mask
from sam3_core.demo.scenes import phrase_matches, render_scene


def strip(left: int, right: int) -> Mask:
    bits = np.zeros((10, 100), dtype=np.bool_)
    bits[:, left:right] = True
    return Mask.from_full(bits)


def test_a_row_per_kind_and_margin() -> None:
    table = measure(range(FIRST_SEED, FIRST_SEED + 2))
    kinds = {row["negative"] for row in table}
    assert {"phrase: a kind of it", "phrase: overlapping it", "exemplar beside a phrase"} <= kinds
    assert len(table) == len(kinds) * len(MARGINS)
    assert FindOptions().negative_margin in MARGINS
    for kind in kinds:
        rows = [row for row in table if row["negative"] == kind]
        assert len({(row["unwanted"], row["wanted"], row["F1_without_%"]) for row in rows}) == 1
        assert [row["gone_%"] for row in rows] == sorted(row["gone_%"] for row in rows)
        assert all(0 <= row[name] <= 100 for row in rows for name in row if name.endswith("%"))


def test_cases_mean_what_their_phrases_say() -> None:
    for seed in range(20):
        scene = render_scene(seed, objects=(4, 9), long_side=(300, 400))
        for case in cases_of(scene, random.Random(seed)):
            assert not case.wanted & case.unwanted
            (phrase,) = case.plain.phrases or ("",)
            for place, thing in enumerate(scene.objects):
                asked = not phrase or phrase_matches(phrase, thing.color, thing.shape)
                meant = [phrase_matches(negative, thing.color, thing.shape) for negative in case.narrowed.negatives]
                if meant:
                    assert (place in case.unwanted) == any(meant)
                    assert (place in case.wanted) == (asked and not any(meant))
            if case.kind.endswith(("a kind of it", "overlapping it", "beside a phrase")):
                assert case.unwanted


def test_counts_of_one_case() -> None:
    """Three wanted, two unwanted; before: two, both and something else; after: one, one and a doubled one."""
    masks = [strip(10 * place, 10 * place + 9) for place in range(5)]
    case = Case("x", Concept(("a",)), Concept(("a",)), frozenset({0, 1, 2}), frozenset({3, 4}))
    plain = [Instance(mask, 0.9) for mask in (masks[0], masks[1], masks[3], masks[4], strip(60, 90))]
    narrowed = [Instance(mask, 0.9) for mask in (masks[0], masks[4], strip(0, 8))]
    counts = _counted(case, masks, plain, narrowed)
    assert (counts["unwanted"], counts["gone"], counts["wanted"], counts["stay"]) == (2, 1, 2, 1)
    assert 2 * counts["right_before"] / counts["all_before"] == pytest.approx(2 * 2 / (2 * 2 + 3 + 1))
    assert 2 * counts["right_after"] / counts["all_after"] == pytest.approx(2 * 1 / (2 * 1 + 2 + 2))
