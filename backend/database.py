"""The one SQLite file of a server: migrations, and transactions of threads and processes that share it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sam3_core.errors import BadSettings

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE label_phrases (project TEXT NOT NULL, label TEXT NOT NULL, phrases TEXT NOT NULL,"
        " PRIMARY KEY (project, label)) WITHOUT ROWID",
    ),
    (
        # What is served: numbers only grow. lessons, evidence: JSON, of sam3_core.learning and of the teacher.
        "CREATE TABLE versions (project TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL UNIQUE,"
        " base TEXT NOT NULL, parent TEXT NOT NULL, lessons TEXT NOT NULL, evidence TEXT NOT NULL,"
        " created REAL NOT NULL, PRIMARY KEY (project, number)) WITHOUT ROWID",
        # Which of them serves: an empty name is the weights as they came. chosen_by: 'teacher' or 'person'.
        "CREATE TABLE serving (project TEXT PRIMARY KEY, name TEXT NOT NULL, chosen_by TEXT NOT NULL,"
        " since REAL NOT NULL) WITHOUT ROWID",
        # What a phrase found on a reviewed image: made again where it is lost. question: a fingerprint of all that
        # the answer depends on.
        "CREATE TABLE evidence (project TEXT NOT NULL, task TEXT NOT NULL, source TEXT NOT NULL,"
        " page INTEGER NOT NULL, question TEXT NOT NULL, found BLOB NOT NULL,"
        " PRIMARY KEY (project, task, source, page, question)) WITHOUT ROWID",
        # One row for each project: the learning at work or the last one. fresh: tasks reviewed since it was taught,
        # untuned: since a fine-tuning. train: 1 once somebody asked for one, cancel: to end what is at work. owner:
        # of the process at work, alive until `beat` grows old; empty when none is.
        "CREATE TABLE courses (project TEXT PRIMARY KEY, fresh INTEGER NOT NULL DEFAULT 0,"
        " untuned INTEGER NOT NULL DEFAULT 0, train INTEGER NOT NULL DEFAULT 0, cancel INTEGER NOT NULL DEFAULT 0,"
        " owner TEXT NOT NULL DEFAULT '', beat REAL NOT NULL DEFAULT 0, since REAL NOT NULL DEFAULT 0,"
        " step TEXT NOT NULL DEFAULT '', done REAL NOT NULL DEFAULT 0, sentence TEXT NOT NULL DEFAULT '',"
        " evidence TEXT NOT NULL DEFAULT '') WITHOUT ROWID",
    ),
    (
        # Events of Label Studio that wait to be applied. body: JSON, deflated. Numbers are never used again.
        "CREATE TABLE inbox (number INTEGER PRIMARY KEY AUTOINCREMENT, action TEXT NOT NULL, body BLOB NOT NULL)",
        # What we predicted. made: seconds since 1970. result: the regions' JSON, deflated.
        "CREATE TABLE predictions (project TEXT NOT NULL, task TEXT NOT NULL, version TEXT NOT NULL,"
        " made REAL NOT NULL, result BLOB NOT NULL, PRIMARY KEY (project, task, version))",
        "CREATE INDEX predictions_by_age ON predictions (project, made)",
        # What annotations were last seen to be. updated, digest: of two states the greater pair is the newer one.
        # truth: 1 for ground truth. review: see backend.learning.packing; NULL where there is nothing to learn.
        "CREATE TABLE annotations (project TEXT NOT NULL, annotation TEXT NOT NULL, task TEXT NOT NULL,"
        " updated TEXT NOT NULL, digest TEXT NOT NULL, truth INTEGER NOT NULL, review BLOB,"
        " PRIMARY KEY (project, annotation))",
        "CREATE INDEX annotations_by_task ON annotations (project, task)",
        # Ids that never come back. kind: 'annotation' or 'task'.
        "CREATE TABLE deleted (project TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,"
        " PRIMARY KEY (project, kind, id)) WITHOUT ROWID",
        # What events said of projects, the last one last.
        "CREATE TABLE projects (number TEXT PRIMARY KEY, title TEXT NOT NULL, label_config TEXT NOT NULL,"
        " chosen TEXT NOT NULL) WITHOUT ROWID",
    ),
)
"""Step n leads from ``PRAGMA user_version`` n to n + 1. Steps are only ever added."""

_WAIT = 5.0  # seconds for other processes to finish writing


class Database:
    """One connection. Callable from any thread. Only making one raises: BadSettings, with a sentence."""

    def __init__(self, path: Path | None) -> None:
        """path: of the file, made where it is missing; None keeps everything until the process ends."""
        self._lock = threading.RLock()
        try:
            self._connection = sqlite3.connect(
                path or ":memory:", timeout=_WAIT, isolation_level=None, check_same_thread=False
            )
            # No write-ahead log: making it and tidying it up answer "locked" without waiting, and writes are rare.
            self._migrate()
        except sqlite3.Error as error:
            raise BadSettings(f"SAM3_STORE: {path} cannot be used: {error}") from None

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a SELECT finds. Raises sqlite3.Error."""
        with self._lock:
            return self._connection.execute(sql, parameters).fetchall()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is kept, or nothing. Reads in it see what no other process can change meanwhile.

        Raises sqlite3.Error.
        """
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def _migrate(self) -> None:
        with self.writing() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > len(_MIGRATIONS):
                raise sqlite3.DatabaseError("a newer version of this program wrote it")
            for step in _MIGRATIONS[version:]:
                for statement in step:
                    connection.execute(statement)
            # Also when nothing changes: a file that cannot be written is found out at the start.
            connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
