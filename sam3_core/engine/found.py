"""What one prompt found: instances in image pixels, whichever views of the image they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sam3_core.logits import mask_from_logits
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


def found_in(detection: Detection, size: tuple[int, int]) -> Found:
    """The detection's masks at the size ``(width, height)`` of the view, in pixels."""
    masks = (mask_from_logits(logits, size, 0.0) for logits in detection.logits)
    drawn = zip(masks, detection.scores.tolist(), strict=True)
    instances = tuple(Instance(mask, score) for mask, score in drawn if mask.area)
    return Found(detection.presence, instances, detection.rejected)
