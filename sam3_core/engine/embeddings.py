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

from sam3_core.errors import Dropped
from sam3_core.timing import stage
from sam3_core.types import CacheInfo, CacheTier

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

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


class _Tier:
    """One memory: embeddings within so many bytes, least recently used first. The caller holds the cache's lock."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._kept: OrderedDict[Key, Embedding] = OrderedDict()
        self._bytes = 0
        self._evictions = 0

    def find(self, key: Key) -> Embedding | None:
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def take(self, key: Key) -> Embedding | None:
        found = self._kept.pop(key, None)
        self._bytes -= 0 if found is None else found.nbytes
        return found

    def put(self, key: Key, embedding: Embedding) -> list[tuple[Key, Embedding]]:
        """Keep a new one; returns what finds no room now: the longest unused, or this one if it is too large."""
        if embedding.nbytes > self.capacity:
            return [(key, embedding)]
        self._kept[key] = embedding
        self._bytes += embedding.nbytes
        gone = []
        while self._bytes > self.capacity:
            gone.append(self._kept.popitem(last=False))
            self._bytes -= gone[-1][1].nbytes
        self._evictions += len(gone)
        return gone

    def info(self) -> CacheTier:
        return CacheTier(self._bytes, len(self._kept), self._evictions)


class EmbeddingCache:
    """Least recently used embeddings in two memories, each bounded in bytes; safe from any thread.

    What the device's memory gives up moves to main memory, and back when it is asked for again. Copies are made
    without the lock: meanwhile an embedding that leaves is still served, one that returns is waited for.
    An embedding is always in one of four places: device, leaving, host, coming.

    Several requests for one new picture compute it once: the first does, the others wait for it. A failure
    reaches all who waited and is not kept; only when the first was dropped does the next one take over.
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
        self._coming: dict[Key, Future[Embedding]] = {}
        self._to_host, self._to_device = to_host, to_device
        self._hits = self._misses = 0

    def get(self, key: Key, compute: Callable[[], Embedding]) -> Embedding:
        """The embedding under key, on the device; raises what compute raises."""
        while True:
            with self._lock:
                here = self._device.find(key) or self._leaving.get(key)
                coming = self._coming.get(key)
                if here is None and coming is None:
                    stored = self._host.take(key)
                    mine = self._coming[key] = Future()
            if here is not None:
                self._count(hit=True)
                return here
            if coming is None:
                self._count(hit=stored is not None)
                return self._bring(key, compute if stored is None else partial(self._to_device, stored), mine)
            try:
                return self._wait(coming)
            except Dropped:
                continue

    def info(self) -> CacheInfo:
        with self._lock:
            return CacheInfo(self._hits, self._misses, self._device.info(), self._host.info())

    def _count(self, *, hit: bool) -> None:
        with self._lock:
            self._hits += hit
            self._misses += not hit

    def _wait(self, coming: Future[Embedding]) -> Embedding:
        with stage("queue"):
            problem = coming.exception()
        if not isinstance(problem, Dropped):
            self._count(hit=problem is None)
        return coming.result()

    def _bring(self, key: Key, make: Callable[[], Embedding], mine: Future[Embedding]) -> Embedding:
        try:
            embedding = make()
        except BaseException as error:
            with self._lock:
                del self._coming[key]
            mine.set_exception(error)
            raise
        with self._lock:
            leaving = self._device.put(key, embedding)
            self._leaving.update(leaving)
            del self._coming[key]
        mine.set_result(embedding)
        for entry in leaving:
            self._move_out(*entry)
        return embedding

    def _move_out(self, key: Key, embedding: Embedding) -> None:
        moved = None
        try:
            if embedding.nbytes <= self._host.capacity:
                moved = self._to_host(embedding)
        except (RuntimeError, MemoryError):  # a copy that cannot be kept is no reason to fail the request
            logger.exception("an embedding of %d bytes could not be moved to main memory", embedding.nbytes)
        with self._lock:
            del self._leaving[key]
            if moved is not None:
                self._host.put(key, moved)
