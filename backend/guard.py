"""Who may ask: basic auth, as Label Studio sends it, and a bearer token, for scripts and other servers.

Each is there when it is configured; either is enough. Without both, everybody who reaches the port may ask.

| route | without a login |
|---|---|
| ``/``, ``/ready`` | the status and nothing else: container probes ask there |
| ``/webhook`` | 401, but open where SAM3_OPEN_WEBHOOK says so: Label Studio sends no login with annotation events |
| all others, ``/health`` too | 401: Label Studio tells its user about a wrong login only when ``/health`` says so |
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass

from flask import Flask, Response, g, json, request
from werkzeug.datastructures import Authorization

from backend.settings import BackendSettings
from sam3_core.errors import Unauthorized

_PROBES = frozenset({"/", "/ready"})

_KEY = os.urandom(32)


@dataclass(frozen=True, slots=True)
class Logins:
    """What opens the server, as digests: comparing those takes the same time for every guess of every length."""

    user: bytes = b""
    password: bytes = b""
    token: bytes = b""

    @classmethod
    def of(cls, settings: BackendSettings) -> Logins:
        """The configured ones; a digest is empty where there is none."""
        user, password, token = settings.basic_auth_user, settings.basic_auth_password, settings.api_token
        return cls(*(_digest(text) if text else b"" for text in (user, password, token)))

    @property
    def wanted(self) -> bool:
        """Whether any login is asked for."""
        return bool(self.user or self.token)

    def known(self, login: Authorization | None) -> bool:
        """Whether a request's login is one of them. All are compared, always."""
        login = login or Authorization("none")
        given = (login.username, login.password, login.token)
        texts = (text if isinstance(text, str) else "" for text in given)
        user, password, token = (_digest(text) for text in texts)
        by_user = hmac.compare_digest(user, self.user) & hmac.compare_digest(password, self.password)
        by_token = hmac.compare_digest(token, self.token)
        return (login.type == "basic" and by_user) or (login.type == "bearer" and by_token)


def add_guard(app: Flask, settings: BackendSettings) -> None:
    """Ask for a login before every request, as the table above says. Raises Unauthorized, inside of requests."""
    logins = Logins.of(settings)
    open_paths = _PROBES | {"/webhook"} if settings.open_webhook else _PROBES

    @app.before_request
    def check_login() -> None:
        g.proved = logins.wanted and logins.known(request.authorization)
        if logins.wanted and not g.proved and request.path not in open_paths:
            raise Unauthorized(f"this server asks for {_wanted(settings)}")

    @app.after_request
    def say_little(answer: Response) -> Response:
        if logins.wanted and request.path in _PROBES and not g.get("proved"):
            answer.set_data(json.dumps({"status": "UP" if answer.status_code < 400 else "DOWN"}))
            answer.mimetype = "application/json"
        if answer.status_code == Unauthorized.status:
            kind = "Bearer" if logins.token and not logins.user else "Basic"
            answer.headers["WWW-Authenticate"] = f'{kind} realm="sam3-prelabel"'
        return answer


def sender() -> str | None:
    """The IP address that the request at hand comes from; None where it proved a login."""
    return None if g.get("proved") else request.remote_addr


def _wanted(settings: BackendSettings) -> str:
    ways: list[tuple[object, str]] = [
        (settings.basic_auth_user, "a user and a password (basic auth)"),
        (settings.api_token, "a token (Authorization: Bearer)"),
    ]
    return " or ".join(way for configured, way in ways if configured)


def _digest(text: str) -> bytes:
    return hmac.digest(_KEY, text.encode("utf-8", "surrogatepass"), "sha256")
