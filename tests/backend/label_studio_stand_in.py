"""Stands for a Label Studio 1.23, as far as a backend reads images from it: tokens, uploads, local files, resolve."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

import jwt

LEGACY = "0123456789abcdef0123456789abcdef01234567"
_KEY = "a secret of the stand-in, long enough for HS256"

Answer = tuple[int, dict[str, str], bytes]
S = TypeVar("S", bound="StandIn")


def make_jwt(kind: str, *, lives: float = 300.0) -> str:
    """A JWT as Label Studio issues them: ``refresh`` (a personal access token) or ``access``."""
    claims = {"token_type": kind, "exp": int(time.time() + lives), "jti": str(time.monotonic_ns()), "user_id": 1}
    return jwt.encode(claims, _KEY, algorithm="HS256")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave early are what some tests are about."""


class StandIn:
    """A server on 127.0.0.1.

    files: what it serves, by path with query. presigned: where cloud URIs are redirected to; those without are served
    from ``files``. routes: answers of other kinds, by path. requests: (path, Authorization) in order of arrival.
    personal: the personal access token it takes. legacy: whether legacy tokens are switched on.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.presigned: dict[str, str] = {}
        self.routes: dict[str, Callable[[BaseHTTPRequestHandler], Answer | None]] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.personal = make_jwt("refresh", lives=1e6)
        self.legacy = False
        self.access_lives = 300.0
        self.access: list[str] = []
        self.server = _Server(("127.0.0.1", 0), self._handler())

    @property
    def port(self) -> int:
        return self.server.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def refreshes(self) -> int:
        """How often a token was exchanged."""
        return sum(path == "/api/token/refresh/" for path, _ in self.requests)

    def answer(self, path: str, header: str | None) -> Answer:
        """What a GET gets; the wordings of 401 are Label Studio's."""
        parts = urlsplit(path)
        if parts.path.startswith("/public/"):
            return self._file(path)
        refusal = self.refusal(header)
        if refusal:
            return 401, {"Content-Type": "application/json"}, json.dumps({"detail": refusal}).encode()
        if parts.path.startswith("/tasks/") and parts.path.endswith("/resolve/"):
            uri = base64.urlsafe_b64decode(parse_qs(parts.query)["fileuri"][0]).decode()
            if uri in self.presigned:
                return 303, {"Location": self.presigned[uri]}, b""
            return self._file(uri)
        return self._file(path)

    def refusal(self, header: str | None) -> str:
        kind, _, token = (header or "").partition(" ")
        if kind == "Token" and token == LEGACY:
            return (
                ""
                if self.legacy
                else "Authentication token no longer valid: legacy token authentication has been disabled"
            )
        if kind == "Token":
            return "Invalid token."
        if kind == "Bearer" and token in self.access:
            expired = jwt.decode(token, options={"verify_signature": False})["exp"] < time.time()
            return "Given token not valid for any token type" if expired else ""
        return "Authentication credentials were not provided."

    def _file(self, path: str) -> Answer:
        data = self.files.get(path)
        return (404, {}, b"not found") if data is None else (200, {"Content-Type": "image/png"}, data)

    def post(self, path: str, header: str | None, body: bytes) -> Answer | None:
        """What a POST gets; None for nothing, not even an end."""
        return self.refresh(body)

    def refresh(self, body: bytes) -> Answer:
        if json.loads(body).get("refresh") != self.personal:
            return 401, {}, b'{"detail": "Token is invalid or expired", "code": "token_not_valid"}'
        self.access.append(make_jwt("access", lives=self.access_lives))
        return 200, {"Content-Type": "application/json"}, json.dumps({"access": self.access[-1]}).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append((self.path, self.headers.get("Authorization")))
                route = site.routes.get(urlsplit(self.path).path)
                self._send(route(self) if route else site.answer(self.path, self.headers.get("Authorization")))

            def do_POST(self) -> None:
                site.requests.append((self.path, self.headers.get("Authorization")))
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self._send(site.post(self.path, self.headers.get("Authorization"), body))

            def _send(self, answer: Answer | None) -> None:
                if answer is None:  # the route wrote for itself
                    return
                status, headers, body = answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        return Handler


@contextmanager
def label_studio() -> Iterator[StandIn]:
    with served(StandIn()) as site:
        yield site


@contextmanager
def served(site: S) -> Iterator[S]:
    """Let a stand-in answer."""
    threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield site
    finally:
        site.server.shutdown()
        site.server.server_close()
