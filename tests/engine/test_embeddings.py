"""The cache of embeddings on the CPU: two real tiers, between which the passed movers make real copies."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sam3_core.caller import BULK, CLICK, Caller, Lane, Waits
from sam3_core.engine.embeddings import Embedding, EmbeddingCache, Key
from sam3_core.errors import Dropped, OutOfTime
from sam3_core.types import CacheInfo, CacheTier


def embedding(side: int = 10) -> Embedding:
    return Embedding((torch.zeros(1, side, 9), torch.ones(1, side, 1)), (7, 5))


class Bench:
    """A cache whose movers copy and count; pictures cost 400 bytes, and whoever computes one is remembered."""

    def __init__(self, device: int, host: int = 0) -> None:
        self.made: list[str] = []
        self.moves: Counter[str] = Counter()
        self.cache = EmbeddingCache(device, host, to_host=self.mover("out"), to_device=self.mover("in"))

    def mover(self, way: str) -> Callable[[Embedding], Embedding]:
        def move(given: Embedding) -> Embedding:
            self.moves[way] += 1
            return Embedding(tuple(tensor.clone() for tensor in given.tensors), given.size)

        return move

    def __call__(self, name: str) -> Embedding:
        def compute(_: Waits) -> Embedding:
            self.made.append(name)
            return embedding()

        return self.cache.get((name, "vision"), compute, BULK)


def test_keeps_what_was_used_last_within_its_bytes() -> None:
    get = Bench(800)
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
    assert get.cache.info() == CacheInfo(hits=3, misses=4, device=CacheTier(800, 2, 2), host=CacheTier())
    assert get.moves == {}


def test_the_heads_of_one_picture_are_kept_apart() -> None:
    get = Bench(4000)
    get("a")
    other = get.cache.get(("a", "clicks"), lambda _: embedding(), BULK)
    assert other is not get("a")
    assert get.cache.get(("a", "clicks"), lambda _: embedding(), BULK) is other
    assert get.cache.info().device.entries == 2


@pytest.mark.parametrize("capacity", [0, 399])
def test_without_room_it_still_answers(capacity: int) -> None:
    get = Bench(capacity)
    get("a")
    get("a")
    assert get.made == ["a", "a"]
    assert get.cache.info() == CacheInfo(misses=2)


def test_what_the_device_gives_up_moves_to_the_host_and_back() -> None:
    get = Bench(400, 800)
    first = get("a")
    get("b")
    assert get.moves == {"out": 1}
    assert get.cache.info() == CacheInfo(0, 2, CacheTier(400, 1, 1), CacheTier(400, 1, 0))
    again = get("a")  # and b takes its place
    assert again is not first
    assert again.size == first.size
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(again.tensors, first.tensors, strict=True))
    assert get("a") is again
    assert get.made == ["a", "b"]
    assert get.moves == {"out": 2, "in": 1}
    assert get.cache.info() == CacheInfo(2, 2, CacheTier(400, 1, 2), CacheTier(400, 1, 0))


def test_the_host_too_forgets_what_was_unused_longest() -> None:
    get = Bench(400, 800)
    for name in "abcd":  # d on the device, b and c on the host
        get(name)
    assert get.cache.info().host == CacheTier(800, 2, 1)
    get("b")  # d goes to the host
    get("a")  # b too, and c is forgotten
    get("d")
    assert get.made == [*"abcda"]
    get("c")
    assert get.made == [*"abcdac"]


def test_a_device_without_room_leaves_all_to_the_host() -> None:
    get = Bench(0, 400)
    get("a")
    get("a")
    assert get.made == ["a"]
    assert get.cache.info().device == CacheTier()
    assert get.cache.info().host == CacheTier(400, 1, 0)


def test_an_embedding_is_served_while_it_leaves() -> None:
    get, moving, go = Bench(400, 800), threading.Event(), threading.Event()

    def slow(given: Embedding) -> Embedding:
        moving.set()
        assert go.wait(30)
        return given

    get.cache = EmbeddingCache(400, 800, to_host=slow, to_device=get.mover("in"))
    first = get("a")
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(get, "b")
        assert moving.wait(30)
        assert get("a") is first  # would wait for ever if copies were made under the lock
        get("b")
        go.set()
        second.result(30)
    assert get.made == ["a", "b"]
    assert get.cache.info().host == CacheTier(400, 1, 0)


def test_concurrent_requests_for_one_on_the_host_bring_it_back_once() -> None:
    get, moving, go = Bench(400, 800), threading.Event(), threading.Event()

    def slow(given: Embedding) -> Embedding:
        get.moves["in"] += 1
        moving.set()
        assert go.wait(30)
        return given

    get.cache = EmbeddingCache(400, 800, to_host=get.mover("out"), to_device=slow)
    get("a")
    get("b")
    with ThreadPoolExecutor(4) as pool:
        returned = [pool.submit(get, "a") for _ in range(4)]
        assert moving.wait(30)
        go.set()
        assert len({id(future.result(30)) for future in returned}) == 1
    assert get.made == ["a", "b"]
    assert get.moves == {"out": 2, "in": 1}
    assert get.cache.info().hits == 4


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), MemoryError()])
def test_a_copy_that_fails_fails_no_request(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def failing(_: Embedding) -> Embedding:
        raise error

    get = Bench(400)
    get.cache = EmbeddingCache(400, 800, to_host=failing, to_device=failing)
    get("a")
    get("b")
    assert "400 bytes could not be moved" in caplog.text
    get("a")  # gone, neither stuck on its way nor half there
    assert get.made == ["a", "b", "a"]
    assert get.cache.info().host == CacheTier()


def test_a_failed_return_reaches_the_request_and_is_not_kept() -> None:
    failures = [RuntimeError("out of memory")]

    def failing(given: Embedding) -> Embedding:
        if failures:
            raise failures.pop()
        return given

    get = Bench(400)
    get.cache = EmbeddingCache(400, 800, to_host=get.mover("out"), to_device=failing)
    get("a")
    get("b")
    with pytest.raises(RuntimeError, match="out of memory"):
        get("a")
    get("a")
    assert get.made == ["a", "b", "a"]


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from([1, 2, 3, 9])), max_size=40),
    st.integers(0, 6),
    st.integers(0, 6),
)
def test_bounds_hold_and_every_entry_is_in_one_place(uses: list[tuple[str, int]], device: int, host: int) -> None:
    """Against the plainest model of two such lists: which lookups compute, and what lies where in the end."""
    get = Bench(40 * device, 40 * host)
    sizes: dict[str, int] = {}
    tiers: tuple[list[str], list[str]] = ([], [])  # least recently used first
    for name, size in uses:
        computed = len(get.made)
        get_key: Key = (name, "vision")

        def compute(_: Waits, name: str = name, size: int = size) -> Embedding:
            get.made.append(name)
            return embedding(size)

        found = get.cache.get(get_key, compute, BULK)
        known = name in tiers[0] or name in tiers[1]
        assert (len(get.made) == computed) is known
        sizes[name] = sizes[name] if known else size
        assert found.nbytes == 40 * sizes[name]
        if name in tiers[0]:
            tiers[0].remove(name)
            tiers[0].append(name)
            continue
        if known:
            tiers[1].remove(name)
        leaving = [name]
        for tier, room in zip(tiers, (device, host), strict=True):
            gone = []
            for one in leaving:
                if sizes[one] > room:
                    gone.append(one)
                    continue
                tier.append(one)
                while sum(sizes[other] for other in tier) > room:
                    gone.append(tier.pop(0))
            leaving = gone
    info = get.cache.info()
    for tier, said, room in zip(tiers, (info.device, info.host), (device, host), strict=True):
        assert (said.entries, said.bytes) == (len(tier), 40 * sum(sizes[name] for name in tier))
        assert said.bytes <= 40 * room
    assert info.hits + info.misses == len(uses)
    assert info.misses == len(get.made)


def test_concurrent_requests_for_one_picture_compute_it_once() -> None:
    get = Bench(4000)
    cache = get.cache
    started, go = threading.Event(), threading.Event()
    made: list[str] = []

    def slow(_: Waits) -> Embedding:
        made.append("a")
        started.set()
        assert go.wait(30)
        return embedding()

    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(cache.get, ("a", "vision"), slow, BULK)
        assert started.wait(30)
        others = [pool.submit(cache.get, ("a", "vision"), slow, BULK) for _ in range(7)]
        other_picture = pool.submit(get, "b")
        assert other_picture.result(30).nbytes == 400  # not held up by the slow one
        assert not any(future.done() for future in others)
        go.set()
        made_one = first.result(30)
        assert all(future.result(30) is made_one for future in others)
    assert made == ["a"]
    assert (cache.info().hits, cache.info().misses) == (7, 2)


def test_a_failure_reaches_all_and_is_not_kept() -> None:
    get = Bench(4000)
    started, go = threading.Event(), threading.Event()
    tries = Counter[str]()

    def failing(_: Waits) -> Embedding:
        tries["a"] += 1
        started.set()
        assert go.wait(30)
        raise ValueError("no picture")

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(get.cache.get, ("a", "vision"), failing, BULK)]
        assert started.wait(30)
        futures += [pool.submit(get.cache.get, ("a", "vision"), failing, BULK) for _ in range(2)]
        _wait_for_waiters(get.cache, 2)
        go.set()
        for future in futures:
            with pytest.raises(ValueError, match="no picture"):
                future.result(30)
    assert tries["a"] == 1
    assert get("a").size == (7, 5)
    assert get.cache.info() == CacheInfo(0, 4, CacheTier(400, 1, 0))


def _wait_for_waiters(cache: EmbeddingCache, count: int) -> None:
    """Until so many threads wait for the one embedding that is being computed."""
    (coming,) = cache._coming.values()
    for _ in range(3000):
        if len(coming.future._condition._waiters) == count:  # type: ignore[attr-defined]
            return
        time.sleep(0.01)
    raise AssertionError("nobody waits")


def test_when_the_first_is_dropped_the_next_takes_over() -> None:
    """A newer click waits for the older one's vision pass, which is dropped because of the newer click."""
    get = Bench(4000)
    started, go = threading.Event(), threading.Event()

    def dropped(_: Waits) -> Embedding:
        started.set()
        assert go.wait(30)
        raise Dropped("a newer one came")

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(get.cache.get, ("a", "vision"), dropped, BULK)
        assert started.wait(30)
        others = [pool.submit(get, "a") for _ in range(3)]
        _wait_for_waiters(get.cache, 3)
        go.set()
        with pytest.raises(Dropped):
            first.result(30)
        assert len({id(future.result(30)) for future in others}) == 1
    assert get.made == ["a"]
    assert get.cache.info().misses == 2


