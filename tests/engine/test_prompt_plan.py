from __future__ import annotations

import pytest

from sam3_core.engine.plan import EXEMPLARS_ONLY, Exhibit, Prompt, make_plan
from sam3_core.errors import InvalidPrompt
from sam3_core.types import Box, Concept, Exemplar, FindOptions

SIZE = (200, 100)


def test_every_different_prompt_is_asked_once() -> None:
    concepts = [
        Concept(phrases=("Red circle", "red disc"), negatives=("star",), threshold=0.7),
        Concept(phrases=("star",), negatives=("red circle", "sun"), threshold=0.3),
        Concept(phrases=("RED CIRCLE",)),
    ]
    plan = make_plan(concepts, SIZE, FindOptions(threshold=0.4))
    assert [prompt.text for prompt in plan.prompts] == ["red circle", "red disc", "star", "sun"]
    assert plan.floors == (0.3, 0.7, 0.3, 0.3)  # what the most modest concept wants
    first, second, third = plan.steps
    assert first.phrases == (("Red circle", 0), ("red disc", 1))
    assert (first.negatives, second.negatives, third.negatives) == ((2,), (0, 3), ())
    assert third.phrases == (("RED CIRCLE", 0),)
    assert [step.threshold for step in plan.steps] == [0.7, 0.3, 0.4]


def test_exemplars_go_with_every_phrase_and_not_with_negatives() -> None:
    shown = Exemplar(Box(20, 10, 60, 50))
    concept = Concept(phrases=("a", "b"), exemplars=(shown,), negatives=("a",))
    plan = make_plan([concept], SIZE, FindOptions())
    exhibit = Exhibit(0.2, 0.3, 0.2, 0.4, True)
    assert plan.prompts == (Prompt("a", (exhibit,)), Prompt("b", (exhibit,)), Prompt("a"))


def test_exemplars_alone_are_asked_as_the_stock_processor_does() -> None:
    shown = (Exemplar(Box(20, 10, 60, 50)), Exemplar(Box(100, 0, 200, 100), positive=False))
    plan = make_plan([Concept(exemplars=shown)], SIZE, FindOptions())
    assert [prompt.text for prompt in plan.prompts] == [EXEMPLARS_ONLY]
    assert plan.prompts[0].exhibits[1] == Exhibit(0.75, 0.5, 0.5, 1.0, False)
    assert plan.steps[0].phrases == (("", 0),)


def test_a_box_is_clipped_to_the_image_and_one_outside_refused() -> None:
    plan = make_plan([Concept(exemplars=(Exemplar(Box(-50, 50, 100, 900)),))], SIZE, FindOptions())
    assert plan.prompts[0].exhibits == (Exhibit(0.25, 0.75, 0.5, 0.5, True),)
    with pytest.raises(InvalidPrompt, match="outside the image of 200x100"):
        make_plan([Concept(exemplars=(Exemplar(Box(200, 0, 300, 50)),))], SIZE, FindOptions())
