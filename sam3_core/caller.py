"""Who waits for an answer: in which lane, for how long, and whether still."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from sam3_core.errors import Dropped, OutOfTime


class Lane(StrEnum):
    """Where work waits for the device. People who look at the screen come first; bulk has a share all the same."""

    CLICK = "click"
    BULK = "bulk"


class Waits(Protocol):
    """What a line needs to know of those who stand in it."""

    @property
    def lane(self) -> Lane:
        """It may become a quicker one while they wait."""
        ...

    @property
    def seconds_left(self) -> float:
        """Until the answer is of no use; may be infinite."""
        ...

    def check(self) -> None:
        """Raises Dropped or OutOfTime when nobody waits any more."""
        ...


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Caller:
    """One request's claim on the device.

    deadline: of ``time.monotonic``; later the answer is of no use. wanted: whether anybody still waits for it; asked
    from any thread, each time before work goes to the device, so it must be quick.
    """

    lane: Lane = Lane.BULK
    deadline: float = math.inf
    wanted: Callable[[], bool] = field(default=_always, repr=False)

    @classmethod
    def within(cls, seconds: float, lane: Lane = Lane.BULK) -> Caller:
        """A caller who waits so many seconds from now."""
        return cls(lane, time.monotonic() + seconds)

    @property
    def seconds_left(self) -> float:
        """Until the deadline; 0 after it, infinite without one."""
        return max(0.0, self.deadline - time.monotonic())

    def sooner(self, deadline: float) -> Caller:
        """The same, who waits until this deadline at most."""
        return replace(self, deadline=min(self.deadline, deadline))

    def check(self) -> None:
        """Raises Dropped when nobody waits any more, OutOfTime after the deadline."""
        if not self.wanted():
            raise Dropped("a newer request took the place of this one, or its sender left")
        if time.monotonic() > self.deadline:
            raise OutOfTime("the time for this request ran out before the model came to it; try again in a moment")


CLICK, BULK = Caller(Lane.CLICK), Caller(Lane.BULK)
"""Callers who wait however long it takes."""
