"""What travels between adapters and the core: prompts in, results out.

SAM 3 has two heads, and mixing them up is the commonest error of integrations; the types keep
them apart. A ``Concept`` asks for *every instance* of something (promptable concept segmentation);
a ``VisualPrompt`` asks for *this one object* (promptable visual segmentation).

All coordinates are floats in pixels of the image as displayed (EXIF applied), continuous: pixel
column c spans [c, c + 1]. Boxes are xyxy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sam3_core.errors import InvalidPrompt
from sam3_core.masks import Mask


@dataclass(frozen=True, slots=True)
class Box:
    """xyxy in pixels. Corners are put in order; raises InvalidPrompt for NaN, infinity or an empty box."""

    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        corners = (self.x0, self.y0, self.x1, self.y1)
        if not all(math.isfinite(v) for v in corners):
            raise InvalidPrompt(f"a box needs four finite numbers, not {corners}")
        object.__setattr__(self, "x0", min(corners[0], corners[2]))
        object.__setattr__(self, "x1", max(corners[0], corners[2]))
        object.__setattr__(self, "y0", min(corners[1], corners[3]))
        object.__setattr__(self, "y1", max(corners[1], corners[3]))
        if self.x0 == self.x1 or self.y0 == self.y1:
            raise InvalidPrompt(f"a box needs a width and a height, not {corners}")

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        return self.x0, self.y0, self.x1, self.y1


@dataclass(frozen=True, slots=True)
class Point:
    """A click: on the object (positive) or on what it is not."""

    x: float
    y: float
    positive: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.x) and math.isfinite(self.y)):
            raise InvalidPrompt(f"a point needs two finite numbers, not ({self.x}, {self.y})")


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A box in the same image that shows what a concept looks like, or (negative) what it does not.

    What a negative one shows is never among the instances; what looks like it mostly is not.
    """

    box: Box
    positive: bool = True


@dataclass(frozen=True, slots=True)
class Concept:
    """Find every instance of this.

    phrases: short noun phrases, synonyms of each other; an instance of any of them counts.
    exemplars: boxes in the same image that show it. At least one phrase or one positive exemplar.
    negatives: phrases that describe look-alikes; what matches one of them better is dropped.
    threshold: least score, 0..1; None leaves it to ``FindOptions``.

    Raises InvalidPrompt when there is nothing to look for or the threshold is no share.
    """

    phrases: tuple[str, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()
    negatives: tuple[str, ...] = ()
    threshold: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "phrases", _cleaned(self.phrases))
        object.__setattr__(self, "negatives", _cleaned(self.negatives))
        object.__setattr__(self, "exemplars", tuple(self.exemplars))
        if not self.phrases and not any(e.positive for e in self.exemplars):
            raise InvalidPrompt("a concept needs a phrase or a positive exemplar box")
        _check_share("threshold", self.threshold)


@dataclass(frozen=True, slots=True)
class VisualPrompt:
    """Outline this one object: clicks, at most one box, optionally an earlier mask to refine.

    A mask goes best with all the clicks that made it; where they are not known, it can stand without them.

    Raises InvalidPrompt without a box, a mask or a positive point: negative clicks alone name nothing.
    """

    points: tuple[Point, ...] = ()
    box: Box | None = None
    mask: Mask | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple(self.points))
        if self.box is None and self.mask is None and not any(p.positive for p in self.points):
            raise InvalidPrompt("a visual prompt needs a positive point, a box or a mask to start from")


@dataclass(frozen=True, slots=True)
class FindOptions:
    """How a concept search decides.

    threshold: least score for concepts that name none, 0..1.
    max_instances: keep at most so many per concept, best first; None keeps all.
    duplicate_iou: of two instances of one concept that overlap more than this (mask IoU), the better stays.
    contained_share: an instance of which more than this share lies inside a better one is its part, and goes.
    """

    threshold: float = 0.5
    max_instances: int | None = None
    duplicate_iou: float = 0.6
    contained_share: float = 0.85

    def __post_init__(self) -> None:
        for name in ("threshold", "duplicate_iou", "contained_share"):
            _check_share(name, getattr(self, name))
        if self.max_instances is not None and self.max_instances < 1:
            raise InvalidPrompt(f"max_instances must be at least 1, not {self.max_instances}")


@dataclass(frozen=True, slots=True)
class OutlineOptions:
    """candidates: how many readings of the prompt to return at most (1..3), best first."""

    candidates: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.candidates <= 3:
            raise InvalidPrompt(f"candidates must be 1, 2 or 3, not {self.candidates}")


@dataclass(frozen=True, slots=True)
class Instance:
    """One object found.

    mask: its pixels, tight and never empty.
    score: 0..1. For concepts the model's score times presence; for visual prompts the predicted IoU.
    box: xyxy in pixel edges of the mask.
    phrase: which of the concept's phrases found it; empty for exemplars alone and visual prompts.
    """

    mask: Mask
    score: float
    phrase: str = ""

    @property
    def box(self) -> tuple[int, int, int, int]:
        return self.mask.box


@dataclass(frozen=True, slots=True)
class ConceptResult:
    """What was found for one concept, best first, and, when it is nothing, why.

    presence: the model's own probability that the concept is in the image at all, 0..1 (best phrase).
    best_rejected: highest score that did not reach the threshold, 0..1; None when every candidate did.
    threshold: the one that was applied, 0..1.
    size: ``(width, height)`` of the image in pixels as displayed.
    """

    instances: tuple[Instance, ...]
    presence: float
    best_rejected: float | None
    threshold: float
    size: tuple[int, int]

    @property
    def reason(self) -> str:
        """One sentence on why nothing was found; empty when something was."""
        if self.instances:
            return ""
        best = "no candidate at all" if self.best_rejected is None else f"best score {self.best_rejected:.2f}"
        return f"nothing found: presence {self.presence:.2f}, {best}, threshold {self.threshold:.2f}"


class ModelState(StrEnum):
    """Where a model stands: only READY answers prompts."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CacheTier:
    """One memory of the embedding cache: bytes and entries in it now, entries it had to give up since the start."""

    bytes: int = 0
    entries: int = 0
    evictions: int = 0


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """The embedding cache since the start. An entry is what one image costs one head of the model.

    hits: lookups answered from either memory, or by waiting for one that was being computed; misses: the others.
    device: in the model's memory; host: given up there and kept in main memory. Without a GPU only ``device``.
    """

    hits: int = 0
    misses: int = 0
    device: CacheTier = CacheTier()
    host: CacheTier = CacheTier()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a segmenter runs. ``version`` names the weights, is known before they are loaded and never changes.

    problem: one sentence on what a person must do; empty unless FAILED.
    can_outline: False for checkpoints without the tracker half (no clicks).
    cache: how the embedding cache stands at this moment.
    """

    version: str
    state: ModelState
    device: str
    dtype: str
    problem: str = ""
    can_outline: bool = True
    cache: CacheInfo = CacheInfo()


def _cleaned(phrases: Iterable[str]) -> tuple[str, ...]:
    """Whitespace collapsed, empties and repeats (ignoring case) dropped, order kept."""
    if isinstance(phrases, str):
        raise InvalidPrompt("phrases must be a sequence of phrases, not one string")
    kept: dict[str, str] = {}
    for phrase in phrases:
        tidy = " ".join(str(phrase).split())
        if tidy:
            kept.setdefault(tidy.lower(), tidy)
    return tuple(kept.values())


def _check_share(name: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and 0.0 <= value <= 1.0):
        raise InvalidPrompt(f"{name} must lie between 0 and 1, not {value}")
