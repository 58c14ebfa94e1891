"""gunicorn's threads for clients that are slow, or do not speak at all.

Measured with gunicorn 27.0: its threads wait five seconds for the first byte of every new connection, and then for
ever for each further one; and its one accepting loop waits up to two seconds for a client to close. A few clients
that say nothing are enough to keep everybody else out. Here

- no thread is given to a request before its head is there: the loop gathers it, without waiting;
- a request has to arrive, and its answer to be taken, in a time that is set; a request that does not is answered 408;
- the loop never waits for a client to close;
- questions that need no work (``GET``: health, metrics, status) have threads of their own, which bulk cannot fill.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import selectors
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Any

from gunicorn.http import errors
from gunicorn.workers.gthread import TConn, ThreadWorker

from backend.timed_socket import SlowClient, TimedSocket

log = logging.getLogger(__name__)

_HEAD_SECONDS = 10.0
_LINGER = 2.0
"""Seconds that a client has for closing, so that it can read the last answer's end."""
_QUICK_THREADS = 2

_SENTENCES = {
    400: "this is no HTTP request that this server understands",
    408: SlowClient.description,
    414: "the address of the request is too long",
    417: "the request expects what this server does not do",
    431: "the head of the request is too large",
    501: "the request is coded in a way that this server does not know",
    500: "this is a defect of the server; its log has the details",
}


class PatientWorker(ThreadWorker):  # type: ignore[misc]
    """See the module."""

    receive_seconds: float
    send_seconds: float

    def init_process(self) -> None:
        """Runs until the process ends."""
        self._quick = ThreadPoolExecutor(_QUICK_THREADS, thread_name_prefix="quick")
        self._closing: dict[TConn, float] = {}  # the first to expire first
        super().init_process()

    # ---- heads come in, in the loop

    def accept(self, listener: socket.socket) -> None:
        """Take a client in, and wait for its head in the loop."""
        try:
            accepted, address = listener.accept()
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED, errno.EMFILE, errno.ENFILE):
                return
            raise
        client = TimedSocket(accepted, receive_seconds=self.receive_seconds, send_seconds=self.send_seconds)
        conn = TConn(self.cfg, client, address, listener.getsockname())
        conn.data_ready = True  # whenever a thread gets it
        self.nr_conns += 1
        self._await_head(conn)

    def on_client_socket_readable(self, conn: TConn, client: TimedSocket) -> None:
        """A kept connection has another request."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._await_head(conn)

    def on_pending_socket_readable(self, conn: TConn, client: TimedSocket) -> None:
        """More of a head."""
        client.gather()
        if client.head is not None:
            self.poller.unregister(client)
            self.pending_conns.remove(conn)
            self.enqueue_req(conn)

    def murder_pending(self) -> None:
        """Leave clients whose head did not come, and those that do not close. A stopping server leaves the silent."""
        now = time.monotonic()
        for conn in [one for one in self.pending_conns if one.timeout <= now or not (self.alive or one.sock.holds)]:
            self.pending_conns.remove(conn)
            self.poller.unregister(conn.sock)
            if conn.sock.holds:
                _answer(conn.sock, 408)
            self._linger(conn)
        for conn in [one for one, until in self._closing.items() if until <= now]:
            self._drop(conn)

    def _await_head(self, conn: TConn) -> None:
        conn.sock.begin()
        conn.sock.gather()
        if conn.sock.head is not None:
            self.enqueue_req(conn)
            return
        conn.timeout = time.monotonic() + min(_HEAD_SECONDS, self.receive_seconds)
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    # ---- requests, in threads

    def enqueue_req(self, conn: TConn) -> None:
        """To the threads for work, or to those for questions."""
        pool = self._quick if _is_question(conn.sock.head or b"") else self.tpool
        future = pool.submit(self.handle, conn)
        future.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def handle(self, conn: TConn) -> object:
        """Answer one request. Whether the connection is kept."""
        keep = super().handle(conn)
        return keep and not conn.sock.expired

    def handle_error(self, req: object, client: TimedSocket, addr: Any, exc: Exception) -> None:
        """One sentence, as every other answer; gunicorn's own would be a page of HTML, and its line in the log show
        the request's head, where secrets travel."""
        status = 408 if isinstance(exc, SlowClient) else _status(exc)
        if status == 500:
            log.error("a request failed in the server", exc_info=exc)
        else:
            log.warning("a request from %s is refused: %d %s", addr[0] if addr else "?", status, type(exc).__name__)
        _answer(client, status)

    # ---- what comes after them, in the loop

    def finish_request(self, conn: TConn, future: Future[object]) -> None:
        """Wait for the connection's next request, or for its end."""
        try:
            keep = not future.cancelled() and future.result()
        except Exception:  # gunicorn answers all it knows
            log.exception("a connection failed")
            keep = False
        if not keep:
            self._linger(conn)
            return
        conn.sock.put_back(conn.parser.unreader.take_buffered())
        if conn.sock.holds:  # of the next request, read along: the poller does not know of it
            self._await_head(conn)
        else:
            super().finish_request(conn, future)

    def _linger(self, conn: TConn) -> None:
        """Say that nothing more comes, and give the client a moment to read and close.

        Closing at once, with unread bytes of the client's on the way, would tear the answer's end from it.
        """
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._discard, conn))
        except (OSError, ValueError):  # gone already
            self.nr_conns -= 1
            conn.close()
            return
        self._closing[conn] = time.monotonic() + _LINGER

    def _discard(self, conn: TConn, client: TimedSocket) -> None:
        if not client.discard():
            self._drop(conn)

    def _drop(self, conn: TConn) -> None:
        del self._closing[conn]
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()


def patient(*, receive_seconds: float, send_seconds: float) -> type[PatientWorker]:
    """The class for gunicorn, which makes the worker itself: in how many seconds a request has to arrive, and an
    answer to be taken."""
    return type(
        PatientWorker.__name__, (PatientWorker,), {"receive_seconds": receive_seconds, "send_seconds": send_seconds}
    )


def _is_question(head: bytes) -> bool:
    """Whether a request asks for something that is there, and brings no body that could be slow to come."""
    lower = head.lower()
    return (
        lower.startswith(b"get ") and b"\r\ncontent-length:" not in lower and b"\r\ntransfer-encoding:" not in lower
    )


def _status(error: Exception) -> int:
    known = {errors.LimitRequestLine: 414, errors.LimitRequestHeaders: 431, errors.ExpectationFailed: 417}
    known[errors.UnsupportedTransferCoding] = 501
    outgoing = isinstance(error, errors.InvalidResponseHeader | errors.InvalidResponseHeaderName)
    if outgoing or not isinstance(error, errors.ParseException):
        return 500
    return known.get(type(error), 400)


def _answer(client: TimedSocket, status: int) -> None:
    """A whole answer, as far as the client takes it at once."""
    body = json.dumps({"error": _SENTENCES[status]}).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with contextlib.suppress(OSError):
        client.setblocking(False)
        client.send(head.encode() + body)
