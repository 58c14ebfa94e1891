"""The detector's yaml for labels of one's own: what CVAT shows (``spec``), and what is looked for (``SAM3_LABELS``).

Written into the bundled yaml as text, so that its comments stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from cvat_nuclio.labels import SCORE, LabelType, read_row
from sam3_core.errors import BadSettings, InvalidPrompt, ServerUnavailable
from sam3_prelabel.prompts import negatives_of, read_options

Row = dict[str, Any]

_SPEC = re.compile(r"^    spec: \|\n(?:      .*\n)+", re.MULTILINE)
_ENV = "\n  env:\n"


def read_label(text: str) -> tuple[str, str]:
    """Name and phrases of ``name=phrases``, or of ``name``, which is looked for as it is."""
    name, mark, phrases = text.partition("=")
    if not name.strip() or (mark and not phrases.strip()):
        raise InvalidPrompt(f"--label {text!r} is neither NAME nor NAME=PHRASES")
    return name.strip(), phrases.strip()


def make_rows(
    labels: Sequence[str],
    negatives: Sequence[str] = (),
    chosen: Sequence[str] = (),
    *,
    kind: str | None = None,
    there: Mapping[str, str] | None = None,
) -> list[Row]:
    """The rows of ``SAM3_LABELS``, checked.

    labels, negatives, chosen: as on the command line, ``--label``, ``--negative`` and ``--set``. kind: the type of
    all. there: the type of each label of a task, by name; all of them come, and ``labels`` are about some.
    Raises InvalidPrompt and BadSettings for what cannot be used.
    """
    given = [read_label(label) for label in labels]
    named = dict(given)
    if len(named) < len(given):
        raise InvalidPrompt("a label is given twice")
    if there is not None and (unknown := sorted(named.keys() - there.keys())):
        raise InvalidPrompt(f"there is no label {unknown[0]!r} in CVAT, only {', '.join(sorted(there))}")
    names = list(there or named)
    if not names:
        raise InvalidPrompt("no labels: give some with --label, --from-task or --from-project")
    general, own = read_options(chosen, names)
    if general.tiles:
        raise InvalidPrompt("tiles go for whole images: set SAM3_TILES")
    rows = []
    for name in names:
        options = own[name].over(general) if name in own else general
        row: Row = {"name": name, "type": str(kind or (there or {}).get(name, LabelType.MASK))}
        row |= {"prompt": named[name]} if named.get(name) else {}
        refused = "; ".join(phrase.strip() for phrase in negatives_of(name, negatives, names) if phrase.strip())
        row |= {"negative": refused} if refused else {}
        row |= {key: value if isinstance(value, int | float) else str(value) for key, value in options.chosen.items()}
        read_row(row, "--label")
        rows.append(row)
    return rows


def known_types(labels: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Types by name of CVAT's labels that a detector can fill, ``any`` as mask; and the names of the others."""
    known = {
        name: LabelType.MASK if kind == LabelType.ANY else LabelType(kind)
        for name, kind in labels.items()
        if kind in set(LabelType)
    }
    return {name: str(kind) for name, kind in known.items()}, [name for name in labels if name not in known]


def labels_in(client: Any, *, task: int | None = None, project: int | None = None) -> dict[str, str]:
    """Types by name of the labels of a task or a project. client: cvat-sdk's. Raises ServerUnavailable."""
    from cvat_sdk.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    place, number = (client.tasks, task) if task is not None else (client.projects, project)
    try:
        labels = place.retrieve(number).get_labels()
    except (ApiException, HTTPError) as error:
        said = f"{error.status} {error.reason}" if isinstance(error, ApiException) else str(error)
        what = "task" if task is not None else "project"
        raise ServerUnavailable(f"CVAT does not give the labels of {what} {number}: {said}") from None
    return {label.name: str(getattr(label, "type", LabelType.ANY)) for label in labels}


def write_yaml(
    rows: Sequence[Row], *, file: str = "function.yaml", gpu: bool = False, core_url: str | None = None
) -> str:
    """The detector's yaml with these rows. file: its name. core_url: for the thin function."""
    bundled = "function-gpu.yaml" if gpu else "function.yaml"
    text = files("cvat_nuclio.detector").joinpath(bundled).read_text(encoding="utf-8")
    score = [{"name": SCORE, "input_type": "text", "values": []}]
    spec = [
        {"id": number, "name": row["name"], "type": row["type"], "attributes": score}
        for number, row in enumerate(rows, start=1)
    ]
    text = _SPEC.sub(lambda _: "    spec: |\n" + _block(spec, 6), text)
    text = text.replace(_ENV, f"{_ENV}    - name: SAM3_LABELS\n      value: >-\n{_quoteless(_block(rows, 8))}", 1)
    if file != bundled or gpu:
        text = _with_variable(text, "SAM3_SPEC", file)
    if core_url:
        text = _with_variable(text, "SAM3_CORE_URL", core_url)
    _check(text, spec, rows)
    return text


def main_module() -> str:
    """The detector's ``main.py``, which Nuclio wants beside the yaml."""
    return files("cvat_nuclio.detector").joinpath("main.py").read_text(encoding="utf-8")


def save(text: str, out: Path) -> bool:
    """Write the yaml, and ``main.py`` beside it where there is none; whether there was none."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    beside = out.parent / "main.py"
    if beside.exists():
        return False
    beside.write_text(main_module(), encoding="utf-8")
    return True


def _block(rows: Sequence[Row], indent: int) -> str:
    """JSON as an indented block, a line for each row."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return "".join(f"{' ' * indent}{line}\n" for line in f"[{lines}]".split("\n"))


def _quoteless(text: str) -> str:
    """JSON without single quotes: Nuclio hands variables to a shell in such quotes (its dockerclient/shell.go)."""
    return text.replace("'", "\\u0027")


def _with_variable(text: str, name: str, value: str) -> str:
    """With the variable set to a value, which is quoted as JSON is; YAML reads that."""
    line = f"    - name: {name}\n      value: {json.dumps(value)}\n"
    there = re.compile(rf"^    - name: {name}\n      value: .*\n", re.MULTILINE)
    return there.sub(lambda _: line, text) if there.search(text) else text.replace(_ENV, _ENV + line, 1)


def _check(text: str, spec: Sequence[Row], rows: Sequence[Row]) -> None:
    """Raises BadSettings where what was written does not read back: CVAT would lose all its models over it."""
    read = yaml.safe_load(text)
    variables = {one["name"]: one["value"] for one in read["spec"]["env"]}
    written = (json.loads(read["metadata"]["annotations"]["spec"]), json.loads(variables["SAM3_LABELS"]))
    if written != (list(spec), list(rows)):
        raise BadSettings("these labels cannot be written as YAML: are there control characters in a name?")
