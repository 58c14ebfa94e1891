"""Image embeddings kept in memory: the expensive part of every prompt, computed once per picture."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from sam3_core.caller import Lane, Waits
from sam3_core.errors import Busy, Dropped, OutOfTime
from sam3_core.timing import stage
from sam3_core.types import CacheInfo, CacheTier

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

_OF_THE_FIRST = (Dropped, Busy)  # OutOfTime is a Busy

Key = tuple[str, Literal["vision", "clicks"]]
"""The image's key, and for which head: ``vision`` feeds concepts and the click maps, ``clicks`` every click."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """What is kept of one image for one head.

    tensors: in the model's dtype. For ``vision`` the encoder's last hidden state, ``(1, N, C)``, before the
    detector's neck, which costs 4 % of it and gives 10 times its size; for ``clicks`` the three maps of
    ``ClickHead.embeddings``, together about as large as the hidden state.
    size: ``(width, height)`` of the image in pixels.
    """

    tensors: tuple[torch.Tensor, ...]
    size: tuple[int, int]

    @property
    def nbytes(self) -> int:
        return sum(int(tensor.nbytes) for tensor in self.tensors)

    def to(self, device: str) -> Embedding:
        """The same on another device, as copies."""
        return Embedding(tuple(tensor.to(device) for tensor in self.tensors), self.size)


_Entry = tuple[Key, Embedding, Lane]


class _Tier:
    """One memory: embeddings within so many bytes, least recently used first out; those that only bulk work used go
    before all that a person had open. The caller holds the cache's lock."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._kept: dict[Lane, OrderedDict[Key, Embedding]] = {lane: OrderedDict() for lane in Lane}
        self._bytes = 0
        self._evictions = 0

    def find(self, key: Key, lane: Lane) -> Embedding | None:
        """Once a person has asked for one, it stays a person's."""
        theirs = Lane.CLICK if key in self._kept[Lane.CLICK] else lane
        found = self._pop(key)
        if found is not None:
            self._kept[theirs][key] = found
        return found

    def take(self, key: Key) -> Embedding | None:
        found = self._pop(key)
        self._bytes -= 0 if found is None else found.nbytes
        return found

    def put(self, key: Key, embedding: Embedding, lane: Lane) -> list[_Entry]:
        """Keep a new one; returns what finds no room now: the longest unused, or this one if it is too large."""
        if embedding.nbytes > self.capacity:
            return [(key, embedding, lane)]
        self._kept[lane][key] = embedding
        self._bytes += embedding.nbytes
        gone = self._drop(self.capacity)
        self._evictions += len(gone)
        return gone

    def clear(self) -> list[_Entry]:
        """Keep nothing; returns what was kept."""
        return self._drop(0)

    def _drop(self, most: int) -> list[_Entry]:
        """Let go until at most so many bytes are left."""
        gone: list[_Entry] = []
        while self._bytes > most:
            lane = Lane.BULK if self._kept[Lane.BULK] else Lane.CLICK
            key, embedding = self._kept[lane].popitem(last=False)
            self._bytes -= embedding.nbytes
            gone.append((key, embedding, lane))
        return gone

    def _pop(self, key: Key) -> Embedding | None:
        return self._kept[Lane.CLICK].pop(key, None) or self._kept[Lane.BULK].pop(key, None)

    def info(self) -> CacheTier:
        return CacheTier(self._bytes, sum(map(len, self._kept.values())), self._evictions)


class _Coming:
    """An embedding that is being made, for all who wait for it.

    It stands in line as the first one's work, but where a person is among those who wait as a person's, and it is
    wanted while anybody is left.
    """

    def __init__(self, first: Waits) -> None:
        self.future: Future[Embedding] = Future()
        self.callers = [first]

    @property
    def lane(self) -> Lane:
        return Lane.CLICK if any(caller.lane is Lane.CLICK for caller in self.callers) else Lane.BULK

    @property
    def seconds_left(self) -> float:
        """The first one's: it is its thread that does the work."""
        return self.callers[0].seconds_left

    def check(self) -> None:
        """Raises as the first one when nobody wants it any more."""
        if not any(map(_waits, self.callers[1:])):
            self.callers[0].check()


