"""What one prompt found: instances in image pixels, whichever views of the image they come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sam3_core.dedupe import best_first
from sam3_core.logits import mask_from_logits
from sam3_core.prototypes import Prototypes
from sam3_core.results import Instance

if TYPE_CHECKING:
    from sam3_core.engine.concepts import Detection


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One prompt's instances.

    presence: probability that the concept is in the view at all, 0..1; of several views the highest.
    instances: that reached the prompt's floor or were among the candidates wanted, best first, none empty.
    rejected: the scores of all other queries, ``(n,)`` float32, best first.
    """

    presence: float
    instances: tuple[Instance, ...]
    rejected: NDArray[np.float32]


def found_in(detection: Detection, size: tuple[int, int], worth: NDArray[np.bool_] | None = None) -> Found:
    """The detection's masks at the size ``(width, height)`` of the view, in pixels.

    worth: ``(k,)``, which of its candidates are wanted; of the others no score is told. None for all.
    """
    kept = slice(None) if worth is None else np.flatnonzero(worth)
    scores = detection.scores[kept]
    features = repeat(None) if detection.features is None else iter(detection.features[kept])
    masks = (mask_from_logits(logits, size, 0.0) for logits in detection.logits[kept])
    drawn = zip(masks, scores.tolist(), features, strict=False)
    instances = tuple(Instance(mask, score, feature=feature) for mask, score, feature in drawn if mask.area)
    untold = np.zeros(len(detection.scores) - len(scores), np.float32)
    return Found(detection.presence, instances, np.concatenate([detection.rejected, untold]))


def rescored(found: Found, prototypes: Prototypes) -> Found:
    """The same in the light of prototypes, best first; the instances have features.

    What got no mask cannot reach the threshold and has no look: it counts as like no prototype.
    """
    features = np.array([instance.feature for instance in found.instances], np.float32).reshape(-1, prototypes.width)
    scores = np.array([instance.score for instance in found.instances], np.float32)
    judged = zip(found.instances, prototypes.rescored(scores, features).tolist(), strict=True)
    instances = [replace(instance, score=score) for instance, score in judged]
    return replace(found, instances=tuple(best_first(instances)), rejected=prototypes.unseen(found.rejected))
