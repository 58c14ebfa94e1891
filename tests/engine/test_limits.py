"""How many items one pass takes."""

from __future__ import annotations

import mmap
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from sam3_core.engine.limits import BatchLimit
from sam3_core.engine.memory import ProcessMeter, free_bytes, is_fatal, is_out_of_memory, pass_budget


class Gauge:
    """Says what it is told to."""

    def __init__(self, *, exact: bool = True) -> None:
        self.exact = exact
        self.now, self.most = 1000, 1000

    def reset(self) -> int:
        return self.now

    def peak(self) -> int:
        return self.most


@contextmanager
def pages(mebibytes: int) -> Iterator[None]:
    """So much memory in use, straight from the kernel: what Python or torch give back, the C library may keep."""
    with mmap.mmap(-1, mebibytes * 2**20) as block:
        for place in range(0, len(block), 4096):
            block[place] = 1
        yield


def run(limit: BatchLimit, gauge: Gauge, items: int, needed: int) -> int:
    with limit.watching(items):
        gauge.most = gauge.now + needed
    return limit.most


def test_goes_by_the_guess_then_by_what_was_measured() -> None:
    gauge = Gauge()
    limit = BatchLimit(100, 10, gauge)
    assert limit.most == 10
    assert run(limit, gauge, 1, 25) == 4  # 25 bytes each
    assert run(limit, gauge, 4, 60) == 6  # 15 each: what all share counts less
    assert run(limit, gauge, 2, 99) == 6  # a smaller pass teaches nothing new
    assert run(limit, gauge, 5, 0) == 100


def test_a_meter_that_may_see_too_little_is_not_trusted_to_allow_more_than_the_guess() -> None:
    gauge = Gauge(exact=False)
    limit = BatchLimit(100, 10, gauge)
    assert run(limit, gauge, 1, 0) == 10
    assert run(limit, gauge, 2, 50) == 4


def test_one_item_is_always_tried() -> None:
    gauge = Gauge()
    limit = BatchLimit(1, 10, gauge)
    assert limit.most == 1
    assert run(limit, gauge, 1, 10**9) == 1


def test_what_broke_once_is_not_tried_again() -> None:
    gauge = Gauge()
    limit = BatchLimit(100, 1, gauge)
    limit.broke(9)
    assert limit.most == 4
    assert run(limit, gauge, 4, 1) == 4
    limit.broke(1)
    assert limit.most == 1


def test_a_pass_that_broke_is_not_what_the_limit_goes_by() -> None:
    gauge = Gauge()
    limit = BatchLimit(100, 1, gauge)
    gauge.most = gauge.now + 50_000
    with pytest.raises(MemoryError), limit.watching(50):
        raise MemoryError
    assert limit.most == 100
    assert run(limit, gauge, 1, 50) == 2


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_the_process_meter_sees_a_tensor_come_and_go() -> None:
    meter = ProcessMeter()
    before = meter.reset()
    with pages(64):
        pass
    assert 60 * 2**20 <= meter.peak() - before <= 200 * 2**20
    assert meter.reset() - before < 60 * 2**20


def test_the_budget_is_what_is_asked_for_or_a_share_of_what_is_free() -> None:
    cpu = torch.device("cpu")
    assert pass_budget(cpu, 100, 10**9) == 100 * 2**20
    assert 64 * 2**20 <= pass_budget(cpu, None, 0) <= free_bytes(cpu) // 3
    assert pass_budget(cpu, None, 10**9) == 64 * 2**20


def test_the_most_that_was_ever_in_use_outlives_the_measuring_of_passes() -> None:
    meter = ProcessMeter()
    with pages(64):
        most = meter.load()
    assert 2**26 < most.used <= most.peak <= most.total
    meter.reset()
    assert meter.load().used < most.used
    assert meter.load().peak >= most.peak - 2**20  # the kernel counts pages late


def test_want_of_memory_and_dead_devices_are_told_apart() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert is_fatal(RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be ..."))
    assert not is_fatal(RuntimeError("CUDA error: out of memory"))
    assert not is_fatal(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_fatal(ValueError("CUDA error: said somebody"))
    with pytest.raises(RuntimeError) as want:
        torch.empty(2**46)
    assert is_out_of_memory(want.value)


SHORT_OF_MEMORY = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np, torch
from sam3_core.caller import BULK
from sam3_core.engine.model import Sam3, Serving
from sam3_core.engine.plan import Prompt, Question
from pathlib import Path
model = Sam3.load(Path(sys.argv[1]), "cpu", "float32", Serving(pass_mb=100_000))
rng = np.random.default_rng(0)
image = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
view = model.embed([image])[0]
alone = model.detect([Question(view, Prompt("red dog"), 0.0, 0)])[0]
used = int(next(l for l in open("/proc/self/status") if l.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20,) * 2)
many = [Question(view, Prompt(f"red dog {i // 2}" if i % 2 else "red dog"), 0.0, 0) for i in range(1200)]
found = model.detect(many)
assert len(found) == len(many)
assert all(np.abs(one.scores - alone.scores).max() < 1e-4 for one in found[::2])
load = {one.kind: one for one in model.load_now().passes}["concepts"]
print(load.out_of_memory, load.limit)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on address space")
def test_a_pass_that_finds_no_memory_for_real_goes_through_in_parts(checkpoint: Path) -> None:
    """The process may not map more than so many MiB beyond what it has when a far too large pass begins."""
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY, str(checkpoint)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    broken, limit = map(int, done.stdout.split())
    assert broken >= 1
    assert limit <= 600
