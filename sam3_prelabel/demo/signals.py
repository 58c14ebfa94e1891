"""Ending in order: the first signal to end becomes an exception, later ones wait for the tidying up."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(BaseException):
    """Somebody asked us to end. No Exception, so that nothing on the way takes it for a failure."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


@contextmanager
def signals_end() -> Iterator[Callable[[Callable[[], None]], None]]:
    """While this lasts, Ctrl-C, SIGTERM and SIGHUP raise Ended, once; what they interrupt can then tidy up in peace.

    Yields `stay(watch)`, which calls `watch` each second until such a signal. Only there is Ctrl-C the regular
    end, with exit code 0; elsewhere the code is 128 + the signal's number.
    """
    staying = False
    ended = False

    def end(signum: int, _: FrameType | None) -> None:
        nonlocal ended
        if not ended:
            ended = True
            raise Ended(0 if staying and signum == signal.SIGINT else 128 + signum)

    def stay(watch: Callable[[], None]) -> None:
        nonlocal staying
        staying = True
        while True:
            watch()
            time.sleep(1)

    before = {signum: signal.signal(signum, end) for signum in _SIGNALS}
    try:
        yield stay
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
