"""The device's memory: how much is free, what a pass needs of it, and what its want looks like."""

from __future__ import annotations

import gc
import re
from pathlib import Path

import torch

from sam3_core.load import MemoryLoad

_MIB = 1024 * 1024
_SHARE = {"cuda": 0.8, "cpu": 0.25}  # of what is free, for one pass: a GPU is ours, a computer is not
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_GROUP = Path("/sys/fs/cgroup")  # of this container, cgroup 2


class CudaMeter:
    """Bytes in tensors, as the allocator counts them."""

    exact = True

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._most = 0

    def reset(self) -> int:
        """Forget the peak; bytes in use now."""
        self._most = self.most()
        torch.cuda.reset_peak_memory_stats(self._device)
        return int(torch.cuda.memory_allocated(self._device))

    def peak(self) -> int:
        """Most bytes in use since."""
        return int(torch.cuda.max_memory_allocated(self._device))

    def most(self) -> int:
        """Most bytes ever in use."""
        return max(self._most, self.peak())

    def load(self) -> MemoryLoad:
        """How the memory stands now."""
        total = torch.cuda.get_device_properties(self._device).total_memory
        return MemoryLoad(int(torch.cuda.memory_allocated(self._device)), self.most(), int(total))


class ProcessMeter:
    """Resident bytes of this process, by the kernel's high-water mark; 0 where there is no /proc (macOS).

    Other threads are in it too, so that a pass may look larger than it was, and memory that the C library kept from
    earlier passes is not, so that a small one may look smaller.
    """

    exact = False

    def __init__(self) -> None:
        self._most = 0

    def reset(self) -> int:
        """Forget the peak; bytes in use now."""
        self._most = self.most()
        try:
            _CLEAR.write_text("5")
        except OSError:
            return self.peak()  # then only what goes beyond all that was before is seen
        return _resident("VmRSS")

    def peak(self) -> int:
        """Most bytes in use since."""
        return _resident("VmHWM")

    def most(self) -> int:
        """Most bytes ever in use."""
        return max(self._most, self.peak())

    def load(self) -> MemoryLoad:
        """How the memory stands now; all there is is this computer's, or the container's."""
        total = min(filter(None, (_meminfo("MemTotal"), _group("memory.max"))), default=0)
        used = _resident("VmRSS")  # which may run ahead of the mark by some pages
        return MemoryLoad(used, max(used, self.most()), total)


def meter_of(device: torch.device) -> CudaMeter | ProcessMeter:
    """What measures passes on a device."""
    return CudaMeter(device) if device.type == "cuda" else ProcessMeter()


def pass_budget(device: torch.device, asked_mb: int | None, reserved_mb: int) -> int:
    """Bytes for one pass: what is asked for, else a share of what is free now without what the cache may take.

    reserved_mb: the cache's, on the same device.
    """
    if asked_mb is not None:
        return asked_mb * _MIB
    free = free_bytes(device) - reserved_mb * _MIB
    return max(64 * _MIB, int(free * _SHARE.get(device.type, 0.25)))


def free_bytes(device: torch.device) -> int:
    """What the device, or this computer or container, has left."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = _meminfo("MemAvailable") or 4096 * _MIB
    limit = _group("memory.max")
    return free if limit is None else min(free, max(0, limit - (_group("memory.current") or 0)))


def release(device: torch.device) -> None:
    """Give back what no tensor holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was wanting: torch's own, Python's, and the CPU allocator's RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        sign in str(error) for sign in ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    )


def is_fatal(error: BaseException) -> bool:
    """Whether an error leaves the device unusable for this process: after a failed assertion or an illegal address
    every later CUDA call fails with the same words."""
    if isinstance(error, torch.OutOfMemoryError) or not isinstance(error, RuntimeError):
        return False
    return "CUDA error" in str(error) and "out of memory" not in str(error)


def _resident(name: str) -> int:
    """A line of the process' status, in bytes."""
    return _lookup(_STATUS, name)


def _meminfo(name: str) -> int:
    return _lookup(Path("/proc/meminfo"), name)


def _lookup(file: Path, name: str) -> int:
    """``name:   123 kB`` in bytes; 0 where there is no such line or file."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", file.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _group(name: str) -> int | None:
    """A number of the container's; None without a container, or a limit."""
    try:
        text = (_GROUP / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
