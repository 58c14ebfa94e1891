"""A device that is busy, for tests of what happens meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sam3_core.caller import CLICK
from sam3_core.engine.model import Sam3


@contextmanager
def busy(model: Sam3) -> Iterator[None]:
    """While the block runs, the device's thread does nothing else."""
    begun, end = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        assert end.wait(60)

    worker = threading.Thread(target=model._scheduler.do, args=(model._click, [hold], CLICK))
    worker.start()
    assert begun.wait(60)
    try:
        yield
    finally:
        end.set()
        worker.join(60)