def _waits(caller: Waits) -> bool:
    try:
        caller.check()
    except _OF_THE_FIRST:
        return False
    return True


class EmbeddingCache:
    """Least recently used embeddings in two memories, each bounded in bytes; safe from any thread.

    What the device's memory gives up moves to main memory, and back when it is asked for again. Copies are made
    without the lock: meanwhile an embedding that leaves is still served, one that returns is waited for.
    An embedding is always in one of four places: device, leaving, host, coming.

    Several requests for one new picture compute it once: the first does, the others wait for it, and when a person is
    among them, its work is done as a person's. A failure reaches all who waited and is not kept; only when it was the
    first one's own (dropped, out of time, no place in line) does the next one take over.
    """

    def __init__(
        self,
        device_bytes: int,
        host_bytes: int = 0,
        *,
        to_host: Callable[[Embedding], Embedding],
        to_device: Callable[[Embedding], Embedding],
    ) -> None:
        """host_bytes: 0 where the model's memory is main memory: what it gives up is gone."""
        self._lock = threading.Lock()
        self._device, self._host = _Tier(device_bytes), _Tier(host_bytes)
        self._leaving: dict[Key, Embedding] = {}
        self._coming: dict[Key, _Coming] = {}
        self._to_host, self._to_device = to_host, to_device
        self._hits = self._misses = 0

    def get(self, key: Key, compute: Callable[[Waits], Embedding], caller: Waits) -> Embedding:
        """The embedding under key, on the device; raises what compute raises, and OutOfTime at the caller's deadline.

        compute: gets who waits for it, which may become more than the caller.
        """
        while True:
            with self._lock:
                here = self._device.find(key, caller.lane) or self._leaving.get(key)
                coming = self._coming.get(key)
                if here is None and coming is None:
                    stored = self._host.take(key)
                    mine = self._coming[key] = _Coming(caller)
            if here is not None:
                self._count(hit=True)
                return here
            if coming is None:
                self._count(hit=stored is not None)
                make = partial(compute, mine) if stored is None else partial(self._to_device, stored)
                return self._bring(key, make, mine)
            try:
                return self._wait(coming, caller)
            except _OF_THE_FIRST:
                caller.check()

    def give_up_device(self) -> None:
        """Move everything out of the device's memory, because that is wanted more urgently."""
        with self._lock:
            leaving = self._device.clear()
            self._leaving.update({key: embedding for key, embedding, _ in leaving})
        for entry in leaving:
            self._move_out(*entry)

    def info(self) -> CacheInfo:
        with self._lock:
            return CacheInfo(self._hits, self._misses, self._device.info(), self._host.info())

    def _count(self, *, hit: bool) -> None:
        with self._lock:
            self._hits += hit
            self._misses += not hit

    def _wait(self, coming: _Coming, caller: Waits) -> Embedding:
        coming.callers.append(caller)
        with stage("queue"):
            try:
                problem = coming.future.exception(min(caller.seconds_left, threading.TIMEOUT_MAX))
            except TimeoutError:
                raise OutOfTime("the time for this request ran out while another encoded the image") from None
        if not isinstance(problem, _OF_THE_FIRST):
            self._count(hit=problem is None)
        return coming.future.result()

    def _bring(self, key: Key, make: Callable[[], Embedding], mine: _Coming) -> Embedding:
        try:
            embedding = make()
        except BaseException as error:
            with self._lock:
                del self._coming[key]
            mine.future.set_exception(error)
            raise
        with self._lock:
            leaving = self._device.put(key, embedding, mine.lane)
            self._leaving.update({key: embedding for key, embedding, _ in leaving})
            del self._coming[key]
        mine.future.set_result(embedding)
        for entry in leaving:
            self._move_out(*entry)
        return embedding

    def _move_out(self, key: Key, embedding: Embedding, lane: Lane) -> None:
        moved = None
        try:
            if embedding.nbytes <= self._host.capacity:
                moved = self._to_host(embedding)
        except (RuntimeError, MemoryError):  # a copy that cannot be kept is no reason to fail the request
            logger.exception("an embedding of %d bytes could not be moved to main memory", embedding.nbytes)
        with self._lock:
            del self._leaving[key]
            if moved is not None:
                self._host.put(key, moved, lane)
