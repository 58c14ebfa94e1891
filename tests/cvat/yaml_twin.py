"""CVAT's reading of a function.yaml, by way of Nuclio's list of functions.

Stands for the lambda manager's model of a function. InvalidMetadata: CVAT leaves this one function out, and says so
in its log only. ListBroken: an uncaught error, after which every model is gone from the UI.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

KINDS = frozenset({"detector", "interactor", "reid", "tracker"})
LABEL_TYPES = frozenset(
    {"any", "cuboid", "ellipse", "interval", "mask", "points", "polygon", "polyline", "rectangle", "skeleton", "tag"}
)


class InvalidMetadata(Exception):
    """This function is silently missing from the list."""


class ListBroken(Exception):
    """No model is listed at all."""


@dataclass(frozen=True)
class Listed:
    """What CVAT's API says of the function; ui: the six keys that interactors add."""

    id: str
    kind: str
    name: str
    description: str
    version: int
    labels: list[dict[str, Any]]
    ui: dict[str, Any] = field(default_factory=dict)
    supported_shape_types: list[str] | None = None


def listed(path: Path) -> Listed:
    return parsed(yaml.safe_load(path.read_text()))


def parsed(document: Mapping[str, Any]) -> Listed:
    """document: the parsed yaml; Nuclio hands its metadata and spec on. Raises InvalidMetadata or ListBroken."""
    metadata, spec = document["metadata"], document["spec"]
    notes = metadata.get("annotations") or {}
    for key, value in notes.items():
        if value is not None and not isinstance(value, str):  # Nuclio's annotations are a map of strings
            raise ListBroken(f"annotation {key} is {value!r}, not a string: Nuclio does not deploy it")
    kind = notes.get("type")
    if kind not in KINDS:
        raise InvalidMetadata(f"unknown type {kind!r}")
    labels = _labels(notes.get("spec"))
    version = _int(notes, "version", 1)
    if "description" not in spec:
        raise ListBroken("KeyError: 'description'")
    ui: dict[str, Any] = {}
    if kind == "interactor":
        ui = {
            "min_pos_points": _int(notes, "min_pos_points", 1),
            "min_neg_points": _int(notes, "min_neg_points", -1),
            "startswith_box": bool(notes.get("startswith_box")),
            "startswith_box_optional": bool(notes.get("startswith_box_optional")),
            "help_message": notes.get("help_message") or "",
            "animated_gif": notes.get("animated_gif") or "",
        }
    types = _shape_types(notes) if kind == "tracker" else None
    name = notes.get("name") or metadata["name"]
    return Listed(metadata["name"], kind, name, spec["description"], version, labels, ui, types)


def button_works(function: Listed) -> bool:
    """Whether the UI offers it: an interactor below version 2 is greyed out."""
    return function.kind != "interactor" or function.version >= 2


def _labels(text: str | None) -> list[dict[str, Any]]:
    try:
        rows = json.loads(text or "[]")
    except ValueError as error:
        raise ListBroken(f"spec: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ListBroken(f"spec: {text!r} is not a list of labels")
    return [_label(row, where) for row, where in zip(rows, _unique(rows, "label"), strict=True)]


def _label(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    kind = row.get("type", "any")
    if kind not in LABEL_TYPES:
        raise InvalidMetadata(f"label {name}: unknown type {kind!r}")
    for attribute in row.get("attributes", []):
        if missing := {"name", "input_type", "values"} - set(attribute):
            raise InvalidMetadata(f"label {name}: attribute without {sorted(missing)}")
    _unique(row.get("attributes", []), f"attribute of {name}")
    label = {"name": name, "type": kind, "attributes": row.get("attributes", [])}
    if kind == "skeleton":
        if "sublabels" not in row or "svg" not in row:
            raise InvalidMetadata(f"label {name}: a skeleton needs sublabels and svg")
        names = _unique(row["sublabels"], f"sublabel of {name}")
        label["sublabels"] = [_label(sub, each) for sub, each in zip(row["sublabels"], names, strict=True)]
    return label


def _unique(rows: Any, what: str) -> list[str]:
    names = []
    for row in rows:
        if "name" not in row:
            raise InvalidMetadata(f"a {what} without a name")
        if row["name"] in names:
            raise InvalidMetadata(f"two of {what} {row['name']!r}")
        names.append(row["name"])
    return names


def _int(notes: Mapping[str, Any], key: str, default: int) -> int:
    try:
        return int(notes.get(key, default))
    except (TypeError, ValueError) as error:
        raise ListBroken(f"{key}: {error}") from error


def _shape_types(notes: Mapping[str, Any]) -> list[str]:
    if "supported_shape_types" not in notes:
        return ["rectangle"]
    types = [text.strip() for text in (notes["supported_shape_types"] or "").split(",") if text.strip()]
    if not types:
        raise InvalidMetadata("supported_shape_types is empty")
    return types
