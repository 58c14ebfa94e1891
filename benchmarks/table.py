"""Samples to numbers, and those to one table in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.cases import REPEAT, Case
from benchmarks.client import STAGES, Sample

Row = dict[str, Any]


def rows(cases: Sequence[Case]) -> list[Row]:
    """A row per case, in order. Milliseconds; medians over the clicks where no percentile is said.

    per_second: clicks of all annotators together. ours: a click without the model's work (vision, model) and without
    waiting for it (queue); share: of the whole click, 0..1. A stage: as the server tells it; other: what it spent
    outside of them; outside: what its clock does not see. ratio: p50 by that of the repeat click of the same size.
    None where a case has no such number.
    """
    base = {case.size: _percentile(case, 50) for case in cases if case.name == REPEAT}
    return [_row(case, base.get(case.size)) for case in cases]


def _row(case: Case, base: float | None) -> Row:
    told = all(sample.stages for sample in case.samples)

    def median(value: Callable[[Sample], float]) -> float | None:
        return float(np.median([value(sample) for sample in case.samples])) if told else None

    def stage(name: str) -> float | None:
        return median(lambda sample: sample.stages.get(name, 0.0))

    return {
        "case": case.name,
        "image": f"{case.size[0]}x{case.size[1]}",
        "clicks": len(case.samples),
        "p50": _percentile(case, 50),
        "p90": _percentile(case, 90),
        "p99": _percentile(case, 99),
        "ratio": _percentile(case, 50) / base if base else None,
        "per_second": len(case.samples) / case.seconds if case.annotators else None,
        "ours": median(lambda sample: sample.ours),
        "share": median(lambda sample: sample.ours / sample.total),
        **{name: stage(name) for name in STAGES},
        "other": median(lambda sample: sample.other),
        "outside": median(lambda sample: sample.outside),
    }


def _percentile(case: Case, share: float) -> float:
    return float(np.percentile([sample.total for sample in case.samples], share))


def markdown(table: Sequence[Row]) -> str:
    """The table, one line per row, without a final newline."""
    names = list(table[0])
    lines = [[_text(name, row[name]) for name in names] for row in table]
    head = [name.replace("_", " ") for name in names]
    rule = ["---", "---", *("---:" for _ in names[2:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))


def _text(name: str, value: object) -> str:
    if value is None:
        return ""
    if name == "share":
        return f"{value:.0%}"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"
