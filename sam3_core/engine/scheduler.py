"""The one owner of the device: two lanes, clicks before bulk, and work of different callers merged into one pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sam3_core.caller import Lane, Waits
from sam3_core.engine.passes import Batch, Device, I, O, Pass, Piece, Runner
from sam3_core.errors import Busy, ModelUnavailable, OutOfTime
from sam3_core.load import LaneLoad, PassLoad
from sam3_core.timing import spent

_WORKING = 30.0  # seconds after a click for which people count as working
_PASS_SECONDS = 0.1  # of a pass while people work: what a click may have to wait for


class Scheduler:
    """Runs passes in a thread of its own. ``do`` may be called from any other thread.

    Clicks go first. Bulk goes ahead of waiting clicks once these have had, since its last pass, so much time that
    bulk gets its share. Nobody waits for company: a pass takes what is in line when the device gets free. While
    people click passes are kept short, for one that runs is not interrupted, and who needs several passes goes to the
    end of the line after each.

    Where a pass breaks for want of memory its size is remembered, caches are emptied and the items go through again
    in halves; one that does not fit even alone ends with OutOfMemory. Any other error ends the piece it belongs to:
    those that went through with it are run again alone.
    """

    def __init__(
        self,
        device: Device,
        *,
        bulk_share: float,
        most_waiting: int,
        on_broken: Callable[[str], None] | None = None,
    ) -> None:
        """bulk_share: of the device's time while both lanes wait, between 0 and 1. most_waiting: pieces in each lane.

        on_broken: called once, in the device's thread, with a sentence, when the device will not work again.
        """
        self._allowance = (1 - bulk_share) / bulk_share
        self._most_waiting = most_waiting
        self._on_broken = on_broken
        self._runner = Runner(device)
        self._waiting: list[Piece] = []
        self._changed = threading.Condition()
        self._counts = {lane: {"done": 0, "dropped": 0, "refused": 0} for lane in Lane}
        self._kinds: list[Pass[Any, Any]] = []
        self._bulk_pass, self._clicks_since = _PASS_SECONDS, 0.0
        self._last_click = -_WORKING
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="sam3-device", daemon=True)
        self._thread.start()

    def add(self, kind: Pass[I, O]) -> Pass[I, O]:
        """Make a kind known to ``passes``. Returns it."""
        self._kinds.append(kind)
        return kind

    def do(self, kind: Pass[I, O], items: Sequence[I], caller: Waits) -> list[O]:
        """The outcomes of items, in order, when their turn has come. Counts the wait as the stage ``queue``.

        Raises Busy at once when the caller's lane is full, OutOfTime at the caller's deadline, Dropped when nobody
        waits any more by the time of a turn, OutOfMemory, ModelUnavailable after ``close`` or when the device broke,
        and what ``kind.run`` raises.
        """
        if not items:
            return []
        piece = Piece(kind, items, caller)
        with self._changed:
            self._admit(piece)
            self._waiting.append(piece)
            self._changed.notify()
        if not piece.done.wait(min(caller.seconds_left, threading.TIMEOUT_MAX)):
            piece.end(OutOfTime("the time for this request ran out while it waited for the model; try again later"))
        spent("queue", max(0.0, time.monotonic() - piece.since - piece.running))
        spent(kind.stage, piece.running)
        if piece.error is not None:
            raise piece.error
        return piece.outcomes

    @property
    def broken(self) -> str:
        """Why the device does not work any more; empty while it does."""
        return self._runner.broken

    def lanes(self) -> tuple[LaneLoad, ...]:
        """How the lanes stand now."""
        with self._changed:
            waiting = [piece.caller.lane for piece in self._waiting]
            return tuple(LaneLoad(lane, waiting.count(lane), **self._counts[lane]) for lane in Lane)

    def passes(self) -> tuple[PassLoad, ...]:
        """What went through so far, by kind."""
        return tuple(
            PassLoad(kind.name, kind.seconds, tuple(sorted(kind.sizes.items())), kind.limit.most, kind.out_of_memory)
            for kind in self._kinds
        )

    def close(self) -> None:
        """End the thread; what waits, and what comes, ends with ModelUnavailable. May be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _admit(self, piece: Piece) -> None:
        """The caller holds the lock. Raises Busy or ModelUnavailable."""
        if self._closed or self.broken:
            raise self._ended()
        lane = piece.caller.lane
        ahead = [one for one in self._waiting if one.caller.lane is lane and not one.done.is_set()]
        if len(ahead) >= self._most_waiting:
            self._counts[lane]["refused"] += 1
            seconds = sum(one.left * one.kind.item_seconds for one in ahead)
            raise Busy(f"{len(ahead)} others wait for the model already", retry_after=min(60.0, max(1.0, seconds)))
        if lane is Lane.CLICK:
            self._last_click = piece.since

    def _ended(self) -> ModelUnavailable:
        return ModelUnavailable(self.broken or "this segmenter was closed; start a new one")

    def _work(self) -> None:
        """The device's thread."""
        try:
            while self._turn():
                pass
        except Exception as error:  # noqa: BLE001 - a thread that dies silently would leave everybody waiting
            self._runner.give_up(Batch(self._kinds[0], []), error)
        with self._changed:
            waiting, self._waiting = self._waiting, []
        for piece in waiting:
            piece.end(self._ended())
        if self.broken and self._on_broken is not None:
            self._on_broken(self.broken)

    def _turn(self) -> bool:
        """One pass. False when there will be no more."""
        with self._changed:
            while not (self._waiting or self._closed):
                self._changed.wait()
            if self._closed:
                return False
            batch, lane = self._next()
        batch = self._still_wanted(batch, lane)
        if batch.shares:
            started = time.monotonic()
            self._runner.run(batch)
            self._settle(batch, lane, time.monotonic() - started)
        return not self.broken

    def _next(self) -> tuple[Batch, Lane]:
        """The first piece of the lane whose turn it is, and as much of its kind as may go with it, by arrival.

        The caller holds the lock, and something waits.
        """
        lines: dict[Lane, list[Piece]] = {}
        for piece in self._waiting:
            lines.setdefault(piece.caller.lane, []).append(piece)
        starved = self._clicks_since >= self._bulk_pass * self._allowance
        lane = next(iter(lines)) if len(lines) == 1 else Lane.BULK if starved else Lane.CLICK
        kind = lines[lane][0].kind
        batch, room = Batch(kind, []), self._room(kind)
        for piece in lines[lane]:
            if piece.kind is kind and room:
                count = min(room, piece.left)
                batch.shares.append((piece, count))
                room -= count
        return batch, lane

    def _room(self, kind: Pass[Any, Any]) -> int:
        """Most items for the next pass."""
        working = time.monotonic() - self._last_click < _WORKING
        if not working or not kind.item_seconds:
            return kind.limit.most
        return min(kind.limit.most, max(1, int(_PASS_SECONDS / kind.item_seconds)))

    def _still_wanted(self, batch: Batch, lane: Lane) -> Batch:
        """The batch without pieces that ended meanwhile or that nobody waits for; these leave the line.

        Without the lock: whether anybody waits is the callers' code.
        """
        for piece, _ in batch.shares:
            try:
                piece.caller.check()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is its caller's
                if not piece.done.is_set():
                    piece.end(error)
        gone = [piece for piece, _ in batch.shares if piece.done.is_set()]
        self._leave(gone, lane, "dropped")
        return Batch(batch.kind, [share for share in batch.shares if share[0] not in gone])

    def _settle(self, batch: Batch, lane: Lane, seconds: float) -> None:
        """After a pass: pieces that are through, or that failed, leave the line, the others go to its end; the lanes'
        time is counted."""
        for piece, _ in batch.shares:
            piece.running += seconds
            if not piece.left and not piece.done.is_set():
                piece.end()
        self._leave([piece for piece, _ in batch.shares if piece.done.is_set()], lane, "done")
        with self._changed:
            again = [piece for piece, _ in batch.shares if not piece.done.is_set()]
            self._waiting = [piece for piece in self._waiting if piece not in again] + again
        if lane is Lane.BULK:
            self._bulk_pass, self._clicks_since = seconds, 0.0
        elif any(piece.caller.lane is Lane.BULK for piece in self._waiting):
            self._clicks_since += seconds

    def _leave(self, pieces: Iterable[Piece], lane: Lane, how: str) -> None:
        gone = {id(piece) for piece in pieces}
        with self._changed:
            self._counts[lane][how] += len(gone)
            self._waiting = [piece for piece in self._waiting if id(piece) not in gone]
