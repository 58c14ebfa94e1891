from __future__ import annotations

import numpy as np
import pytest

from sam3_core.engine.concepts import Detection
from sam3_core.engine.embeddings import Embedding
from sam3_core.engine.found import rescored
from sam3_core.engine.plan import EXEMPLARS_ONLY, Exhibit, Prompt, candidates, make_plan
from sam3_core.errors import InvalidPrompt
from sam3_core.masks import Mask
from sam3_core.prototypes import Prototypes
from sam3_core.rules import DEFAULT_RULES, Area, Rules
from sam3_core.types import Box, Concept, Exemplar, FindOptions
from sam3_core.wording import Worded

SIZE = (200, 100)


def test_every_different_prompt_is_asked_once() -> None:
    concepts = [
        Concept(phrases=("Red circle", "red disc"), negatives=("star",), rules=Rules(threshold=0.7)),
        Concept(phrases=("star",), negatives=("red circle", "sun"), rules=Rules(threshold=0.3)),
        Concept(phrases=("RED CIRCLE",)),
    ]
    plan = make_plan(concepts, SIZE, FindOptions(rules=Rules(threshold=0.4)))
    assert [prompt.text for prompt in plan.prompts] == ["red circle", "red disc", "star", "sun"]
    assert plan.floors == (0.3, 0.7, 0.3, 0.3)  # what the most modest concept wants
    first, second, third = plan.steps
    assert first.phrases == (("Red circle", 0), ("red disc", 1))
    assert (first.negatives, second.negatives, third.negatives) == ((2,), (0, 3), ())
    assert third.phrases == (("RED CIRCLE", 0),)
    assert [step.rules.threshold for step in plan.steps] == [0.7, 0.3, 0.4]


def test_a_plan_asks_for_more_candidates_than_top_k() -> None:
    concepts = [
        Concept(phrases=("a",), negatives=("b",), rules=Rules(top_k=2)),
        Concept(phrases=("a", "c"), rules=Rules(top_k=1)),
        Concept(phrases=("d",)),
    ]
    plan = make_plan(concepts, SIZE, FindOptions())
    assert [prompt.text for prompt in plan.prompts] == ["a", "b", "c", "d"]
    # the negative's too: it must be seen beside a candidate under the threshold
    assert plan.counts == (candidates(2), candidates(2), candidates(1), 0)
    assert [candidates(count) for count in (0, 1, 3)] == [0, 12, 20]


def test_rules_are_the_concepts_then_the_options_then_the_defaults() -> None:
    concept = Concept(phrases=("a",), rules=Rules(threshold=0.0, min_area=Area(9)))
    options = FindOptions(rules=Rules(threshold=0.7, max_instances=4, overlap=True))
    (step,) = make_plan([concept], SIZE, options).steps
    chosen = Rules(threshold=0.0, min_area=Area(9), max_instances=4, overlap=True)
    assert step.rules == chosen.over(DEFAULT_RULES)


def worded(phrase: str) -> Worded:
    """Two words for a bus, and a note on it."""
    return Worded(("bus", "Coach"), ("noted",)) if phrase == "公交车" else Worded((phrase,))


def test_a_phrase_may_be_asked_in_several_words_and_keeps_its_name() -> None:
    concept = Concept(phrases=("公交车", "BUS", "van"), negatives=("公交车", "tram", "Bus"))
    plan = make_plan([concept], SIZE, FindOptions(), worded)
    assert [prompt.text for prompt in plan.prompts] == ["bus", "coach", "van", "tram"]
    (step,) = plan.steps
    assert step.phrases == (("公交车", 0), ("公交车", 1), ("van", 2))  # the first of two that are worded alike
    assert step.negatives == (0, 1, 3)
    assert step.notes == ("noted",)


def test_what_is_drawn_goes_along() -> None:
    drawn = (Box(1, 2, 3, 4), Mask.from_full(np.eye(100, 200)))
    (step,) = make_plan([Concept(phrases=("a",), drawn=drawn)], SIZE, FindOptions()).steps
    assert step.drawn == drawn


def test_what_is_drawn_on_another_image_is_refused() -> None:
    with pytest.raises(InvalidPrompt, match=r"\(3, 3\) pixels"):
        make_plan([Concept(phrases=("a",), drawn=(Mask.from_full(np.eye(3)),))], SIZE, FindOptions())


def test_negative_exemplars_are_searched_as_if_they_were_wanted() -> None:
    positive, negative = Exemplar(Box(20, 10, 60, 50)), Exemplar(Box(100, 0, 260, 100), positive=False)
    plan = make_plan([Concept(phrases=("a",), exemplars=(positive, negative))], SIZE, FindOptions())
    whole, lookalike = plan.prompts
    assert [exhibit.positive for exhibit in whole.exhibits] == [True, False]
    assert lookalike == Prompt(EXEMPLARS_ONLY, (Exhibit(0.75, 0.5, 0.5, 1.0, True),))
    (step,) = plan.steps
    assert (step.phrases, step.negatives) == ((("a", 0),), (1,))
    assert (step.shown, step.refused) == ((positive.box,), (Box(100, 0, 200, 100),))


