"""The reviews of a server: kept up to date by events, in whatever order and however often they come."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from backend.bodies import Annotation, WebhookBody, convert, decode
from backend.database import Database
from backend.labeling import read_plan
from backend.learning.annotations import State, predicted, raw_of, review_of, state_of, text_of
from backend.learning.packing import pack, unpack
from backend.learning.predicted import Predicted, Predictions
from backend.learning.records import KnownProject, Review
from sam3_core.errors import InvalidInput

log = logging.getLogger(__name__)

Changed = set[tuple[str, str]]
"""(project, task)"""

_ANNOTATED = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED")
_DELETED = ("ANNOTATIONS_DELETED", "ANNOTATION_DELETED")
_BEST = (
    "SELECT task, annotation FROM (SELECT task, annotation, updated, ROW_NUMBER() OVER"
    " (PARTITION BY task ORDER BY truth DESC, updated DESC, digest DESC, annotation DESC) AS place"
    " FROM annotations WHERE project = ? AND review IS NOT NULL{only}) WHERE place = 1"
    " ORDER BY updated DESC, task DESC"
)
_KEPT = "SELECT updated, digest FROM annotations WHERE project = ? AND annotation = ?"


class Reviews:
    """Of a task with several annotations the newest counts, before all the one that is marked as ground truth.

    Callable from any thread and process. Everything raises sqlite3.Error where the file cannot be used.
    """

    def __init__(self, database: Database, predictions: Predictions) -> None:
        self._database = database
        self._predictions = predictions

    def apply(self, action: str, body: bytes) -> Changed:
        """Take in an event, JSON as Label Studio sends it; which tasks have another review now.

        A state of an annotation that is older than the one kept, or the same, changes nothing; what was deleted never
        comes back. Skipped and empty annotations end a review. What cannot be read is a line in the log.
        """
        try:
            event = decode(WebhookBody, body)
        except InvalidInput as error:
            log.warning("%s is not learned from: %s", action, error)
            return set()
        project = self._note(event.project)
        if action in _ANNOTATED:
            return self._annotated(project, event)
        if action in _DELETED:
            ids = _ids(event.annotations) or [text_of(one.id) for one in event.listed]
            return self._delete(project, "annotation", ids)
        if action == "TASKS_DELETED":
            return self._delete(project, "task", _ids(event.tasks))
        return set()

    def of(self, project: str, most: int | None = None) -> list[Review]:
        """A project's reviews, newest first; not more than ``most``: each holds its masks."""
        return list(self._read(project, self._best(project)[:most]))

    def tasks(self, project: str) -> list[str]:
        """The reviewed tasks of a project, newest review first: cheap, to go through them one by one."""
        return [task for task, _ in self._best(project)]

    def review(self, project: str, task: str) -> Review | None:
        """A task's review, or None."""
        return next(self._read(project, self._best(project, task)), None)

    def count(self, project: str) -> int:
        """How many tasks are reviewed."""
        sql = "SELECT COUNT(DISTINCT task) FROM annotations WHERE project = ? AND review IS NOT NULL"
        ((count,),) = self._database.rows(sql, (project,))
        return int(count)

    def projects(self) -> list[KnownProject]:
        """Those that events spoke of."""
        rows = self._database.rows("SELECT number, title, label_config, chosen FROM projects ORDER BY number")
        return [KnownProject(*row) for row in rows]

    def project(self, number: str) -> KnownProject | None:
        """What events said of a project, or None."""
        sql = "SELECT number, title, label_config, chosen FROM projects WHERE number = ?"
        return next((KnownProject(*row) for row in self._database.rows(sql, (number,))), None)

    def replace(self, project: str, label_config: str, title: str, tasks: Iterable[Mapping[str, Any]]) -> int:
        """Make a project's reviews anew from its tasks, as Label Studio lists or exports them; how many there are.

        tasks: with ``data``, ``annotations`` and ``predictions``. Reviews that are not among them go away, but for
        those that came in meanwhile. All of it is kept, or nothing.
        """
        before = dict(
            self._database.rows("SELECT annotation, updated || digest FROM annotations WHERE project = ?", (project,))
        )
        rows = [row for task in tasks for row in self._rows(project, label_config, task)]
        gone = before.keys() - {state.annotation for state, _ in rows}
        with self._database.writing() as connection:
            connection.executemany(
                "DELETE FROM annotations WHERE project = ? AND annotation = ? AND updated || digest = ?",
                [(project, annotation, before[annotation]) for annotation in gone],
            )
            for state, packed in rows:
                _keep(connection, state, packed, again=True)
            known = connection.execute("SELECT chosen FROM projects WHERE number = ?", (project,)).fetchone()
            row = (project, title, label_config, known[0] if known else "")
            connection.execute("INSERT OR REPLACE INTO projects VALUES (?, ?, ?, ?)", row)
        return self.count(project)

    def _note(self, said: Mapping[str, Any]) -> str:
        """Remember what an event says of its project; its number, empty where it has none."""
        number = text_of(said.get("id"))
        known = self.project(number) if number else None
        names = ("title", "label_config", "model_version")
        kept = (known.title, known.label_config, known.chosen) if known else ("", "", "")
        said_now = tuple(
            str(said[name] or "") if name in said else old for name, old in zip(names, kept, strict=True)
        )
        if number and said_now != (known and kept):
            with self._database.writing() as connection:
                connection.execute("INSERT OR REPLACE INTO projects VALUES (?, ?, ?, ?)", (number, *said_now))
        return number

    def _annotated(self, project: str, event: WebhookBody) -> Changed:
        known = self.project(project)
        label_config = known.label_config if known else ""
        tasks = {text_of(task.get("id")): task for task in _objects(event.task)}
        changed: Changed = set()
        for annotation in event.listed:
            # A list's annotation says its task by id; a single one's task is beside it.
            beside = next(iter(tasks), "") if len(tasks) == 1 and len(event.listed) == 1 else ""
            state = state_of(project, text_of(annotation.task) or beside, annotation)
            if state is None:
                log.warning("project %s: an annotation without ids is not learned from", project)
            elif self._is_news(state):
                packed = self._packed(state, annotation, label_config, tasks.get(state.task, {}), [])
                with self._database.writing() as connection:
                    if _keep(connection, state, packed):
                        changed.add((project, state.task))
        return changed

    def _is_news(self, state: State) -> bool:
        """A look before the work; what counts is the one that is taken while nobody else writes."""
        rows = self._database.rows(_KEPT, (state.project, state.annotation))
        return all(state.age > (updated, digest) for updated, digest in rows)

    def _rows(self, project: str, label_config: str, task: Mapping[str, Any]) -> Iterator[tuple[State, bytes | None]]:
        """A listed task's annotations, and what they teach."""
        number = text_of(task.get("id"))
        listed = predicted([raw_of(one) for one in _objects(task.get("predictions"))])
        for one in _objects(task.get("annotations")):
            try:
                annotation = convert(Annotation, one)
            except InvalidInput as error:
                log.warning("project %s, task %s: an annotation is not learned from: %s", project, number, error)
                continue
            state = state_of(project, number, annotation)
            if state is not None:
                yield state, self._packed(state, annotation, label_config, task, listed)

    def _packed(
        self,
        state: State,
        annotation: Annotation,
        label_config: str,
        task: Mapping[str, Any],
        predictions: Sequence[Predicted],
    ) -> bytes | None:
        known = [*self._predictions.of(state.project, state.task), *predictions]
        data = task.get("data")
        review = review_of(
            state, annotation, read_plan(label_config), data if isinstance(data, Mapping) else {}, known
        )
        return None if review is None else pack(review)

    def _delete(self, project: str, kind: str, ids: Sequence[str]) -> Changed:
        with self._database.writing() as connection:
            changed: Changed = set()
            for name in ids if project else ():
                connection.execute("INSERT OR IGNORE INTO deleted VALUES (?, ?, ?)", (project, kind, name))
                where = f"WHERE project = ? AND {kind} = ?"
                rows = connection.execute(
                    f"SELECT task FROM annotations {where} AND review IS NOT NULL", (project, name)
                )
                changed |= {(project, task) for (task,) in rows}
                connection.execute(f"DELETE FROM annotations {where}", (project, name))
        return changed

    def _best(self, project: str, task: str | None = None) -> list[tuple[str, str]]:
        """Task and annotation of the reviews that count, newest first."""
        only, which = ("", (project,)) if task is None else (" AND task = ?", (project, task))
        return [(task, annotation) for task, annotation in self._database.rows(_BEST.format(only=only), which)]

    def _read(self, project: str, best: Iterable[tuple[str, str]]) -> Iterator[Review]:
        """Those that did not go away meanwhile."""
        for task, annotation in best:
            sql = "SELECT review FROM annotations WHERE project = ? AND annotation = ? AND review IS NOT NULL"
            for (packed,) in self._database.rows(sql, (project, annotation)):
                yield unpack(packed, project, task, annotation)


