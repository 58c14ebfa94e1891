"""Courses: one teacher for each project, however many processes there are, and none that is held up by a dead one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from backend.database import Database
from backend.learning.courses import Cancelled, Courses


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def test_one_process_teaches_a_project_at_a_time(path: Path) -> None:
    mine, theirs = Courses(Database(path)), Courses(Database(path))
    mine.reviewed("1", 12)
    begun = mine.begin("1")
    assert begun is not None
    assert begun.fresh == 12
    assert theirs.begin("1") is None
    assert theirs.begin("2") is not None
    mine.beat("1", "judging", 0.5)
    shown = theirs.of("1")
    assert (shown.working, shown.step, shown.done) == (True, "judging", 0.5)
    mine.end("1", "all is well", taught=12)
    after = theirs.of("1")
    assert (after.working, after.sentence, after.fresh) == (False, "all is well", 0)
    assert theirs.begin("1") is not None


def test_what_is_reviewed_meanwhile_stays_to_be_taught(path: Path) -> None:
    courses = Courses(Database(path))
    courses.reviewed("1", 10)
    begun = courses.begin("1")
    assert begun is not None
    courses.reviewed("1", 3)
    courses.end("1", "done", taught=begun.fresh)
    assert (courses.of("1").fresh, courses.of("1").untuned) == (3, 13)


def test_a_dead_teacher_is_followed_by_another(path: Path) -> None:
    dead, alive = Courses(Database(path)), Courses(Database(path))
    dead.reviewed("1", 10)
    dead.begin("1")
    dead.beat("1", "fine-tuning")
    with Database(path).writing() as connection:
        connection.execute("UPDATE courses SET beat = beat - 3600")
    shown = alive.of("1")
    assert not shown.working
    assert "interrupted while fine-tuning" in shown.sentence
    begun = alive.begin("1")
    assert begun is not None
    assert begun.fresh == 10, "nothing that was reviewed is lost"
    with pytest.raises(Cancelled, match="another process"):
        dead.beat("1", "fine-tuning")
    dead.end("1", "too late", taught=10)
    assert alive.of("1").fresh == 10
    assert alive.of("1").working


def test_a_teacher_that_was_killed_here_is_followed_at_once(path: Path) -> None:
    killed, alive = Courses(Database(path)), Courses(Database(path))
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    killed._owner = killed._owner.replace(f":{os.getpid()}:", f":{process.pid}:")
    killed.begin("1")
    assert not alive.of("1").working
    assert alive.begin("1") is not None
    assert killed.of("1").working, "and this one lives"
    elsewhere = Courses(Database(path))
    elsewhere._owner = killed._owner.replace(socket.gethostname(), "another-machine")
    elsewhere.begin("2")
    assert alive.of("2").working, "of other machines nothing is known but what they say"


def test_a_course_is_cancelled_from_another_process(path: Path) -> None:
    server, command = Courses(Database(path)), Courses(Database(path))
    assert not command.cancel("1"), "there is nothing to cancel"
    server.begin("1")
    assert command.cancel("1")
    with pytest.raises(Cancelled):
        server.beat("1", "judging")
    server.end("1", "cancelled")
    assert server.begin("1") is not None
    server.beat("1", "judging")


def test_a_cancellation_is_not_for_the_next_course(path: Path) -> None:
    dead, alive = Courses(Database(path)), Courses(Database(path))
    dead.begin("1")
    assert alive.cancel("1")
    with Database(path).writing() as connection:
        connection.execute("UPDATE courses SET beat = beat - 3600")
    assert alive.begin("1") is not None
    alive.beat("1", "judging")


def test_a_wanted_training_is_taken_once(path: Path) -> None:
    courses = Courses(Database(path))
    courses.ask_training("1")
    assert courses.of("1").train
    begun = courses.begin("1")
    assert begun is not None
    assert begun.train
    courses.end("1", "done")
    assert not courses.of("1").train


def test_what_was_tried_last_is_kept(path: Path) -> None:
    courses = Courses(Database(path))
    assert courses.last_tried("1") == {}
    courses.begin("1")
    courses.tried("1", {"tasks": 12, "sentence": "no better"})
    courses.end("1", "no better")
    assert Courses(Database(path)).last_tried("1") == {"tasks": 12, "sentence": "no better"}
    assert courses.last_tried("2") == {}
