"""Whose turn it is on the device: one caller at a time, and only callers whose answer is still wanted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sam3_core.errors import Dropped
from sam3_core.timing import stage

Wanted = Callable[[], bool]


class Turns:
    """Lends the device to one thread at a time; the others wait, in the stage ``queue``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, wanted: Wanted | None = None) -> Iterator[None]:
        """The device to oneself. Raises Dropped when the turn comes and ``wanted`` says no by then."""
        with stage("queue"):
            self._lock.acquire()
        try:
            check_wanted(wanted)
            yield
        finally:
            self._lock.release()


def check_wanted(wanted: Wanted | None) -> None:
    """Raises Dropped when nobody waits for the answer any more."""
    if wanted is not None and not wanted():
        raise Dropped("a newer request took the place of this one")
