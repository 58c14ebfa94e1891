"""Detections to results, with logits drawn by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam3_core.engine import answers
from sam3_core.engine.answers import Search, outlines
from sam3_core.engine.clicks import Readings
from sam3_core.engine.concepts import Detection
from sam3_core.engine.found import Found, found_in
from sam3_core.engine.plan import Step
from sam3_core.results import ConceptResult, Removal
from sam3_core.rules import DEFAULT_RULES, Area, Rules
from sam3_core.types import Box, FindOptions

SIZE = (160, 80)


def logits(left: int, right: int) -> np.ndarray:
    """A 16x16 map, high in some columns."""
    drawn = np.full((16, 16), -8, dtype=np.float32)
    drawn[4:12, left:right] = 8
    return drawn


def found(*kept: tuple[float, tuple[int, int]], rejected: tuple[float, ...] = (), presence: float = 0.9) -> Found:
    """(score, columns of the 16x16 map), best first, 10 pixels of the image each."""
    maps = [logits(*columns) for _, columns in kept]
    detection = Detection(
        presence,
        np.array([score for score, _ in kept], dtype=np.float32),
        np.stack(maps) if maps else np.zeros((0, 16, 16), dtype=np.float32),
        np.array(rejected, dtype=np.float32),
    )
    return found_in(detection, SIZE)


def step(*phrases: str, negatives: tuple[int, ...] = (), rules: Rules | None = None, **more: Any) -> Step:
    """Phrase i is prompt i; a threshold of 0.5 unless the rules say other."""
    named = tuple((phrase, index) for index, phrase in enumerate(phrases or ("a",)))
    return Step(named, negatives, (rules or Rules()).over(DEFAULT_RULES), **more)


def answer(
    one: Step, *prompts: Found, options: FindOptions | None = None, search: Search | None = None
) -> ConceptResult:
    (result,) = answers.answers([one], prompts, search or Search(SIZE), options or FindOptions())
    return result


def scores(result: ConceptResult) -> list[float]:
    return [round(instance.score, 2) for instance in result.instances]


def test_masks_land_in_image_pixels() -> None:
    result = answer(step("star"), found((0.8, (2, 6))), search=Search(SIZE, 3, 112))
    (instance,) = result.instances
    assert instance.box == pytest.approx((20, 20, 60, 60), abs=2)
    assert instance.mask.frame == SIZE == result.size
    assert instance.phrase == "star"
    assert instance.score == pytest.approx(0.8)
    assert (result.tiles, result.resolution, result.removed) == (3, 112, ())


def test_synonyms_are_united_and_the_better_reading_stays() -> None:
    disc = found((0.6, (0, 4)), (0.55, (8, 12)), presence=0.7)
    circle = found((0.9, (0, 4)), presence=0.95)
    result = answer(step("disc", "circle"), disc, circle)
    assert [(i.phrase, round(i.score, 2)) for i in result.instances] == [("circle", 0.9), ("disc", 0.55)]
    assert result.presence == pytest.approx(0.95)
    assert result.removed == ((Removal.DUPLICATE, 1),)


def test_best_rejected_is_the_highest_score_under_this_concepts_threshold() -> None:
    prompts = [found((0.8, (0, 4)), (0.45, (8, 12)), rejected=(0.2, 0.1)), found(rejected=(0.3,))]
    result = answer(step("a", "b"), *prompts)
    assert len(result.instances) == 1  # another concept of the request wanted the second one, at 0.4
    assert result.best_rejected == pytest.approx(0.45)
    assert result.threshold == 0.5
    everything = answer(step(rules=Rules(threshold=0.0)), found((0.8, (0, 4))))
    assert everything.best_rejected is None


def test_a_score_on_the_threshold_is_kept() -> None:
    result = answer(step(rules=Rules(threshold=0.7)), found((0.7, (0, 4))))
    assert len(result.instances) == 1


def test_nothing_found_has_a_reason() -> None:
    result = answer(step(), found(rejected=(0.31,), presence=0.02))
    assert result.instances == ()
    assert result.reason.startswith("nothing found: presence 0.02, best score 0.31, threshold 0.50. Try ")


def test_what_a_negative_exemplar_shows_is_no_answer() -> None:
    prompt = found((0.9, (0, 4)), (0.8, (8, 12)))
    near = Box(2, 18, 42, 62)  # about what the first one covers
    result = answer(step(refused=(near,)), prompt)
    assert scores(result) == [0.8]
    assert result.removed == ((Removal.NEGATIVE, 1),)
    wide = Box(0, 0, 160, 80)  # much more than any of them: a hint to the model, no refusal of all inside
    assert scores(answer(step(refused=(wide,)), prompt)) == [0.9, 0.8]


def test_a_presence_under_its_floor_empties_the_answer() -> None:
    prompts = [found((0.55, (0, 4)), presence=0.6), found((0.6, (8, 12)), presence=0.7)]
    doubted = answer(step("a", "b", rules=Rules(presence=0.71)), *prompts)
    assert (doubted.instances, doubted.removed) == ((), ((Removal.ABSENT, 2),))
    assert len(answer(step("a", "b", rules=Rules(presence=0.7)), *prompts).instances) == 2  # the best phrase counts


@pytest.mark.parametrize(
    ("rules", "kept", "removed"),
    [
        (Rules(min_area=Area(1200), max_area=Area(2400)), [0.8], {Removal.SMALL: 1, Removal.LARGE: 1}),
        (Rules(min_area=Area(0.25, relative=True)), [0.9], {Removal.SMALL: 2}),
        (Rules(max_area=Area(0.1, relative=True)), [0.7], {Removal.LARGE: 2}),
        (Rules(min_area=Area(0), max_area=Area(1, relative=True)), [0.9, 0.8, 0.7], {}),
    ],
)
def test_areas_are_in_pixels_or_shares_of_the_image(
    rules: Rules, kept: list[float], removed: dict[Removal, int]
) -> None:
    """Of 40 rows and 80, 40 and 20 columns: a quarter of the image (but for its rounded rim), an eighth, a 16th."""
    result = answer(step(rules=rules), found((0.9, (0, 9)), (0.8, (10, 14)), (0.7, (14, 16))))
    assert scores(result) == kept
    assert dict(result.removed) == removed


def test_what_is_too_large_takes_no_part_with_it() -> None:
    prompt = found((0.9, (0, 14)), (0.8, (2, 5)), (0.7, (8, 11)))
    assert scores(answer(step(), prompt)) == [0.9]
    assert scores(answer(step(rules=Rules(max_area=Area(0.3, relative=True))), prompt)) == [0.8, 0.7]


def test_max_instances_keeps_the_best_of_what_is_left() -> None:
    prompt = found((0.9, (0, 4)), (0.8, (0, 4)), (0.7, (5, 8)), (0.6, (9, 12)))
    result = answer(step(rules=Rules(max_instances=2)), prompt)
    assert scores(result) == [0.9, 0.7]
    assert result.removed == ((Removal.DUPLICATE, 1), (Removal.MORE, 1))


def test_top_k_fills_up_with_the_best_candidates() -> None:
    prompt = found((0.6, (0, 3)), (0.4, (0, 3)), (0.3, (4, 7)), (0.2, (8, 11)), (0.1, (12, 15)))
    for count, expected in ((0, [0.6]), (1, [0.6]), (2, [0.6, 0.3]), (3, [0.6, 0.3, 0.2]), (9, [0.6, 0.3, 0.2, 0.1])):
        result = answer(step(rules=Rules(top_k=count)), prompt)
        assert scores(result) == expected
        assert result.removed == ()  # what is under the threshold was never an answer
        assert result.best_rejected == pytest.approx(0.4)
    assert scores(answer(step(rules=Rules(top_k=3, max_instances=2)), prompt)) == [0.6, 0.3]


def test_top_k_never_takes_from_what_reached_the_threshold() -> None:
    prompt = found((0.9, (0, 3)), (0.8, (4, 7)), (0.7, (8, 11)), (0.1, (12, 15)))
    assert scores(answer(step(rules=Rules(top_k=1)), prompt)) == [0.9, 0.8, 0.7]


def test_the_other_rules_hold_for_candidates_too() -> None:
    prompt = found((0.4, (0, 3)), (0.3, (4, 5)), (0.2, (8, 11)), (0.1, (12, 15)))
    lookalike = found((0.25, (8, 11)), (0.2, (0, 3)))
    rules = Rules(top_k=4, min_area=Area(900))
    assert scores(answer(step(rules=rules, negatives=(1,)), prompt, lookalike)) == [0.4, 0.1]
    assert scores(answer(step(rules=replace(rules, presence=0.95)), prompt)) == []


def test_what_is_drawn_already_counts_to_top_k() -> None:
    """Who accepted some of the candidates and asks again gets the rest, not worse ones in their place."""
    prompt = found((0.4, (0, 3)), (0.3, (4, 7)), (0.2, (8, 11)), (0.1, (12, 15)))
    rules = Rules(top_k=2)
    first, second = answer(step(rules=rules), prompt).instances
    assert scores(answer(step(rules=rules, drawn=(first.mask,)), prompt)) == [0.3]
    assert scores(answer(step(rules=rules, drawn=(first.mask, Box(*second.box))), prompt)) == []


def test_what_a_negative_matches_better_goes() -> None:
    prompts = [found((0.9, (0, 4)), (0.6, (8, 12))), found((0.95, (8, 12)), (0.95, (13, 15)))]
    result = answer(step("ball", negatives=(1,)), *prompts)
    assert scores(result) == [0.9]
    assert result.removed == ((Removal.NEGATIVE, 1),)
    assert scores(answer(step("ball"), *prompts)) == [0.9, 0.6]


def test_duplicates_go_before_look_alikes() -> None:
    """Or a worse reading of an object that a negative takes would be left."""
    prompts = [found((0.9, (0, 6)), (0.6, (2, 6))), found((0.95, (0, 6)))]
    result = answer(step("ball", negatives=(1,)), *prompts)
    assert result.instances == ()
    assert result.removed == ((Removal.NEGATIVE, 1), (Removal.DUPLICATE, 1))


def test_what_a_positive_exemplar_shows_is_nobodys_look_alike() -> None:
    prompts = [found((0.9, (0, 4)), (0.6, (8, 12))), found((0.95, (0, 4)), (0.95, (8, 12)))]
    mine = Box(0, 20, 40, 60)
    result = answer(step("ball", negatives=(1,), shown=(mine,)), *prompts)
    assert scores(result) == [0.9]


def test_what_is_drawn_already_is_not_answered_again() -> None:
    prompt = found((0.9, (0, 4)), (0.8, (8, 12)), (0.7, (13, 16)))
    first, _, third = answer(step(), prompt).instances
    result = answer(step(drawn=(first.mask, Box(*third.box))), prompt)
    assert scores(result) == [0.8]
    assert result.removed == ((Removal.DRAWN, 2),)


def test_a_worse_reading_of_what_is_drawn_goes_with_it() -> None:
    prompt = found((0.9, (0, 6)), (0.6, (0, 4)))
    drawn = answer(step(), found((0.9, (2, 6)))).instances[0].mask
    options = FindOptions(duplicate_iou=0.55)
    result = answer(step(drawn=(drawn,)), prompt, options=options)
    assert result.instances == ()
    assert dict(result.removed) == {Removal.DUPLICATE: 1, Removal.DRAWN: 1}


def several(*steps: Step, prompts: Sequence[Found], options: FindOptions | None = None) -> list[ConceptResult]:
    return answers.answers(steps, prompts, Search(SIZE), options or FindOptions())


def concept(index: int, **rules: Any) -> Step:
    return Step(((f"phrase {index}", index),), (), Rules(**rules).over(DEFAULT_RULES))


def test_an_object_goes_to_the_concept_that_is_surer_of_it() -> None:
    prompts = [found((0.9, (0, 4)), (0.6, (8, 12))), found((0.8, (0, 4)), (0.7, (8, 12)))]
    first, second = several(concept(0), concept(1), prompts=prompts)
    assert (scores(first), scores(second)) == ([0.9], [0.7])
    assert first.removed == second.removed == ((Removal.ELSEWHERE, 1),)
    for one, other in (({"overlap": True}, {}), ({}, {"overlap": True})):
        both = several(concept(0, **one), concept(1, **other), prompts=prompts)
        assert [scores(result) for result in both] == [[0.9, 0.6], [0.8, 0.7]]
        assert both[0].removed == both[1].removed == ()


def test_surer_is_by_each_concepts_own_threshold() -> None:
    """0.5 is just enough for a concept that wants 0.5; 0.45 is much for one that wants 0.1."""
    prompts = [found((0.5, (0, 4))), found((0.45, (0, 4)))]
    first, second = several(concept(0, threshold=0.5), concept(1, threshold=0.1), prompts=prompts)
    assert (scores(first), scores(second)) == ([], [0.45])


def test_of_equally_sure_concepts_the_first_has_it() -> None:
    prompts = [found((0.8, (0, 4))), found((0.8, (0, 4)))]
    assert [scores(r) for r in several(concept(0), concept(1), prompts=prompts)] == [[0.8], []]
    assert [scores(r) for r in several(concept(1), concept(0), prompts=prompts)] == [[0.8], []]
    many = several(*map(concept, range(40)), prompts=[found((0.9, (8, 12)), (0.8, (0, 4)))] * 40)
    assert [scores(result) for result in many] == [[0.9, 0.8]] + [[]] * 39


def test_concepts_share_an_object_where_they_overlap_little_enough() -> None:
    prompts = [found((0.9, (0, 6))), found((0.8, (0, 4)))]
    assert [scores(r) for r in several(concept(0), concept(1), prompts=prompts)] == [[0.9], [0.8]]
    strict = several(concept(0), concept(1), prompts=prompts, options=FindOptions(across_iou=0.6))
    assert [scores(result) for result in strict] == [[0.9], []]


def test_a_candidate_under_the_threshold_claims_nothing_that_another_is_sure_of() -> None:
    prompts = [found((0.4, (0, 4))), found((0.35, (0, 4)))]
    unsure, sure = several(concept(0, top_k=1), concept(1, threshold=0.3), prompts=prompts)
    assert (scores(unsure), scores(sure)) == ([], [0.35])
    assert unsure.removed == ()


def test_a_phrase_that_fills_the_models_queries_says_so() -> None:
    crowd = [(0.9, (place, place + 1)) for place in range(15)]
    brimming, roomy = found(*crowd, rejected=(0.1,) * 0), found(*crowd, rejected=(0.1,) * 5)
    (note,) = answer(step("star"), brimming).notes
    assert note.startswith('the model names at most 15 instances of "star" at once, and 15 reached the threshold')
    assert answer(step("star"), roomy).notes == ()
    assert answer(step("star"), brimming, search=Search(SIZE, tiles=4)).notes == ()
    assert answer(step("star"), found()).notes == ()
    assert answer(step("star", notes=("noted",)), roomy).notes == ("noted",)


@given(st.data())
def test_nothing_is_lost_uncounted(data: st.DataObject) -> None:
    """Of what reached the threshold all is answered or counted, whatever the rules."""
    columns = st.integers(0, 12).flatmap(lambda left: st.tuples(st.just(left), st.integers(left + 1, 14)))
    candidates = st.lists(st.tuples(st.integers(1, 9).map(lambda tenth: tenth / 10), columns), max_size=6)
    prompts = [found(*sorted(data.draw(candidates), reverse=True), presence=0.9) for _ in range(3)]
    rules = st.builds(
        Rules,
        threshold=st.sampled_from([0.0, 0.3, 0.5]),
        presence=st.sampled_from([0.0, 0.95]),
        min_area=st.sampled_from([Area(0), Area(900)]),
        max_area=st.sampled_from([None, Area(2500)]),
        max_instances=st.sampled_from([None, 1, 3]),
        top_k=st.sampled_from([0, 2]),
        overlap=st.booleans(),
    )
    steps = [replace(concept(index), rules=data.draw(rules)) for index in range(2)]
    steps[0] = replace(steps[0], negatives=(2,), drawn=(Box(0, 20, 45, 60),), refused=(Box(100, 20, 130, 60),))
    for one, result in zip(steps, several(*steps, prompts=prompts), strict=True):
        reached = [i for i in prompts[one.phrases[0][1]].instances if i.score >= np.float32(result.threshold)]
        answered = [i for i in result.instances if i.score >= np.float32(result.threshold)]
        assert len(answered) + sum(count for _, count in result.removed) == len(reached)
        assert all(count > 0 for _, count in result.removed)
        assert bool(result.reason) == (not result.instances)
        given_scores = [instance.score for instance in result.instances]
        assert given_scores == sorted(given_scores, reverse=True)


def test_candidates_without_a_pixel_are_left_out() -> None:
    empty = np.full((16, 16), -3, dtype=np.float32)
    drawn = outlines(readings((0.9, empty), (0.4, logits(2, 6))), SIZE, 3)
    assert [round(i.score, 2) for i in drawn] == [0.4]
    assert drawn[0].mask.area > 0


def test_candidates_that_look_the_same_are_one() -> None:
    near = logits(2, 6) * 1.01
    given = readings((0.9, logits(2, 6)), (0.8, near), (0.7, logits(2, 7)))
    assert [round(i.score, 2) for i in outlines(given, SIZE, 3)] == [0.9, 0.7]
    assert [round(i.score, 2) for i in outlines(given, SIZE, 2)] == [0.9, 0.7]


def test_no_candidate_is_drawn_that_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The unwanted one may be as large as the image."""
    drawn: list[int] = []
    draw = answers.mask_from_logits
    monkeypatch.setattr(answers, "mask_from_logits", lambda *args: drawn.append(1) or draw(*args))
    given = readings((0.9, logits(2, 6)), (0.8, logits(3, 9)), (0.7, logits(0, 16)))
    assert len(outlines(given, SIZE, 1)) == 1
    assert len(drawn) == 1


def readings(*candidates: tuple[float, np.ndarray]) -> Readings:
    scores = np.array([score for score, _ in candidates], dtype=np.float32)
    return Readings(np.stack([drawn for _, drawn in candidates]), scores, 0.99)
