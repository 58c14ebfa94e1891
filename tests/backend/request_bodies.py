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
