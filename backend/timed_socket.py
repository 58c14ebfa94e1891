"""A client's socket that keeps time: for a whole request and a whole answer, not for each of their bytes."""

from __future__ import annotations

import errno
import socket
import time
from typing import Any

from werkzeug.exceptions import RequestTimeout

_PAUSE = 15.0
"""Seconds in which at least something has to come, or go."""
_PIECE = 1 << 13
_MOST_HEAD = 1 << 17
"""Bytes of a head that are gathered; gunicorn's own, smaller limits have the last word."""


class SlowClient(RequestTimeout):
    """The request's time is over and it is not here."""

    description = "the request did not arrive in time; SAM3_RECEIVE_SECONDS is how long it may take"


class TimedSocket(socket.socket):
    """A client's socket with limits of time on a whole request and on a whole answer, and a place for its head.

    It is used as gunicorn uses sockets: blocking or not, and with time-outs of gunicorn's own, which stay.
    """

    def __init__(self, accepted: socket.socket, *, receive_seconds: float, send_seconds: float) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self._receive_seconds = receive_seconds
        self._send_seconds = send_seconds
        self._held = bytearray()
        self._ended = False
        self.expired = False
        self.begin()

    def begin(self) -> None:
        """The next request begins."""
        self._until = time.monotonic() + self._receive_seconds
        self._sent_until: float | None = None

    @property
    def holds(self) -> bool:
        """Whether bytes were gathered that nobody has read."""
        return bool(self._held)

    @property
    def head(self) -> bytes | None:
        """What was gathered, once it is a whole head, too long for one, or all that comes; None before."""
        whole = b"\r\n\r\n" in self._held or len(self._held) > _MOST_HEAD or self._ended
        return bytes(self._held) if whole else None

    def gather(self) -> None:
        """Take what is there, without waiting."""
        self.setblocking(False)
        try:
            piece = super().recv(_PIECE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # a reset: whoever reads next meets it again
            piece = b""
        self._held += piece
        self._ended = not piece

    def put_back(self, data: bytes) -> None:
        """What was read, but belongs to the next request."""
        self._held[:0] = data

    def discard(self) -> bool:
        """Throw away what is there, without waiting. Whether the client is still there."""
        try:
            return bool(super().recv(1 << 16))
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False

    def recv(self, size: int, flags: int = 0) -> bytes:
        """What was gathered, then what comes. Raises SlowClient, once; after that the client is at its end."""
        if self._held:
            piece = bytes(self._held[:size])
            del self._held[:size]
            return piece
        if self.expired or self._ended:
            return b""
        before = self.gettimeout()
        left = max(0.001, min(self._until - time.monotonic(), _PAUSE))
        if before is not None and before <= left:
            return super().recv(size, flags)
        try:
            self.settimeout(left)
            return super().recv(size, flags)
        except TimeoutError:
            self.expired = True
            raise SlowClient from None
        finally:
            self.settimeout(before)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """All of it, in the time for the whole answer. Raises BrokenPipeError when the client does not take it."""
        if self._sent_until is None:
            self._sent_until = time.monotonic() + self._send_seconds
        view = memoryview(data).cast("B")
        before = self.gettimeout()
        try:
            while view:
                self.settimeout(max(0.001, min(self._sent_until - time.monotonic(), _PAUSE)))
                view = view[self.send(view, flags) :]
        except TimeoutError:
            self.expired = True
            raise BrokenPipeError(errno.EPIPE, "the client does not take its answer") from None
        finally:
            self.settimeout(before)
