"""What CVAT's REST API accepts as annotations: its serializer's rules, for the twins of its server.

Stands for the server's own validation, which needs its Django tree. It says no wherever CVAT answers 400 to the whole
upload; a batch job dies of the same answers.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

SHAPE_TYPES = frozenset({"rectangle", "polygon", "polyline", "points", "ellipse", "cuboid", "mask", "skeleton"})
SOURCES = frozenset({"auto", "semi-auto", "manual", "file", "consensus"})

_EXACT = {"rectangle": 4, "ellipse": 4, "cuboid": 16}
_AT_LEAST = {"polygon": 6, "polyline": 4, "points": 2}


class Refused(Exception):
    """CVAT would answer 400 with this text."""


def check_annotations(data: Mapping[str, Any], label_attributes: Mapping[int, Collection[int]], frames: int) -> None:
    """Raise Refused for the first thing that CVAT refuses.

    label_attributes: ids of the attributes of each label of the task, by the label's id. frames: how many it has.
    """
    unknown = set(data) - {"version", "tags", "shapes", "tracks", "intervals"}
    if unknown:
        raise Refused(f"unknown fields {sorted(unknown)}")
    for tag in data.get("tags", []):
        _check_common(tag, label_attributes, frames)
    for shape in data.get("shapes", []):
        _check_common(shape, label_attributes, frames)
        check_shape(shape)


def check_shape(shape: Mapping[str, Any]) -> None:
    """Type, points and numbers of one shape, whose label and attributes are fine."""
    kind = shape.get("type")
    if kind not in SHAPE_TYPES:
        raise Refused(f"{kind!r} is not a valid choice of a shape type")
    if "score" in shape and not (_is_number(shape["score"]) and 0 <= shape["score"] <= 1):
        raise Refused(f"score {shape['score']!r} is not between 0 and 1")
    if not _is_number(shape.get("rotation", 0)):
        raise Refused(f"rotation {shape['rotation']!r} is not a number")
    if kind != "skeleton":
        check_points(kind, shape.get("points"))


def check_points(kind: str, points: object) -> None:
    """The flat list of a shape's numbers; a mask's are runs, outside first, and its inclusive box."""
    if not isinstance(points, list) or not all(_is_number(value) for value in points):
        raise Refused(f"points of a {kind} are not a list of finite numbers")
    if kind == "mask":
        _check_runs(points)
        return
    if len(points) % 2:
        raise Refused(f"odd number of coordinates in a {kind}")
    if len(points) != _EXACT.get(kind, len(points)):
        raise Refused(f"a {kind} has {_EXACT[kind]} coordinates, not {len(points)}")
    if len(points) < _AT_LEAST.get(kind, 0):
        raise Refused(f"a {kind} needs at least {_AT_LEAST[kind] // 2} points, not {len(points) // 2}")


def _check_runs(points: list[float]) -> None:
    if len(points) < 5:
        raise Refused("a mask needs a run and the four numbers of its box")
    if any(value != int(value) for value in points):
        raise Refused("a mask has whole numbers only")
    *runs, left, top, right, bottom = points
    if left < 0 or top < 0 or right < left or bottom < top:
        raise Refused(f"the box {[left, top, right, bottom]} of a mask is inside out")
    if any(run < 0 for run in runs) or sum(runs) != (right - left + 1) * (bottom - top + 1):
        raise Refused("the runs of a mask do not fill its box")


def _check_common(item: Mapping[str, Any], label_attributes: Mapping[int, Collection[int]], frames: int) -> None:
    label: Any = item.get("label_id")
    if not _is_whole(label) or label not in label_attributes:
        raise Refused(f"label_id {label!r} is not a label of the task")
    if not _is_whole(item.get("frame")) or not 0 <= item["frame"] < frames:
        raise Refused(f"frame {item.get('frame')!r} is not in the task")
    if item.get("group") is not None and not (_is_whole(item["group"]) and item["group"] >= 0):
        raise Refused(f"group {item['group']!r} is not a whole number")
    if item.get("source", "manual") not in SOURCES:
        raise Refused(f"{item['source']!r} is not a source")
    for attribute in item.get("attributes", []):
        if attribute.get("spec_id") not in label_attributes[label]:
            raise Refused(f"attribute {attribute.get('spec_id')!r} is not one of label {label}")
        if not isinstance(attribute.get("value"), str):
            raise Refused(f"attribute value {attribute.get('value')!r} is not a string")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
