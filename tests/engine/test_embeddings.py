from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sam3_core.engine.embeddings import Embedding, EmbeddingCache


class Computer:
    """Makes embeddings of 400 bytes and remembers for which keys."""

    def __init__(self, cache: EmbeddingCache) -> None:
        self.cache = cache
        self.made: list[str] = []

    def __call__(self, key: str) -> Embedding:
        def compute() -> Embedding:
            self.made.append(key)
            return Embedding(torch.zeros(1, 10, 10), (7, 5))

        return self.cache.get(key, compute)


def test_keeps_what_was_used_last_within_its_bytes() -> None:
    get = Computer(EmbeddingCache(800))
    first = get("a")
    assert first.nbytes == 400
    get("b")
    assert get("a") is first
    get("c")  # b, used longest ago, goes
    assert get("a") is first
    get("c")
    assert get.made == ["a", "b", "c"]
    get("b")
    assert get.made == ["a", "b", "c", "b"]


@pytest.mark.parametrize("capacity", [0, 399])
def test_without_room_it_still_answers(capacity: int) -> None:
    get = Computer(EmbeddingCache(capacity))
    get("a")
    get("a")
    assert get.made == ["a", "a"]


def test_clear_forgets() -> None:
    get = Computer(EmbeddingCache(400))
    get("a")
    get.cache.clear()
    get("a")
    get("a")
    assert get.made == ["a", "a"]
    get("b")  # and the bytes are counted from zero again
    get("b")
    assert get.made == ["a", "a", "b"]


def test_concurrent_requests_for_one_picture_compute_it_once() -> None:
    cache = EmbeddingCache(4000)
    started, go = threading.Event(), threading.Event()
    made: list[str] = []

    def slow() -> Embedding:
        made.append("a")
        started.set()
        assert go.wait(30)
        return Embedding(torch.zeros(1, 1, 1), (1, 1))

    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(cache.get, "a", slow)
        assert started.wait(30)
        others = [pool.submit(cache.get, "a", slow) for _ in range(7)]
        other_picture = pool.submit(Computer(cache), "b")
        assert other_picture.result(30).nbytes == 400  # not held up by the slow one
        assert not any(future.done() for future in others)
        go.set()
        embedding = first.result(30)
        assert all(future.result(30) is embedding for future in others)
    assert made == ["a"]


def test_a_failure_reaches_all_and_is_not_kept() -> None:
    cache = EmbeddingCache(4000)
    started, go = threading.Event(), threading.Event()

    def failing() -> Embedding:
        started.set()
        assert go.wait(30)
        raise ValueError("no picture")

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(cache.get, "a", failing) for _ in range(3)]
        assert started.wait(30)
        go.set()
        for future in futures:
            with pytest.raises(ValueError, match="no picture"):
                future.result(30)
    assert Computer(cache)("a").size == (7, 5)
