"""RemoteSegmenter: the Segmenter whose weights live in another process, reached over HTTP. Needs no torch."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar
from urllib.parse import unquote

import requests
from pydantic import ValidationError
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from requests.exceptions import ProxyError, SSLError
from urllib3 import Retry
from urllib3.exceptions import LocationParseError, NewConnectionError
from urllib3.util import parse_url

from sam3_core.caller import BULK, CLICK, Caller
from sam3_core.errors import (
    BadSettings,
    ModelUnavailable,
    NotReady,
    Sam3Error,
    TooLarge,
    Unauthorized,
    UnknownImage,
)
from sam3_core.images import EncodedImage
from sam3_core.results import ConceptResult, Instance
from sam3_core.types import Concept, FindOptions, ModelInfo, ModelState, OutlineOptions, VisualPrompt
from sam3_core.wire.base import Answered
from sam3_core.wire.prompts import FindRequest, OutlineRequest, Request, WarmRequest, WireImage, is_key
from sam3_core.wire.results import Failure, FindAnswer, InfoAnswer, OutlineAnswer, WarmAnswer

logger = logging.getLogger(__name__)

_A = TypeVar("_A", FindAnswer, OutlineAnswer, WarmAnswer)
_B = TypeVar("_B", bound=Answered)

_Parts = dict[str, tuple[str, bytes, str]]
_FILE = "application/octet-stream"

_CONNECT_SECONDS = 3.05  # a little over the three after which TCP repeats its first packet
_CONNECT_TRIES, _BACKOFF = 3, 0.2
_INFO_SECONDS = 2.0
_CONNECTIONS = 64
_MOST_KEYS = 10_000
_REFUSED = {429, 503}  # with a Retry-After: before any work was done
_BUSY = {429, 502, 503, 504}
_PORTS = {"http": 80, "https": 443}

_IDLE = 4.0
"""Seconds. Our server closes idle connections after five; a request that meets the end of its connection cannot be
told from one whose answer was lost."""


class Lost(NotReady):
    """No answer came, and nobody knows whether the server works on the request."""


class RemoteSegmenter:
    """SAM 3 in another process; see ``Segmenter`` for the contract. Callable from any thread.

    An image is first named by its key; its file is sent only where the server does not hold it. Connections that
    cannot be made are tried again, and so is what a busy server refused with a Retry-After, while ``seconds`` last. A
    request that the server may have begun to work on is never sent twice.

    Raises what the server raised, ModelUnavailable where it cannot be reached or is none of ours, and NotReady where
    it does not answer in time or breaks off.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        seconds: float = 90.0,
        insist: bool = True,
    ) -> None:
        """url: of the server, as ``http://gpu:9090``; a path before ``/v1`` may follow. user, password: where the
        server asks for them (basic auth); they may stand in the address too. token: sent as a bearer's instead.
        seconds: for one call. insist: whether what a busy server refused is sent again.

        Raises BadSettings for what is no such address.
        """
        self._url, login = _base(url)
        if user is None and login is not None:
            user, _, password = (unquote(part) for part in login.partition(":"))
        self._login: AuthBase | None = (
            None if user is None else HTTPBasicAuth(user.encode(), (password or "").encode())
        )
        if token:
            self._login = _Bearer(token)
        self._seconds = seconds
        self._insists = insist
        self._lock = threading.Lock()
        self._session, self._used = self._connect(), time.monotonic()
        self._keys: OrderedDict[str, str] = OrderedDict()  # ours to the server's, where they differ
        self._last = ModelInfo("unknown", ModelState.FAILED, "unknown", "unknown", can_outline=False)

    def info(self) -> ModelInfo:
        """What runs there, within seconds. A server that cannot be asked is FAILED, under the version last seen."""
        try:
            answer = _checked(self._send("GET", "info", None, None, _INFO_SECONDS), self._url)
            self._last = _read(InfoAnswer, answer, self._url).info()
        except Sam3Error as error:
            return replace(self._last, state=ModelState.FAILED, problem=str(error))
        return self._last

    def find(
        self,
        image: bytes | EncodedImage,
        concepts: Sequence[Concept],
        options: FindOptions | None = None,
        *,
        caller: Caller = BULK,
    ) -> list[ConceptResult]:
        """One result per concept, in order."""
        if not concepts:
            return []
        asked = FindRequest.of(concepts, options or FindOptions())
        return [result.result() for result in self._ask("find", image, asked, FindAnswer, caller).results]

    def outline(
        self,
        image: bytes | EncodedImage,
        prompt: VisualPrompt,
        options: OutlineOptions | None = None,
        *,
        caller: Caller = CLICK,
    ) -> list[Instance]:
        """Readings of one visual prompt, best first."""
        asked = OutlineRequest.of(prompt, options or OutlineOptions())
        return [one.instance() for one in self._ask("outline", image, asked, OutlineAnswer, caller).instances]

    def warm(self, image: bytes | EncodedImage, *, caller: Caller = BULK) -> None:
        """Have the image encoded there, for all kinds of prompts."""
        self._ask("warm", image, WarmRequest(), WarmAnswer, caller)

    @property
    def url(self) -> str:
        """The server's address, without a login."""
        return self._url

    def gone(self) -> bool:
        """Whether nothing listens at the address any more, so that whatever was sent there has ended with it."""
        parts = parse_url(self._url)
        address = (parts.host, parts.port or _PORTS[parts.scheme or "http"])
        try:
            socket.create_connection(address, _CONNECT_SECONDS).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False

    def _ask(self, what: str, image: bytes | EncodedImage, asked: Request, kind: type[_A], caller: Caller) -> _A:
        """The answer to a request about an image: by its key, and where that is not known there, with its file."""
        image, caller = EncodedImage.of(image), caller.sooner(time.monotonic() + self._seconds)
        asked = asked.model_copy(update={"lane": caller.lane, "seconds": max(0.1, caller.seconds_left)})
        key = self._known_as(image.key)
        try:
            if key is None:
                raise UnknownImage("this name of the image cannot be known there")
            by_key = asked.model_copy(update={"image": WireImage(key=key)})
            answer = self._insist(what, by_key.text(), None, caller)
        except UnknownImage:
            answer = self._insist(what, asked.text(), image.data, caller)
        read = _read(kind, answer, self._url)
        self._remember(image.key, read.image.key)
        return read

    def _insist(self, what: str, body: bytes, file: bytes | None, caller: Caller) -> requests.Response:
        """Send it, and again where the server was too busy to begin and says when, while there is time."""
        while True:
            caller.check()
            answer = self._send("POST", what, body, file, caller.seconds_left)
            pause = _retry_after(answer)
            again = self._insists and answer.status_code in _REFUSED
            if not again or pause is None or pause >= caller.seconds_left:
                return _checked(answer, self._url)
            logger.info("%s is busy; again in %g s", self._url, pause)
            time.sleep(pause)

    def _send(
        self, method: str, what: str, body: bytes | None, file: bytes | None, seconds: float
    ) -> requests.Response:
        """One request, whatever its answer is. Raises ModelUnavailable, or NotReady where no answer came."""
        parts: _Parts | None = None
        if file is not None:
            # With file names, both: servers keep parts without one short.
            parts = {"request": ("request.json", body or b"", "application/json"), "image": ("image", file, _FILE)}
        try:
            return self._fresh_session().request(
                method,
                f"{self._url}/v1/{what}",
                data=body if parts is None else None,
                files=parts,
                headers={"Content-Type": "application/json"} if parts is None else {},
                auth=self._login,
                timeout=(min(_CONNECT_SECONDS, max(seconds, 0.1)), max(seconds, 0.1)),
                allow_redirects=False,
            )
        except requests.ReadTimeout:
            raise Lost(f"{self._url} did not answer within {max(seconds, 0.1):.0f} s") from None
        except requests.RequestException as error:
            raise _unsent_or_lost(error, self._url) from error

    def _fresh_session(self) -> requests.Session:
        """After a pause a new one, with new connections; calls that use the old one end in peace."""
        with self._lock:
            now = time.monotonic()
            if now - self._used > _IDLE:
                self._session = self._connect()
            self._used = now
            return self._session

    def _connect(self) -> requests.Session:
        session = requests.Session()
        retries = Retry(
            total=None, connect=_CONNECT_TRIES, read=0, redirect=0, status=0, other=0, backoff_factor=_BACKOFF
        )
        session.mount(self._url, HTTPAdapter(max_retries=retries, pool_maxsize=_CONNECTIONS))
        session.mount(f"{self._url}/v1/info", HTTPAdapter())  # at once: no second try
        return session

    def _known_as(self, key: str) -> str | None:
        """What the server may call the image; None for a name that it cannot have."""
        with self._lock:
            known = self._keys.get(key, key)
        return known if is_key(known) else None

    def _remember(self, ours: str, theirs: str) -> None:
        if ours == theirs:
            return
        with self._lock:
            self._keys.pop(ours, None)
            self._keys[ours] = theirs
            while len(self._keys) > _MOST_KEYS:
                self._keys.popitem(last=False)


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _base(url: str) -> tuple[str, str | None]:
    """The address without a login and a last slash, and the login. Raises BadSettings, which does not show it."""
    try:
        parts = parse_url(url.strip())
    except LocationParseError:
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.host or parts.query or parts.fragment:
        raise BadSettings("the address of the SAM 3 server must be like http://gpu-box:9090 or https://host/path")
    path = (parts.path or "").rstrip("/").removesuffix("/v1")
    return parts._replace(auth=None, path=path).url, parts.auth


