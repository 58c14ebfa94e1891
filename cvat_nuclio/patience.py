"""Calls that may fail for a moment, and what to do about it: try again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from cvat_sdk.api_client.exceptions import ApiException
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from sam3_core.errors import Busy, NotReady, OutOfMemory, ServerUnavailable

Answer = TypeVar("Answer")

Failure: TypeAlias = ApiException | HTTPError | NotReady | Busy

_TIMED_OUT = frozenset({504, 524})  # nginx and others; Cloudflare
OF_THE_SERVER = frozenset({429, 502, 503}) | _TIMED_OUT
"""Statuses that say nothing about what was asked."""

STILL_AT_IT = 120.0
"""Seconds in which a request that nobody waits for any more may yet be carried out."""

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0  # seconds
_TRIES, _FEW_TRIES = 10, 3  # about two minutes, a restart of CVAT; and for what mostly comes again


class Patience:
    """Tries again what failed for a reason that may pass.

    That is: no connection to CVAT, an answer of 429, 500, 502 to 504 or 524, and a model that is not ready or is
    busy. Waits half a second, then twice as long each time, or as long as the other side asks for. Callable from any
    thread.
    """

    def __init__(self) -> None:
        self._over = threading.Event()

    def end(self) -> None:
        """Nobody waits for answers any more: calls that wait give up at once."""
        self._over.set()

    def __call__(
        self, call: Callable[[], Answer], *, after_failure: Callable[[], Answer | None] | None = None
    ) -> Answer:
        """What ``call`` returns.

        after_failure: asked before each new try; what it returns, unless None, is the answer instead. It is for
        calls that must not be carried out twice, as what failed may have been carried out.

        Raises ApiException, NotReady and Busy where they do not pass in time, and ServerUnavailable without a
        connection.
        """
        tries = 0
        while True:
            try:
                if tries and after_failure is not None and (done := after_failure()) is not None:
                    return done
                return call()
            except (ApiException, HTTPError, NotReady, Busy) as error:
                tries += 1
                if not _passes(error, tries) or self._over.wait(_wait(error, tries)):
                    if isinstance(error, HTTPError):
                        raise ServerUnavailable(f"no connection to CVAT: {error}") from error
                    raise

    def until(self, look: Callable[[], bool], seconds: float) -> bool:
        """Whether ``look`` says yes within so many seconds; it is asked once at least."""
        end, looks = time.monotonic() + seconds, 0
        while not look():
            looks += 1
            left = end - time.monotonic()
            if left <= 0 or self._over.wait(min(_growing(looks), left)):
                return False
        return True


def may_go_on(error: ApiException | HTTPError) -> bool:
    """Whether what was asked may be carried out after this failure: nobody waited for the answer, or it was lost."""
    if isinstance(error, ApiException):
        return error.status in _TIMED_OUT
    return not isinstance(getattr(error, "reason", error), NewConnectionError | ConnectTimeoutError)


def _passes(error: Failure, tries: int) -> bool:
    if isinstance(error, ApiException) and error.status not in OF_THE_SERVER | {500}:
        return False
    seldom = isinstance(error, OutOfMemory) or (isinstance(error, ApiException) and error.status == 500)
    return tries < (_FEW_TRIES if seldom else _TRIES)


def _wait(error: Failure, tries: int) -> float:
    if isinstance(error, NotReady | Busy) and error.retry_after is not None:
        return error.retry_after
    headers = getattr(error, "headers", None) or {}
    asked = str(headers.get("Retry-After", ""))  # a date, which CVAT and its proxies do not send, is not read
    return float(asked) if asked.isdecimal() else _growing(tries)


def _growing(tries: int) -> float:
    return float(min(_FIRST_WAIT * 2 ** (tries - 1), _LONGEST_WAIT))
