"""Courtesy: work in the background leaves the model to people who click."""

from __future__ import annotations

import time
from collections.abc import Callable

_TIMES = 3.0
"""While somebody clicks, a rest is so many times as long as the piece of work before it: most clicks meet none.
Measured: ``python -m benchmarks.learning_latency``."""

_LONGEST = 2.0  # seconds


class Courtesy:
    """For one thread, which calls ``rest`` after each piece of its work.

    clicks: how many were answered so far, in all. The clock and the sleep are given in tests.
    """

    def __init__(
        self,
        clicks: Callable[[], int],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clicks, self._clock, self._sleep = clicks, clock, sleep
        self._seen = clicks()
        self._since = clock()

    def rest(self) -> None:
        """Wait a while if somebody clicked since the last time."""
        worked, clicks = self._clock() - self._since, self._clicks()
        if clicks != self._seen:
            self._seen = clicks
            self._sleep(min(_LONGEST, _TIMES * worked))
        self._since = self._clock()
