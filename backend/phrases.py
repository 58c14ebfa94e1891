"""Remembered phrases: what annotators type for a label becomes what later batches of their project look for.

Kept in SQLite, one row for each project and label. The file may be shared by threads and processes.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from backend.bodies import ContextRegion, convert
from backend.labeling import Label, Plan, read_plan
from backend.typed import by_label, typed_phrases
from sam3_core.errors import BadSettings, Sam3Error

log = logging.getLogger(__name__)

_MIGRATIONS = (
    "CREATE TABLE label_phrases (project TEXT NOT NULL, label TEXT NOT NULL, phrases TEXT NOT NULL,"
    " PRIMARY KEY (project, label)) WITHOUT ROWID",
)
"""Step n leads from ``PRAGMA user_version`` n to n + 1. Steps are only ever added. ``phrases``: one a line."""

_WAIT = 5.0  # seconds for other processes to finish writing


class Phrases:
    """The store. One per process, callable from any thread. Only making one raises: BadSettings, with a sentence."""

    def __init__(self, path: Path | None) -> None:
        """path: of the file, made where it is missing; None keeps the phrases until the process ends."""
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(
                path or ":memory:", timeout=_WAIT, isolation_level=None, check_same_thread=False
            )
            # No write-ahead log: making it and tidying it up answer "locked" without waiting, and writes are rare.
            self._migrate()
        except sqlite3.Error as error:
            raise BadSettings(f"SAM3_STORE: {path} cannot be used to keep phrases: {error}") from None

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()

    def learn(self, project: str, label_config: str, results: object) -> None:
        """Remember what was typed in a submitted annotation, for the labels that ask for it.

        label_config: the project's, at the time. results: the annotation's ``result``, as Label Studio sends it.
        What cannot be understood or kept is a line in the log.
        """
        try:
            taught = _taught(read_plan(label_config), results)
            if not taught:
                return
            with self._writing() as database:
                database.executemany(
                    "INSERT OR REPLACE INTO label_phrases VALUES (?, ?, ?)",
                    [(project, label, "\n".join(phrases)) for label, phrases in taught.items()],
                )
        except (sqlite3.Error, UnicodeError, Sam3Error) as error:
            log.warning("project %s: what was typed is not remembered: %s", project, error)
        else:
            log.info("project %s: remembered what was typed for %s", project, ", ".join(map(repr, taught)))

    def apply(self, project: str, plan: Plan) -> Plan:
        """The plan with the remembered phrases in place of the labels' own; negatives, rules and finish stay."""
        if not any(label.remember for source in plan.sources for label in source.labels):
            return plan
        try:
            with self._lock:
                rows = self._database.execute(
                    "SELECT label, phrases FROM label_phrases WHERE project = ?", (project,)
                ).fetchall()
            return _with_phrases(plan, {label: tuple(phrases.split("\n")) for label, phrases in rows})
        except (sqlite3.Error, Sam3Error) as error:
            log.warning("project %s: remembered phrases are not used: %s", project, error)
            return plan

    def _migrate(self) -> None:
        with self._writing() as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version > len(_MIGRATIONS):
                raise sqlite3.DatabaseError("a newer version of this program wrote it")
            for step in _MIGRATIONS[version:]:
                database.execute(step)
            # Also when nothing changes: a file that cannot be written is found out at the start.
            database.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is kept, or nothing."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")


def _taught(plan: Plan, results: object) -> dict[str, tuple[str, ...]]:
    """By label what was typed for it, of the labels that remember. Raises InvalidInput or InvalidPrompt."""
    rows = results if isinstance(results, list) else []
    typed = [row for row in rows if isinstance(row, Mapping) and row.get("type") == "textarea"]
    taught: dict[str, tuple[str, ...]] = {}
    for row in typed:
        region = convert(ContextRegion, row)
        source = plan.source(region.to_name)
        for label, phrases in by_label(typed_phrases(region, plan), source) if source else ():
            if label.remember:
                taught[label.value] = (*taught.get(label.value, ()), *phrases)
    return taught


def _with_phrases(plan: Plan, known: Mapping[str, tuple[str, ...]]) -> Plan:
    def labelled(label: Label) -> Label:
        if not label.remember or label.value not in known:
            return label
        return replace(label, concept=replace(label.concept, phrases=known[label.value]))

    sources = []
    for source in plan.sources:
        controls = (replace(c, labels=tuple(labelled(label) for label in c.labels)) for c in source.controls)
        sources.append(replace(source, controls=tuple(controls)))
    return replace(plan, sources=tuple(sources))
