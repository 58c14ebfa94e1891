"""A loopback server that behaves like CVAT 2.80's REST API, for the real cvat-sdk and cvat-cli.

Stands for a CVAT server, which needs its Django tree, PostgreSQL, Redis, Kvrocks and OPA. It answers what the SDK,
the command line and its agents ask of it, keeps annotations, and refuses with 400 what CVAT refuses
(annotation_rules).
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cvat_routes import Answer, answer
from cvat_store import CvatStore

_OPEN = ("/api/server/about", "/api/auth/login")


@dataclass(frozen=True)
class Request:
    """One request as it came in. body: parsed JSON, or None. status: what was answered; 0 when it was cut off."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    status: int
    headers: dict[str, str]


@dataclass
class _Failure:
    path_part: str
    status: int
    times: int
    after: bool
    late: float | None


class CvatServer(CvatStore):
    """Context manager; binds 127.0.0.1 on a free port. All methods may be called while it serves."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self._failures: list[_Failure] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self.host = "http://127.0.0.1"
        self.port: int = self._http.server_address[1]
        self.url = f"{self.host}:{self.port}"

    def __enter__(self) -> CvatServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def fail_next(
        self, path_part: str, status: int, times: int = 1, *, after: bool = False, late: float | None = None
    ) -> None:
        """The next requests whose path holds path_part fail. status 0: the connection is cut without an answer.

        after: the request is carried out first and only its answer is lost. late: it is carried out so many seconds
        after the failure was answered, as behind a proxy that does not wait.
        """
        with self.lock:
            self._failures.append(_Failure(path_part, status, times, after, late))

    def _respond(self, method: str, target: str, headers: dict[str, str], body: Any) -> Answer:
        split = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(split.query).items()}
        path = unquote(split.path)
        failure = self._failure_of(path)
        lost = Answer(failure.status, b'{"detail": "as told"}') if failure else None
        if failure is None or failure.after:
            known = "Authorization" in headers or "sessionid" in headers.get("Cookie", "")
            if known or path in _OPEN:
                real = answer(self, method, path, query, body)
            else:
                real = Answer(401, b'{"detail": "Authentication credentials were not provided."}')
        elif failure.late is not None:
            threading.Timer(failure.late, answer, (self, method, path, query, body)).start()
        reply = lost or real
        with self.lock:
            self.requests.append(Request(method, path, query, body, reply.status, headers))
        return reply

    def _failure_of(self, path: str) -> _Failure | None:
        with self.lock:
            for failure in self._failures:
                if failure.path_part in path and failure.times:
                    failure.times -= 1
                    return failure
        return None


def _handler_of(server: CvatServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle(self) -> None:
            with suppress(ConnectionError):  # of clients that are gone, or were killed
                super().handle()

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.loads(raw) if raw and "json" in self.headers.get("Content-Type", "") else None
            reply = server._respond(self.command, self.path, dict(self.headers.items()), body)
            if reply.status == 0:
                self.close_connection = True
                return
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            for cookie in ("sessionid", "csrftoken") if reply.logs_in else ():
                self.send_header("Set-Cookie", f"{cookie}=of-the-twin; Path=/")
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

        def log_message(self, format: str, *args: object) -> None: ...

    return Handler
