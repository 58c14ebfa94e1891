"""Why nothing was found: the very words, as a person reads them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sam3_core import ConceptResult
from sam3_core.masks import Mask
from sam3_core.results import Instance, Removal
from sam3_core.rules import Area, Rules

PHRASE = "another or a more general phrase, or show one with an exemplar box"
ABSENT = ConceptResult((), presence=0.12, best_rejected=0.08, rules=Rules(threshold=0.5), size=(640, 480))
FULL_SIZE = {"size": (4000, 3000), "resolution": 1008}


def test_what_the_model_does_not_see() -> None:
    numbers = "nothing found: presence 0.12, best score 0.08, threshold 0.50."
    assert ABSENT.reason == f"{numbers} Try {PHRASE}."


def test_without_any_candidate() -> None:
    reason = replace(ABSENT, best_rejected=None).reason
    assert reason == f"nothing found: presence 0.12, no candidate at all, threshold 0.50. Try {PHRASE}."


@pytest.mark.parametrize(
    ("best", "threshold", "advised"),
    [(0.31, 0.5, "0.30"), (0.4999, 0.5, "0.45"), (0.30, 0.5, "0.30"), (0.25, 0.5, "0.25"), (0.84, 0.9, "0.80")],
)
def test_a_candidate_near_the_threshold(best: float, threshold: float, advised: str) -> None:
    result = replace(ABSENT, presence=0.9, best_rejected=best, rules=Rules(threshold=threshold))
    numbers = f"nothing found: presence 0.90, best score {best:.2f}, threshold {threshold:.2f}."
    assert result.reason == f"{numbers} Try a threshold of {advised}."


def test_an_unsure_model_and_a_candidate_near_the_threshold() -> None:
    result = replace(ABSENT, presence=0.4, best_rejected=0.35)
    assert result.reason.endswith(f"Try a threshold of 0.35; or {PHRASE}.")


@pytest.mark.parametrize(("best", "threshold"), [(0.24, 0.5), (0.04, 0.05), (0.0, 0.5)])
def test_no_threshold_is_advised_that_would_let_anything_in(best: float, threshold: float) -> None:
    result = replace(ABSENT, presence=0.9, best_rejected=best, rules=Rules(threshold=threshold))
    assert result.reason.endswith(f"Try {PHRASE}.")


def test_a_large_image_without_tiles() -> None:
    result = replace(ABSENT, **FULL_SIZE)
    tiles = "searching in tiles, as things under about 40 pixels vanish in an image of this size"
    assert result.reason.endswith(f"Try {PHRASE}; or {tiles}.")
    for small in ({"size": (2016, 1500)}, {"resolution": 0}):
        assert "tiles" not in replace(result, **small).reason


def test_tiles_that_were_searched() -> None:
    result = replace(ABSENT, **FULL_SIZE, tiles=20)
    numbers = "nothing found: presence 0.12, best score 0.08, threshold 0.50, searched in 20 tiles too."
    assert result.reason == f"{numbers} Try {PHRASE}."


def test_which_rule_took_how_many() -> None:
    result = replace(
        ABSENT,
        presence=0.95,
        rules=Rules(threshold=0.5, min_area=Area(400), max_area=Area(0.5, relative=True)),
        removed=((Removal.SMALL, 2), (Removal.NEGATIVE, 3), (Removal.DUPLICATE, 4), (Removal.DRAWN, 1)),
    )
    assert result.reason == (
        "nothing found: presence 0.95, 6 over the threshold 0.50, but left out: 2 smaller than the least area, "
        "3 better matched by a negative phrase or exemplar, 1 annotated already. "
        "Try a least area under 400 px; or fewer or narrower negatives."
    )


@pytest.mark.parametrize(
    ("removal", "advice"),
    [
        (Removal.ABSENT, " Try a presence floor under 0.30."),
        (Removal.LARGE, " Try a largest area over 50%."),
        (Removal.ELSEWHERE, " Try allowing it to overlap other labels."),
        (Removal.DRAWN, ""),
    ],
)
def test_what_undoes_a_removal(removal: Removal, advice: str) -> None:
    rules = Rules(threshold=0.5, presence=0.3, max_area=Area(0.5, relative=True))
    reason = replace(ABSENT, presence=0.9, rules=rules, removed=((removal, 1),)).reason
    assert reason == (
        f"nothing found: presence 0.90, 1 over the threshold 0.50, but left out: 1 {removal.value}.{advice}"
    )


def test_a_presence_under_its_floor() -> None:
    rules = Rules(threshold=0.05, presence=0.3)
    seen = replace(ABSENT, rules=rules, removed=((Removal.ABSENT, 2),)).reason
    assert seen.startswith("nothing found: presence 0.12 under its floor 0.30, 2 over the threshold 0.05, but left")
    unseen = replace(ABSENT, rules=replace(rules, threshold=0.5)).reason
    assert unseen.startswith("nothing found: presence 0.12 under its floor 0.30, best score 0.08, threshold 0.50. ")


def test_notes_on_the_phrases_are_told() -> None:
    result = replace(ABSENT, notes=("the phrase was read as 'bus'", "'x' is no word"))
    assert result.reason.endswith(f"Try {PHRASE}. The phrase was read as 'bus'. 'x' is no word.")


def test_what_found_something_has_no_reason() -> None:
    found = Instance(Mask.from_full([[1]]), 0.9)
    assert replace(ABSENT, instances=(found,), removed=((Removal.DRAWN, 2),)).reason == ""
