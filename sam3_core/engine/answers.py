"""From the model's logits to what the caller gets: masks in image pixels, duplicates and look-alikes removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sam3_core.dedupe import without_duplicates, without_lookalikes
from sam3_core.engine.plan import Step
from sam3_core.logits import mask_from_logits
from sam3_core.types import Box, ConceptResult, FindOptions, Instance

if TYPE_CHECKING:
    from sam3_core.engine.clicks import Readings
    from sam3_core.engine.concepts import Detection

_SAME = 0.98
"""Readings of a click that overlap more (mask IoU) are one to the annotator's eye."""

_MOSTLY, _FILLED = 0.5, 0.2
"""An instance is the thing in a box with more than these shares of its own pixels and the box (stars fill 0.3)."""


def concept_result(
    step: Step, detections: Sequence[Detection], size: tuple[int, int], options: FindOptions
) -> ConceptResult:
    """One concept's answer from its phrases' and negatives' detections: the phrases' union, best score kept."""
    phrases = [(phrase, detections[index]) for phrase, index in step.phrases]
    found = [i for phrase, detection in phrases for i in _instances(detection, step.threshold, size, phrase)]
    found = [instance for instance in found if not any(_shown(instance, box) for box in step.refused)]
    found = without_duplicates(found, iou=options.duplicate_iou, contained=options.contained_share)
    if step.negatives:
        lookalikes = [i for index in step.negatives for i in _instances(detections[index], step.threshold, size)]
        found = without_lookalikes(found, lookalikes)
    rejected = [score for _, detection in phrases for score in _rejected(detection, step.threshold)]
    return ConceptResult(
        instances=tuple(found[: options.max_instances]),
        presence=max(detection.presence for _, detection in phrases),
        best_rejected=max(rejected, default=None),
        threshold=step.threshold,
        size=size,
    )


def outlines(readings: Readings, size: tuple[int, int], most: int) -> list[Instance]:
    """At most so many readings of one visual prompt, in the order given: those that have a pixel and differ.

    Readings that come after are not made into masks: one of them may be as large as the image.
    """
    found: list[Instance] = []
    for instance in _drawn(readings.logits, readings.scores, size):
        if all(instance.mask.iou(better.mask) <= _SAME for better in found):
            found.append(instance)
        if len(found) == most:
            break
    return found


def _drawn(
    logits: NDArray[np.float32], scores: NDArray[np.float32], size: tuple[int, int], phrase: str = ""
) -> Iterator[Instance]:
    """The candidates that have a pixel, in the order given. logits ``(c, h, w)``, scores ``(c,)``."""
    for candidate, score in zip(logits, scores, strict=True):
        mask = mask_from_logits(candidate, size, 0.0)
        if mask.area:
            yield Instance(mask, float(score), phrase)


def _instances(detection: Detection, threshold: float, size: tuple[int, int], phrase: str = "") -> list[Instance]:
    # Detections keep what any concept of the request wanted; this one may want less.
    count = int(np.count_nonzero(detection.scores >= np.float32(threshold)))
    return list(_drawn(detection.logits[:count], detection.scores[:count], size, phrase))


def _shown(instance: Instance, box: Box) -> bool:
    """Whether the instance is what a box shows: mostly inside it, and large enough to be what it was drawn around.

    By pixels, not by boxes: a few stray pixels far off make an instance's box large.
    """
    mask = instance.mask
    left, top, right, bottom = (round(edge) for edge in box.xyxy)
    rows, columns = (
        slice(max(top - mask.y, 0), max(bottom - mask.y, 0)),
        slice(max(left - mask.x, 0), max(right - mask.x, 0)),
    )
    shared = int(np.count_nonzero(mask.bits[rows, columns]))
    return shared > _MOSTLY * mask.area and shared > _FILLED * (right - left) * (bottom - top)


def _rejected(detection: Detection, threshold: float) -> Iterator[float]:
    """The best score under the threshold, if any: scores run downwards, kept ones first."""
    scores = np.concatenate([detection.scores, detection.rejected])
    yield from scores[scores < np.float32(threshold)][:1].tolist()
