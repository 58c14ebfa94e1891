"""How busy the device is: what ``Segmenter.info`` tells for status pages and metrics."""

from __future__ import annotations

from dataclasses import dataclass

from sam3_core.caller import Lane


@dataclass(frozen=True, slots=True)
class LaneLoad:
    """One lane. waiting: pieces of work in line now; the rest counts since the start.

    done: pieces that ran. dropped: that nobody waited for any more, or whose time was spent, when their turn came.
    refused: that found the line full.
    """

    lane: Lane
    waiting: int = 0
    done: int = 0
    dropped: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class PassLoad:
    """One kind of pass through the model (``vision``, ``concepts``, ``clicks``), since the start.

    seconds: on the device. sizes: how often so many items went through together, ``(items, passes)``, ascending.
    limit: most items of one pass as memory allows now. out_of_memory: passes that broke for want of it.
    """

    kind: str
    seconds: float = 0.0
    sizes: tuple[tuple[int, int], ...] = ()
    limit: int = 0
    out_of_memory: int = 0


@dataclass(frozen=True, slots=True)
class MemoryLoad:
    """The device's memory in bytes: taken by this process, at most so far, and there at all; 0 where not known."""

    used: int = 0
    peak: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """The device at this moment."""

    lanes: tuple[LaneLoad, ...] = ()
    passes: tuple[PassLoad, ...] = ()
    memory: MemoryLoad = MemoryLoad()


IDLE = Load()
