"""Rules: which of the instances found stay. Given in layers, the more special ones over the more general."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Self

from sam3_core.errors import InvalidPrompt


def check_share(name: str, value: float | None) -> None:
    """Raises InvalidPrompt unless the value is None or lies in 0..1."""
    if value is not None and not (math.isfinite(value) and 0.0 <= value <= 1.0):
        raise InvalidPrompt(f"{name} must lie between 0 and 1, not {value}")


@dataclass(frozen=True, slots=True)
class Layered:
    """A set of choices, each open while it is None."""

    def over(self, base: Self) -> Self:
        """These choices, and where they are open those of ``base``."""
        if self is base:
            return self
        open_ones = [field.name for field in fields(self) if getattr(self, field.name) is None]
        return replace(self, **{name: getattr(base, name) for name in open_ones}) if open_ones else self

    @property
    def chosen(self) -> dict[str, Any]:
        """The choices made, by name, in the order of the fields."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in named if value is not None}


@dataclass(frozen=True, slots=True)
class Area:
    """How large something is: ``amount`` in pixels of the image or, where ``relative``, as a share (0..1) of it.

    Raises InvalidPrompt for a negative, infinite or NaN amount and for a share above 1.
    """

    amount: float
    relative: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount >= 0) or (self.relative and self.amount > 1):
            raise InvalidPrompt(f"an area is a number of pixels, or 0 % to 100 % of the image, not {self}")

    @classmethod
    def read(cls, text: str) -> Area:
        """``"400"`` is pixels, ``"0.5%"`` a part of the image. Raises InvalidPrompt for anything else."""
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%|px)?\s*", text)
        if match is None:
            raise InvalidPrompt(f"an area is in pixels, as 400, or a part of the image, as 0.5%; not {text!r}")
        amount, relative = float(match[1]), match[2] == "%"
        return cls(amount / 100 if relative else amount, relative)

    def pixels(self, size: tuple[int, int]) -> float:
        """In pixels of an image of ``(width, height)``."""
        return self.amount * size[0] * size[1] if self.relative else self.amount

    def __str__(self) -> str:
        number = f"{self.amount * 100 if self.relative else self.amount:.6f}".rstrip("0").rstrip(".")
        return f"{number}%" if self.relative else f"{number} px"


@dataclass(frozen=True, slots=True)
class Rules(Layered):
    """Which instances of a concept stay. None leaves a rule to the next, more general rules.

    threshold: least score, 0..1.
    presence: least presence, the model's probability that the concept is in the image at all, 0..1.
    min_area, max_area: of an instance. Loose parts and holes below ``min_area`` are specks too, see ``Finish``.
    max_instances: at most so many, best first.
    top_k: where fewer reach the threshold, the best candidates come anyway until there are so many: for phrases that
        the model is unsure about. The other rules hold for them too.
    overlap: whether its instances may also be instances of the request's other concepts; if not, an object that
        several concepts claim goes to the one that is surer of it.

    Raises InvalidPrompt for numbers out of range.
    """

    threshold: float | None = None
    presence: float | None = None
    min_area: Area | None = None
    max_area: Area | None = None
    max_instances: int | None = None
    top_k: int | None = None
    overlap: bool | None = None

    def __post_init__(self) -> None:
        check_share("threshold", self.threshold)
        check_share("presence", self.presence)
        if self.max_instances is not None and self.max_instances < 1:
            raise InvalidPrompt(f"max_instances must be at least 1, not {self.max_instances}")
        if self.top_k is not None and self.top_k < 0:
            raise InvalidPrompt(f"top_k must be at least 0, not {self.top_k}")


OPEN_RULES = Rules()
"""Nothing chosen."""

DEFAULT_RULES = Rules(threshold=0.5, presence=0.0, min_area=Area(0), top_k=0, overlap=False)
"""What holds where nobody chose. No limit of ``max_area`` and ``max_instances``."""


class Tiling(StrEnum):
    """Whether an image is searched in overlapping tiles too, besides as a whole.

    AUTO does so where the image is much larger than what the model sees of it at once.
    """

    OFF = "off"
    AUTO = "auto"
    ON = "on"
