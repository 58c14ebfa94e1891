"""One HTTP GET with limits on where it leads, time, bytes and redirects; the token stays with its host."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.utils import select_proxy
from urllib3.util import Retry

from backend.addresses import Door
from backend.visits import GuardedAdapter, TookTooLong, Visit, visiting
from sam3_core.errors import ImageOutOfReach, ImageUnavailable, TooLarge
from sam3_core.settings import without_login

Authorize = Callable[[str], str | None]
"""The Authorization header for an address, or None."""

_REDIRECTS = 5
_CONNECT = 5.0  # seconds, a try
_CHUNK = 1 << 16  # bytes
_LATER = (408, 425, 429)


class Refused(ImageOutOfReach):
    """401 or 403: whoever knows the token turns it into advice."""

    def __init__(self, url: str, status: int) -> None:
        super().__init__(f"{_shown(url)} answered {status}: the link may have expired, or needs a login")
        self.url = url
        self.refusal = status


class _Session(requests.Session):
    """Never looks where a redirect leads: requests would read the whole body of one for that, however large."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def new_session() -> requests.Session:
    """A session whose GETs are repeated when the connection breaks or a gateway hiccups; for use in ``visiting``."""
    retry = Retry(
        total=2,
        read=1,
        redirect=0,
        backoff_factor=0.2,
        status_forcelist=(502, 503, 504),
        allowed_methods=("GET",),
        respect_retry_after_header=False,
        raise_on_status=False,
    )
    session = _Session()
    session.headers["User-Agent"] = "sam3-prelabel"
    for scheme in ("http://", "https://"):
        session.mount(scheme, GuardedAdapter(max_retries=retry, pool_maxsize=32))
    return session


def download(
    session: requests.Session, url: str, authorize: Authorize, *, door: Door, seconds: float, limit: int
) -> bytes:
    """The body at ``url``, redirects followed by hand so that each hop gets its own header or none.

    session: of ``new_session``. door: what is open; every hop has to pass it. seconds: for everything together.
    limit: bytes. Raises Refused, AddressRefused, ImageOutOfReach, ImageUnavailable or TooLarge, each one sentence.
    """
    with visiting(door, seconds) as visit:
        for _ in range(_REDIRECTS + 1):
            try:
                header = authorize(url)
                _check_proxied(session, url, door)
                visit.check()
                with session.get(
                    url,
                    headers={"Authorization": header} if header else {},
                    timeout=(_CONNECT, max(0.1, visit.seconds_left / 2)),  # the session tries a silent server twice
                    allow_redirects=False,
                    stream=True,
                    auth=lambda request: request,  # without it requests would add a login from ~/.netrc
                ) as answer:
                    if not answer.is_redirect:
                        _check(url, answer, limit)
                        return _read(url, answer, visit, limit)
                    url = _next_hop(url, answer.headers["Location"])
            except TookTooLong as late:
                raise ImageOutOfReach(f"{_shown(url)} cannot be fetched: {late}") from None
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, UnicodeError) as error:
                why = f"it took longer than {seconds:g} seconds" if visit.over else _reason(error)
                raise ImageOutOfReach(f"{_shown(url)} cannot be fetched: {why}") from None
    raise ImageUnavailable(f"{_shown(url)} redirects more than {_REDIRECTS} times")


def is_http(url: str) -> bool:
    """Whether ``url`` is http or https with a host and nothing that could smuggle another."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    # Browsers read a backslash as a slash, we would not: the two would disagree on the host.
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "\\" not in url and url.isprintable()


def endpoint(url: str) -> tuple[str, int]:
    """Host, in lower case, and port of an address."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    return host, parts.port or (443 if parts.scheme == "https" else 80)


def check_http(url: str) -> None:
    """Raises ImageUnavailable unless ``is_http(url)``."""
    if not is_http(url):
        raise ImageUnavailable(f"{quotable(url)!r} is not an http or https address")


def quotable(address: str) -> str:
    """The beginning of an address that may be none, for a sentence: without login, query or fragment."""
    return without_login(re.split(r"[?#]", address, maxsplit=1)[0])[:80]


def _next_hop(url: str, location: str) -> str:
    try:
        target = urljoin(url, location)
    except ValueError:
        target = ""
    check_http(target)
    return target


def _check(url: str, answer: requests.Response, limit: int) -> None:
    if answer.status_code in (401, 403):
        raise Refused(url, answer.status_code)
    if answer.status_code in _LATER or answer.status_code >= 500:
        raise ImageOutOfReach(f"{_shown(url)} answered {answer.status_code}")
    if answer.status_code != 200:
        raise ImageUnavailable(f"{_shown(url)} answered {answer.status_code}")
    if answer.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise ImageOutOfReach(f"{_shown(url)} answered with a web page, not an image (a login page?)")
    length = answer.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > limit:
        raise TooLarge(f"{_shown(url)} has {int(length)} bytes, more than the allowed {limit}")


def _read(url: str, answer: requests.Response, visit: Visit, limit: int) -> bytes:
    """The body, in single reads: a sender that drips byte by byte meets the deadline all the same."""
    body = bytearray()
    while chunk := answer.raw.read1(_CHUNK, decode_content=True):
        body += chunk
        if len(body) > limit:
            raise TooLarge(f"{_shown(url)} is larger than the allowed {limit} bytes")
        visit.check()
    visit.check()  # a connection that was cut looks like the end of a body without a length
    return bytes(body)


def _check_proxied(session: requests.Session, url: str, door: Door) -> None:
    """What a proxy of the environment fetches for us connects to the proxy: all that can be checked is the name."""
    proxies = session.merge_environment_settings(url, {}, None, None, None)["proxies"]
    if select_proxy(url, proxies):
        door.check_named(*endpoint(url))


def _shown(url: str) -> str:
    """An address for a sentence: without login, query or fragment, where secrets travel."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:200]


def _reason(error: Exception) -> str:
    """The kind of failure, without the address (and its query) that requests puts into its messages."""
    # After its last try requests wraps what urllib3 met: ConnectionError(MaxRetryError(reason)).
    cause = getattr(error.args[0] if error.args else None, "reason", None)
    # NewConnectionError (refused, unknown host) counts as a timeout there.
    slow = isinstance(cause, urllib3.exceptions.TimeoutError)
    if isinstance(error, requests.Timeout | TimeoutError) or (
        slow and not isinstance(cause, urllib3.exceptions.NewConnectionError)
    ):
        return "it did not answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "its TLS certificate was not accepted"
    if isinstance(error, requests.ConnectionError | urllib3.exceptions.ProtocolError | ConnectionError):
        return "no connection, or it broke off"
    return type(error).__name__
