"""The wording that the model understands best, and wordings worth trying."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_examples import Ear, cell, world

from sam3_core.learning.examples import Candidate, Example, Heard, Truth
from sam3_core.learning.phrases import best_phrases, variants
from sam3_core.wording import glossary_key

DEAF = Ear(-3.5, -3.5)
GOOD = Ear(2.0, -2.0)


@pytest.mark.parametrize("learn_threshold", [False, True])
def test_a_poor_wording_gives_way_to_one_that_works(learn_threshold: bool) -> None:
    examples = world(10, {"stop thing": DEAF, "stop sign": GOOD, "thing": Ear(0, 0)}, seed=1)
    fit = best_phrases(examples, ["stop thing"], ["thing", "stop sign"], default=0.5, learn_threshold=learn_threshold)
    assert fit.phrases == ("stop sign",)
    assert (fit.threshold is None) != learn_threshold
    assert fit.tried[0].phrases == ("stop thing",)
    assert {one.phrases for one in fit.tried} >= {("thing",), ("stop sign",)}


@pytest.mark.parametrize("learn_threshold", [False, True])
def test_thin_data_and_small_differences_change_nothing(learn_threshold: bool) -> None:
    ears = {"bus": Ear(1.5, -1.5), "coach": Ear(1.5, -1.5), "van": Ear(1.3, -1.3)}
    changed = sum(
        best_phrases(
            world(3, ears, seed=seed, objects=1),
            ["bus"],
            ["coach", "van"],
            default=0.5,
            learn_threshold=learn_threshold,
        ).phrases
        != ("bus",)
        for seed in range(20)
    )
    assert changed <= 4
    alike = [Example(one.group, one.truth, {**one.found, "coach": one.found["bus"]}) for one in world(60, ears)]
    fit = best_phrases(alike, ["bus"], ["coach"], default=0.5, learn_threshold=learn_threshold)
    assert fit.phrases == ("bus",), "what finds the same is no better, and nor are both"


def halves(count: int) -> list[Example]:
    """Two phrases, each of which finds one half of the objects, and one that finds nothing there is."""
    truth = (Truth(cell(0)), Truth(cell(1)))
    found = {
        "car": Heard(1, (Candidate(cell(0), 0.9),)),
        "truck": Heard(1, (Candidate(cell(1), 0.9),)),
        "shadow": Heard(1, (Candidate(cell(5), 0.9),)),
    }
    return [Example(str(number), truth, found) for number in range(count)]


def test_phrases_that_find_different_things_are_asked_together() -> None:
    for asked, offered in ((["car"], ["shadow", "truck"]), (["shadow"], ["truck", "car"])):
        fit = best_phrases(halves(10), asked, offered, default=0.5, learn_threshold=False)
        assert set(fit.phrases) == {"car", "truck"}
    dropped = best_phrases(halves(10), ["car", "truck", "shadow"], [], default=0.5, learn_threshold=False)
    assert set(dropped.phrases) == {"car", "truck"}


def test_of_the_same_f1_what_was_asked_stays() -> None:
    fit = best_phrases(halves(30), ["truck"], ["shadow"], default=0.5, learn_threshold=False)
    assert fit.phrases == ("truck",)
    both = best_phrases(halves(30), ["truck", "car"], ["shadow"], default=0.5, learn_threshold=True)
    assert (both.phrases, both.threshold) == (("truck", "car"), 0.5)


def test_a_phrase_that_was_not_tried_everywhere_is_left_out() -> None:
    examples = world(20, {"bus": DEAF, "coach": GOOD}, seed=1)
    whole = examples[7]
    examples[7] = Example("other", whole.truth, {"bus": whole.found["bus"]})
    fit = best_phrases(examples, ["bus"], ["coach", "never"], default=0.5, learn_threshold=False)
    assert fit.phrases == ("bus",)
    assert [one.phrases for one in fit.tried] == [("bus",)]
    examples[7] = Example("other", whole.truth, {"coach": whole.found["coach"]})
    fit = best_phrases(examples, ["bus"], ["coach"], default=0.5, learn_threshold=True)
    assert fit.phrases == ("bus",), "what was asked cannot be judged either"


@pytest.mark.parametrize(("count", "chosen"), [(1, "bus"), (10, "coach")])
def test_the_same_gain_counts_once_it_is_seen_often(count: int, chosen: str) -> None:
    """One finds three of four objects, the other all: on one image that is one object's luck."""
    truth = tuple(Truth(cell(place)) for place in range(4))
    every = tuple(Candidate(cell(place), 0.9) for place in range(4))
    found = {"bus": Heard(1, every[:3]), "coach": Heard(1, every)}
    examples = [Example(str(number), truth, found) for number in range(count)]
    assert best_phrases(examples, ["bus"], ["coach"], default=0.5, learn_threshold=False).phrases == (chosen,)


@pytest.mark.parametrize("learn_threshold", [False, True])
@pytest.mark.parametrize(
    "examples",
    [[], [Example("a", (), {})], [Example("a", (), {"bus": Heard(0)})], [Example("a", (Truth(cell(0)),), {})]],
)
def test_without_anything_to_go_by_the_asked_phrases_stay(examples: list[Example], learn_threshold: bool) -> None:
    fit = best_phrases(examples, ["bus", "bus"], ["coach"], default=0.4, learn_threshold=learn_threshold)
    assert fit.phrases == ("bus",)
    assert fit.threshold == (0.4 if learn_threshold else None)


@pytest.mark.parametrize(
    ("label", "phrases", "expected"),
    [
        ("School_Bus", ["the yellow school bus"], {"school bus", "yellow school bus", "yellow bus", "bus"}),
        ("Person", ["person"], {"people"}),
        ("boxes", ["boxes"], {"box"}),
        ("City", ["a city"], {"city", "cities"}),
        ("cans", ["can of beer"], {"cans", "can", "cans of beer"}),
        ("glass", ["wine glass"], {"glass", "wine glasses"}),
        ("houses", ["houses"], {"house"}),
        ("sheep", ["black sheep"], {"sheep"}),
        ("T-34", ["tank"], {"t-34", "tanks"}),
        ("Знак", ["road sign"], {"road signs", "sign"}),
    ],
)
def test_variants_are_what_a_person_would_try(label: str, phrases: list[str], expected: set[str]) -> None:
    proposed = set(variants(label, phrases))
    assert expected <= proposed
    assert not proposed & {"buss", "boxs", "citys", "peoples", "sheeps", "t-34s", "glasss", "hous", "знакs"}


@given(st.text(max_size=20), st.lists(st.text(min_size=1, max_size=20), max_size=4))
@settings(max_examples=50)
def test_variants_are_few_new_and_never_empty(label: str, phrases: list[str]) -> None:
    proposed = variants(label, phrases)
    keys = [glossary_key(one) for one in proposed]
    assert len(keys) == len(set(keys)) <= 8
    assert all(keys)
    assert not set(keys) & {glossary_key(phrase) for phrase in phrases}
