"""Choices: rules, finish and tiles by name, in layers, under the same names wherever a person chooses them.

Adapters read layers, the more special over the more general, and say which there are. What all of them leave open is
the segmenter's: its settings, then its defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from sam3_core.errors import InvalidPrompt
from sam3_core.finish import OPEN_FINISH, Fineness, Finish, Holes, Parts
from sam3_core.rules import OPEN_RULES, Area, Rules, Tiling

_RULES = frozenset(field.name for field in fields(Rules))
_FINISH = frozenset(field.name for field in fields(Finish))
_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Option:
    """One thing to choose.

    read: its value from the text of an attribute. Raises ValueError, KeyError or InvalidPrompt.
    wanted: what the text should be; completes "is not ...". field: its name in ``Rules`` or ``Finish``, where it is
    not the option's. of_image: it goes for whole images and cannot be chosen for one label.
    """

    read: Callable[[str], Any]
    wanted: str
    field: str = ""
    of_image: bool = False


_SHARE, _AREA = "a number between 0 and 1", "an area in pixels, as 400, or a part of the image, as 0.5%"

OPTIONS: Mapping[str, Option] = {
    "threshold": Option(float, _SHARE),
    "presence": Option(float, _SHARE),
    "min_area": Option(Area.read, _AREA),
    "max_area": Option(Area.read, _AREA),
    "max_instances": Option(int, "a whole number from 1"),
    "top_k": Option(int, "a whole number from 0"),
    "allow_overlap": Option(lambda text: _TRUTH[text.lower()], "true or false", field="overlap"),
    "fineness": Option(lambda text: Fineness(text.lower()), "low, medium or high"),
    "min_iou": Option(float, _SHARE),
    "max_vertices": Option(int, "a whole number from 4, or 0 for no limit"),
    "holes": Option(lambda text: Holes(text.lower()), "bridged or filled"),
    "parts": Option(lambda text: Parts(text.lower()), "all or largest"),
    "tiles": Option(lambda text: Tiling(text.lower()), "off, auto or on", of_image=True),
}
"""By name: of the attribute, and the key in the extra parameters and in a request's ``params``."""


@dataclass(frozen=True, slots=True)
class Choices:
    """One layer, or what comes of several. What is None in it is left to the next, more general layer."""

    rules: Rules = OPEN_RULES
    finish: Finish = OPEN_FINISH
    tiles: Tiling | None = None

    def over(self, base: Choices) -> Choices:
        """These choices, and where they are open those of ``base``."""
        return Choices(self.rules.over(base.rules), self.finish.over(base.finish), self.tiles or base.tiles)

    @property
    def chosen(self) -> dict[str, Any]:
        """The choices made, by the option's name, in the order of OPTIONS."""
        made = self.finish.chosen | self.rules.chosen | ({"tiles": self.tiles} if self.tiles else {})
        return {name: made[at] for name, option in OPTIONS.items() if (at := option.field or name) in made}


OPEN = Choices()
"""Nothing chosen."""


def read_choices(given: Mapping[str, object], *, of_image: bool = True) -> tuple[Choices, list[str]]:
    """The choices among what is given, by name, and what is wrong with each that cannot be used; others are skipped.

    Values are an attribute's text or JSON; None leaves a choice open. The sentences on wrong ones have no full stop.
    of_image: whether the layer goes for whole images; in others, what is only chosen for these is wrong.
    """
    rules: dict[str, Any] = {}
    finish: dict[str, Any] = {}
    tiles, wrong = None, []
    for name, option in OPTIONS.items():
        if (value := given.get(name)) is None:
            continue
        if option.of_image and not of_image:
            wrong.append(f"{name}={quoted(value)} goes for whole images, not for one label")
            continue
        try:
            read = option.read(_text(value))
            made = {option.field or name: read}
            # These know the ranges, and raise InvalidPrompt.
            rules |= Rules(**made).chosen if made.keys() <= _RULES else {}
            finish |= Finish(**made).chosen if made.keys() <= _FINISH else {}
            tiles = read if name == "tiles" else tiles
        except (ValueError, KeyError, InvalidPrompt):
            wrong.append(f"{name}={quoted(value)} is not {option.wanted}")
    return Choices(Rules(**rules), Finish(**finish), tiles), wrong


def _text(value: object) -> str:
    """A value of JSON as an attribute has it. Raises ValueError for lists and objects."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value).strip()
    raise ValueError(value)


def quoted(value: object) -> str:
    """For a sentence: in quotes, on one line, not too long."""
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return f'"{text}"' if len(text) <= 60 else f'"{text[:57]}..."'