def _keep(connection: sqlite3.Connection, state: State, packed: bytes | None, *, again: bool = False) -> bool:
    """Put a state in place of an older one of its annotation; whether its task has another review for it.

    again: also in place of the same state, read anew.
    """
    gone = connection.execute(
        "SELECT 1 FROM deleted WHERE project = ? AND (kind, id) IN (VALUES ('annotation', ?), ('task', ?))",
        (state.project, state.annotation, state.task),
    ).fetchone()
    kept = connection.execute(_KEPT, (state.project, state.annotation)).fetchone()
    if gone or (kept is not None and (state.age < kept or (state.age == kept and not again))):
        return False
    before = connection.execute(
        "DELETE FROM annotations WHERE project = ? AND annotation = ? RETURNING review IS NOT NULL",
        (state.project, state.annotation),
    ).fetchone()
    connection.execute(
        "INSERT INTO annotations VALUES (?, ?, ?, ?, ?, ?, ?)",
        (state.project, state.annotation, state.task, state.updated, state.digest, state.truth, packed),
    )
    return packed is not None or before == (1,)


def _objects(value: object) -> list[Mapping[str, Any]]:
    """The objects in a list, or the one that stands for it."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, Mapping)]


def _ids(value: object) -> list[str]:
    """Ids, alone or in objects."""
    listed = value if isinstance(value, list) else []
    found = (text_of(one.get("id") if isinstance(one, Mapping) else one) for one in listed)
    return [name for name in found if name]
