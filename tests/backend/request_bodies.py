"""Bodies as Label Studio 1.23 sends them."""

from __future__ import annotations

import base64
from typing import Any

CONFIG = """
<View>
  <Image name="image" value="$image"/>
  <PolygonLabels name="polygon" toName="image">
    <Label value="circle"/><Label value="square"/><Label value="triangle"/><Label value="star"/>
  </PolygonLabels>
</View>
"""


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def predict_body(
    tasks: list[dict[str, Any]], config: str = CONFIG, context: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A /predict body as Label Studio 1.23 sends it."""
    extra = {
        "meta": {}, "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "is_labeled": False,
        "overlap": 1, "inner_id": 1, "total_annotations": 0, "cancelled_annotations": 0, "total_predictions": 0,
        "project": 1, "updated_by": None, "file_upload": 1, "comment_authors": [],
        "annotations": [], "predictions": [],
    }  # fmt: skip
    return {
        "tasks": [extra | task for task in tasks],
        "project": "1.1795263632",
        "label_config": config,
        "params": {"login": None, "password": None, "context": context},
    }


def keypoint(x: float, y: float, label: str = "Circle", **more: Any) -> dict[str, Any]:
    """A smart click as Label Studio 1.23's editor sends it; percent."""
    return {
        "id": "KtxRQZA2J9", "from_name": "kp", "to_name": "image", "type": "keypointlabels", "origin": "manual",
        "original_width": 800, "original_height": 600, "image_rotation": 0, "is_positive": True,
        "value": {"x": x, "y": y, "width": 0.23, "labels": [label], "keypointlabels": [label]},
    } | more  # fmt: skip


def rectangle(
    x: float, y: float, width: float, height: float, label: str = "Circle", rotation: float = 0, **more: Any
) -> dict[str, Any]:
    """A smart box; percent, degrees."""
    return {
        "id": "YQFvsDPsTB", "from_name": "box", "to_name": "image", "type": "rectanglelabels", "origin": "manual",
        "original_width": 800, "original_height": 600, "image_rotation": 270,
        "value": {
            "x": x, "y": y, "width": width, "height": height, "rotation": rotation, "rectanglelabels": [label],
        },
    } | more  # fmt: skip


def text(*rows: str, **more: Any) -> dict[str, Any]:
    """What was typed into a TextArea."""
    return {
        "id": "S9TF3qmWtE", "from_name": "prompt", "to_name": "image", "type": "textarea", "origin": "manual",
        "value": {"text": list(rows)},
    } | more  # fmt: skip


def plain(region: dict[str, Any], label: str = "Circle") -> list[dict[str, Any]]:
    """A click or box of a tag without labels: the shape, and the shape with the label of the ``Labels`` tag.

    A click's shape has the label too, a box's has not.
    """
    kind = region["type"].removesuffix("labels")
    shape = {key: region["value"][key] for key in region["value"] if not key.endswith("labels")}
    labelled = shape | {"labels": [label]}
    return [
        region | {"type": kind, "value": labelled if kind == "keypoint" else shape},
        region | {"type": "labels", "from_name": "label", "value": labelled},
    ]