def test_many_threads_leave_the_books_in_order() -> None:
    get = Bench(1200, 1200)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(get, "abcdefgh" * 40))
    assert all(one.nbytes == 400 for one in found)
    info = get.cache.info()
    assert (info.device.bytes, info.device.entries) == (1200, 3)
    assert (info.host.bytes, info.host.entries) == (1200, 3)
    assert info.hits + info.misses == 320
    assert info.misses == len(get.made)
    assert get.cache._leaving == get.cache._coming == {}


def test_what_people_have_open_stays_when_bulk_goes_by() -> None:
    get = Bench(1200)
    kept = [get.cache.get((name, "vision"), lambda _: embedding(), CLICK) for name in "ab"]
    assert get("a") is kept[0]  # bulk sees it too, and it stays a person's
    for name in "cdefgh":
        get(name)
    assert [get.cache.get((name, "vision"), lambda _: embedding(), CLICK) for name in "ab"] == kept
    get("h")
    assert get.made == list("cdefgh")  # the last of the bulk was still there
    get.cache.get(("h", "vision"), lambda _: embedding(), CLICK)  # and is a person's now
    get("i")
    assert get.cache.info().device.entries == 3
    assert get.cache.get(("h", "vision"), lambda _: embedding(), CLICK) is get("h")


