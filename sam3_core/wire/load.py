"""How busy a server's device is, as a part of what it tells about itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import Self

from sam3_core.caller import Lane
from sam3_core.load import LaneLoad, Load, MemoryLoad, PassLoad
from sam3_core.wire.base import Answered


class WireLane(Answered):
    """``sam3_core.load.LaneLoad``; lane is text, as a newer server may have more of them."""

    lane: str
    waiting: int = 0
    done: int = 0
    dropped: int = 0
    refused: int = 0


class WirePass(Answered):
    """``sam3_core.load.PassLoad``."""

    kind: str
    seconds: float = 0.0
    sizes: tuple[tuple[int, int], ...] = ()
    limit: int = 0
    out_of_memory: int = 0


class WireMemory(Answered):
    """``sam3_core.load.MemoryLoad``, in bytes."""

    used: int = 0
    peak: int = 0
    total: int = 0


class WireLoad(Answered):
    """``sam3_core.load.Load``."""

    lanes: tuple[WireLane, ...] = ()
    passes: tuple[WirePass, ...] = ()
    memory: WireMemory = WireMemory()

    @classmethod
    def of(cls, load: Load) -> Self:
        return cls(
            lanes=tuple(WireLane(**(asdict(lane) | {"lane": lane.lane.value})) for lane in load.lanes),
            passes=tuple(WirePass(**asdict(one)) for one in load.passes),
            memory=WireMemory(**asdict(load.memory)),
        )

    def load(self) -> Load:
        """Lanes that are unknown here are left out."""
        known = {lane.value: lane for lane in Lane}
        return Load(
            lanes=tuple(
                LaneLoad(known[x.lane], x.waiting, x.done, x.dropped, x.refused)
                for x in self.lanes
                if x.lane in known
            ),
            passes=tuple(PassLoad(x.kind, x.seconds, x.sizes, x.limit, x.out_of_memory) for x in self.passes),
            memory=MemoryLoad(self.memory.used, self.memory.peak, self.memory.total),
        )
