"""What Label Studio 1.23 and users of the API send, and what comes back, compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from shapely.geometry import Polygon

from sam3_core.demo.phrases import SHAPES
from tools.chaos.clients import Message
from tools.chaos.server import API_TOKEN

LOGIN = f"Bearer {API_TOKEN}"
_LABELS = "".join(f'<Label value="{shape}"/>' for shape in SHAPES)
CONFIG = (
    '<View><Image name="image" value="$image"/>'
    f'<KeyPointLabels name="click" toName="image" smart="true">{_LABELS}</KeyPointLabels>'
    f'<PolygonLabels name="outline" toName="image">{_LABELS}</PolygonLabels>'
    '<TextArea name="prompt" toName="image" editable="true"/></View>'
)
_REMEMBERING = CONFIG.replace('name="prompt"', 'name="prompt" remember_prompt="true"')
_SAME_IOU = 0.97
_SAME_SCORE = 0.01
_SAME_EDGE = 2  # pixels
_BOUNDARY = "chaos-boundary"


def post(path: str, body: object) -> Message:
    """JSON, with the login."""
    return Message("POST", path, json.dumps(body).encode(), login=LOGIN)


def predict(tasks: Sequence[tuple[int, object]], regions: Sequence[dict[str, Any]] | None = None) -> Message:
    """A /predict for tasks, each a number and the address of an image. regions: what was drawn or typed."""
    listed = [
        {"id": number, "data": {"image": address}, "annotations": [], "predictions": [], "drafts": [], "inner_id": 1}
        for number, address in tasks
    ]
    context = None if regions is None else {"result": list(regions)}
    params = {"login": None, "password": None, "context": context}
    return post("/predict", {"tasks": listed, "project": "7.1795263632", "label_config": CONFIG, "params": params})


def click(number: int, x: float, y: float, label: str) -> dict[str, Any]:
    """A smart keypoint; percent."""
    return {
        "id": f"click{number}", "from_name": "click", "to_name": "image", "type": "keypointlabels",
        "origin": "manual", "original_width": 320, "original_height": 240, "image_rotation": 0, "is_positive": True,
        "value": {"x": x, "y": y, "width": 0.2, "labels": [label], "keypointlabels": [label]},
    }  # fmt: skip


def typed(number: int, *phrases: str) -> dict[str, Any]:
    """What was typed into the TextArea."""
    return {
        "id": f"typed{number}", "from_name": "prompt", "to_name": "image", "type": "textarea", "origin": "manual",
        "value": {"text": list(phrases)},
    }  # fmt: skip


def annotated(project: int, phrase: str) -> Message:
    """The webhook of an annotation for which a phrase was typed that its label is to remember."""
    annotation = {"id": 1, "was_cancelled": False, "result": [typed(project, phrase)]}
    told = {"id": project, "label_config": _REMEMBERING}
    return post("/webhook", {"action": "ANNOTATION_CREATED", "project": told, "annotation": annotation})


def upload(path: str, asked: object, image: bytes | None) -> Message:
    """A request of version 1 with the file of an image."""
    parts = [(b'name="request"', json.dumps(asked).encode())]
    if image is not None:
        parts.append((b'name="image"; filename="a.jpg"', image))
    line = f"--{_BOUNDARY}".encode()
    body = b"".join(
        b"%s\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (line, name, data) for name, data in parts
    )
    kind = f"multipart/form-data; boundary={_BOUNDARY}"
    return Message("POST", path, body + line + b"--\r\n", kind, LOGIN)


def same_regions(known: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> bool:
    """Whether two lists of polygons say the same: one by one the same label, score and outline.

    Not to the last digit: what goes through the model together with others is added up in another order.
    """
    left = list(found)
    for one in known:
        match = next((other for other in left if _same_region(one, other)), None)
        if match is None:
            return False
        left.remove(match)
    return not left


def same_instances(known: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> bool:
    """The same for instances of version 1: phrase, score and box."""
    left = list(found)
    for one in known:
        match = next((other for other in left if _same_instance(one, other)), None)
        if match is None:
            return False
        left.remove(match)
    return not left


def _same_region(one: dict[str, Any], other: dict[str, Any]) -> bool:
    labels = [region["value"]["polygonlabels"] for region in (one, other)]
    if labels[0] != labels[1] or abs(one["score"] - other["score"]) > _SAME_SCORE:
        return False
    first, second = (Polygon(region["value"]["points"]).buffer(0) for region in (one, other))
    return bool(first.intersection(second).area >= _SAME_IOU * first.union(second).area)


def _same_instance(one: dict[str, Any], other: dict[str, Any]) -> bool:
    edges = zip(one["box"], other["box"], strict=True)
    return (
        one["phrase"] == other["phrase"]
        and abs(one["score"] - other["score"]) <= _SAME_SCORE
        and all(abs(mine - yours) <= _SAME_EDGE for mine, yours in edges)
    )
