"""Versions: what serves, who chose it, and the way back."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from backend.database import Database
from backend.learning.versions import BASE, LATEST, PERSON, PREVIOUS, TEACHER, Versions
from sam3_core.errors import InvalidInput
from sam3_core.learning.lessons import Lesson, Lessons

WEIGHTS = "weights-1"


def lessons(threshold: float) -> Lessons:
    return Lessons.of({"car": Lesson(("car",), threshold=threshold)})


@pytest.fixture
def versions() -> Versions:
    return Versions(Database(None))


def promoted(versions: Versions, project: str, threshold: float, base: str = WEIGHTS) -> str:
    version = versions.promote(project, base, lessons(threshold), {"tasks": 12})
    assert version is not None
    return version.name


def serves(versions: Versions, project: str, base: str = WEIGHTS) -> str:
    version = versions.serving(project, base)
    return version.name if version else base


def test_the_weights_serve_until_something_is_promoted(versions: Versions) -> None:
    assert serves(versions, "1") == WEIGHTS
    name = promoted(versions, "1", 0.3)
    assert name == f"{WEIGHTS}+1.1"
    found = versions.serving("1", WEIGHTS)
    assert found is not None
    assert (found.lessons, found.evidence, found.parent) == (lessons(0.3), {"tasks": 12}, WEIGHTS)
    assert serves(versions, "2") == WEIGHTS, "projects never mix"
    assert serves(versions, "1", "other weights") == "other weights", "lessons go with the weights they were made on"


def test_the_way_back_and_forth(versions: Versions) -> None:
    first, second, third = (promoted(versions, "1", t) for t in (0.3, 0.4, 0.6))
    assert serves(versions, "1") == third
    for wanted, expected in (
        (PREVIOUS, second),
        (PREVIOUS, first),
        (PREVIOUS, WEIGHTS),
        ("2", second),
        (first, first),
    ):
        versions.use("1", wanted)
        assert serves(versions, "1") == expected
    versions.use("1", BASE)
    assert serves(versions, "1") == WEIGHTS
    versions.use("1", WEIGHTS)
    assert serves(versions, "1") == WEIGHTS
    versions.use("1", LATEST)
    assert serves(versions, "1") == third
    assert [version.name for version in versions.of("1")] == [third, second, first]
    assert versions.names(WEIGHTS) == [third, second, first]


def test_nothing_is_promoted_over_the_choice_of_a_person(versions: Versions) -> None:
    first = promoted(versions, "1", 0.3)
    promoted(versions, "1", 0.4)
    versions.use("1", first)
    assert versions.choice("1").by == PERSON
    assert versions.promote("1", WEIGHTS, lessons(0.5), {}) is None
    assert serves(versions, "1") == first
    versions.use("1", LATEST)
    assert versions.choice("1").by == TEACHER
    third = promoted(versions, "1", 0.5)
    assert serves(versions, "1") == third


def test_what_is_not_there_cannot_be_chosen(versions: Versions) -> None:
    other = promoted(versions, "2", 0.3)
    for wanted in (other, "weights-1+1.9", "", "1", PREVIOUS):
        with pytest.raises(InvalidInput):
            versions.use("1", wanted)
    assert serves(versions, "1") == WEIGHTS


def test_processes_that_promote_at_once_get_numbers_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    several = [Versions(Database(path)) for _ in range(4)]
    names: list[str] = []
    threads = [
        threading.Thread(target=lambda v=one: names.extend(promoted(v, "1", 0.3) for _ in range(5)))
        for one in several
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names) == sorted(f"{WEIGHTS}+1.{number}" for number in range(1, 21))
    assert len({serves(one, "1") for one in several}) == 1, "all processes serve the same"


def test_a_store_that_cannot_be_read_leaves_the_weights_as_they_came(
    versions: Versions, caplog: pytest.LogCaptureFixture
) -> None:
    promoted(versions, "1", 0.3)
    broken = Versions(versions._database)
    with versions._database.writing() as connection:
        connection.execute("UPDATE versions SET lessons = '{\"labels\": 3}'")
    assert serves(broken, "1") == WEIGHTS
    assert "not used" in caplog.text
