"""A simulated reviewer who knows the truth, and does with a prediction what people do in the editor.

Right regions stay untouched (``origin: prediction``), rough ones are redrawn (``prediction-changed``, same id), wrong
ones deleted, missing ones drawn (``manual``). Now and then a prompt's keypoint stays in the annotation, a task is
skipped, an annotation is corrected later, or a second one is made and deleted again.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.rle import brush_rle
from sam3_core.learning.examples import Truth
from sam3_core.learning.measure import match
from sam3_core.masks import Mask
from sam3_prelabel.demo.client import LabelStudioClient
from tools.learning.marking import masks_of
from tools.learning.project import LABELS
from tools.learning.world import Sample

Json = dict[str, Any]

_RIGHT, _ROUGH = 0.9, 0.5
"""From this mask IoU on a reviewer leaves a region as it is; from this one on it is redrawn rather than deleted."""

# Seconds for each: looking at the picture, and what is done to one region.
_LOOK, _KEEP, _REDRAW, _DELETE, _DRAW = 3.0, 0.7, 6.0, 1.2, 8.0


@dataclass(frozen=True, slots=True)
class Work:
    """What a reviewer makes of a prediction: the annotation's regions, and how long it took in seconds."""

    result: list[Json]
    seconds: float


def work_on(sample: Sample, result: Sequence[Mapping[str, Any]], chance: random.Random) -> Work:
    """The final regions of a task that shows this prediction. chance: for ids and for how quick somebody is."""
    shown = masks_of(result)
    kept: list[Json] = []
    seconds = _LOOK
    for label in LABELS:
        regions = shown[label.value]
        truth = label.truth(sample)
        matching = match([mask for _, mask in regions], [Truth(mask) for mask in truth], _ROUGH, nearest=True)
        for pair in matching.pairs:
            region, right = dict(regions[pair.found][0]), pair.iou >= _RIGHT
            kept.append(region | {"origin": "prediction"} if right else _redrawn(region, truth[pair.truth]))
            seconds += _KEEP if right else _REDRAW
        kept += [drawn(label.value, truth[index], chance) for index in matching.missed]
        seconds += _DELETE * len(matching.false) + _DRAW * len(matching.missed)
    return Work(kept, round(seconds * chance.uniform(0.8, 1.3), 3))


def drawn(label: str, mask: Mask, chance: random.Random) -> Json:
    """A region that a person drew."""
    return {"id": _new_id(chance), "origin": "manual", **_body(mask), "value": _value(label, mask)}


def prompt(label: str, mask: Mask, chance: random.Random) -> Json:
    """A smart keypoint on the object, as it stays in the annotation when somebody submits with a suggestion open."""
    width, height = mask.frame
    left, top, right, bottom = mask.box
    place = {"x": 50 * (left + right) / width, "y": 50 * (top + bottom) / height, "width": 0.3}
    value = place | {"keypointlabels": [label]}
    at = {"from_name": "point", "type": "keypointlabels", "is_positive": True, "value": value}
    return {"id": _new_id(chance), "origin": "manual", **_body(mask), **at}


def _redrawn(region: Json, mask: Mask) -> Json:
    (label,) = region["value"]["brushlabels"]
    return region | {"origin": "prediction-changed", "value": _value(label, mask)}


def _body(mask: Mask) -> Json:
    width, height = mask.frame
    size = {"original_width": width, "original_height": height, "image_rotation": 0}
    return size | {"from_name": "mask", "to_name": "image", "type": "brushlabels"}


def _value(label: str, mask: Mask) -> Json:
    return {"format": "rle", "rle": brush_rle(mask), "brushlabels": [label]}


def _new_id(chance: random.Random) -> str:
    return "".join(chance.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", k=10))


class Reviewer:
    """Reviews tasks through Label Studio's API, the same way for the same pictures and predictions."""

    def __init__(self, client: LabelStudioClient) -> None:
        self._client = client
        self.seconds: list[float] = []
        """Lead times, one for each task reviewed."""

    def review(self, number: int, task: int, sample: Sample, prediction: Mapping[str, Any]) -> None:
        """Submit the annotation of a task that shows this prediction (as Label Studio's API gives it).

        number: of the task in the project; every so many of them somebody does what people do besides.
        """
        chance = random.Random(number)
        work = work_on(sample, prediction["result"], chance)
        self.seconds.append(work.seconds)
        final = [*work.result, *self._left_over(number, sample, chance)]
        corrected_later = number % 7 == 3 and len(final) > 1
        first = self._submit(task, prediction, final[:-1] if corrected_later else final, work.seconds)
        if corrected_later:
            body = {"result": final, "lead_time": work.seconds + _DRAW}
            self._client.call("PATCH", f"/api/annotations/{first}/", json=body)
        if number % 11 == 5:
            second = self._submit(task, prediction, final[:1], 1.0)
            self._client.call("DELETE", f"/api/annotations/{second}/")

    def skip(self, task: int) -> None:
        """Skip a task, as the button does."""
        body = {"result": [], "was_cancelled": True, "lead_time": 1.5}
        self._client.call("POST", f"/api/tasks/{task}/annotations/", json=body)

    def _submit(self, task: int, prediction: Mapping[str, Any], result: Sequence[Json], seconds: float) -> int:
        body = {"result": list(result), "lead_time": seconds, "was_cancelled": False, "ground_truth": False}
        body["parent_prediction"] = prediction["id"]
        answer = self._client.call("POST", f"/api/tasks/{task}/annotations/", json=body)
        return int(answer["id"])

    @staticmethod
    def _left_over(number: int, sample: Sample, chance: random.Random) -> list[Json]:
        if number % 5 != 1:
            return []
        return [prompt(label.value, mask, chance) for label in LABELS for mask in label.truth(sample)[:1]][:1]
