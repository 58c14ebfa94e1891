"""Whose turn it is on the device: one caller at a time, and only callers whose answer is still wanted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sam3_core.caller import Caller
from sam3_core.timing import stage


class Turns:
    """Lends the device to one thread at a time; the others wait, in the stage ``queue``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, caller: Caller) -> Iterator[None]:
        """The device to oneself. Raises as ``caller.check`` when the turn comes."""
        with stage("queue"):
            self._lock.acquire()
        try:
            caller.check()
            yield
        finally:
            self._lock.release()