def test_exemplars_go_with_every_phrase_and_not_with_negatives() -> None:
    shown = Exemplar(Box(20, 10, 60, 50))
    concept = Concept(phrases=("a", "b"), exemplars=(shown,), negatives=("a",))
    plan = make_plan([concept], SIZE, FindOptions())
    exhibit = Exhibit(0.2, 0.3, 0.2, 0.4, True)
    assert plan.prompts == (Prompt("a", (exhibit,)), Prompt("b", (exhibit,)), Prompt("a"))


def test_exemplars_alone_are_asked_as_the_stock_processor_does() -> None:
    shown = (Exemplar(Box(20, 10, 60, 50)), Exemplar(Box(100, 0, 200, 100), positive=False))
    plan = make_plan([Concept(exemplars=shown)], SIZE, FindOptions())
    assert {prompt.text for prompt in plan.prompts} == {EXEMPLARS_ONLY}
    assert plan.prompts[0].exhibits[1] == Exhibit(0.75, 0.5, 0.5, 1.0, False)
    assert plan.steps[0].phrases == (("", 0),)


def test_a_box_is_clipped_to_the_image_and_one_outside_refused() -> None:
    plan = make_plan([Concept(exemplars=(Exemplar(Box(-50, 50, 100, 900)),))], SIZE, FindOptions())
    assert plan.prompts[0].exhibits == (Exhibit(0.25, 0.75, 0.5, 0.5, True),)
    with pytest.raises(InvalidPrompt, match="outside the image of 200x100"):
        make_plan([Concept(exemplars=(Exemplar(Box(200, 0, 300, 50)),))], SIZE, FindOptions())


def test_prototypes_lower_the_floor_of_their_own_prompts_alone() -> None:
    judge = Prototypes.of(np.eye(1, 4, dtype=np.float32), np.zeros((0, 4), np.float32), 2.0)
    judged = Concept(("a", "b"), negatives=("c",), prototypes=judge)
    plan = make_plan([judged, Concept(("b", "d"), adapter="x")], SIZE, FindOptions(rules=Rules(threshold=0.5)))
    assert [prompt.text for prompt in plan.prompts] == ["a", "b", "c", "b", "d"]
    assert plan.floors == pytest.approx((0.119, 0.119, 0.5, 0.5, 0.5), abs=1e-3)
    assert plan.features
    view = Embedding((), SIZE)
    asked = plan.question(view, 1, plan.prompts[1])
    assert (asked.features, asked.adapter, asked.floor) == (True, "", plan.floors[1])
    assert not make_plan([Concept(("a",))], SIZE, FindOptions()).features


def test_a_phrase_is_asked_once_of_each_adapter() -> None:
    concepts = [Concept(("a",)), Concept(("a", "b"), adapter="x"), Concept(("b",), negatives=("a",), adapter="x")]
    plan = make_plan(concepts, SIZE, FindOptions())
    assert [prompt.text for prompt in plan.prompts] == ["a", "a", "b"]
    assert plan.adapters == ("", "x", "x")
    assert [step.phrases for step in plan.steps] == [(("a", 0),), (("a", 1), ("b", 2)), (("b", 2),)]
    assert plan.steps[2].negatives == (1,)
    view = Embedding((), SIZE)
    assert [plan.question(view, place, one).adapter for place, one in enumerate(plan.prompts)] == ["", "x", "x"]


def test_of_what_prototypes_could_lift_only_what_they_do_becomes_a_mask() -> None:
    ours, theirs = np.eye(2, dtype=np.float32)
    judge = Prototypes.of(ours[None], theirs[None], 4.0)
    plan = make_plan([Concept(("a",), prototypes=judge)], SIZE, FindOptions(rules=Rules(threshold=0.5)))
    scores = np.array([0.9, 0.6, 0.3, 0.2, 0.1, 0.05], np.float32)
    looks = np.array([ours, theirs, theirs, ours, ours, theirs])
    logits = np.ones((6, 4, 4), np.float32)
    found = plan.found(0, Detection(1.0, scores, logits, np.array([0.01], np.float32), looks), SIZE)
    # 0.6 sinks, to 0.03, and is told as it was sure before; 0.3 falls to 0.008, nearer ones there are; 0.1 is lifted
    assert [round(one.score, 2) for one in found.instances] == [0.9, 0.6, 0.2, 0.1]
    assert len(found.instances) + len(found.rejected) == 7
    judged = rescored(found, judge)
    assert [round(one.score, 2) for one in judged.instances] == [1.0, 0.93, 0.86, 0.03]
    assert judged.rejected[0] == pytest.approx(0.01, abs=1e-4)
