"""Calls that may fail for a moment, and what to do about it: try again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from cvat_sdk.api_client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from sam3_core.errors import NotReady, ServerUnavailable

Answer = TypeVar("Answer")

_PASSING = frozenset({429, 500, 502, 503, 504})
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0  # seconds
_TRIES, _TRIES_OF_500 = 10, 3  # about two minutes: a restart of CVAT; 500 mostly comes again


class Patience:
    """Tries again what failed for a reason that may pass.

    That is: no connection to CVAT, an answer of 429, 500 or 502 to 504, and a model that is not ready. Waits half a
    second, then twice as long each time, or as long as the other side asks for. Callable from any thread.
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

        Raises ApiException and NotReady where they do not pass in time, and ServerUnavailable without a connection.
        """
        tries = 0
        while True:
            try:
                if tries and after_failure is not None and (done := after_failure()) is not None:
                    return done
                return call()
            except (ApiException, HTTPError, NotReady) as error:
                tries += 1
                if not _passes(error, tries) or self._over.wait(_wait(error, tries)):
                    if isinstance(error, HTTPError):
                        raise ServerUnavailable(f"no connection to CVAT: {error}") from error
                    raise


def _passes(error: ApiException | HTTPError | NotReady, tries: int) -> bool:
    if not isinstance(error, ApiException):
        return tries < _TRIES
    return error.status in _PASSING and tries < (_TRIES_OF_500 if error.status == 500 else _TRIES)


def _wait(error: ApiException | HTTPError | NotReady, tries: int) -> float:
    if isinstance(error, NotReady) and error.retry_after is not None:
        return error.retry_after
    headers = getattr(error, "headers", None) or {}
    asked = str(headers.get("Retry-After", ""))  # a date, which CVAT and its proxies do not send, is not read
    return float(asked) if asked.isdecimal() else min(_FIRST_WAIT * 2 ** (tries - 1), _LONGEST_WAIT)
