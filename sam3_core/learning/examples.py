"""Examples: one concept on one reviewed image, what phrases found for it and what is really there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sam3_core.masks import Mask


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """One object as a person left it.

    around: the pixels are a rectangle or an ellipse around the object, not its outline: such an object is compared by
    the boxes of both.
    """

    mask: Mask
    around: bool = False

    def iou(self, mask: Mask) -> float:
        """With what was found, 0..1. Raises ValueError for a mask of another frame."""
        if not self.around:
            return self.mask.iou(mask)
        if self.mask.frame != mask.frame:
            raise ValueError(f"masks of different frames: {self.mask.frame} and {mask.frame}")
        ax0, ay0, ax1, ay1 = self.mask.box
        bx0, by0, bx1, by1 = mask.box
        shared = max(0, min(ax1, bx1) - max(ax0, bx0)) * max(0, min(ay1, by1) - max(ay0, by0))
        union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - shared
        return shared / union if union else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One instance that a phrase found. score: as the model gave it, 0..1. feature: ``(D,)`` float32 of its look, see
    ``Instance.feature``; None where it was not asked for."""

    mask: Mask
    score: float
    feature: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What the model says to one phrase on one image: presence 0..1, and candidates down to a low score, best first,
    without duplicates among them."""

    presence: float
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Example:
    """group: what belongs together and is never divided between learning and judging, as images that were reviewed
    together.

    found: by phrase, as it is asked in a concept.
    """

    group: str
    truth: tuple[Truth, ...]
    found: Mapping[str, Heard] = field(default_factory=dict)
