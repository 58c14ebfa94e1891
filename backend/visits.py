"""Connections that look where they lead: each is checked by the address it is made to, and ends at its deadline.

``requests`` resolves a name when it connects, so a check before that could be shown one address and connect to
another (DNS rebinding). Here the name is resolved once, and what is connected to is what was checked. The name stays
that of the request: ``Host``, SNI and the certificate are about it.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NameResolutionError, NewConnectionError
from urllib3.util import connection

from backend.addresses import Door
from sam3_core.errors import ImageUnavailable

_MOST_ADDRESSES = 4
"""Of one name that are tried."""


class TookTooLong(ImageUnavailable):
    """The visit's time is over."""


class Visit:
    """What one thread fetches now: what is open to it, and until when. At the end its connection is cut.

    Time-outs of sockets begin anew with every byte, so a server that drips its headers would never meet one.
    """

    def __init__(self, door: Door, seconds: float) -> None:
        self.door = door
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._cut_at: socket.socket | None = None
        self._lock = threading.Lock()

    @property
    def seconds_left(self) -> float:
        """Until the end; negative after it."""
        return self._until - time.monotonic()

    @property
    def over(self) -> bool:
        """Whether the time is spent."""
        return self.seconds_left <= 0

    def check(self) -> None:
        """Raises TookTooLong."""
        if self.over:
            raise TookTooLong(f"it took longer than {self._seconds:g} seconds")

    def hold(self, handle: socket.socket | None) -> None:
        """The connection that is cut at the end."""
        with self._lock:
            self._cut_at = handle

    def cut(self) -> None:
        """Let whoever waits for the connection go on: it is at its end."""
        with self._lock, contextlib.suppress(OSError):
            if self._cut_at is not None:
                self._cut_at.shutdown(socket.SHUT_RDWR)


_visit: ContextVar[Visit] = ContextVar("visit")


@contextmanager
def visiting(door: Door, seconds: float) -> Iterator[Visit]:
    """What is fetched inside, with sessions whose adapter is a ``GuardedAdapter``, stays within the door and time."""
    visit = Visit(door, seconds)
    timer = threading.Timer(seconds, visit.cut)
    timer.daemon = True
    timer.start()
    token = _visit.set(visit)
    try:
        yield visit
    finally:
        _visit.reset(token)
        visit.hold(None)
        timer.cancel()


class _Guarded:
    """Beside one of urllib3's connections: made and used only as the visit allows. LookupError outside of one."""

    _handle: socket.socket | None = None

    def _new_conn(self: Any) -> socket.socket:
        visit = _visit.get()
        sock = _connect(self, visit)
        # A second handle on it: TLS takes the first over, and its handshake has to end in time too.
        self._handle = sock.dup()
        visit.hold(self._handle)
        if visit.over:
            visit.cut()
        sys.audit("http.client.connect", self, self.host, self.port)
        return sock

    def request(self: Any, *args: Any, **kwargs: Any) -> None:
        """A kept connection may have been made for somebody to whom more is open."""
        visit = _visit.get()
        visit.check()
        if self.sock is not None and self.proxy is None:
            visit.hold(self._handle)
            if not visit.door.opens(self.host, self.port, self.sock.getpeername()[0]):
                raise visit.door.refusal(self.host, self.port)
        super().request(*args, **kwargs)  # type: ignore[misc]

    def close(self: Any) -> None:
        super().close()  # type: ignore[misc]
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()


def _connect(to: HTTPConnection, visit: Visit) -> socket.socket:
    """To the first of the host's addresses that is open and answers. Raises AddressRefused, and as urllib3 does."""
    try:
        found = socket.getaddrinfo(to._dns_host, to.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise NameResolutionError(to.host, to, error) from error
    except UnicodeError:
        raise LocationParseError(f"{to.host!r}, label empty or too long") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if to.proxy is None:  # the person who set this server up chose the proxy; see Door.check_named for its targets
        addresses = [address for address in addresses if visit.door.opens(to.host, to.port, address)]
    if not addresses:
        raise visit.door.refusal(to.host, to.port)
    problem: OSError | None = None
    for address in addresses[:_MOST_ADDRESSES]:
        visit.check()
        limit = to.timeout if isinstance(to.timeout, int | float) else visit.seconds_left
        try:
            return connection.create_connection(
                (address, to.port),
                max(0.01, min(limit, visit.seconds_left)),
                source_address=to.source_address,
                socket_options=to.socket_options,
            )
        except OSError as error:
            problem = error
    if isinstance(problem, TimeoutError):
        raise ConnectTimeoutError(to, f"Connection to {to.host} timed out.") from problem
    raise NewConnectionError(to, f"Failed to establish a new connection: {problem}") from problem


class _HTTPConnection(_Guarded, HTTPConnection):
    pass


class _HTTPSConnection(_Guarded, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


class GuardedAdapter(HTTPAdapter):
    """Of a session whose requests are all made inside of ``visiting``."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> PoolManager:
        manager: PoolManager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager
