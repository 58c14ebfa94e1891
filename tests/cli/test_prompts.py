"""What ``--prompt``, ``--negative`` and ``--set`` mean."""

from __future__ import annotations

import pytest

from sam3_core.errors import InvalidPrompt
from sam3_core.finish import DEFAULT_FINISH, Fineness, Holes
from sam3_core.rules import Area, Rules, Tiling
from sam3_prelabel.prompts import read_prompts


def test_the_first_phrase_is_the_name() -> None:
    prompts, _ = read_prompts(["bus; coach ;", "red  car"])
    assert {name: prompt.concept.phrases for name, prompt in prompts.items()} == {
        "bus": ("bus", "coach"),
        "red car": ("red car",),
    }


@pytest.mark.parametrize(("prompts", "words"), [([";"], "needs a phrase"), (["bus", "car", "bus;coach"], "twice")])
def test_prompts_that_cannot_be_used(prompts: list[str], words: str) -> None:
    with pytest.raises(InvalidPrompt, match=words):
        read_prompts(prompts)


def test_negatives_are_for_all_or_for_one() -> None:
    prompts, _ = read_prompts(["bus", "car"], ["toy; drawing", "bus=tram ; train"])
    assert prompts["bus"].concept.negatives == ("toy", "drawing", "tram", "train")
    assert prompts["car"].concept.negatives == ("toy", "drawing")
    with pytest.raises(InvalidPrompt, match="no prompt 'tram'"):
        read_prompts(["bus"], ["tram=bus"])


def test_options_are_for_all_or_for_one_which_wins() -> None:
    chosen = [
        "threshold=0.3",
        "bus:threshold=0.7",
        "min-area=0.5%",
        "car: holes = filled",
        "fineness=high",
        "tiles=on",
    ]
    prompts, general = read_prompts(["bus", "car"], (), chosen)
    assert prompts["bus"].concept.rules == Rules(threshold=0.7, min_area=Area(0.005, relative=True))
    assert prompts["car"].concept.rules.threshold == 0.3
    assert (prompts["bus"].finish.holes, prompts["car"].finish.holes) == (Holes.BRIDGED, Holes.FILLED)
    assert {prompt.finish.fineness for prompt in prompts.values()} == {Fineness.HIGH}
    assert general.tiles is Tiling.ON


def test_a_name_may_hold_a_colon() -> None:
    prompts, _ = read_prompts(["size: large"], (), ["size: large:max_instances=3"])
    assert prompts["size: large"].concept.rules.max_instances == 3


def test_without_options_nothing_is_left_open_but_the_rules() -> None:
    prompts, general = read_prompts(["bus"])
    assert prompts["bus"].concept.rules == Rules()
    assert prompts["bus"].finish == DEFAULT_FINISH
    assert general.tiles is None


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("threshold", "OPTION=VALUE"),
        ("treshold=0.3", "an option of threshold, presence"),
        ("threshold=2", 'threshold="2" is not a number between 0 and 1'),
        ("bus:fineness=ultra", "low, medium or high"),
        ("truck:threshold=0.3", "no prompt 'truck'"),
        ("bus:tiles=on", "whole images"),
        ("=0.3", "OPTION=VALUE"),
    ],
)
def test_wrong_options_are_told(option: str, words: str) -> None:
    with pytest.raises(InvalidPrompt, match=words):
        read_prompts(["bus"], (), [option])
