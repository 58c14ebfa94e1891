"""One project of a server's store, as the commands see it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backend.settings import BackendSettings
from sam3_core.errors import BadSettings, InvalidInput
from sam3_core.settings import load_settings
from sam3_prelabel.loading import not_installed

if TYPE_CHECKING:
    from backend.database import Database
    from backend.learning.reviews import Reviews
    from backend.learning.versions import Version
    from sam3_prelabel.learning_figures import Report

_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'sqlite_sequence'"


@dataclass(frozen=True, slots=True)
class StoredProject:
    """What is kept of a project. reviews: of all projects. Its methods raise sqlite3.Error where the store fails."""

    number: str
    database: Database
    reviews: Reviews

    def report(self) -> Report:
        """What its reviews and versions say."""
        from backend.learning.courses import Courses
        from backend.learning.records import KnownProject
        from backend.learning.versions import Versions
        from sam3_prelabel.learning_report import tell, without_masks, worst

        reviews, versions, courses = self.reviews, Versions(self.database), Courses(self.database)
        # One by one: the masks of all tasks of a large project do not fit into memory.
        every = (reviews.review(self.number, task) for task in reviews.tasks(self.number))
        told = tell(
            reviews.project(self.number) or KnownProject(self.number),
            [without_masks(review) for review in every if review is not None],
            versions.of(self.number),
            versions.choice(self.number).name,
            courses.of(self.number),
            courses.last_tried(self.number),
        )
        again = (reviews.review(self.number, bad.review.task) for bad in told.worst)
        return replace(told, worst=tuple(worst(review for review in again if review is not None)))

    def rebuild(self, url: str, token: str, told: Callable[[str], None]) -> int:
        """Read its reviews anew from Label Studio; how many tasks there are. Raises ServerUnavailable and its kin."""
        from backend.learning.rebuild import rebuild

        return rebuild(self.reviews, url, token, self.number, told=lambda done: told(f"{done} tasks read ..."))

    def ask_training(self) -> None:
        """As if somebody had pressed Start Training: the server's inbox gets the event."""
        from backend.learning.inbox import Inbox

        event = {"action": "START_TRAINING", "project": {"id": int(self.number)}}
        Inbox(self.database).put("START_TRAINING", json.dumps(event).encode())

    def versions(self) -> tuple[list[Version], str]:
        """Newest first, and the name of the one that was chosen to serve; empty for the weights as they came."""
        from backend.learning.versions import Versions

        versions = Versions(self.database)
        return versions.of(self.number), versions.choice(self.number).name

    def use(self, version: str) -> str:
        """See ``Versions.use``; a person chose."""
        from backend.learning.versions import Versions

        return Versions(self.database).use(self.number, version)

    def cancel(self) -> bool:
        """End the learning at work; whether there is any."""
        from backend.learning.courses import Courses

        return Courses(self.database).cancel(self.number)

    def known(self) -> bool:
        """Whether anything is kept of it."""
        return any(self._count(table, column) for table, column in self._tables())

    def sentence(self) -> str:
        """How much is kept of it."""
        reviews = self.reviews.count(self.number)
        return f"project {self.number} has {reviews} reviewed tasks and {len(self.versions()[0])} versions"

    def forget(self, adapters: Path | None) -> int:
        """Delete all that is kept of it, in one transaction, then its fine-tuned weights; how many rows that were.

        adapters: their folder, None without one. Raises OSError for weights that cannot be deleted.
        """
        tables = self._tables()
        with self.database.writing() as connection:
            rows = sum(
                connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (self.number,)).rowcount
                for table, column in tables
            )
        for file in adapters.glob(f"p{self.number}-*.safetensors") if adapters else ():
            file.unlink(missing_ok=True)
        return rows

    def _tables(self) -> list[tuple[str, str]]:
        """Every table with rows of projects, those of later migrations too, and the column that says of which."""
        found = []
        for (table,) in self.database.rows(_TABLES):
            columns = {row[1] for row in self.database.rows(f"PRAGMA table_info({table})")}
            column = "project" if "project" in columns else "number" if table == "projects" else ""
            if column:
                found.append((table, column))
        return found

    def _count(self, table: str, column: str) -> bool:
        return bool(self.database.rows(f"SELECT 1 FROM {table} WHERE {column} = ? LIMIT 1", (self.number,)))


@contextmanager
def opened(
    store: Path | None, project: int, *, unknown_too: bool = False
) -> Iterator[tuple[BackendSettings, StoredProject]]:
    """The settings, and the project in the store that they or ``store`` name.

    unknown_too: also where nothing is kept of it yet.
    Raises BadSettings without a file, InvalidInput without a project.
    """
    settings = load_settings(BackendSettings, store=store)
    if settings.store is None:
        raise BadSettings("which file? Set SAM3_STORE as for the server, or give --store")
    if not settings.store.is_file():
        raise BadSettings(f"SAM3_STORE: there is no file {settings.store}")
    try:
        from backend.database import Database
        from backend.learning.predicted import Predictions
        from backend.learning.reviews import Reviews
    except ModuleNotFoundError as error:
        raise not_installed(error, "label-studio") from None
    database = Database(settings.store)
    try:
        found = StoredProject(str(project), database, Reviews(database, Predictions(database)))
        if not unknown_too and not found.known():
            raise InvalidInput(f"nothing is kept of project {project} in {settings.store}")
        yield settings, found
    except sqlite3.Error as error:
        raise BadSettings(f"SAM3_STORE: {settings.store} cannot be used: {error}") from None
    finally:
        database.close()


def show_versions(console: Console, found: StoredProject) -> None:
    """A table: name, when, what it changes, what it brought, and which serves."""
    from sam3_prelabel.learning_changes import changes, gain

    versions, serving = found.versions()
    named = {version.name: version for version in versions}
    table = Table("version", "since", "F1", "changes", "", box=None, header_style="bold")
    for version in versions:
        told = "\n".join(changes(version, named.get(version.parent))) or "–"
        when = datetime.fromtimestamp(version.created).astimezone().strftime("%Y-%m-%d %H:%M")
        marks = "[green]serves[/]" if version.name == serving else ""
        table.add_row(escape(version.name), when, gain(version.evidence), escape(told), marks)
    table.add_row("base", "", "", "the weights as they came", "" if serving else "[green]serves[/]")
    console.print(table)
