"""Which outline a drawing is about: the rules one by one, on masks; the editor's side is in test_interactive."""

from __future__ import annotations

import numpy as np
import pytest

from backend.memory import Answer, PackedMask
from backend.prompts import Drawing
from backend.refinement import again, start_of
from backend.stored import Earlier
from sam3_core import Box, Mask, Point
from sam3_core.errors import InvalidPrompt

FRAME = (100, 80)


def block(x: int, y: int, width: int, height: int) -> Mask:
    return Mask(np.ones((height, width), dtype=np.bool_), x, y, FRAME)


def stored(name: str, mask: Mask) -> Earlier:
    return Earlier(name, "brush", PackedMask.of(mask))


def clicks(*points: tuple[float, float], away: tuple[tuple[float, float], ...] = ()) -> Drawing:
    return Drawing((*(Point(*xy) for xy in points), *(Point(*xy, positive=False) for xy in away)))


def answer(origins: str, drawing: Drawing, region: str = "r", mask: Mask | None = None) -> Answer:
    outline = PackedMask.of(mask or block(10, 10, 20, 20))
    return Answer(frozenset(origins), drawing, region, "brush", outline)


ONE, TWO = clicks((15, 15)), clicks((15, 15), (60, 60))


def test_more_prompts_go_on_from_the_newest_answer_to_fewer() -> None:
    answers = [answer("a", clicks((15, 15)), "new"), answer("a", ONE, "old")]
    start = start_of(TWO, frozenset("ab"), answers, [stored("other", block(50, 50, 20, 20))])
    assert (start.region, start.control) == ("new", "brush")
    assert start.prompt.mask is not None
    assert start.prompt.points == TWO.points


@pytest.mark.parametrize(
    ("drawing", "origins"),
    [(clicks((16, 15), (60, 60)), "ab"), (clicks((60, 60)), "b"), (Drawing(ONE.points, Box(1, 1, 9, 9)), "a")],
)
def test_changed_prompts_keep_the_id_alone(drawing: Drawing, origins: str) -> None:
    known = answer("ab", Drawing(ONE.points, Box(5, 5, 40, 40)), "r")
    start = start_of(drawing, frozenset(origins), [known], [])
    assert (start.region, start.prompt.mask) == ("r", None)


def test_an_earlier_prompt_that_moved_while_one_was_added_is_no_going_on() -> None:
    start = start_of(clicks((16, 15), (60, 60)), frozenset("ab"), [answer("a", ONE)], [])
    assert (start.region, start.prompt.mask) == ("r", None)


def test_a_stored_region_comes_before_one_that_is_only_remembered() -> None:
    known = answer("a", ONE, "remembered")
    start = start_of(ONE, frozenset("z"), [known], [stored("stored", block(5, 5, 30, 30))])
    assert start.region == "stored"
    assert start.prompt.mask is not None
    start = start_of(ONE, frozenset("z"), [known], [])
    assert (start.region, start.prompt.mask) == ("", None)
    start = start_of(clicks(away=((15, 15),)), frozenset("z"), [known], [])
    assert start.region == "remembered"
    assert start.prompt.mask is not None
    start = start_of(Drawing(box=Box(10, 10, 31, 31)), frozenset("z"), [known], [])
    assert (start.region, start.prompt.mask) == ("remembered", None)


def test_of_a_remembered_region_only_the_newest_outline_counts() -> None:
    newest_first = [answer("b", ONE, "r", block(50, 50, 5, 5)), answer("a", ONE, "r", block(10, 10, 20, 20))]
    assert start_of(ONE, frozenset("z"), newest_first, []).region == ""
    with pytest.raises(InvalidPrompt):
        start_of(clicks(away=((15, 15),)), frozenset("z"), newest_first, [])


def test_a_rectangle_lends_its_box() -> None:
    rectangle = Earlier("rect", "boxes", Box(10, 10, 30, 30))
    start = start_of(clicks(away=((15, 15),)), frozenset(), [], [rectangle])
    assert (start.prompt.box, start.prompt.mask) == (rectangle.box, None)
    assert len(start.prompt.points) == 1
    drawn = Box(11, 11, 30, 30)
    assert start_of(Drawing(box=drawn), frozenset(), [], [rectangle]).prompt.box == drawn


@pytest.mark.parametrize(
    ("box", "edits"), [(Box(10, 10, 30, 30), True), (Box(5, 5, 31, 31), True), (Box(10, 10, 100, 80), False)]
)
def test_a_box_edits_what_it_fits(box: Box, edits: bool) -> None:
    start = start_of(Drawing(box=box), frozenset(), [], [stored("r", block(10, 10, 20, 20))])
    assert bool(start.region) is edits


@pytest.mark.parametrize(
    ("drawing", "known"),
    [(ONE, True), (TWO, False), (Drawing(ONE.points, Box(1, 1, 9, 9)), False), (Drawing(box=Box(1, 1, 9, 9)), False)],
)
def test_one_new_click_can_be_an_old_object_again(drawing: Drawing, known: bool) -> None:
    outline = block(10, 10, 20, 20)
    assert bool(again(drawing, outline, [], [stored("r", block(10, 10, 20, 11))])) is known
    assert bool(again(drawing, outline, [answer("a", ONE, mask=outline)], [])) is known
    assert bool(again(drawing, outline, [], [Earlier("r", "boxes", Box(10, 10, 30, 30))])) is known
    assert again(drawing, outline, [], [stored("r", block(10, 10, 20, 9))]) is None
