"""Storing predictions through Label Studio's API, for answers that it did not wait for.

``POST /api/predictions/`` stores a prediction each time it is called, so a look comes first: ``GET
/api/predictions/?task=<id>`` lists what a task has, where ``GET /api/tasks/<id>/`` would ask this backend for one.
"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
import requests
from msgspec import Struct

from backend.addresses import AddressRefused, Door, Hosts
from backend.auth import TokenExchange, TokenKind, TokenRefused
from backend.download import new_session
from backend.images import Site
from backend.predictions import Prediction
from backend.visits import visiting
from sam3_core.errors import ImageUnavailable, ServerUnavailable

_CONNECT = 5.0  # seconds, a try
_MOST_WAIT = 300.0  # seconds of a Retry-After that are believed


class NotTaken(ServerUnavailable):
    """Label Studio refuses this one prediction, because of its task or what is in it."""


class NoAccess(ServerUnavailable):
    """The token opens nothing here: no prediction can be stored."""


class TryLater(ServerUnavailable):
    """No answer, or not now; ``retry_after`` where Label Studio said when."""


class _Stored(Struct, frozen=True):
    model_version: str | None = None


class _Page(Struct, frozen=True):
    results: list[_Stored]


class LabelStudioApi:
    """Stores predictions. One per process: it keeps connections and access tokens. Callable from any thread."""

    def __init__(self, hosts: Hosts, *, seconds: float) -> None:
        """hosts: what is open beside the Label Studios themselves. seconds: for one call."""
        self._hosts = hosts
        self._seconds = seconds
        self._session = new_session()
        self._tokens = TokenExchange(self._session)

    @staticmethod
    def problem(site: Site | None, project: str, task: int | str | None) -> str:
        """Why a task's prediction could not be sent to its Label Studio; empty where one can try."""
        if site is None or site.credentials.kind is TokenKind.NONE:
            return "there is no token to store them with: set SAM3_LABEL_STUDIO_URL and SAM3_LABEL_STUDIO_API_KEY"
        if not (project.isdecimal() and str(task).isdecimal()):
            return "the request names no project and task of Label Studio"
        return ""

    def store(self, site: Site, project: str, task: int | str | None, prediction: Prediction) -> bool:
        """Store a task's prediction, unless it has one of this model version; whether it was stored now.

        A try whose answer got lost is found by the next one. Raises NotTaken, NoAccess or TryLater.
        """
        if prediction["model_version"] in self._versions(site, task):
            return False
        body = {"task": int(str(task)), "project": int(project)}
        body |= {name: prediction[name] for name in ("result", "score", "model_version")}
        self._call(site, "POST", "/api/predictions/", json=body)
        return True

    def _versions(self, site: Site, task: int | str | None) -> set[str | None]:
        """The model versions of a task's predictions."""
        raw = self._call(site, "GET", "/api/predictions/", params={"task": str(task)})
        try:
            listed = msgspec.json.decode(raw, type=list[_Stored] | _Page)
        except (ValueError, RecursionError):
            raise TryLater(f"Label Studio at {site.base} answered something else than its predictions") from None
        return {stored.model_version for stored in (listed.results if isinstance(listed, _Page) else listed)}

    def _call(self, site: Site, method: str, path: str, **arguments: Any) -> bytes:
        """The body of a 2xx answer; with a new access token where the one at hand is not taken any more."""
        answer = self._send(site, method, path, renew=False, **arguments)
        if answer.status_code == 401 and site.credentials.kind is TokenKind.PERSONAL:
            answer = self._send(site, method, path, renew=True, **arguments)
        status = answer.status_code
        if 200 <= status < 300:
            return answer.content
        if status in (401, 403):
            raise NoAccess(site.credentials.advice(site.base, status))
        said = f"Label Studio at {site.base} answered {status} to {method} {path}"
        if status in (408, 425, 429) or status >= 500:
            later = TryLater(said)
            later.retry_after = _retry_after(answer.headers.get("Retry-After", ""))
            raise later
        raise NotTaken(said)

    def _send(self, site: Site, method: str, path: str, *, renew: bool, **arguments: Any) -> requests.Response:
        try:
            with visiting(Door(self._hosts, site.home), self._seconds):
                header = self._tokens.header(site.base, site.credentials, renew=renew)
                return self._session.request(
                    method,
                    site.base + path,
                    headers={"Authorization": header} if header else {},
                    timeout=(min(_CONNECT, self._seconds), self._seconds),
                    allow_redirects=False,
                    auth=lambda request: request,  # without it requests would add a login from ~/.netrc
                    **arguments,
                )
        except (TokenRefused, AddressRefused) as error:
            raise NoAccess(str(error)) from None
        except ImageUnavailable as error:  # no answer to the exchange of the token, or none in time
            raise TryLater(f"Label Studio at {site.base} gives no answer: {error}") from None
        except requests.RequestException as error:
            raise TryLater(f"Label Studio at {site.base} gives no answer: {type(error).__name__}") from None


def _retry_after(value: str) -> float | None:
    """Seconds of a Retry-After header, in either of its forms (RFC 9110, 10.2.3); None for anything else."""
    try:
        seconds = float(value) if value.isdecimal() else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(_MOST_WAIT, max(0.0, seconds))
