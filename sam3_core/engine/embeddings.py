"""Image embeddings kept in memory: the expensive part of every prompt, computed once per picture."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """The vision encoder's last hidden state, before the necks, which cost 4 % of it and give 10 times its size.

    hidden: ``(1, N, C)`` in the model's dtype, on its device. size: ``(width, height)`` of the image in pixels.
    """

    hidden: torch.Tensor
    size: tuple[int, int]

    @property
    def nbytes(self) -> int:
        return int(self.hidden.nbytes)


class EmbeddingCache:
    """Least recently used embeddings, bounded in bytes; safe from any thread.

    Several requests for one new picture compute it once: the first does, the others wait for it. A failure
    reaches all who waited and is not kept.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Embedding] = OrderedDict()
        self._bytes = 0
        self._coming: dict[str, Future[Embedding]] = {}

    def get(self, key: str, compute: Callable[[], Embedding]) -> Embedding:
        """The embedding under key; raises what compute raises."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
            coming = self._coming.get(key)
            mine = coming is None
            if coming is None:
                coming = self._coming[key] = Future()
        return self._compute(key, compute, coming) if mine else coming.result()

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def _compute(self, key: str, compute: Callable[[], Embedding], coming: Future[Embedding]) -> Embedding:
        try:
            embedding = compute()
        except BaseException as error:
            with self._lock:
                del self._coming[key]
            coming.set_exception(error)
            raise
        with self._lock:
            self._keep(key, embedding)
            del self._coming[key]
        coming.set_result(embedding)
        return embedding

    def _keep(self, key: str, embedding: Embedding) -> None:
        if embedding.nbytes > self._capacity:
            return
        self._kept[key] = embedding
        self._bytes += embedding.nbytes
        while self._bytes > self._capacity:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= gone.nbytes
