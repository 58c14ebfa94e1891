"""The processes that a server starts, by Linux' /proc."""

from __future__ import annotations

from pathlib import Path


def children(pid: int) -> list[int]:
    """The processes that a process' threads started."""
    lines = (place.read_text() for place in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for line in lines for child in line.split()]


def trainings(server: int) -> list[int]:
    """The fine-tunings of a server's workers."""
    found, workers = [], {str(pid).encode() for pid in children(server)}
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = place.read_bytes().split(b"\0")
        except OSError:  # it ended just now
            continue
        if b"sam3_core.engine.tuning" in command and workers & set(command):
            found.append(int(place.parent.name))
    return found


def alive(pid: int) -> bool:
    """Whether it runs; one that only waits to be reaped does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