def _checked(answer: requests.Response, url: str) -> requests.Response:
    """Raises what the server raised or, where it does not say, what its status says."""
    status = answer.status_code
    if status == requests.codes.ok:
        return answer
    pause = _retry_after(answer)
    try:
        failure = Failure.model_validate_json(answer.content)
    except ValidationError:
        failure = Failure(error=answer.reason or "no reason")
    raised = failure.exception(pause)
    if raised is not None:
        raise raised
    said = f"{url} answered {status}: {failure.error[:200]}"
    if status in (401, 403):
        raise Unauthorized(said)
    if status == TooLarge.status:
        raise TooLarge(said)
    if status in _REFUSED and pause is not None:
        raise NotReady(said, retry_after=pause)
    if status in _BUSY:
        raise Lost(said)
    if status == Sam3Error.status:
        raise Sam3Error(said)
    raise ModelUnavailable(f"{said}; is it a sam3-prelabel server of this version?")


def _read(kind: type[_B], answer: requests.Response, url: str) -> _B:
    """Raises ModelUnavailable for what no server of ours says."""
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        where = ".".join(map(str, error.errors(include_input=False)[0]["loc"]))
        problem = f"the answer of {url} cannot be read ({where or 'no JSON'})"
    raise ModelUnavailable(f"{problem}; is it a sam3-prelabel server of this version?")


def _unsent_or_lost(error: requests.RequestException, url: str) -> Sam3Error:
    """What it means that there is no answer: the request never left, or nobody knows what became of it."""
    cause = error.args[0] if error.args else None
    reason = getattr(cause, "reason", None)
    unsent = isinstance(error, requests.ConnectTimeout | SSLError | ProxyError | ValueError)
    if unsent or isinstance(reason, NewConnectionError):
        why = str(reason or error).rpartition("] ")[2].rpartition(": ")[2]
        return ModelUnavailable(f"cannot reach the SAM 3 server at {url}: {why}")
    return Lost(f"the connection to {url} broke before its answer was there")


def _retry_after(answer: requests.Response) -> float | None:
    """Seconds; None where there is no header, or a date."""
    said = answer.headers.get("Retry-After", "")
    return float(said) if said.isascii() and said.isdecimal() else None
