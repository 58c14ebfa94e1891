"""Annotations and events as Label Studio 1.23 sends them, for tests of what is kept of them."""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]

FRAME = (200, 100)
LABELS = '<Label value="car"/><Label value="bus"/>'
CONFIG = (
    f'<View><Image name="image" value="$image"/><PolygonLabels name="outline" toName="image">{LABELS}</PolygonLabels>'
    f'<RectangleLabels name="box" toName="image">{LABELS}</RectangleLabels></View>'
)


def square(name: str, left: float, label: str = "car", **more: Any) -> Json:
    """A polygon, a tenth of the picture wide and half as high."""
    ring = [[left, 10], [left + 10, 10], [left + 10, 60], [left, 60]]
    return {
        "id": name, "from_name": "outline", "to_name": "image", "type": "polygonlabels",
        "original_width": FRAME[0], "original_height": FRAME[1], "value": {"points": ring, "polygonlabels": [label]},
    } | more  # fmt: skip


def box(name: str, left: float, label: str = "car", **more: Any) -> Json:
    """The rectangle around ``square``."""
    value = {"x": left, "y": 10, "width": 10, "height": 50, "rotation": 0, "rectanglelabels": [label]}
    return square(name, left, label) | {"from_name": "box", "type": "rectanglelabels", "value": value} | more


def annotation(number: int, result: list[Json], *, second: float = 0, task: int = 1, **more: Any) -> Json:
    """second: of the minute in which it was last changed."""
    return {
        "id": number, "task": task, "result": result, "was_cancelled": False, "ground_truth": False, "lead_time": 3.5,
        "prediction": {}, "parent_prediction": None, "created_at": "2026-11-22T03:00:00.000000Z",
        "updated_at": f"2026-11-22T03:00:{second:09.6f}Z",
    } | more  # fmt: skip


def project(number: int = 1, config: str = CONFIG, **more: Any) -> Json:
    return {"id": number, "title": "cars", "label_config": config, "model_version": ""} | more


def event(action: str, body: Json, number: int = 1, **more: Any) -> tuple[str, bytes]:
    return action, json.dumps({"action": action, "project": project(number, **more)} | body).encode()


def task_of(number: int) -> Json:
    return {"id": number, "data": {"image": f"/data/upload/{number}.jpg"}}


def submitted(one: Json, action: str = "ANNOTATION_UPDATED", number: int = 1) -> tuple[str, bytes]:
    return event(action, {"annotation": one, "task": task_of(one["task"])}, number)


def deleted(*numbers: int, number: int = 1) -> tuple[str, bytes]:
    return event("ANNOTATIONS_DELETED", {"annotations": [{"id": one} for one in numbers]}, number)
