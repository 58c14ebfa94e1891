"""What we predicted, kept to be compared with what reviewers make of it."""

from __future__ import annotations

import logging
import sqlite3
import time
import zlib
from dataclasses import dataclass, field

import msgspec

from backend.database import Database
from backend.predictions import Prediction

log = logging.getLogger(__name__)

MOST_PER_PROJECT = 20_000
_FASTEST = 1


@dataclass(frozen=True, slots=True)
class Predicted:
    """A prediction as it went out. version: its ``model_version``. result: JSON, a list of regions. made: seconds
    since 1970. number: Label Studio's for it, empty where it is not known."""

    version: str
    result: bytes = field(repr=False)
    made: float
    number: str = ""


class Predictions:
    """For each project and task the newest prediction of each version; of a project the newest 20 000.

    Callable from any thread and process.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def remember(self, project: str, task: str, prediction: Prediction) -> None:
        """Keep what goes out for a task. Never raises: what cannot be kept is a line in the log."""
        try:
            result = zlib.compress(msgspec.json.encode(prediction["result"]), _FASTEST)
            with self._database.writing() as connection:
                connection.execute(
                    "INSERT OR REPLACE INTO predictions VALUES (?, ?, ?, ?, ?)",
                    (project, task, prediction["model_version"], time.time(), result),
                )
                connection.execute(
                    "DELETE FROM predictions WHERE project = ? AND made < (SELECT made FROM predictions"
                    " WHERE project = ? ORDER BY made DESC LIMIT 1 OFFSET ?)",
                    (project, project, MOST_PER_PROJECT - 1),
                )
        except (sqlite3.Error, UnicodeError, LookupError, TypeError, ValueError) as error:
            log.warning("project %s: what was predicted for task %s is not remembered: %s", project, task, error)

    def of(self, project: str, task: str) -> list[Predicted]:
        """Those of a task, the newest first. Raises sqlite3.Error."""
        rows = self._database.rows(
            "SELECT version, made, result FROM predictions WHERE project = ? AND task = ? ORDER BY made DESC",
            (project, task),
        )
        return [Predicted(version, zlib.decompress(result), made) for version, made, result in rows]
