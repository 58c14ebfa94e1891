"""Who gets the device, when, with whom; and what happens when a pass does not go through."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from sam3_core.caller import BULK, CLICK, Caller, Lane, Waits
from sam3_core.engine.limits import BatchLimit
from sam3_core.engine.passes import Device, Pass
from sam3_core.engine.scheduler import Scheduler
from sam3_core.errors import Busy, Dropped, ModelUnavailable, OutOfMemory, OutOfTime
from sam3_core.timing import collected

MANY = 1000


class NoMeter:
    """Passes that need no memory worth speaking of."""

    exact = True

    def reset(self) -> int:
        return 0

    def peak(self) -> int:
        return 0


class Rig:
    """A scheduler with two kinds of pass, ``double`` and ``negate``, that take down what goes through together."""

    def __init__(self, *, most: int = MANY, share: float = 0.5, queue: int = MANY) -> None:
        self.seen: list[list[Any]] = []
        self.fail: Callable[[Sequence[Any]], None] = lambda _: None
        self.freed = 0
        self.told: list[str] = []
        device = Device(lambda e: isinstance(e, MemoryError), lambda e: "dead" in str(e), self._free)
        self.scheduler = Scheduler(device, bulk_share=share, most_waiting=queue, on_broken=self.told.append)
        self.double = self._kind("double", lambda item: 2 * item, most)
        self.negate = self._kind("negate", lambda item: -item, most)
        self.pool = ThreadPoolExecutor(64)

    def _kind(self, name: str, work: Callable[[Any], Any], most: int) -> Pass[Any, Any]:
        def run(items: Sequence[Any]) -> list[Any]:
            self.seen.append(list(items))
            self.fail(items)
            return [item() if callable(item) else work(item) for item in items]

        return self.scheduler.add(Pass(name, "model", run, BatchLimit(most, 1, NoMeter())))

    def _free(self) -> None:
        self.freed += 1

    def ask(self, kind: Pass[Any, Any], items: Sequence[Any], caller: Waits = BULK) -> Future[list[Any]]:
        """Ask from a thread of its own; returns when the work stands in line."""
        before = sum(lane.waiting + lane.done for lane in self.scheduler.lanes())
        future = self.pool.submit(self.scheduler.do, kind, items, caller)
        while sum(lane.waiting + lane.done for lane in self.scheduler.lanes()) == before and not future.done():
            time.sleep(0.001)
        return future

    def hold(self) -> threading.Event:
        """Keep the device busy until the event is set."""
        begun, end = threading.Event(), threading.Event()

        def work() -> int:
            begun.set()
            assert end.wait(60)
            return 0

        self.ask(self.double, [work], CLICK)
        assert begun.wait(60)
        self.seen.clear()
        return end


@pytest.fixture
def make() -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def made(**how: Any) -> Rig:
        rigs.append(Rig(**how))
        return rigs[-1]

    yield made
    for rig in rigs:
        rig.scheduler.close()
        rig.pool.shutdown()


def test_each_gets_his_own_outcomes_in_order(make: Callable[..., Rig]) -> None:
    rig = make(most=3)
    futures = [(n, rig.pool.submit(rig.scheduler.do, rig.double, range(n, n + 7), BULK)) for n in range(40)]
    for n, future in futures:
        assert future.result(30) == [2 * i for i in range(n, n + 7)]
    assert max(map(len, rig.seen)) <= 3
    assert rig.scheduler.do(rig.double, [], BULK) == []


def test_what_waits_meanwhile_goes_through_together(make: Callable[..., Rig]) -> None:
    rig = make()
    end = rig.hold()
    some = [rig.ask(rig.double, [1, 2]), rig.ask(rig.negate, [7]), rig.ask(rig.double, [3])]
    end.set()
    assert [future.result(30) for future in some] == [[2, 4], [-7], [6]]
    assert rig.seen == [[1, 2, 3], [7]]
    (double, negate) = rig.scheduler.passes()
    assert (double.kind, double.sizes, negate.sizes) == ("double", ((1, 1), (3, 1)), ((1, 1),))


def test_clicks_go_before_bulk_that_came_first(make: Callable[..., Rig]) -> None:
    rig = make()
    end = rig.hold()
    futures = [rig.ask(rig.double, [1]), rig.ask(rig.double, [2]), rig.ask(rig.double, [9], CLICK)]
    end.set()
    assert [future.result(30) for future in futures] == [[2], [4], [18]]
    assert rig.seen == [[9], [1, 2]]


def test_bulk_has_its_share_while_clicks_wait_without_end(make: Callable[..., Rig]) -> None:
    rig = make(share=0.25, most=1)

    def click() -> str:
        time.sleep(0.004)
        return "click"

    def bulk() -> str:
        time.sleep(0.02)
        return "bulk"

    end = rig.hold()
    many, some = rig.ask(rig.double, [click] * 400, CLICK), rig.ask(rig.double, [bulk] * 4)
    end.set()
    some.result(60)
    many.result(60)
    places = [place for place, items in enumerate(rig.seen) if items == [bulk]]
    assert places[0] >= 20  # not at once
    assert places[-1] < 400  # nor last
    between = [later - earlier for earlier, later in itertools.pairwise(places)]
    assert min(between) >= 5  # a quarter of the time is one such in 15 clicks


def test_a_long_piece_lets_others_pass_between_its_passes(make: Callable[..., Rig]) -> None:
    rig = make(most=2)
    end = rig.hold()
    long = rig.ask(rig.double, range(10, 16), CLICK)
    click = rig.ask(rig.negate, [1], CLICK)
    end.set()
    assert (long.result(30), click.result(30)) == ([2 * i for i in range(10, 16)], [-1])
    assert rig.seen == [[10, 11], [1], [12, 13], [14, 15]]


def test_passes_are_short_while_people_click(make: Callable[..., Rig]) -> None:
    rig = make()

    def slow() -> int:
        time.sleep(0.06)
        return 0

    rig.scheduler.do(rig.double, [slow] * 9, BULK)
    assert rig.seen == [[slow] * 9]
    rig.scheduler.do(rig.negate, [1], CLICK)
    rig.seen.clear()
    rig.scheduler.do(rig.double, [slow] * 9, BULK)
    assert max(map(len, rig.seen)) <= 4


def test_work_that_becomes_urgent_while_it_waits_moves_up(make: Callable[..., Rig]) -> None:
    class Someone:
        lane = Lane.BULK
        seconds_left = math.inf

        def check(self) -> None:
            pass

    rig = make(most=1)
    end = rig.hold()
    other, someone = rig.ask(rig.double, [1]), Someone()
    future = rig.ask(rig.double, [2], someone)
    someone.lane = Lane.CLICK
    end.set()
    assert (other.result(30), future.result(30)) == ([2], [4])
    assert rig.seen == [[2], [1]]


def test_a_full_line_refuses_at_once_and_says_when_to_come_back(make: Callable[..., Rig]) -> None:
    rig = make(queue=2)
    end = rig.hold()
    waiting = [rig.ask(rig.double, [1]), rig.ask(rig.double, [2])]
    with pytest.raises(Busy, match="2 others wait") as refused:
        rig.scheduler.do(rig.double, [3], BULK)
    assert refused.value.status == 503
    assert refused.value.retry_after is not None
    assert refused.value.retry_after >= 1
    click = rig.ask(rig.double, [4], CLICK)  # the other lane has room
    end.set()
    assert [future.result(30) for future in (*waiting, click)] == [[2], [4], [8]]
    bulk = rig.scheduler.lanes()[1]
    assert (bulk.lane, bulk.waiting, bulk.done, bulk.refused) == (Lane.BULK, 0, 2, 1)


def test_what_nobody_waits_for_never_reaches_the_device(make: Callable[..., Rig]) -> None:
    rig = make()
    gone = threading.Event()
    end = rig.hold()
    asked: list[bool] = []

    def wanted() -> bool:
        asked.append(True)
        return not gone.is_set()

    def broken() -> bool:
        raise ValueError("a caller's defect")

    dropped, wrong = rig.ask(rig.double, [1], Caller(wanted=wanted)), rig.ask(rig.double, [5], Caller(wanted=broken))
    kept = rig.ask(rig.double, [2])
    assert asked == []  # the question comes with the turn
    gone.set()
    end.set()
    assert kept.result(30) == [4]
    with pytest.raises(Dropped):
        dropped.result(30)
    with pytest.raises(ValueError, match="defect"):
        wrong.result(30)
    assert rig.seen == [[2]]
    assert rig.scheduler.lanes()[1].dropped == 2


def test_nobody_waits_beyond_his_deadline_though_the_device_is_busy(make: Callable[..., Rig]) -> None:
    rig = make()
    end = rig.hold()
    with pytest.raises(OutOfTime):
        rig.scheduler.do(rig.double, [1], Caller.within(0.05))
    assert rig.scheduler.lanes()[0].waiting == 1  # still busy
    end.set()
    assert rig.scheduler.do(rig.double, [2], BULK) == [4]
    assert rig.seen == [[2]]


def test_an_error_ends_only_the_piece_it_belongs_to(make: Callable[..., Rig]) -> None:
    rig = make()

    def fail(items: Sequence[Any]) -> None:
        if 13 in items:
            raise ValueError("thirteen")

    rig.fail = fail
    end = rig.hold()
    good, bad, other = rig.ask(rig.double, [1]), rig.ask(rig.double, [13]), rig.ask(rig.double, [2, 3])
    end.set()
    assert (good.result(30), other.result(30)) == ([2], [4, 6])
    with pytest.raises(ValueError, match="thirteen"):
        bad.result(30)
    assert rig.freed == 0


def test_want_of_memory_halves_the_pass_and_is_remembered(make: Callable[..., Rig]) -> None:
    rig = make()

    def fail(items: Sequence[Any]) -> None:
        if len(items) > 2:
            raise MemoryError

    rig.fail = fail
    assert rig.scheduler.do(rig.double, range(8), BULK) == [2 * i for i in range(8)]
    assert [len(items) for items in rig.seen] == [8, 4, 2, 2, 4, 2, 2]
    assert rig.freed == 3
    rig.seen.clear()
    assert rig.scheduler.do(rig.double, range(8), BULK) == [2 * i for i in range(8)]
    assert [len(items) for items in rig.seen] == [2, 2, 2, 2]
    assert rig.scheduler.passes()[0].out_of_memory == 3
    assert rig.scheduler.passes()[0].limit == 2


def test_what_does_not_fit_even_alone_is_a_503_and_spoils_nobody_else(make: Callable[..., Rig]) -> None:
    rig = make()

    def fail(items: Sequence[Any]) -> None:
        if 13 in items:
            raise MemoryError

    rig.fail = fail
    end = rig.hold()
    fits, huge = rig.ask(rig.double, [1, 2, 3]), rig.ask(rig.double, [5, 13, 6, 7])
    end.set()
    assert fits.result(30) == [2, 4, 6]
    with pytest.raises(OutOfMemory, match="no memory for the double") as refused:
        huge.result(30)
    assert refused.value.status == 503
    assert refused.value.retry_after
    assert rig.seen.count([13]) == 2  # once more after the caches were emptied
    assert rig.scheduler.do(rig.double, [1], BULK) == [2]
    assert rig.told == []


def test_the_tensors_of_a_broken_pass_are_gone_when_memory_is_freed(make: Callable[..., Rig]) -> None:
    import weakref

    class Tensor:
        pass

    rig = make()
    alive: list[weakref.ref[Tensor]] = []
    left: list[int] = []
    rig._free = lambda: left.append(sum(ref() is not None for ref in alive))  # type: ignore[method-assign]
    rig.scheduler._runner._device = Device(lambda e: isinstance(e, MemoryError), lambda _: False, lambda: rig._free())

    def fail(items: Sequence[Any]) -> None:
        tensor = Tensor()
        alive.append(weakref.ref(tensor))
        if len(items) > 1:
            raise MemoryError

    rig.fail = fail
    rig.scheduler.do(rig.double, [1, 2], BULK)
    assert left == [0]


def test_a_device_that_finds_no_memory_again_and_again_is_broken(make: Callable[..., Rig]) -> None:
    rig = make()

    def fail(_: Sequence[Any]) -> None:
        raise MemoryError

    rig.fail = fail
    for _ in range(4):
        with pytest.raises(OutOfMemory):
            rig.scheduler.do(rig.double, [1], BULK)
    assert rig.scheduler.broken == ""
    with pytest.raises(OutOfMemory):
        rig.scheduler.do(rig.double, [1], BULK)
    rig.scheduler._thread.join(30)
    assert "no memory" in rig.scheduler.broken
    assert rig.told == [rig.scheduler.broken]
    with pytest.raises(ModelUnavailable, match="started again"):
        rig.scheduler.do(rig.double, [1], BULK)


def test_one_good_pass_in_between_and_it_is_not(make: Callable[..., Rig]) -> None:
    rig = make()

    def fail(items: Sequence[Any]) -> None:
        if 13 in items:
            raise MemoryError

    rig.fail = fail
    for _ in range(12):
        with pytest.raises(OutOfMemory):
            rig.scheduler.do(rig.double, [13], BULK)
        assert rig.scheduler.do(rig.double, [1], BULK) == [2]
    assert rig.told == []


def test_a_fatal_error_ends_all_who_wait_and_tells(make: Callable[..., Rig]) -> None:
    rig = make(most=1)

    def fail(items: Sequence[Any]) -> None:
        if 13 in items:
            raise RuntimeError("the card is dead\nlong explanation")

    rig.fail = fail
    end = rig.hold()
    futures = [rig.ask(rig.double, [13]), rig.ask(rig.double, [1]), rig.ask(rig.negate, [1])]
    end.set()
    for future in futures:
        with pytest.raises(ModelUnavailable, match="the card is dead"):
            future.result(30)
    assert rig.told == [rig.scheduler.broken]
    assert "explanation" not in rig.scheduler.broken


def test_close_ends_all_who_wait_and_who_come(make: Callable[..., Rig]) -> None:
    rig = make()
    end = rig.hold()
    waiting = rig.ask(rig.double, [1])
    rig.scheduler.close()
    rig.scheduler.close()
    end.set()
    with pytest.raises(ModelUnavailable, match="closed"):
        waiting.result(30)
    with pytest.raises(ModelUnavailable, match="closed"):
        rig.scheduler.do(rig.double, [1], BULK)
    rig.scheduler._thread.join(30)
    assert not rig.scheduler._thread.is_alive()


def test_time_in_line_and_on_the_device_are_told_apart(make: Callable[..., Rig]) -> None:
    rig = make()
    end = rig.hold()
    took: list[float] = []

    def ask() -> dict[str, float]:
        started = time.monotonic()
        with collected() as seconds:
            rig.scheduler.do(rig.double, [lambda: time.sleep(0.1)], BULK)
        took.append(time.monotonic() - started)
        return seconds

    future = rig.pool.submit(ask)
    time.sleep(0.2)
    end.set()
    seconds = future.result(30)
    assert list(seconds) == ["queue", "model"]
    assert sum(seconds.values()) <= took[0]  # nothing counts twice
    assert seconds["queue"] >= 0.15
    assert seconds["model"] >= 0.1
