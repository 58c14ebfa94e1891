"""Remembered phrases: what annotators type for a label becomes what later batches of their project look for.

One row for each project and label; of several phrases each has a line.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from dataclasses import replace

from backend.bodies import ContextRegion, convert
from backend.database import Database
from backend.labeling import Label, Plan, read_plan
from backend.typed import by_label, typed_phrases
from sam3_core.errors import Sam3Error

log = logging.getLogger(__name__)


class Phrases:
    """What is remembered in a server's file. Callable from any thread; nothing raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def learn(self, project: str, label_config: str, results: object) -> None:
        """Remember what was typed in a submitted annotation, for the labels that ask for it.

        label_config: the project's, at the time. results: the annotation's ``result``, as Label Studio sends it.
        What cannot be understood or kept is a line in the log.
        """
        try:
            taught = _taught(read_plan(label_config), results)
            if not taught:
                return
            with self._database.writing() as connection:
                connection.executemany(
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
            rows = self._database.rows("SELECT label, phrases FROM label_phrases WHERE project = ?", (project,))
            return _with_phrases(plan, {label: tuple(phrases.split("\n")) for label, phrases in rows})
        except (sqlite3.Error, Sam3Error) as error:
            log.warning("project %s: remembered phrases are not used: %s", project, error)
            return plan


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
