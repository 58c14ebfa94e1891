"""Which waiting click is replaced by which."""

from __future__ import annotations

import pytest

from backend.superseded import Newest


@pytest.mark.parametrize(
    ("older", "newer", "replaced"),
    [
        ({"a"}, {"a", "b"}, True), ({"a", "b"}, {"b"}, True), ({"a"}, {"a"}, True), ({"a"}, {"b"}, False),
        (set(), {"b"}, True), ({"a"}, set(), True), (set(), set(), True),
    ],
)  # fmt: skip
def test_a_newer_request_about_the_same_prompts(older: set[str], newer: set[str], replaced: bool) -> None:
    line = Newest()
    first, second = line.arrive(), line.arrive()
    with line.waiting("here", frozenset(older), first) as wanted:
        assert wanted()
        with line.waiting("here", frozenset(newer), second) as still_wanted:
            assert wanted() is not replaced
            assert still_wanted()
        assert wanted() is not replaced


def test_the_order_is_that_of_arrival_not_of_getting_ready() -> None:
    line = Newest()
    first, second = line.arrive(), line.arrive()
    with (
        line.waiting("here", frozenset("a"), second) as newer,
        line.waiting("here", frozenset("a"), first) as older,
    ):
        assert newer()
        assert not older()


def test_other_places_and_what_is_done_do_not_count() -> None:
    line = Newest()
    first, second, third = (line.arrive() for _ in range(3))
    with line.waiting("here", frozenset("a"), first) as wanted, line.waiting("there", frozenset("a"), second):
        assert wanted()
    with line.waiting("here", frozenset("a"), third) as wanted:
        assert wanted()
