"""What is remembered of clicks: for how long, how much, and whether it is what it was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backend.memory import Answer, PackedMask, ShortMemory, Where
from backend.prompts import Drawing
from sam3_core import Mask, Point

HERE = Where("1", 1, "image", 0, "Car")


def answer(origins: str, region: str = "r", side: int = 8) -> Answer:
    mask = Mask(np.ones((side, side), dtype=np.bool_), 0, 0, (side, side))
    return Answer(frozenset(origins), Drawing((Point(1, 1),)), region, "brush", PackedMask.of(mask))


@given(
    hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=20)),
    st.integers(0, 9), st.integers(0, 9),
)  # fmt: skip
def test_a_packed_mask_is_the_mask(bits: np.ndarray, x: int, y: int) -> None:
    mask = Mask(bits, x, y, (bits.shape[1] + x + 3, bits.shape[0] + y))
    packed = PackedMask.of(mask)
    assert packed.packed.nbytes <= bits.size // 8 + 1
    again = packed.mask()
    assert (again.x, again.y, again.frame) == (mask.x, mask.y, mask.frame)
    np.testing.assert_array_equal(again.bits, bits)


def test_newest_first_and_the_same_prompts_once() -> None:
    memory = ShortMemory()
    for origins in ("a", "ab", "a"):
        memory.remember(HERE, answer(origins))
    assert [known.origins for known in memory.answers(HERE)] == [frozenset("a"), frozenset("ab")]
    memory.remember(HERE, answer("a", region="another reading"))
    assert len(memory.answers(HERE)) == 3
    for number in range(50):
        memory.remember(HERE, answer(chr(number)))
    assert len(memory.answers(HERE)) < 20


@pytest.mark.parametrize(
    "other", [HERE._replace(project="2"), HERE._replace(task=2), HERE._replace(page=1), HERE._replace(label="Bus")]
)
def test_places_do_not_mix(other: Where) -> None:
    memory = ShortMemory()
    memory.remember(HERE, answer("a"))
    assert memory.answers(other) == ()
    assert len(memory.answers(HERE)) == 1


def test_tasks_without_an_id_are_not_remembered() -> None:
    memory = ShortMemory()
    memory.remember(HERE._replace(task=None), answer("a"))
    assert memory.answers(HERE._replace(task=None)) == ()


def test_it_forgets_with_time() -> None:
    memory = ShortMemory(seconds=-1.0)
    memory.remember(HERE, answer("a"))
    memory.remember_mask("key", answer("a").outline)
    assert memory.answers(HERE) == ()
    assert memory.mask("key") is None


def test_its_bytes_are_bounded_and_the_longest_unused_go_first() -> None:
    memory = ShortMemory(size=2 * 300)  # three masks of 800 bits for each of its two parts
    places = [HERE._replace(task=number) for number in range(4)]
    for place in places[:3]:
        memory.remember(place, answer("a", side=28))
        memory.remember_mask(place, answer("a", side=28).outline)
    assert memory.answers(places[0])
    memory.mask(places[0])
    for _ in range(5):  # what is put again takes its place once
        memory.remember(places[0], answer("a", side=28))
        memory.remember_mask(places[0], answer("a", side=28).outline)
    memory.remember(places[3], answer("a", side=28))
    memory.remember_mask(places[3], answer("a", side=28).outline)
    assert [bool(memory.answers(place)) for place in places] == [True, False, True, True]
    assert [memory.mask(place) is not None for place in places] == [True, False, True, True]
    memory.remember(HERE._replace(task=9), answer("a", side=100))
    assert memory.answers(HERE._replace(task=9)) == ()
