"""A detector's labels: what each is called in CVAT, what the model is asked for it, and how it is drawn.

CVAT shows the labels of the ``spec`` in the function's yaml, and knows no text prompts. So a label's name is what is
looked for, unless a table (``SAM3_LABELS``) says it in other words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from sam3_core import Concept
from sam3_core.choices import OPTIONS, quoted, read_choices
from sam3_core.errors import BadSettings, InvalidPrompt
from sam3_core.finish import DEFAULT_FINISH, Finish
from sam3_core.wording import readable

SCORE = "score"
"""The text attribute that shows a score, where the spec declares it."""

_KEYS = ("name", "type", "prompt", "negative")


class LabelType(StrEnum):
    """What a label's objects become in CVAT; ANY is a mask, as the function cannot know what a task wants."""

    ANY = "any"
    MASK = "mask"
    POLYGON = "polygon"
    RECTANGLE = "rectangle"
    TAG = "tag"


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One label. finish: with nothing left open that has a default. scored: the spec declares the score attribute."""

    name: str
    type: LabelType
    concept: Concept
    finish: Finish = DEFAULT_FINISH
    scored: bool = False


def read_labels(table: str | None, spec: Path) -> tuple[LabelRow, ...]:
    """The labels of a table, or without one those of the spec; at least one.

    table: JSON, or a file with it, by its path from the spec's folder. spec: the function's yaml. A table needs none,
    but takes types it does not name from it, and which labels are scored. Raises BadSettings, with the label, for
    what cannot be used.
    """
    declared = read_spec(spec) if table is None or spec.is_file() else []
    if table is None:
        rows = [read_row({"name": label["name"], "type": label.get("type", "any")}, str(spec)) for label in declared]
    else:
        types = {label["name"]: label["type"] for label in declared if "type" in label}
        rows = [read_row(_typed(row, types), "SAM3_LABELS") for row in _read_table(table, spec.parent)]
    names = [row.name for row in rows]
    if twice := {name for name in names if names.count(name) > 1}:
        raise BadSettings(f"the label {min(twice)!r} is there twice")
    if not rows:
        raise BadSettings(f"no labels: neither the spec of {spec} nor SAM3_LABELS has any")
    scored = {label["name"] for label in declared if _has_score(label)}
    return tuple(replace(row, scored=row.name in scored) for row in rows)


def undeclared(rows: Sequence[LabelRow], spec: Path) -> list[str]:
    """The names of rows that the spec (where there is one) has not: CVAT drops, silently, what is found for them."""
    declared = {label["name"] for label in read_spec(spec)} if spec.is_file() else set()
    return [row.name for row in rows if declared and row.name not in declared]


def read_spec(path: Path) -> list[dict[str, Any]]:
    """The label list in a function's yaml, ``metadata.annotations.spec``: objects that have a name at least.

    Raises BadSettings where there is none.
    """
    try:
        annotations = yaml.safe_load(path.read_text(encoding="utf-8"))["metadata"]["annotations"]
        labels = json.loads(annotations.get("spec") or "[]")
    except OSError as error:
        raise BadSettings(f"{path} cannot be read ({error.strerror}); SAM3_SPEC names the function's yaml") from None
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadSettings(f"{path} has no label list under metadata.annotations.spec: {error}") from None
    if not isinstance(labels, list) or not all(isinstance(label, dict) and label.get("name") for label in labels):
        raise BadSettings(f"the spec of {path} is not a list of labels with names")
    return labels


def read_row(row: object, place: str) -> LabelRow:
    """One label of a table: ``name``, ``type``, ``prompt``, ``negative`` and the options of ``sam3_core.choices``.

    prompt, negative: phrases between semicolons; without a prompt the name is looked for, in plain words. place: for
    the sentence. Raises BadSettings for anything else.
    """
    if not isinstance(row, Mapping) or not isinstance(row.get("name"), str) or not row["name"].strip():
        raise BadSettings(f'{place}: each label is an object with a name, as {{"name": "bus"}}, not {quoted(row)}')
    name = row["name"]
    where = f"{place}, label {name!r}"
    if unknown := [key for key in row if key not in _KEYS and key not in OPTIONS]:
        raise BadSettings(f"{where}: unknown {unknown[0]!r}; known are {', '.join([*_KEYS, *OPTIONS])}")
    choices, wrong = read_choices(row, of_image=False)
    if wrong:
        raise BadSettings(f"{where}: {wrong[0]}")
    phrases = _phrases(row, "prompt", where) or (readable(name),)
    try:
        concept = Concept(phrases, negatives=_phrases(row, "negative", where), rules=choices.rules)
    except InvalidPrompt as error:
        raise BadSettings(f"{where}: {error}") from None
    return LabelRow(name, _type(row.get("type"), where), concept, choices.finish.over(DEFAULT_FINISH))


def _read_table(table: str, folder: Path) -> Sequence[object]:
    """Inline JSON begins with a bracket; anything else is a path, from the folder."""
    text = table
    if not table.lstrip().startswith(("[", "{")):
        try:
            text = (folder / table).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise BadSettings(f"SAM3_LABELS is neither a JSON list nor a file that can be read: {error}") from None
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise BadSettings(f"SAM3_LABELS is not JSON: {error}") from None
    if not isinstance(rows, list):
        raise BadSettings("SAM3_LABELS is not a list of labels")
    return rows


def _typed(row: object, types: Mapping[str, str]) -> object:
    """The row, with the spec's type where it names none itself."""
    if not isinstance(row, dict) or "type" in row or not isinstance(row.get("name"), str):
        return row
    return row | {"type": types.get(row["name"])}


def _type(value: object, where: str) -> LabelType:
    if value is None:
        return LabelType.ANY
    try:
        return LabelType(str(value))
    except ValueError:
        raise BadSettings(f"{where}: the type {quoted(value)} is not one of {', '.join(LabelType)}") from None


def _phrases(row: Mapping[str, object], key: str, where: str) -> tuple[str, ...]:
    value = row.get(key)
    if value is None:
        return ()
    if not isinstance(value, str):
        raise BadSettings(f"{where}: {key} is text, with semicolons between phrases, not {quoted(value)}")
    return tuple(phrase for phrase in value.split(";") if phrase.strip())


def _has_score(label: Mapping[str, Any]) -> bool:
    return any(attribute.get("name") == SCORE for attribute in label.get("attributes") or ())