def test_who_waits_for_anothers_work_makes_it_as_urgent_as_his_own() -> None:
    get = Bench(4000)
    asked, go = threading.Event(), threading.Event()
    seen: list[Waits] = []

    def slow(callers: Waits) -> Embedding:
        seen.append(callers)
        asked.set()
        assert go.wait(30)
        return embedding()

    gone = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        bulk = pool.submit(get.cache.get, ("a", "vision"), slow, Caller(wanted=lambda: not gone.is_set()))
        assert asked.wait(30)
        assert seen[0].lane is Lane.BULK
        gone.set()
        with pytest.raises(Dropped):
            seen[0].check()
        click = pool.submit(get.cache.get, ("a", "vision"), slow, CLICK)
        _wait_for_waiters(get.cache, 1)
        assert seen[0].lane is Lane.CLICK
        seen[0].check()  # the first one left, the click did not
        go.set()
        assert click.result(30) is bulk.result(30)


def test_nobody_waits_longer_for_anothers_work_than_for_his_own() -> None:
    get = Bench(4000)
    started, go = threading.Event(), threading.Event()

    def slow(_: Waits) -> Embedding:
        started.set()
        assert go.wait(30)
        return embedding()

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(get.cache.get, ("a", "vision"), slow, BULK)
        assert started.wait(30)
        with pytest.raises(OutOfTime):
            get.cache.get(("a", "vision"), slow, Caller.within(0.05))
        go.set()
        assert first.result(30).nbytes == 400


@pytest.mark.parametrize("host", [0, 4000])
def test_the_device_is_emptied_when_its_memory_is_wanted(host: int) -> None:
    get = Bench(4000, host)
    first = get("a")
    get("b")
    get.cache.give_up_device()
    info = get.cache.info()
    assert (info.device.bytes, info.host.bytes) == (0, 800 if host else 0)
    again = get("a")
    assert again.nbytes == first.nbytes
    assert get.made == (["a", "b"] if host else ["a", "b", "a"])
