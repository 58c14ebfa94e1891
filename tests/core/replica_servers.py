"""Servers that answer as a replica does, or as one in trouble would."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

Answer = tuple[int, dict[str, str], bytes] | None
"""Status, headers, body; None breaks the connection off."""

INFO = {"version": "m", "state": "ready", "device": "cpu", "dtype": "float32"}
WARMED: Answer = (200, {}, json.dumps({"model": "m", "image": {"key": "0" * 32, "size": [9, 9]}}).encode())


def refusal(status: int, kind: str, retry_after: str = "") -> Answer:
    """An error as our servers send it."""
    headers = {"Retry-After": retry_after} if retry_after else {}
    return status, headers, json.dumps({"error": f"said {kind}", "kind": kind}).encode()


class Replica:
    """One server. info: what it tells about itself. answer: what it says to requests, which ``asked`` counts."""

    def __init__(self, port: int = 0) -> None:
        self.info: dict[str, Any] = dict(INFO)
        self.answer: Callable[[], Answer] = lambda: WARMED
        self.asked = 0
        self.port = port
        self._server: http.server.ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        replica = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._say((200, {}, json.dumps(replica.info).encode()))

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                replica.asked += 1
                self._say(replica.answer())

            def _say(self, answer: Answer) -> None:
                if answer is None:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, headers, body = answer
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(body))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Nothing listens at its address any more; as an ``answer``, it breaks off besides."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@contextmanager
def replicas(count: int) -> Iterator[list[Replica]]:
    """So many, all ready."""
    with ExitStack() as stack:
        servers = [Replica() for _ in range(count)]
        for server in servers:
            server.start()
            stack.callback(server.stop)
        yield servers


def eventually(look: Callable[[], bool]) -> None:
    """Fails when it does not come true within some seconds."""
    deadline = time.monotonic() + 20
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)
