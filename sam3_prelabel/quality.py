"""How good what was found is, for people and for programs: the table and the JSON of a ``Tally``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.markup import escape
from rich.table import Table

from sam3_core.learning.measure import Tally

COLUMNS = ("precision", "recall", "F1", "mask IoU", "presence")


def tally_json(tally: Tally) -> dict[str, Any]:
    """Counts and shares. truth: objects that are there; found: instances of ours; right: those of them that show one,
    at IoU 0.5. Shares are 0..1, and null where nothing can be said: a share of nothing is no share."""
    truth, found = tally.hits + tally.missed, tally.hits + tally.false
    return {
        "truth": truth,
        "found": found,
        "right": tally.hits,
        "precision": tally.precision if found else None,
        "recall": tally.recall if truth else None,
        "f1": tally.f1 if found + truth else None,
        "mask_iou": tally.mean_iou if tally.hits else None,
        "presence_accuracy": tally.presence if tally.asked else None,
    }


def quality_table(rows: Iterable[tuple[str, Tally]]) -> Table:
    """A line for each label and one for all."""
    table = Table("label", "there", "found", "right", *COLUMNS, box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    overall = Tally()
    for name, tally in rows:
        table.add_row(escape(name), *_cells(tally))
        overall += tally
    table.add_row("all", *_cells(overall), style="bold")
    return table


def share(value: float | None, digits: int = 3) -> str:
    """A share for people to read."""
    return "–" if value is None else f"{value:.{digits}f}"


def _cells(tally: Tally) -> list[str]:
    return [str(value) if isinstance(value, int) else share(value) for value in tally_json(tally).values()]
