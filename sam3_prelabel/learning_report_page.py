"""The report as one HTML file that needs nothing else: no server, no network, no script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import jinja2

from backend.learning.records import Verdict
from sam3_prelabel.learning_figures import Report
from sam3_prelabel.learning_report import LONGEST
from sam3_prelabel.learning_report_pictures import Shot
from sam3_prelabel.quality import share

_STYLE, _PAGE = "learning_report.css", "learning_report.html"


def page(report: Report, shots: Sequence[Shot]) -> str:
    """HTML. Whatever stands in the report is a stranger's text, and escaped; the page may load nothing at all."""
    environment = _environment()
    assert environment.loader is not None
    style, _, _ = environment.loader.get_source(environment, _STYLE)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    return environment.get_template(_PAGE).render(
        report=report,
        told=report.as_json(),
        shots=shots,
        style=style,
        # Only this style, only pictures that are in the file.
        policy=f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        verdicts=[verdict.value for verdict in Verdict],
        longest=LONGEST,
    )


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sam3_prelabel"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"share": share, "span": _span, "moment": _moment}
    environment.filters |= {"evidence": _evidence, "labels": _labels}
    return environment


def _span(seconds: float | None) -> str:
    """A time as people say it."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def _moment(time: str) -> str:
    """``2026-01-02T03:04:05.678Z`` -> ``2026-01-02 03:04``."""
    return time[:16].replace("T", " ")


def _evidence(step: Mapping[str, Any]) -> list[str]:
    """What the teacher measured for one step, in pieces that may each be missing."""
    pieces = []
    before, after = step.get("before"), step.get("after")
    if isinstance(before, int | float) and isinstance(after, int | float):
        pieces.append(f"F1 {before:.3f} → {after:.3f}")
    ends = [end for name in ("mean", "low", "high") if isinstance(end := step.get(name), int | float)]
    if len(ends) == 3:
        pieces.append("gain {:+.3f}, between {:+.3f} and {:+.3f}".format(*ends))
    return pieces


def _labels(step: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What one step's evidence says of each label, as cells of a table."""
    labels = step.get("labels")
    if not isinstance(labels, dict):
        return []
    return [_label(name, told) for name, told in sorted(labels.items()) if isinstance(told, dict)]


def _label(name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    f1 = [told[when].get("f1") for when in ("before", "after") if isinstance(told.get(when), dict)]
    tried = [one for one in _listed(told.get("tried")) if isinstance(one, list) and len(one) == 2]
    return {
        "name": name,
        "f1": _arrow(map(_number, f1)),
        "threshold": _arrow(map(_number, _listed(told.get("threshold")))),
        "log_loss": _arrow(map(_number, _listed(told.get("log_loss")))),
        "phrases": _arrow(map(_wording, _listed(told.get("phrases")))),
        "tried": [f"{_wording(phrases)} {_number(f1)}" for phrases, f1 in tried],
    }


def _arrow(states: Iterable[str]) -> str:
    """From what was to what is; what stays is said once."""
    return " → ".join(dict.fromkeys(states))


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: object) -> str:
    return share(value, 2) if isinstance(value, int | float) else "–"


def _wording(phrases: object) -> str:
    return "; ".join(map(str, phrases)) if isinstance(phrases, list) else str(phrases)
