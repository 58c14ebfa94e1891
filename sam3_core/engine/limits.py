"""How many items one pass takes: from the memory that passes were seen to need, not from a table of devices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Meter(Protocol):
    """Measures what a block needs. exact: whether what it says can be relied on to the byte."""

    exact: bool

    def reset(self) -> int:
        """Forget the peak; bytes in use now."""
        ...

    def peak(self) -> int:
        """Most bytes in use since."""
        ...


class BatchLimit:
    """The most items of one kind of pass. One thread at a time may use it; ``most`` may be read from any.

    Until a pass was measured it goes by the model's own sizes; from then on by what the largest pass so far took,
    item for item (and, where the meter is not exact, by the larger of the two). A single item is always tried.
    """

    def __init__(self, budget: int, guess: int, meter: Meter) -> None:
        """budget: bytes for one pass, beside what is in memory anyway. guess: bytes for one item."""
        self._budget, self._guess, self._meter = budget, guess, meter
        self._measured = 0  # items of the largest pass
        self._ceiling: int | None = None
        self.most = max(1, budget // guess)

    @contextmanager
    def watching(self, items: int) -> Iterator[None]:
        """Measure the pass of the block, where it is larger than all before."""
        if items <= self._measured:
            yield
            return
        before = self._meter.reset()
        yield
        self._measured, needed = items, max(1, (self._meter.peak() - before) // items)
        self._set(self._budget // (needed if self._meter.exact else max(needed, self._guess)))

    def broke(self, items: int) -> None:
        """So many items found no memory: from now on at most half as many."""
        self._ceiling = max(1, items // 2)
        self._set(self.most)

    def _set(self, most: int) -> None:
        self.most = max(1, most if self._ceiling is None else min(most, self._ceiling))
