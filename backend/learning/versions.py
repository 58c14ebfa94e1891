"""Versions: what a project was served, what it is served now, and the way back."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backend.database import Database
from sam3_core.errors import InvalidInput
from sam3_core.learning.lessons import Lessons

log = logging.getLogger(__name__)

TEACHER, PERSON = "teacher", "person"
LATEST, PREVIOUS, BASE = "latest", "previous", "base"
"""Words for a version in ``Versions.use``. BASE: the weights as they came, without any lessons."""

_KEPT = 256  # read versions in memory; one with prototypes takes some 100 kB
_MOST_NAMES = 200
_COLUMNS = "project, number, name, base, parent, lessons, evidence, created"


@dataclass(frozen=True, slots=True)
class Version:
    """One promotion. name: the ``model_version``. base: of the weights that it goes with; with others it rests.

    parent: name of what served before it. evidence: why it was promoted, JSON; its fields are in docs/learning.md.
    created: seconds since 1970.
    """

    project: str
    number: int
    name: str
    base: str
    parent: str
    lessons: Lessons
    evidence: dict[str, Any] = field(repr=False)
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class Choice:
    """What serves a project. name: of a version, empty for the weights as they came. by: TEACHER or PERSON."""

    name: str = ""
    by: str = TEACHER
    since: float = 0.0


class Versions:
    """Callable from any thread, and in several processes at a time: what one promotes serves in all."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._read: OrderedDict[str, Version] = OrderedDict()
        self._lock = threading.Lock()

    def serving(self, project: str, base: str) -> Version | None:
        """What serves a project on these weights; None for the weights as they came.

        Never raises: a store that cannot be read is a line in the log, and the weights as they came.
        """
        try:
            rows = self._database.rows("SELECT name FROM serving WHERE project = ?", (project,))
            if not rows or not rows[0][0]:
                return None
            version = self._named(rows[0][0])
        except (sqlite3.Error, InvalidInput) as error:
            log.warning("project %s: what was learned is not used: %s", project, error)
            return None
        return version if version is not None and version.base == base else None

    def choice(self, project: str) -> Choice:
        """Which version was chosen to serve, and by whom."""
        rows = self._database.rows("SELECT name, chosen_by, since FROM serving WHERE project = ?", (project,))
        return Choice(*rows[0]) if rows else Choice()

    def of(self, project: str) -> list[Version]:
        """A project's versions, newest first."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM versions WHERE project = ? ORDER BY number DESC", (project,)
        )
        return [_version(row) for row in rows]

    def names(self, base: str) -> list[str]:
        """The names of the newest versions of all projects on these weights, newest first."""
        rows = self._database.rows(
            "SELECT name FROM versions WHERE base = ? ORDER BY created DESC LIMIT ?", (base, _MOST_NAMES)
        )
        return [name for (name,) in rows]

    def promote(self, project: str, base: str, lessons: Lessons, evidence: Mapping[str, Any]) -> Version | None:
        """A new version that serves from now on; None where a person has chosen what serves."""
        with self._database.writing() as connection:
            now = connection.execute(
                "SELECT name, chosen_by FROM serving WHERE project = ?", (project,)
            ).fetchone() or ("", TEACHER)
            if now[1] == PERSON:
                return None
            (last,) = connection.execute(
                "SELECT coalesce(max(number), 0) FROM versions WHERE project = ?", (project,)
            ).fetchone()
            name = f"{base}+{project}.{last + 1}"
            created = time.time()
            row = (project, last + 1, name, base, now[0] or base, lessons.to_json(), json.dumps(evidence), created)
            connection.execute(f"INSERT INTO versions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            connection.execute(
                "INSERT OR REPLACE INTO serving VALUES (?, ?, ?, ?)", (project, name, TEACHER, created)
            )
        return _version(row)

    def use(self, project: str, name: str, *, by: str = PERSON) -> str:
        """Let a version serve: by name, by its number, or LATEST, PREVIOUS (to what serves now) or BASE.

        LATEST gives the choice back to the teacher; with any other, nothing is promoted until somebody does so.
        Returns the name, empty for BASE. Raises InvalidInput for a version that the project does not have.
        """
        with self._database.writing() as connection:
            listed = connection.execute(
                "SELECT name, number, parent, base FROM versions WHERE project = ? ORDER BY number DESC", (project,)
            ).fetchall()
            (now,) = connection.execute("SELECT name FROM serving WHERE project = ?", (project,)).fetchone() or ("",)
            chosen = _chosen(name, listed, now)
            by = TEACHER if name == LATEST else by
            connection.execute(
                "INSERT OR REPLACE INTO serving VALUES (?, ?, ?, ?)", (project, chosen, by, time.time())
            )
        log.info("project %s: %s serves, chosen by a %s", project, chosen or "the base version", by)
        return chosen

    def _named(self, name: str) -> Version | None:
        """A version never changes: it is read once."""
        with self._lock:
            if name in self._read:
                self._read.move_to_end(name)
                return self._read[name]
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM versions WHERE name = ?", (name,))
        if not rows:
            return None
        version = _version(rows[0])
        with self._lock:
            self._read[name] = version
            if len(self._read) > _KEPT:
                self._read.popitem(last=False)
        return version


def _chosen(wanted: str, listed: list[tuple[str, int, str, str]], now: str) -> str:
    """The name of the version that is wanted, of those listed (name, number, parent, base), newest first."""
    names = {name: parent for name, _, parent, _ in listed}
    if wanted == LATEST:
        return listed[0][0] if listed else ""
    if wanted == BASE or any(wanted == base for *_, base in listed):
        return ""
    if wanted == PREVIOUS:
        if now not in names:
            raise InvalidInput("there is nothing before what serves now: it is the base version")
        return names[now] if names[now] in names else ""
    for name, number, *_ in listed:
        if wanted in (name, str(number)):
            return name
    known = ", ".join([*names, BASE]) or BASE
    raise InvalidInput(f"the project has no version {wanted!r:.80}; it has {known}")


def _version(row: tuple[Any, ...]) -> Version:
    """Raises InvalidInput for lessons that cannot be read."""
    project, number, name, base, parent, lessons, evidence, created = row
    return Version(project, number, name, base, parent, Lessons.from_json(lessons), json.loads(evidence), created)
