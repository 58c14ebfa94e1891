"""Tokens of Label Studio 1.23: which header each kind needs, and how a personal access token becomes one.

Legacy tokens (40 hex digits) go out as ``Token``; access tokens (JWT, 300 s) as ``Bearer``. A personal access token
is a *refresh* JWT, good for no header at all: it is exchanged at ``/api/token/refresh/`` for an access token.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import jwt
import requests

from sam3_core.errors import ImageOutOfReach

_EARLY = 30.0  # seconds before its end at which an access token is no longer used
_LIFETIME = 300.0  # of an access token that does not say, as Label Studio issues them
_TIMEOUT = (5.0, 10.0)  # connect, read


class TokenKind(StrEnum):
    """How a token is called in sentences to people."""

    NONE = "no token"
    LEGACY = "a legacy token"
    PERSONAL = "a personal access token"
    ACCESS = "an access token (which lives 5 minutes)"
    FROM_SETUP = "the token that Label Studio itself sent in /setup (a legacy token)"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A token and what it is. The token is kept out of ``repr``, and so out of logs."""

    token: str
    kind: TokenKind

    def __repr__(self) -> str:
        return f"Credentials({self.kind.value})"

    @classmethod
    def of(cls, token: str | None, *, from_setup: bool = False) -> Credentials:
        """What a configured token is, told from its form; ``from_setup`` marks the one of last resort."""
        if not token:
            return cls("", TokenKind.NONE)
        claims = _claims(token)
        if claims is None:
            return cls(token, TokenKind.FROM_SETUP if from_setup else TokenKind.LEGACY)
        return cls(token, TokenKind.PERSONAL if claims.get("token_type") == "refresh" else TokenKind.ACCESS)

    def advice(self, host: str, status: int) -> str:
        """One sentence for a 401 or 403: what was tried and what to do."""
        todo = {
            TokenKind.NONE: "set SAM3_LABEL_STUDIO_URL and SAM3_LABEL_STUDIO_API_KEY",
            TokenKind.LEGACY: "legacy tokens are off by default in Label Studio 1.23: "
            "use a personal access token (Account & Settings), or switch them on under Organization",
            TokenKind.PERSONAL: "create a new one (Account & Settings in Label Studio) for a user of the project",
            TokenKind.ACCESS: "use the personal access token itself: it is exchanged and refreshed here",
            TokenKind.FROM_SETUP: "legacy tokens are off by default in Label Studio 1.23: "
            "set SAM3_LABEL_STUDIO_API_KEY to a personal access token",
        }[self.kind]
        return f"Label Studio at {host} answered {status} to {self.kind.value}; {todo}"


class TokenRefused(ImageOutOfReach):
    """Label Studio does not take the token; trying again does not help."""


class TokenExchange:
    """Turns credentials into an Authorization header; keeps access tokens until shortly before their end."""

    def __init__(self, session: requests.Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._access: dict[tuple[str, str], tuple[str, float]] = {}

    def header(self, base: str, credentials: Credentials, *, renew: bool = False) -> str | None:
        """The Authorization header for Label Studio at ``base``; None without a token.

        renew: exchange anew even if the access token at hand should still be good.
        Raises TokenRefused with one sentence when the exchange is refused, ImageOutOfReach without an answer.
        """
        if credentials.kind is TokenKind.NONE:
            return None
        if credentials.kind is TokenKind.ACCESS:
            return f"Bearer {credentials.token}"
        if credentials.kind is not TokenKind.PERSONAL:
            return f"Token {credentials.token}"
        key = (base, credentials.token)
        # One exchange at a time: many threads find the token spent at the same moment.
        with self._lock:
            access, until = self._access.get(key, ("", 0.0))
            if renew or time.time() >= until:
                access = self._exchange(base, credentials)
                self._access = {key: (access, _usable_until(access))}
        return f"Bearer {access}"

    def _exchange(self, base: str, credentials: Credentials) -> str:
        try:
            answer = self._session.post(
                f"{base}/api/token/refresh/",
                json={"refresh": credentials.token},
                timeout=_TIMEOUT,
                allow_redirects=False,
                auth=lambda request: request,  # without it requests would add a login from ~/.netrc
            )
        except requests.RequestException as error:
            raise ImageOutOfReach(f"Label Studio at {base} cannot be reached: {type(error).__name__}") from None
        if answer.status_code in (401, 403):
            raise TokenRefused(credentials.advice(base, answer.status_code))
        try:
            access = answer.json()["access"] if answer.ok else None
        except (ValueError, KeyError, TypeError):
            access = None
        if not isinstance(access, str) or not access:
            raise ImageOutOfReach(
                f"{base}/api/token/refresh/ answered {answer.status_code} without an access token: no Label Studio?"
            )
        return access


def _claims(token: str) -> dict[str, Any] | None:
    """The claims of a JWT, unverified (only Label Studio can verify them); None for what is no JWT."""
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return None
    return claims


def _usable_until(access: str) -> float:
    """Unix time until which an access token is used."""
    expires = (_claims(access) or {}).get("exp")
    return (float(expires) if isinstance(expires, int | float) else time.time() + _LIFETIME) - _EARLY
