"""Prompts check themselves: what makes no sense never reaches the model."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sam3_core import Box, Concept, Exemplar, FindOptions, Mask, OutlineOptions, Point, VisualPrompt
from sam3_core.errors import InvalidPrompt
from sam3_core.rules import Rules

BOX = Box(1, 2, 3, 4)
MASK = Mask.from_full(np.eye(3))


def test_box_corners_are_put_in_order() -> None:
    assert Box(9, 8, 1, 2).xyxy == (1, 2, 9, 8)


@pytest.mark.parametrize(
    "corners", [(math.nan, 0, 1, 1), (0, 0, math.inf, 1), (0, -math.inf, 1, 1), (0, 0, 0, 5), (2, 3, 9, 3)]
)
def test_boxes_without_extent_are_refused(corners: tuple[float, float, float, float]) -> None:
    with pytest.raises(InvalidPrompt, match="a box needs"):
        Box(*corners)


@pytest.mark.parametrize("place", [(math.nan, 0), (0, math.inf)])
def test_points_need_finite_numbers(place: tuple[float, float]) -> None:
    with pytest.raises(InvalidPrompt, match="two finite numbers"):
        Point(*place)


def test_phrases_are_tidied_and_repeats_dropped() -> None:
    concept = Concept(phrases=("  red \t car ", "", "Red Car", "bus", "   "), negatives=("van", " VAN"))
    assert concept.phrases == ("red car", "bus")
    assert concept.negatives == ("van",)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"phrases": ("", "  ")}, {"exemplars": (Exemplar(BOX, positive=False),)}, {"negatives": ("dog",)}],
)
def test_a_concept_that_names_nothing_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InvalidPrompt, match="phrase or a positive exemplar"):
        Concept(**arguments)  # type: ignore[arg-type]


def test_an_exemplar_alone_is_a_concept() -> None:
    assert Concept(exemplars=(Exemplar(BOX),)).phrases == ()


def test_one_string_is_no_sequence_of_phrases() -> None:
    with pytest.raises(InvalidPrompt, match="not one string"):
        Concept(phrases="car")  # type: ignore[arg-type]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan, math.inf])
def test_thresholds_are_shares(threshold: float) -> None:
    with pytest.raises(InvalidPrompt, match="threshold must lie between"):
        Concept(phrases=("car",), rules=Rules(threshold=threshold))
    with pytest.raises(InvalidPrompt, match="threshold must lie between"):
        FindOptions(rules=Rules(threshold=threshold))


@pytest.mark.parametrize("name", ["duplicate_iou", "contained_share", "across_iou", "negative_margin"])
def test_find_options_check_their_shares(name: str) -> None:
    with pytest.raises(InvalidPrompt, match=name):
        FindOptions(**{name: 1.5})


def test_counts_are_checked() -> None:
    with pytest.raises(InvalidPrompt, match="max_instances"):
        FindOptions(rules=Rules(max_instances=0))
    for candidates in (0, 4):
        with pytest.raises(InvalidPrompt, match="candidates"):
            OutlineOptions(candidates=candidates)


def test_a_visual_prompt_needs_something_to_start_from() -> None:
    for points in ((), (Point(1, 1, positive=False),)):
        with pytest.raises(InvalidPrompt, match="positive point, a box or a mask"):
            VisualPrompt(points=points)
    for prompt in (VisualPrompt(points=(Point(1, 1),)), VisualPrompt(box=BOX), VisualPrompt(mask=MASK)):
        assert prompt is not None
