"""What travels from adapters into the core: prompts; and what the core says about itself.

SAM 3 has two heads, and mixing them up is the commonest error of integrations; the types keep
them apart. A ``Concept`` asks for *every instance* of something (promptable concept segmentation);
a ``VisualPrompt`` asks for *this one object* (promptable visual segmentation).

All coordinates are floats in pixels of the image as displayed (EXIF applied), continuous: pixel
column c spans [c, c + 1]. Boxes are xyxy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from sam3_core.errors import InvalidPrompt
from sam3_core.load import IDLE, Load
from sam3_core.masks import Mask
from sam3_core.prototypes import Prototypes
from sam3_core.rules import OPEN_RULES, Rules, Tiling, check_share


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
    rules: which instances stay; what they leave open is ``FindOptions``'.
    drawn: what is outlined in the image already, by its pixels or the box around it, and is not to be found again.
    prototypes: what earlier instances looked like; scores are what comes of them, before any rule is applied.
    adapter: name of fine-tuned weights to search with; empty for those of the checkpoint.

    Raises InvalidPrompt when there is nothing to look for, and for a name that no adapter can have.
    """

    phrases: tuple[str, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()
    negatives: tuple[str, ...] = ()
    rules: Rules = OPEN_RULES
    drawn: tuple[Mask | Box, ...] = ()
    prototypes: Prototypes | None = None
    adapter: str = ""

    def __post_init__(self) -> None:
        if self.adapter and not is_adapter_name(self.adapter):
            raise InvalidPrompt(f"an adapter's name is up to 64 of a-z, 0-9 and -, not {self.adapter[:80]!r}")
        object.__setattr__(self, "phrases", _cleaned(self.phrases))
        object.__setattr__(self, "negatives", _cleaned(self.negatives))
        object.__setattr__(self, "exemplars", tuple(self.exemplars))
        object.__setattr__(self, "drawn", tuple(self.drawn))
        if not self.phrases and not any(e.positive for e in self.exemplars):
            raise InvalidPrompt("a concept needs a phrase or a positive exemplar box")


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


_ADAPTER = re.compile("[0-9a-z-]{1,64}")


def is_adapter_name(text: str) -> bool:
    """Whether fine-tuned weights may be called so; such a name is never a path."""
    return _ADAPTER.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class FindOptions:
    """How concepts are searched.

    rules: for what concepts leave open; what these leave open too is the segmenter's.
    tiles: None leaves it to the segmenter.
    duplicate_iou: of two instances of one concept that overlap more than this (mask IoU), the better stays.
    contained_share: an instance of which more than this share lies inside a better one is its part, and goes.
    across_iou: instances of two concepts that overlap more than this are one object; see ``Rules.overlap``.
    negative_margin: how much surer of an object, on a scale where the threshold is 0.5, a concept must be than its
        negatives. Both are nearly sure of what a negative names: without a margin, half of it would stay. Measured,
        with others: ``python -m benchmarks.negatives``.
    features: whether instances come with their ``feature``.

    Raises InvalidPrompt for shares out of range.
    """

    rules: Rules = OPEN_RULES
    tiles: Tiling | None = None
    duplicate_iou: float = 0.6
    contained_share: float = 0.85
    across_iou: float = 0.7
    negative_margin: float = 0.25
    features: bool = False

    def __post_init__(self) -> None:
        for name in ("duplicate_iou", "contained_share", "across_iou", "negative_margin"):
            check_share(name, getattr(self, name))

    def over(self, base: FindOptions) -> FindOptions:
        """These options, and where rules and tiles are open those of ``base``."""
        return replace(self, rules=self.rules.over(base.rules), tiles=self.tiles or base.tiles)


@dataclass(frozen=True, slots=True)
class OutlineOptions:
    """candidates: how many readings of the prompt to return at most (1..3), best first."""

    candidates: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.candidates <= 3:
            raise InvalidPrompt(f"candidates must be 1, 2 or 3, not {self.candidates}")


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

    problem: one sentence on what a person must do; empty unless FAILED, or one of several replicas is.
    can_outline: False for checkpoints without the tracker half (no clicks).
    cache, load: how the embedding cache stands at this moment, and how busy the device is.
    """

    version: str
    state: ModelState
    device: str
    dtype: str
    problem: str = ""
    can_outline: bool = True
    cache: CacheInfo = CacheInfo()
    load: Load = IDLE


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
