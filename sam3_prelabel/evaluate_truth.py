"""What ``evaluate`` measures against: pictures, and what people say is on them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sam3_core import Mask
from sam3_core.errors import InvalidInput
from sam3_core.learning.examples import Truth
from sam3_prelabel.prompts import Prompt


@dataclass(slots=True)
class Shown:
    """What is on one picture.

    truth: by label. crowds: by label, regions where there are too many to outline each: what is found there counts
    neither way. unclear: labels of which something could not be read, so that nothing can be said about them.
    problems: sentences on what could not be read.
    """

    truth: dict[str, list[Truth]] = field(default_factory=dict)
    crowds: dict[str, list[Mask]] = field(default_factory=dict)
    unclear: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


class Picture(Protocol):
    """One picture of a data set."""

    @property
    def name(self) -> str:
        """What the data set calls it."""
        ...

    def data(self) -> bytes:
        """The encoded file. Raises OSError or Sam3Error."""
        ...

    def shown(self, size: tuple[int, int]) -> Shown:
        """What is on it. size: ``(width, height)`` as displayed. Raises InvalidInput where nothing can be said."""
        ...


@dataclass(frozen=True, slots=True)
class DataSet:
    """prompts: what is asked for each label. problems: of entries that belong to no picture."""

    prompts: Mapping[str, Prompt]
    pictures: Sequence[Picture]
    problems: tuple[str, ...] = ()


def read_json(path: Path) -> Any:
    """What a file says. Raises OSError, and InvalidInput for what is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise InvalidInput(f"{path} is nested too deeply") from None
    except ValueError as error:
        raise InvalidInput(f"{path} is not JSON: {error}") from None


def file_below(folder: Path, name: str) -> Path:
    """A file by its path below a folder. Raises InvalidInput for one that leads out of it or is not there."""
    try:
        path = (folder / name).resolve()
        inside = path.is_relative_to(folder.resolve())
        there = inside and path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        inside = there = False
    if not there:
        raise InvalidInput(f"there is no such file in {folder}")
    return path
