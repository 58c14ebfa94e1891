"""Request bodies with the keys, the values' shapes and the separators that Label Studio 1.23 sends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

SHAPES = ("circle", "square", "triangle", "star")
BRUSH, POLYGON = "BrushLabels", "PolygonLabels"


def config(output: str) -> str:
    """A labeling config for clicks. output: the tag of the control that takes the answers, BRUSH or POLYGON."""
    labels = "".join(f'<Label value="{shape}"/>' for shape in SHAPES)
    return (
        '<View><Image name="image" value="$image" zoom="true"/>'
        f'<KeyPointLabels name="click" toName="image" smart="true">{labels}</KeyPointLabels>'
        f'<{output} name="outline" toName="image">{labels}</{output}></View>'
    )


def click_body(
    task: int,
    address: str,
    point: tuple[float, float],
    label: str,
    size: tuple[int, int],
    *,
    output: str = BRUSH,
    stored: Sequence[dict[str, Any]] = (),
) -> bytes:
    """An interactive /predict: one positive smart keypoint.

    point: percent of the image. size: (width, height) in pixels. stored: regions of a prediction that the task has
    and of the annotation that was made of it; Label Studio sends both along.
    """
    width, height = size
    region = {
        "id": f"click{task:05}", "from_name": "click", "to_name": "image", "type": "keypointlabels",
        "origin": "manual", "original_width": width, "original_height": height, "image_rotation": 0,
        "is_positive": True,
        "value": {"x": point[0], "y": point[1], "width": 0.2, "labels": [label], "keypointlabels": [label]},
    }  # fmt: skip
    shown = {
        "id": task, "data": {"image": address}, "file_upload": address.rpartition("/")[2], "drafts": [],
        "predictions": [_prediction(task, stored)] if stored else [],
        "annotations": [_annotation(task, stored)] if stored else [], "total_annotations": int(bool(stored)),
    }  # fmt: skip
    return _predict(_common(task) | shown, output, {"result": [region]})


def opened_body(task: int, address: str, *, output: str = BRUSH) -> bytes:
    """The /predict without a context that Label Studio sends when a task without predictions is opened."""
    shown = {
        "id": task, "data": {"image": address}, "file_upload": task, "is_labeled": False, "overlap": 1,
        "total_annotations": 0, "annotations": [], "predictions": [],
    }  # fmt: skip
    return _predict(_common(task) | shown, output, None)


def stored_region(number: int, rle: list[int], label: str, size: tuple[int, int]) -> dict[str, Any]:
    """A brush region as an accepted annotation has it. rle: for width x height x 4 values."""
    return {
        "id": f"region{number:04}", "from_name": "outline", "to_name": "image", "type": "brushlabels",
        "origin": "manual", "original_width": size[0], "original_height": size[1], "image_rotation": 0,
        "value": {"format": "rle", "rle": rle, "brushlabels": [label]},
    }  # fmt: skip


def _common(task: int) -> dict[str, Any]:
    return {
        "meta": {}, "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "inner_id": task,
        "cancelled_annotations": 0, "total_predictions": 0, "project": 1, "updated_by": None, "comment_authors": [],
    }  # fmt: skip


def _annotation(task: int, regions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": task, "completed_by": 1, "result": list(regions), "was_cancelled": False, "ground_truth": False,
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "draft_created_at": None,
        "lead_time": 3.2, "prediction": {}, "result_count": len(regions), "unique_id": f"annotation-{task}",
        "import_id": None, "last_action": None, "bulk_created": False, "task": task, "project": 1, "updated_by": 1,
        "parent_prediction": None, "parent_annotation": None, "last_created_by": None,
    }  # fmt: skip


def _prediction(task: int, regions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": task, "result": list(regions), "model_version": "sam3", "score": 0.9, "cluster": None,
        "neighbors": None, "mislabeling": 0.0, "created_ago": "1 minute", "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z", "model": None, "model_run": None, "task": task, "project": 1,
    }  # fmt: skip


def _predict(task: dict[str, Any], output: str, context: dict[str, Any] | None) -> bytes:
    body = {
        "tasks": [task], "project": "1.1795263632", "label_config": config(output),
        "params": {"login": None, "password": None, "context": context},
    }  # fmt: skip
    return json.dumps(body).encode()
