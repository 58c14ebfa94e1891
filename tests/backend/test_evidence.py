"""Evidence: kept answers are those that were given."""

from __future__ import annotations

import numpy as np
import pytest

from backend.database import Database
from backend.learning.evidence import Evidence, Spot, packed, unpacked
from sam3_core import Mask
from sam3_core.learning.examples import Candidate, Heard

SPOT = Spot("1", "7", "image", 0)
SIZE = (40, 30)


def heard(seed: int) -> Heard:
    rng = np.random.default_rng(seed)
    candidates = []
    for number in range(int(rng.integers(0, 5))):
        full = np.zeros(SIZE[::-1], np.bool_)
        x, y = rng.integers(0, 30), rng.integers(0, 20)
        full[y : y + rng.integers(1, 10), x : x + rng.integers(1, 10)] = True
        feature = None if number == 2 else rng.normal(size=16).astype(np.float16).astype(np.float32)
        candidates.append(Candidate(Mask.from_full(full), float(rng.random()), feature))
    return Heard(float(rng.random()), tuple(candidates))


def equal(one: Heard, other: Heard) -> bool:
    return (
        one.presence == other.presence
        and len(one.candidates) == len(other.candidates)
        and all(
            np.array_equal(a.mask.full(), b.mask.full())
            and a.score == b.score
            and (a.feature is b.feature is None or np.array_equal(a.feature, b.feature))
            for a, b in zip(one.candidates, other.candidates, strict=True)
        )
    )


@pytest.mark.parametrize("seed", range(12))
def test_what_is_packed_is_unpacked(seed: int) -> None:
    assert equal(unpacked(packed(heard(seed), SIZE)), heard(seed))


def test_only_the_same_question_about_the_same_image_is_answered() -> None:
    evidence = Evidence(Database(None))
    evidence.keep(SPOT, {"a": heard(1), "b": heard(2)}, SIZE, beside={"a", "b"})
    found = evidence.of(SPOT, {"a", "c"})
    assert found.keys() == {"a"}
    assert equal(found["a"], heard(1))
    for other in (Spot("2", "7", "image", 0), Spot("1", "8", "image", 0), Spot("1", "7", "image", 1)):
        assert evidence.of(other, {"a"}) == {}


def test_answers_that_nobody_asks_for_any_more_go() -> None:
    evidence = Evidence(Database(None))
    evidence.keep(SPOT, {"a": heard(1), "b": heard(2)}, SIZE, beside={"a", "b"})
    evidence.keep(SPOT, {"c": heard(3)}, SIZE, beside={"b", "c"})
    assert evidence.of(SPOT, {"a", "b", "c"}).keys() == {"b", "c"}
