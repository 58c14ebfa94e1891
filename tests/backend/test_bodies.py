"""Bodies: what is read of them, and above all what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw
from request_bodies import predict_body

from backend.bodies import Context, PredictBody, Task, WebhookBody, convert, decode
from sam3_core.errors import InvalidInput

MASKS = [{"id": 1, "result": [{"id": "r", "type": "brushlabels", "value": {"rle": list(range(256)) * 100}}]}]
TASK = {"id": 1, "data": {"image": "x"}, "annotations": MASKS, "drafts": MASKS, "predictions": MASKS}


def test_masks_that_ride_along_stay_json() -> None:
    (task,) = decode(PredictBody, json.dumps(predict_body([TASK])).encode()).tasks
    for layer in (task.annotations, task.drafts, task.predictions):
        assert isinstance(layer, Raw)
        assert json.loads(bytes(layer)) == MASKS


def test_parsed_bodies_are_the_same_as_unparsed_ones() -> None:
    task = convert(Task, TASK)
    assert json.loads(bytes(task.annotations)) == MASKS
    assert convert(Task, task) is task


@pytest.mark.parametrize(
    ("context", "missing"),
    [({}, True), ({"login": "x"}, True), ({"result": []}, False), ({"event": "prewarm"}, False)],
)
def test_a_context_that_says_nothing_is_a_batch(context: dict[str, Any], missing: bool) -> None:
    assert convert(Context, context).missing is missing


@pytest.mark.parametrize("value", [{1, 2}, object(), float("nan"), {"data": object()}])
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        convert(Task, value)


def test_of_a_webhook_only_what_was_typed_is_read() -> None:
    """The masks of a submitted annotation are as large as those of a click."""
    typed = {"id": "t", "type": "textarea", "to_name": "image", "value": {"text": ["red ball"]}}
    annotation = {"id": 1, "was_cancelled": False, "result": [*MASKS[0]["result"], typed]}  # type: ignore[misc]
    for sent, count in ((annotation, 1), ([annotation, annotation], 2)):
        body = decode(WebhookBody, json.dumps({"action": "ANNOTATION_CREATED", "annotation": sent}).encode())
        assert body.event()["annotation"] == [annotation | {"result": [typed]}] * count
