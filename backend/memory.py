"""What the backend remembers of an annotator's last clicks, for some minutes and some megabytes.

The editor sends every pending prompt of a label with each click; once a suggestion is accepted they are gone, and the
next click comes alone. What it continues is then known only here, and in the regions that ride along.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from backend.prompts import Drawing
from sam3_core import Box, Mask, Point

_SECONDS = 900.0
_BYTES = 64 << 20
_PLACES = 1000
_PER_PLACE = 12  # answers remembered of one label on one picture

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Where(NamedTuple):
    """What clicks have to share to be about the same object: project, task, image tag, page and label."""

    project: str
    task: int | str | None
    image: str
    page: int | None
    label: str


@dataclass(frozen=True, slots=True, eq=False)
class PackedMask:
    """A mask, not empty, at an eighth of its size. packed: its bits, row by row as ``np.packbits`` packs them all."""

    packed: NDArray[np.uint8]
    shape: tuple[int, int]
    x: int
    y: int
    frame: tuple[int, int]

    @classmethod
    def of(cls, mask: Mask) -> PackedMask:
        height, width = mask.bits.shape
        return cls(np.packbits(mask.bits), (height, width), mask.x, mask.y, mask.frame)

    @property
    def box(self) -> Box:
        """The crop's place."""
        height, width = self.shape
        return Box(self.x, self.y, self.x + width, self.y + height)

    def contains(self, point: Point) -> bool:
        """Whether a point is on it. Nothing is unpacked for that."""
        height, width = self.shape
        column, row = math.floor(point.x) - self.x, math.floor(point.y) - self.y
        if not (0 <= column < width and 0 <= row < height):
            return False
        byte, bit = divmod(row * width + column, 8)
        return bool(self.packed[byte] >> (7 - bit) & 1)

    def mask(self) -> Mask:
        """The mask, as it was."""
        height, width = self.shape
        bits = np.unpackbits(self.packed, count=height * width).view(np.bool_).reshape(height, width)
        return Mask(bits, self.x, self.y, self.frame)


@dataclass(frozen=True, slots=True)
class Answer:
    """The outline that some prompts got.

    origins: ids of the prompts' regions. region: the answer's id; control: the name of the control it went to.
    """

    origins: frozenset[str]
    drawing: Drawing
    region: str
    control: str
    outline: PackedMask


class _Short(Generic[K, V]):
    """A dict that forgets: what was not used for a while, and what is too much. Not locked."""

    def __init__(self, *, entries: int, size: int, seconds: float) -> None:
        self._limits = (entries, size)
        self._seconds = seconds
        self._held: OrderedDict[K, tuple[V, int, float]] = OrderedDict()
        self._bytes = 0

    def get(self, key: K) -> V | None:
        held = self._held.pop(key, None)
        if held is None:
            return None
        value, size, since = held
        if time.monotonic() - since > self._seconds:
            self._bytes -= size
            return None
        self._held[key] = (value, size, time.monotonic())
        return value

    def put(self, key: K, value: V, size: int) -> None:
        _, before, _ = self._held.pop(key, (None, 0, 0.0))
        self._held[key] = (value, size, time.monotonic())
        self._bytes += size - before
        while self._held and (len(self._held) > self._limits[0] or self._bytes > self._limits[1]):
            _, (_, gone, _) = self._held.popitem(last=False)
            self._bytes -= gone


@dataclass(slots=True)
class ShortMemory:
    """The last answers, and stored masks that were read. One per process; callable from any thread."""

    seconds: float = _SECONDS
    size: int = _BYTES
    _answers: _Short[Where, tuple[Answer, ...]] = field(init=False)
    _masks: _Short[Hashable, PackedMask] = field(init=False)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._answers = _Short(entries=_PLACES, size=self.size // 2, seconds=self.seconds)
        self._masks = _Short(entries=_PLACES * _PER_PLACE, size=self.size // 2, seconds=self.seconds)

    def answers(self, where: Where) -> tuple[Answer, ...]:
        """The last answers there, newest first."""
        with self._lock:
            return self._answers.get(where) or ()

    def remember(self, where: Where, answer: Answer) -> None:
        """Keep an answer. The same prompts asked again replace what they got before."""
        if where.task is None:  # tasks without an id would all be one
            return
        with self._lock:
            before = self._answers.get(where) or ()
            others = (known for known in before if (known.region, known.origins) != (answer.region, answer.origins))
            kept = (answer, *others)[:_PER_PLACE]
            self._answers.put(where, kept, sum(known.outline.packed.nbytes for known in kept))

    def mask(self, key: Hashable) -> PackedMask | None:
        """A stored mask that was read before."""
        with self._lock:
            return self._masks.get(key)

    def remember_mask(self, key: Hashable, mask: PackedMask) -> None:
        """Keep a stored mask under what names it."""
        with self._lock:
            self._masks.put(key, mask, mask.packed.nbytes)
