"""Courses: which project is to be taught, who teaches it, and how far that is; one at a time for each project."""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backend.database import Database
from sam3_core.errors import Sam3Error

_ALIVE = 90.0  # seconds; a teacher that has not been heard of for so long is dead


class Cancelled(Sam3Error):
    """Somebody asked for the end of a course, or another process took it over."""

    status = 409


@dataclass(frozen=True, slots=True)
class Course:
    """fresh: tasks reviewed since the project was taught, untuned: since a fine-tuning. train: one is wanted.

    working: whether a living process teaches it now. since: its start or its end, seconds since 1970. step,
    done (0..1), sentence: how far it is, or how it ended.
    """

    project: str
    fresh: int = 0
    untuned: int = 0
    train: bool = False
    working: bool = False
    since: float = 0.0
    step: str = ""
    done: float = 0.0
    sentence: str = ""


class Courses:
    """Callable from any thread, and in several processes. Raises sqlite3.Error where the store fails."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # One for each object: a process that starts again under an old number is another one.
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    def reviewed(self, project: str, tasks: int) -> None:
        """So many tasks of a project were reviewed, or changed."""
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO courses (project, fresh, untuned) VALUES (?, ?, ?) ON CONFLICT (project) DO UPDATE"
                " SET fresh = fresh + excluded.fresh, untuned = untuned + excluded.untuned",
                (project, tasks, tasks),
            )

    def ask_training(self, project: str) -> None:
        """Somebody wants the project to be taught now, with a fine-tuning."""
        self._flag(project, "train")

    def cancel(self, project: str) -> bool:
        """Ask for the end of what is at work; whether there is anything."""
        if not self.of(project).working:
            return False
        self._flag(project, "cancel")
        return True

    def of(self, project: str) -> Course:
        """How a project stands."""
        return next(iter(self._read("WHERE project = ?", (project,))), Course(project))

    def all(self) -> list[Course]:
        """Of every project, those at work first, then the newest."""
        return sorted(self._read("", ()), key=lambda course: (not course.working, -course.since))

    def begin(self, project: str) -> Course | None:
        """Take a project on: how it stood; None while another process teaches it."""
        now = time.time()
        with self._database.writing() as connection:
            connection.execute("INSERT OR IGNORE INTO courses (project) VALUES (?)", (project,))
            course = self._read("WHERE project = ?", (project,))[0]
            if course.working:
                return None
            connection.execute(
                "UPDATE courses SET owner = ?, beat = ?, since = ?, step = 'starting', done = 0, sentence = '',"
                " cancel = 0, train = 0 WHERE project = ?",
                (self._owner, now, now, project),
            )
        return course

    def beat(self, project: str, step: str, done: float = 0.0, sentence: str = "") -> None:
        """How far it is. Raises Cancelled when it is to end."""
        with self._database.writing() as connection:
            found = connection.execute(
                "UPDATE courses SET beat = ?, step = ?, done = ?, sentence = ? WHERE project = ? AND owner = ?"
                " RETURNING cancel",
                (time.time(), step, done, sentence, project, self._owner),
            ).fetchall()
        if not found:
            raise Cancelled("another process teaches this project now")
        if found[0][0]:
            raise Cancelled("it was cancelled")

    def tried(self, project: str, evidence: Mapping[str, Any]) -> None:
        """What was found out, promoted or not: kept until the next time."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE courses SET evidence = ? WHERE project = ? AND owner = ?",
                (json.dumps(evidence), project, self._owner),
            )

    def last_tried(self, project: str) -> dict[str, Any]:
        """What was found out last: the evidence as ``Version.evidence`` has it, with a ``sentence``; empty before."""
        rows = self._database.rows("SELECT evidence FROM courses WHERE project = ?", (project,))
        return dict(json.loads(rows[0][0])) if rows and rows[0][0] else {}

    def end(self, project: str, sentence: str, *, taught: int = 0, tuned: int = 0) -> None:
        """It is over: so many of the fresh tasks were taught, so many of the untuned ones tuned on."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE courses SET owner = '', beat = 0, since = ?, step = '', done = 1, sentence = ?, cancel = 0,"
                " fresh = max(0, fresh - ?), untuned = max(0, untuned - ?) WHERE project = ? AND owner = ?",
                (time.time(), sentence, taught, tuned, project, self._owner),
            )

    def _flag(self, project: str, name: str) -> None:
        with self._database.writing() as connection:
            connection.execute(
                f"INSERT INTO courses (project, {name}) VALUES (?, 1) ON CONFLICT (project) DO UPDATE SET {name} = 1",
                (project,),
            )

    def _read(self, where: str, parameters: tuple[str, ...]) -> list[Course]:
        rows = self._database.rows(
            "SELECT project, fresh, untuned, train, owner, beat, since, step, done, sentence FROM courses " + where,
            parameters,
        )
        return [_course(*row) for row in rows]


def _is_dead(owner: str) -> bool:
    """Whether the process that it names ran on this machine, and is gone."""
    host, _, rest = owner.rpartition(":")[0].rpartition(":")
    if host != socket.gethostname() or not rest.isdecimal():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is there, and somebody else's
        return False
    return False


def _course(
    project: str,
    fresh: int,
    untuned: int,
    train: int,
    owner: str,
    beat: float,
    since: float,
    step: str,
    done: float,
    sentence: str,
) -> Course:
    working = bool(owner) and time.time() - beat < _ALIVE and not _is_dead(owner)
    if owner and not working:
        step, sentence = "", f"interrupted while {step}: the process that taught it is gone"
    return Course(project, fresh, untuned, bool(train), working, since, step, done, sentence)
