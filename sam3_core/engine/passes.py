"""Passes through the model: what goes through together, and what happens when it does not go through."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sam3_core.caller import Waits
from sam3_core.engine.limits import BatchLimit
from sam3_core.errors import ModelUnavailable, OutOfMemory

logger = logging.getLogger(__name__)

I = TypeVar("I")  # noqa: E741 - an item
O = TypeVar("O")  # noqa: E741 - its outcome

_STRIKES = 5  # passes of a single item in a row that break for want of memory: then it is the device


@dataclass(eq=False)
class Pass(Generic[I, O]):
    """One kind of pass. Items of one kind, whoever asked, can go through together.

    run: items to their outcomes, in order; called in the device's thread alone. stage: of ``sam3_core.timing``, what
    the time counts as.
    """

    name: str
    stage: str
    run: Callable[[Sequence[I]], Sequence[O]]
    limit: BatchLimit
    seconds: float = 0.0
    sizes: dict[int, int] = field(default_factory=dict)
    out_of_memory: int = 0
    item_seconds: float = 0.0  # smoothed

    def count(self, items: int, seconds: float) -> None:
        """Take note of a pass that went well."""
        self.seconds += seconds
        self.sizes[items] = self.sizes.get(items, 0) + 1
        each = seconds / items
        self.item_seconds = 0.7 * self.item_seconds + 0.3 * each if self.item_seconds else each


@dataclass(eq=False)
class Piece:
    """What one caller wants of one kind of pass; more than one pass may be needed for it."""

    kind: Pass[Any, Any]
    items: Sequence[Any]
    caller: Waits
    since: float = field(default_factory=time.monotonic)
    outcomes: list[Any] = field(default_factory=list)
    running: float = 0.0  # seconds
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def left(self) -> int:
        """Items without an outcome so far."""
        return len(self.items) - len(self.outcomes)

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more will be done for it."""
        self.error = error
        self.done.set()


@dataclass(eq=False)
class Batch:
    """Items of one or several pieces of one kind that go through together: so many of each."""

    kind: Pass[Any, Any]
    shares: list[tuple[Piece, int]]

    @property
    def size(self) -> int:
        """Items altogether."""
        return sum(count for _, count in self.shares)

    def items(self) -> list[Any]:
        """The next ones of each piece."""
        return [item for piece, count in self.shares for item in piece.items[len(piece.outcomes) :][:count]]

    def parts(self, most: int) -> Iterator[Batch]:
        """In parts of one piece and at most so many items. Each is to be run, or its piece ended, before the next."""
        for piece, count in self.shares:
            while count and not piece.done.is_set():
                step = min(count, most)
                yield Batch(self.kind, [(piece, step)])
                count -= step


@dataclass(frozen=True, slots=True)
class Device:
    """What a runner must know of the hardware.

    is_out_of_memory: whether an error says that memory was wanting. is_fatal: whether one means that the device will
    not work again in this process. free: gives back all memory that can be spared.
    """

    is_out_of_memory: Callable[[BaseException], bool]
    is_fatal: Callable[[BaseException], bool]
    free: Callable[[], None]


class Runner:
    """Runs batches, smaller or in parts where one does not go through as it is. For one thread.

    broken: why the device does not work any more; empty while it does.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._strikes = 0
        self.broken = ""

    def run(self, batch: Batch) -> None:
        """Every piece of the batch has its outcomes, or has ended, afterwards. Never raises."""
        try:
            self._go(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is its callers'
            traceback.clear_frames(error.__traceback__)  # they hold the tensors of the pass
            if self._device.is_fatal(error):
                self.give_up(batch, error)
            elif self._device.is_out_of_memory(error):
                self._run_smaller(batch)
            elif len(batch.shares) > 1:
                for share in batch.shares:
                    self.run(Batch(batch.kind, [share]))
            else:
                batch.shares[0][0].end(error)

    def give_up(self, batch: Batch, error: BaseException) -> None:
        """The device is broken, and the pieces of the batch end."""
        logger.error("the device stopped working", exc_info=error)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        self.broken = f"the device stopped working ({reason}); this process has to be started again"
        for piece, _ in batch.shares:
            if not piece.done.is_set():
                piece.end(ModelUnavailable(self.broken))

    def _run_smaller(self, batch: Batch) -> None:
        """After a pass that broke for want of memory: halves of it, and of these, with all memory that can be had."""
        self._note(batch)
        self._device.free()
        for part in batch.parts(max(1, batch.size // 2)):
            if batch.size > 1:
                self.run(part)
            else:
                self._run_last(part)

    def _run_last(self, batch: Batch) -> None:
        """A single item that broke once before the memory was freed."""
        piece = batch.shares[0][0]
        try:
            self._go(batch)
        except Exception as error:  # noqa: BLE001 - as above
            traceback.clear_frames(error.__traceback__)
            if not self._device.is_out_of_memory(error):
                piece.end(error)
                return
            self._note(batch)
            self._strikes += 1
            kind = batch.kind.name
            piece.end(OutOfMemory(f"the device has no memory for the {kind} of this request; try again later"))
            if self._strikes >= _STRIKES:
                self.give_up(batch, OutOfMemory(f"{self._strikes} passes in a row found no memory"))

    def _note(self, batch: Batch) -> None:
        kind, size = batch.kind, batch.size
        kind.out_of_memory += 1
        kind.limit.broke(size)
        logger.warning("no memory for %d %s in one pass: at most %d from now on", size, kind.name, kind.limit.most)

    def _go(self, batch: Batch) -> None:
        """One pass; its outcomes go to the pieces."""
        items = batch.items()
        started = time.monotonic()
        with batch.kind.limit.watching(len(items)):
            outcomes = batch.kind.run(items)
        for (piece, count), start in zip(batch.shares, _starts(batch), strict=True):
            piece.outcomes += outcomes[start : start + count]
        batch.kind.count(len(items), time.monotonic() - started)
        self._strikes = 0


def _starts(batch: Batch) -> Iterator[int]:
    """Where each share's items begin."""
    start = 0
    for _, count in batch.shares:
        yield start
        start += count
