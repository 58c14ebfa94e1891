"""From the model's logits to what the caller gets: masks in image pixels, duplicates and look-alikes removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sam3_core.dedupe import without_duplicates, without_lookalikes
from sam3_core.engine.plan import Step
from sam3_core.logits import mask_from_logits
from sam3_core.types import ConceptResult, FindOptions, Instance

if TYPE_CHECKING:
    from sam3_core.engine.concepts import Detection


def concept_result(
    step: Step, detections: Sequence[Detection], size: tuple[int, int], options: FindOptions
) -> ConceptResult:
    """One concept's answer from its phrases' and negatives' detections: the phrases' union, best score kept."""
    phrases = [(phrase, detections[index]) for phrase, index in step.phrases]
    found = [i for phrase, detection in phrases for i in _instances(detection, step.threshold, size, phrase)]
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


def outlines(
    logits: NDArray[np.float32], scores: NDArray[np.float32], size: tuple[int, int], phrase: str = ""
) -> list[Instance]:
    """Instances of the candidates that have a pixel, in the order given. logits ``(c, h, w)``, scores ``(c,)``."""
    masks = (mask_from_logits(candidate, size, 0.0) for candidate in logits)
    return [Instance(mask, float(score), phrase) for mask, score in zip(masks, scores, strict=True) if mask.area]


def _instances(detection: Detection, threshold: float, size: tuple[int, int], phrase: str = "") -> list[Instance]:
    # Detections keep what any concept of the request wanted; this one may want less.
    count = int(np.count_nonzero(detection.scores >= np.float32(threshold)))
    return outlines(detection.logits[:count], detection.scores[:count], size, phrase)


def _rejected(detection: Detection, threshold: float) -> Iterator[float]:
    """The best score under the threshold, if any: scores run downwards, kept ones first."""
    scores = np.concatenate([detection.scores, detection.rejected])
    yield from scores[scores < np.float32(threshold)][:1].tolist()
