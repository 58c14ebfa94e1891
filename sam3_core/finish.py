"""Finish: how a mask is cleaned, smoothed and drawn before a person sees it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from sam3_core.cleaning import without_specks
from sam3_core.errors import InvalidPrompt
from sam3_core.masks import Mask
from sam3_core.rules import Area, Layered, check_share
from sam3_core.smoothing import smoothed


class Fineness(StrEnum):
    """How closely an outline follows the model's mask, from a few smooth strokes to every pixel."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Holes(StrEnum):
    """What becomes of holes where a shape cannot have any: joined to its outline by a bridge, or filled."""

    BRIDGED = "bridged"
    FILLED = "filled"


class Parts(StrEnum):
    """What becomes of an object in several parts where a shape has only one: several shapes, or the largest part."""

    ALL = "all"
    LARGEST = "largest"


DEFAULT_FINENESS = Fineness.MEDIUM

_FLOORS = {Fineness.LOW: 0.9, Fineness.MEDIUM: 0.98, Fineness.HIGH: 0.99}
_SPECK_SHARES = {Fineness.LOW: 0.01, Fineness.MEDIUM: 0.002, Fineness.HIGH: 0.0}  # of the mask's pixels

FRAGMENT_SHARE = 0.05
"""See ``Finish.without_fragments``."""


@dataclass(frozen=True, slots=True)
class Finish(Layered):
    """How masks are drawn. None leaves a choice to the next, more general finish.

    fineness: sets how much masks are smoothed, what a speck is, and ``min_iou``.
    min_iou: least IoU, 0..1, that a polygon has with its mask; instead of the fineness's.
    max_vertices: the most corners of one polygon, at least 4; 0 stands for no limit. It wins over ``min_iou``.
    min_area: parts and holes below are specks: parts are dropped, holes filled; instead of the fineness's.
    holes, parts: for shapes that have none, or one.

    Raises InvalidPrompt for numbers out of range.
    """

    fineness: Fineness | None = None
    min_iou: float | None = None
    max_vertices: int | None = None
    min_area: Area | None = None
    holes: Holes | None = None
    parts: Parts | None = None

    def __post_init__(self) -> None:
        check_share("min_iou", self.min_iou)
        if self.max_vertices is not None and self.max_vertices != 0 and self.max_vertices < 4:
            raise InvalidPrompt(f"max_vertices must be at least 4, or 0 for no limit, not {self.max_vertices}")

    @property
    def floor(self) -> float:
        """Least IoU, 0..1, of a polygon with its mask: ``min_iou``, or the fineness's where that is open."""
        return _FLOORS[self.fineness or DEFAULT_FINENESS] if self.min_iou is None else self.min_iou

    @property
    def step_floor(self) -> float:
        """Least IoU, 0..1, of a step that loses something: the outline and, at low fineness, the smoothing before it.

        1 - IoU is a metric (Jaccard distance), so two steps together lose no more than the sum of both.
        """
        return (1 + self.floor) / 2 if self.fineness is Fineness.LOW else self.floor

    def without_fragments(self, mask: Mask) -> Finish:
        """For shapes of which each part would be one to delete, or would widen a box: parts of this mask below
        ``FRAGMENT_SHARE`` of its pixels are specks too, unless ``min_area`` says itself what is one."""
        return self if self.min_area is not None else replace(self, min_area=Area(FRAGMENT_SHARE * mask.area))

    def speck(self, mask: Mask) -> float:
        """Below how many pixels a part or a hole of this mask is a speck: ``min_area``, or the fineness's."""
        if self.min_area is not None:
            return self.min_area.pixels(mask.frame)
        return _SPECK_SHARES[self.fineness or DEFAULT_FINENESS] * mask.area


OPEN_FINISH = Finish()
"""Nothing chosen."""

DEFAULT_FINISH = Finish(fineness=DEFAULT_FINENESS, max_vertices=500, holes=Holes.BRIDGED, parts=Parts.ALL)
"""What holds where nobody chose; ``min_iou`` and ``min_area`` are the fineness's."""


def finished(mask: Mask, finish: Finish) -> Mask:
    """The mask as a person gets it, before it becomes a shape or an encoding; what is open holds as by default.

    Specks are dropped and filled (see ``without_specks``), all parts but the largest are where ``parts`` says so,
    and at low fineness the border is smoothed, which takes half of the loss that ``finish.floor`` allows at most.
    ``holes``, ``max_vertices`` and the loss of outlines are the shapes' own business.

    Not empty unless the mask is. The mask itself where there is nothing to do.
    """
    least = finish.speck(mask)
    clean = without_specks(mask, least, largest_only=finish.parts is Parts.LARGEST)
    return smoothed(clean, finish.step_floor, least) if finish.fineness is Fineness.LOW else clean
