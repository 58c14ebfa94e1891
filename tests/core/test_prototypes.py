"""What looks like past accepts rises, what looks like past rejects sinks, and nothing that can rise is left out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sam3_core.errors import InvalidInput, InvalidPrompt
from sam3_core.learning.lessons import Calibration, Lesson, Lessons
from sam3_core.prototypes import Floats, Prototypes

WIDTH = 4

shares = st.floats(0, 1, width=32)


def rows(least: int, most: int) -> st.SearchStrategy[Floats]:
    shape = st.tuples(st.integers(least, most), st.just(WIDTH))
    return arrays(np.float32, shape, elements=st.floats(-8, 8, width=16))


prototypes = st.builds(Prototypes.of, rows(0, 3), rows(0, 3), st.floats(0, 30), st.floats(-20, 20))
raw_rows = rows(0, 2).map(lambda some: some.astype("<f2").tobytes())
prototypes |= st.builds(Prototypes, st.just(WIDTH), raw_rows, raw_rows, st.floats(0, 1000), st.floats(-1000, 1000))


def one(score: float) -> Floats:
    return np.array([score], np.float32)


@given(prototypes, rows(1, 1), shares, shares)
@settings(max_examples=50)
def test_a_higher_score_stays_a_higher_score(judge: Prototypes, look: Floats, score: float, other: float) -> None:
    low, high = sorted((score, other))
    assert judge.rescored(one(low), look)[0] <= judge.rescored(one(high), look)[0]
    assert 0 <= judge.rescored(one(low), look)[0] <= 1
    assert judge.unseen(one(low))[0] <= judge.unseen(one(high))[0]


@given(prototypes, rows(1, 4), shares, shares)
@settings(max_examples=50)
def test_nothing_under_the_floor_reaches_the_threshold(
    judge: Prototypes, looks: Floats, threshold: float, share: float
) -> None:
    floor = judge.floor(threshold)
    assume(floor > 0)
    score = np.float32(np.nextafter(np.float32(floor), np.float32(0)) * np.float32(share))
    likely = np.concatenate(
        [looks, *(np.frombuffer(b, "<f2").reshape(-1, WIDTH) for b in (judge.accepted, judge.rejected))]
    )
    likely = np.concatenate([likely, -likely]).astype(np.float32)
    found = judge.rescored(np.full(len(likely), score, np.float32), likely)
    assert (found < np.float32(threshold)).all()


@given(rows(1, 3), st.floats(0.5, 20), st.floats(0.05, 0.95))
@settings(max_examples=50)
def test_the_floor_is_not_far_off(accepted: Floats, weight: float, threshold: float) -> None:
    """What looks just like an accepted one and has the floor's score, or a little more, reaches the threshold."""
    assume((np.linalg.norm(accepted, axis=1) > 0.1).all())
    judge = Prototypes.of(accepted, np.zeros((0, WIDTH), np.float32), weight)
    floor = judge.floor(threshold)
    assume(floor > 1e-5)
    assert judge.rescored(one(floor * 1.05), accepted[:1])[0] >= threshold


def test_likes_rise_and_others_sink() -> None:
    ours, theirs = np.eye(WIDTH, dtype=np.float32)[:1], np.eye(WIDTH, dtype=np.float32)[1:2]
    judge = Prototypes.of(ours * 9, theirs, 4.0)
    scores = judge.rescored(np.full(4, 0.5, np.float32), np.concatenate([ours, theirs, ours + theirs, -theirs]) * 3)
    assert scores == pytest.approx([0.982, 0.018, 0.5, 0.982], abs=1e-3)
    assert Prototypes.of(ours, theirs, 4.0, -4.0).rescored(one(0.5), ours)[0] == pytest.approx(0.5)
    assert judge.unseen(one(0.3))[0] == pytest.approx(0.3)


def test_without_weight_scores_stay() -> None:
    scores = np.linspace(0, 1, 11, dtype=np.float32)
    judge = Prototypes(WIDTH, b"", b"", 0.0)
    assert judge.rescored(scores, np.ones((11, WIDTH), np.float32)) == pytest.approx(scores, abs=2e-6)
    assert judge.floor(0.5) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("width", "accepted", "weight", "bias"),
    [
        (0, b"", 1.0, 0.0),
        (2, b"123", 1.0, 0.0),
        (2, b"123456", 1.0, 0.0),
        (1, b"\x00\x7c", 1.0, 0.0),
        (1, b"\x00\x7e", 1.0, 0.0),
        (1, b"", -0.1, 0.0),
        (1, b"", float("nan"), 0.0),
        (1, b"", float("inf"), 0.0),
        (1, b"", 1001.0, 0.0),
        (1, b"", 1.0, float("nan")),
        (1, b"", 1.0, -1001.0),
    ],
)
def test_what_is_no_prototype_is_refused(width: int, accepted: bytes, weight: float, bias: float) -> None:
    with pytest.raises(InvalidPrompt):
        Prototypes(width, accepted, b"", weight, bias)
    with pytest.raises(InvalidPrompt):
        Prototypes(width, b"", accepted or b"1", weight, bias)


def test_another_width_is_refused() -> None:
    with pytest.raises(InvalidPrompt, match="of 4 numbers do not fit this model's 5"):
        Prototypes(WIDTH, b"", b"", 1.0).rescored(one(0.5), np.ones((1, 5), np.float32))


lessons = st.builds(
    Lesson,
    asked=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    phrases=st.none() | st.lists(st.text(max_size=5), max_size=3).map(tuple),
    threshold=st.none() | st.floats(0, 1),
    calibration=st.none() | st.builds(Calibration, st.floats(0.01, 10), st.floats(-10, 10)),
    prototypes=st.none() | prototypes,
    adapter=st.sampled_from(["", "a-1"]),
)


@given(st.dictionaries(st.text(max_size=8), lessons, max_size=3))
@settings(max_examples=50)
def test_lessons_come_back(labels: dict[str, Lesson]) -> None:
    learned = Lessons.of(labels)
    assert Lessons.from_json(learned.to_json()) == learned
    assert Lessons.from_json(learned.to_json()).to_json() == learned.to_json()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"labels": 3}', '{"labels": {"a": {}}}'])
def test_what_is_no_lesson_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="no lessons"):
        Lessons.from_json(text)


def test_lessons_with_broken_prototypes_are_refused() -> None:
    judge = Prototypes.of(np.ones((1, WIDTH), np.float32), np.zeros((0, WIDTH), np.float32), 1.0)
    read = json.loads(Lessons.of({"a": Lesson(("a",), prototypes=judge)}).to_json())
    read["labels"]["a"]["prototypes"]["accepted"] = "AAA"
    with pytest.raises(InvalidInput, match="no lessons"):
        Lessons.from_json(json.dumps(read))
