"""What travels out of the core: instances, and why there are none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from sam3_core.masks import Mask
from sam3_core.rules import DEFAULT_RULES, Rules

_PRESENT = 0.5
"""Under this presence the model rather thinks that the concept is not in the image."""

_NEAR, _STEPS = 0.5, 20
"""A candidate of this share of the threshold is worth a lower one, in steps of 1 / 20."""

_MUCH_LARGER, _LEAST_SEEN = 2, 10
"""In an image this many times the model's resolution, small objects are lost: what is under 10 of its pixels."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One object found.

    mask: its pixels, tight and never empty.
    score: 0..1. For concepts the model's score times presence; for visual prompts the predicted IoU.
    box: xyxy in pixel edges of the mask.
    phrase: which of the concept's phrases found it; empty for exemplars alone and visual prompts.
    feature: ``(D,)`` float32 of length 1, rounded to float16: the mean look of its pixels to the vision encoder,
        where it was asked for. It depends on the mask and the checkpoint alone, not on phrase or adapter; an object
        that was found in tiles has its look in the tile that showed it best.
    """

    mask: Mask
    score: float
    phrase: str = ""
    feature: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    @property
    def box(self) -> tuple[int, int, int, int]:
        return self.mask.box


class Removal(StrEnum):
    """Why an instance that reached the threshold is not among the answers; the value completes "3 ..." or "1 ..."."""

    ABSENT = "doubted, as the presence is under its floor"
    SMALL = "smaller than the least area"
    LARGE = "larger than the largest area"
    NEGATIVE = "better matched by a negative phrase or exemplar"
    DUPLICATE = "the same as a surer one or a part of it"
    DRAWN = "annotated already"
    ELSEWHERE = "claimed by another label"
    MORE = "more than the largest number wanted"


@dataclass(frozen=True, slots=True)
class ConceptResult:
    """What was found for one concept, best first, and, when it is nothing, why.

    presence: the model's own probability that the concept is in the image at all, 0..1 (best phrase, best tile).
    best_rejected: highest score that did not reach the threshold, 0..1; None when every candidate did.
    rules: those that were applied, with nothing left open that has a default.
    size: ``(width, height)`` of the image in pixels as displayed.
    tiles: how many were searched besides the whole image. resolution: the side in pixels of what the model sees.
    removed: how many instances each reason took away, where it did.
    notes: sentences on the phrases: what was asked in place of one, and what the model may not understand.
    """

    instances: tuple[Instance, ...]
    presence: float
    best_rejected: float | None
    rules: Rules
    size: tuple[int, int]
    tiles: int = 0
    resolution: int = 0
    removed: tuple[tuple[Removal, int], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def threshold(self) -> float:
        """Least score that was applied, 0..1."""
        return self.rules.over(DEFAULT_RULES).threshold or 0.0

    @property
    def reason(self) -> str:
        """Why nothing was found and what to try, in a sentence or two; empty when something was."""
        return "" if self.instances else why_nothing(self)


def why_nothing(result: ConceptResult) -> str:
    """What a person reads where nothing was found: what the model saw, what was left out, and what to try."""
    left_out: dict[Removal, int] = {why: count for why, count in result.removed if why is not Removal.DUPLICATE}
    seen = _left_out(result, left_out) if left_out else _unsure(result)
    advice = _undo(result.rules, left_out) if left_out else _widen(result)
    tries = [f"Try {'; or '.join(advice)}"] if advice else []
    sentences = [f"nothing found: {seen}", *tries, *(note[:1].upper() + note[1:] for note in result.notes)]
    return " ".join(f"{sentence}." for sentence in sentences)


def _unsure(result: ConceptResult) -> str:
    """No candidate reached the threshold: how near they came."""
    best = "no candidate at all" if result.best_rejected is None else f"best score {result.best_rejected:.2f}"
    return f"{_presence(result)}, {best}, threshold {result.threshold:.2f}{_tiles(result)}"


def _left_out(result: ConceptResult, left_out: Mapping[Removal, int]) -> str:
    """Candidates reached the threshold, and rules took all of them: which took how many."""
    counts = ", ".join(f"{count} {why}" for why, count in left_out.items())
    reached = f"{sum(left_out.values())} over the threshold {result.threshold:.2f}"
    return f"{_presence(result)}, {reached}{_tiles(result)}, but left out: {counts}"


def _presence(result: ConceptResult) -> str:
    floor = result.rules.presence or 0.0
    under = f" under its floor {floor:.2f}" if result.presence < floor else ""
    return f"presence {result.presence:.2f}{under}"


def _tiles(result: ConceptResult) -> str:
    return f", searched in {result.tiles} tiles too" if result.tiles else ""


def _undo(rules: Rules, left_out: Mapping[Removal, int]) -> list[str]:
    """What to try where rules took everything. What is annotated already needs nothing."""
    ways = {
        Removal.ABSENT: f"a presence floor under {rules.presence or 0.0:.2f}",
        Removal.SMALL: f"a least area under {rules.min_area}",
        Removal.LARGE: f"a largest area over {rules.max_area}",
        Removal.NEGATIVE: "fewer or narrower negatives",
        Removal.ELSEWHERE: "allowing it to overlap other labels",
    }
    return [way for why, way in ways.items() if why in left_out]


def _widen(result: ConceptResult) -> list[str]:
    """What to try where nothing reached the threshold."""
    advice = []
    best = result.best_rejected or 0.0
    lower = math.floor(best * _STEPS + 1e-6) / _STEPS
    if 0 < lower < result.threshold <= best / _NEAR:
        advice.append(f"a threshold of {lower:.2f}")
    if result.presence < _PRESENT or not advice:
        advice.append("another or a more general phrase, or show one with an exemplar box")
    long_side = max(result.size)
    if result.resolution and not result.tiles and long_side > _MUCH_LARGER * result.resolution:
        least = round(_LEAST_SEEN * long_side / result.resolution)
        advice.append(f"searching in tiles, as things under about {least} pixels vanish in an image of this size")
    return advice
