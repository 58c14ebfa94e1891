"""Where the time of a request goes: a stopwatch that costs nothing when nobody looks at it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_stages: ContextVar[dict[str, float] | None] = ContextVar("sam3_stages", default=None)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Count the block's time as the stage's, in addition to what it has. Stages must not lie inside each other.

    Names in use: ``parse``, ``fetch``, ``decode`` (image file to the model's pixels), ``queue`` (waiting for the
    device, or for another request's work on the same image), ``vision`` (pixels to embedding), ``model`` (prompt to
    logits), ``masks`` (logits to masks, without duplicates), ``encode`` (masks to what is sent).
    """
    seconds = _stages.get()
    if seconds is None:
        yield
        return
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started


def spent(name: str, seconds: float) -> None:
    """Count seconds that passed for this request in another thread as the stage's."""
    collected_so_far = _stages.get()
    if collected_so_far is not None:
        collected_so_far[name] = collected_so_far.get(name, 0.0) + seconds


@contextmanager
def collected() -> Iterator[dict[str, float]]:
    """Seconds by stage of the block, in this thread (or asyncio task), in the order in which the stages began."""
    seconds: dict[str, float] = {}
    token = _stages.set(seconds)
    try:
        yield seconds
    finally:
        _stages.reset(token)
