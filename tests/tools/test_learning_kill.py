"""kill -9 of the server in the midst of a training, in its short form; and whether the judges of it see anything."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from backend.database import Database
from backend.learning.versions import Versions
from benchmarks.learning_latency import CHEAP, IDLE, TUNING, as_markdown, missed
from sam3_core.learning.lessons import Lesson, Lessons
from tools.chaos.stand_in import LabelStudio
from tools.learning.events import PROJECT, Events
from tools.learning.kill import kill_once, serving_problems, store_problems

BETTER = Lessons.of({"Moon": Lesson(("moon",), adapter="better")})


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_what_served_serves_after_a_kill_in_the_midst_of_a_training(tmp_path: Path) -> None:
    """Whatever it finds is in the message. The long form: python -m tools.learning.kill."""
    told: list[str] = []
    with LabelStudio() as site:
        assert kill_once(site, tmp_path, "server", 0.5, 0, told.append) == []
    assert len(told) == 1


class Answering:
    """Stands for a server that answers with one version."""

    def __init__(self, version: str) -> None:
        self._version = version

    def version(self) -> str:
        return self._version


def problems(answered: str, folder: Path, before: str) -> list[str]:
    return serving_problems(cast(Events, Answering(answered)), folder, before)


def test_another_version_than_before_is_seen(tmp_path: Path) -> None:
    versions = Versions(Database(tmp_path / "store.sqlite"))
    assert problems("base", tmp_path, "base") == []
    assert "base+1.1 serves" in problems("base+1.1", tmp_path, "base")[0]
    versions.promote(str(PROJECT), "base", BETTER, {})
    assert problems("base+1.1", tmp_path, "base") == []
    assert "base serves" in problems("base", tmp_path, "base")[0]


def test_a_version_without_its_lessons_is_seen(tmp_path: Path) -> None:
    Versions(Database(tmp_path / "store.sqlite")).promote(str(PROJECT), "base", BETTER, {})
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as store, store:
        store.execute("DELETE FROM versions")
    assert "does not have" in problems("base+1.1", tmp_path, "base")[0]


def test_a_broken_store_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "store.sqlite"
    with closing(sqlite3.connect(file)) as store, store:
        store.execute("CREATE TABLE things (name TEXT)")
        store.executemany("INSERT INTO things VALUES (?)", [(str(n) * 50,) for n in range(2000)])
    assert store_problems(tmp_path) == []
    data = bytearray(file.read_bytes())
    data[3 * 4096 : 4 * 4096] = bytes(4096)
    file.write_bytes(data)
    assert store_problems(tmp_path)


def test_slow_clicks_and_clicks_that_were_not_measured_are_told() -> None:
    good = {IDLE: [40.0, 50.0, 60.0], CHEAP: [60.0], TUNING: [70.0]}
    assert missed(good) == []
    assert "1.60 times" in missed(good | {TUNING: [80.0]})[0]
    assert "no click" in missed({IDLE: [50.0], TUNING: [50.0]})[0]
    assert "| fine-tuning | 1 | 70 ms | 70 ms | 1.40 |" in as_markdown(good)
