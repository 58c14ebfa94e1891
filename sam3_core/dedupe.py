"""Which of several overlapping instances stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sam3_core.types import Instance


def without_duplicates(instances: Sequence[Instance], *, iou: float, contained: float) -> list[Instance]:
    """The instances of one concept, best first, without those that a better one makes superfluous.

    Greedy, from the best score down (equal scores keep their order): an instance goes when its mask IoU with one that
    stays exceeds ``iou``, or when more than the share ``contained`` of its own pixels lies inside one that stays.
    So a worse part of a better whole goes. A worse whole around a better part stays, beside the part: most of it
    is covered by nothing else, and only a reviewer can say which of the two was meant.

    iou, contained: 0..1; 1 switches a rule off.
    """
    ordered = sorted(instances, key=lambda instance: -instance.score)
    meet = _meeting(ordered, ordered)
    areas = [instance.mask.area for instance in ordered]
    stays = np.zeros(len(ordered), dtype=np.bool_)
    for index, instance in enumerate(ordered):
        stays[index] = True
        for better in np.flatnonzero(meet[index, :index] & stays[:index]).tolist():
            shared = instance.mask.intersection(ordered[better].mask)
            union = areas[index] + areas[better] - shared
            if shared > contained * areas[index] or shared > iou * union:
                stays[index] = False
                break
    return [ordered[index] for index in np.flatnonzero(stays)]


def without_lookalikes(
    found: Sequence[Instance], negatives: Sequence[Instance], *, iou: float = 0.5
) -> list[Instance]:
    """The instances found, in order, without those that a negative phrase explains at least as well.

    negatives: instances of the concept's negative phrases. An instance goes when its mask IoU with one of them
    exceeds ``iou`` (0..1) and the score of that one is not lower than its own.
    """
    meet = _meeting(found, negatives)
    return [
        instance
        for instance, near in zip(found, meet, strict=True)
        if not any(
            negatives[rival].score >= instance.score and instance.mask.iou(negatives[rival].mask) > iou
            for rival in np.flatnonzero(near)
        )
    ]


def _meeting(rows: Sequence[Instance], columns: Sequence[Instance]) -> NDArray[np.bool_]:
    """Whose boxes overlap: ``(rows, columns)`` bool."""
    one, other = (np.array([i.box for i in group]).reshape(-1, 4) for group in (rows, columns))
    lower = np.maximum(one[:, None, :2], other[None, :, :2])
    upper = np.minimum(one[:, None, 2:], other[None, :, 2:])
    return np.asarray((lower < upper).all(axis=2))
