"""The memory that fine-tuning may take."""

from __future__ import annotations

import resource
from pathlib import Path

import torch

from sam3_core.engine.memory import meter_of
from sam3_core.errors import OutOfMemory

_MIB = 1024 * 1024
_PAGES = Path("/proc/self/statm")  # the sixth number: pages of data and stack, what RLIMIT_DATA counts


class MemoryLimit:
    """So many bytes of a CUDA device's memory, else of this process'."""

    def __init__(self, megabytes: int, device: torch.device) -> None:
        """Counts what is loaded so far; raises OutOfMemory when that is too much already."""
        self._megabytes, self._meter = megabytes, meter_of(device)
        if device.type == "cuda":
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(megabytes * _MIB / total, 1.0), device)
        self.check()
        if device.type == "cpu":
            _limit_growth(self.free)

    @property
    def free(self) -> int:
        """Bytes that are left of it."""
        return max(self._megabytes * _MIB - self._meter.load().used, 0)

    def check(self) -> None:
        """Raises OutOfMemory when it is spent."""
        if self.free == 0:
            raise self.spent()

    def spent(self) -> OutOfMemory:
        """What to say when memory is wanting."""
        return OutOfMemory(f"fine-tuning needs more memory than the {self._megabytes} MiB that it may take")


def _limit_growth(free: int) -> None:
    """Let the kernel refuse what one step alone would take beyond that; where it can (Linux)."""
    try:
        pages = int(_PAGES.read_text().split()[5])
    except OSError:
        return
    held = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (held + free, resource.getrlimit(resource.RLIMIT_DATA)[1]))
