"""How many requests may be at work at the same time, so that the cheap routes always find a thread.

gunicorn has a fixed number of threads. Work takes at most ``clicks`` + ``bulk`` of them; the others stay free for
/health, /setup, /webhook and the pages. What finds no place is refused at once: waiting would only hold a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sam3_core import Lane
from sam3_core.errors import Busy

_SETTINGS = {Lane.CLICK: "SAM3_MAX_CLICKS", Lane.BULK: "SAM3_MAX_BULK"}
_RETRY = {Lane.CLICK: 1.0, Lane.BULK: 5.0}  # seconds


@dataclass(frozen=True, slots=True)
class LanePlaces:
    """One lane at this moment. refused: requests that found no place since the start."""

    lane: Lane
    at_work: int
    limit: int
    refused: int


class Admission:
    """Places for requests that do work. One per process; callable from any thread."""

    def __init__(self, *, clicks: int, bulk: int) -> None:
        self._limits = {Lane.CLICK: clicks, Lane.BULK: bulk}
        self._at_work = dict.fromkeys(Lane, 0)
        self._refused = dict.fromkeys(Lane, 0)
        self._inside = 0
        self._lock = threading.Lock()

    @contextmanager
    def door(self) -> Iterator[None]:
        """While the block runs, a request is inside: from before its body is read, when its lane is not known yet.

        Raises Busy when as many are inside as all lanes have places.
        """
        with self._lock:
            if self._inside >= sum(self._limits.values()):
                self._refused[Lane.BULK] += 1
                raise Busy(
                    f"{self._inside} requests are at work, as many as SAM3_MAX_CLICKS and SAM3_MAX_BULK allow; "
                    "try again in a moment",
                    retry_after=_RETRY[Lane.BULK],
                )
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1

    @contextmanager
    def work(self, lane: Lane) -> Iterator[None]:
        """While the block runs, a request has a place in its lane. Raises Busy when all are taken."""
        with self._lock:
            if self._at_work[lane] >= self._limits[lane]:
                self._refused[lane] += 1
                raise Busy(
                    f"{self._at_work[lane]} {lane} requests are at work, as many as {_SETTINGS[lane]} allows; "
                    "try again in a moment",
                    retry_after=_RETRY[lane],
                )
            self._at_work[lane] += 1
        try:
            yield
        finally:
            with self._lock:
                self._at_work[lane] -= 1

    def info(self) -> tuple[LanePlaces, ...]:
        """Each lane at this moment."""
        with self._lock:
            return tuple(
                LanePlaces(lane, self._at_work[lane], self._limits[lane], self._refused[lane]) for lane in Lane
            )
