"""CVAT's server around a Nuclio function: the payload it sends and what it makes of the reply.

Stands for the lambda manager of the 2.80 generation, which needs CVAT's Django tree. It accepts what CVAT accepts and
raises where CVAT fails: ServerError where the request or the whole batch job ends in a 500, Refused where the stored
result would be a 400. Items that CVAT drops without a word are dropped without a word.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from annotation_rules import Refused, check_shape

_MASK_OR_POLYGON = {"mask", "polygon"}


class ServerError(Exception):
    """An unhandled exception of the server: HTTP 500, or the end of the batch job."""


@dataclass(frozen=True)
class TaskLabel:
    """attributes: input type and allowed values by name; of a number: lowest, highest, step. sublabels: by name, of a
    skeleton."""

    id: int
    type: str = "any"
    attributes: Mapping[str, tuple[str, Sequence[str]]] = field(default_factory=dict)
    sublabels: Mapping[str, TaskLabel] = field(default_factory=dict)


def detector_request(image: bytes, threshold: float | None = None) -> dict[str, Any]:
    """The threshold travels only when it is truthy."""
    return {"image": _text(image), **({"threshold": threshold} if threshold else {})}


def interactor_request(
    image: bytes,
    positive: Sequence[Sequence[float]] = (),
    negative: Sequence[Sequence[float]] = (),
    boxes: Sequence[Sequence[float]] | None = (),
) -> dict[str, Any]:
    """boxes: two corners a box, one after the other; None where a caller of the API left them out."""
    flat = boxes if boxes is None else [list(corner) for corner in boxes]
    return {"image": _text(image), "pos_points": list(positive), "neg_points": list(negative), "obj_bbox": flat}


def converted(
    reply: Any, labels: Mapping[str, TaskLabel], *, conv_mask_to_poly: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Tags and shapes of a detector's reply for a task with these labels, mapped by equal names.

    Raises ServerError for what CVAT cannot read, Refused for what its annotation serializer answers 400 to.
    """
    if not isinstance(reply, list):
        raise ServerError(f"a detector answers with a list, not {type(reply).__name__}")
    result: dict[str, list[dict[str, Any]]] = {"tags": [], "shapes": []}
    for item in reply:
        name, kind = _of(item, "label"), _of(item, "type")
        label = labels.get(name)
        if label is None or not _compatible(kind, label.type):
            continue
        common = {"label_id": label.id, "frame": 0, "source": "auto", "group": _group(item)}
        common["attributes"] = _attributes(item, label)
        if kind == "tag":
            result["tags"].append(common)
            continue
        common["outside"] = bool(item.get("outside", False))
        if kind == "skeleton":
            elements = _elements(item, label)
            if all(element["outside"] for element in elements):
                continue
            result["shapes"].append({**common, "type": kind, "elements": elements})
            continue
        shape = {**common, **_geometry(item, kind, conv_mask_to_poly)}
        check_shape(shape)
        result["shapes"].append(shape)
    return result


def _elements(item: Mapping[str, Any], label: TaskLabel) -> list[dict[str, Any]]:
    """One for each sublabel; those that the function left out lie outside, in the middle of the others."""
    given = {_of(element, "label"): element for element in _of(item, "elements")}
    elements = []
    for name, sublabel in label.sublabels.items():
        if (element := given.get(name)) is None:
            continue
        shape = {"type": _of(element, "type"), "points": _of(element, "points")}
        check_shape(shape)
        shape |= {"outside": bool(element.get("outside", False)), "attributes": _attributes(element, sublabel)}
        elements.append({"label_id": sublabel.id, **shape})
    if not elements:
        return []
    middle = np.mean([element["points"][:2] for element in elements], axis=0).tolist()
    missing = (sublabel for name, sublabel in label.sublabels.items() if name not in given)
    left_out = {"type": "points", "points": middle, "outside": True, "attributes": []}
    return [*elements, *({"label_id": sublabel.id, **left_out} for sublabel in missing)]


def _geometry(item: Mapping[str, Any], kind: str, conv_mask_to_poly: bool) -> dict[str, Any]:
    if kind == "mask":
        if conv_mask_to_poly and "points" in item:
            return {"type": "polygon", "points": list(item["points"])}
        return {"type": "mask", "points": _runs(_of(item, "mask"))}
    shape = {"type": kind, "points": _of(item, "points")}
    if kind in {"rectangle", "ellipse"} and "rotation" in item:
        shape["rotation"] = item["rotation"]
    return shape


def _runs(mask: Any) -> list[int]:
    """Flat crop and inclusive box to runs, outside first; each change of value starts a run, as on the server."""
    if not isinstance(mask, list) or len(mask) < 4:
        raise ServerError("a mask is the flat crop and the four numbers of its box")
    *crop, left, top, right, bottom = mask
    if any(not isinstance(value, int | float) for value in mask):
        raise ServerError("a mask of other things than numbers")
    width, height = int(right) - int(left) + 1, int(bottom) - int(top) + 1
    if width <= 0 or height <= 0 or len(crop) != width * height:
        raise ServerError(f"{len(crop)} pixels do not fill a crop of {width} x {height}")
    values = np.asarray(crop)
    starts = np.flatnonzero(np.diff(values, prepend=values[0] + 1))
    runs = np.diff(starts, append=values.size).tolist()
    return [*([0] if crop[0] else []), *runs, int(left), int(top), int(right), int(bottom)]


def _attributes(item: Mapping[str, Any], label: TaskLabel) -> list[dict[str, str]]:
    """Unknown names and values that do not fit are dropped without a word; a value that is no text breaks it."""
    kept = []
    for attribute in item.get("attributes", []):
        name, value = _of(attribute, "name"), _of(attribute, "value")
        if not isinstance(value, str):
            raise Refused(f"attribute value {value!r} is not a string")
        if name in label.attributes and _fits(value, *label.attributes[name]):
            kept.append({"name": name, "value": value})
    return kept


def _fits(value: str, kind: str, allowed: Sequence[str]) -> bool:
    if kind == "number":
        if not value.lstrip("-").isdecimal():
            return False
        lowest, highest, step = (int(text) for text in allowed)
        return lowest <= int(value) <= highest and (int(value) - lowest) % step == 0
    if kind == "checkbox":
        return value in {"true", "false"}
    return kind == "text" or value in "\n".join(allowed)


def _compatible(function_type: Any, task_type: str) -> bool:
    if "any" in (function_type, task_type):
        return "skeleton" not in (function_type, task_type)
    return function_type == task_type or {function_type, task_type} == _MASK_OR_POLYGON


def _group(item: Mapping[str, Any]) -> int:
    group = item.get("group_id") or 0
    if not isinstance(group, int) or isinstance(group, bool) or group < 0:
        raise Refused(f"group_id {group!r} is not a whole number")
    return group


def _of(item: Any, key: str) -> Any:
    if not isinstance(item, Mapping):
        raise ServerError(f"{item!r} is not a mapping")
    if key not in item:
        raise ServerError(f"KeyError: {key!r}")
    return item[key]


def _text(image: bytes) -> str:
    return base64.b64encode(image).decode()
