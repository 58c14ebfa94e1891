"""Task images: the bytes behind every form of address that Label Studio puts into a task.

| address | how it is read |
|---|---|
| ``/data/upload/...``, ``upload/...`` | Label Studio's host, with the token |
| ``/data/local-files/?d=...`` (relative or absolute) | the mounted folder if it has the file, else as above |
| ``s3://``, ``gs://``, ``azure-blob://`` | ``/tasks/<id>/resolve/`` of Label Studio: a presigned link or the bytes |
| ``http(s)://`` | directly; the token goes along only to Label Studio's own host |
| ``data:`` | decoded |
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote_to_bytes, urlsplit

import requests

from backend.addresses import Door, Home, Hosts
from backend.auth import Credentials, TokenExchange, TokenKind
from backend.download import Refused, check_http, download, endpoint, is_http, new_session, quotable
from backend.local_files import read_local
from backend.settings import BackendSettings
from sam3_core.errors import ImageOutOfReach, ImageUnavailable, TooLarge

_CLOUD = ("s3", "gs", "azure-blob")
_SAME_HOST = ("localhost", "127.0.0.1", "::1", "host.docker.internal")
_LOCAL_FILES = "/data/local-files/"


@dataclass(frozen=True, slots=True)
class Site:
    """A Label Studio: its address without a slash at the end, and what opens it.

    sender: see ``Home``; None for one that is trusted wherever it is.
    """

    base: str
    credentials: Credentials
    sender: str | None = None

    @property
    def home(self) -> Home:
        """Where it is."""
        return Home(*endpoint(self.base), self.sender)

    def owns(self, url: str) -> bool:
        """Whether an absolute address is this Label Studio's, whatever name of this machine it uses.

        An http address is not an https site's: the token would travel in the clear.
        """
        mine, theirs = urlsplit(self.base), urlsplit(url)
        if mine.scheme == "https" and theirs.scheme != "https":
            return False
        return _endpoint(self.base) == _endpoint(url)

    def at(self, path: str) -> str:
        """The absolute address of one of its paths; a path prefix of the site is not doubled."""
        prefix = urlsplit(self.base).path.rstrip("/")
        inside = path.removeprefix(prefix) if prefix and path.startswith(prefix + "/") else path
        return self.base + inside


class ImageReader:
    """Reads task images. One per process: it keeps connections and access tokens. Callable from any thread."""

    def __init__(self, settings: BackendSettings, session: requests.Session | None = None) -> None:
        self._settings = settings
        self._session = session or new_session()
        self._tokens = TokenExchange(self._session)
        self._limit = int(settings.max_image_mb * (1 << 20))
        self._hosts = Hosts.parse(settings.allowed_hosts)

    def site(
        self, hostname: str | None = None, access_token: str | None = None, sender: str | None = None
    ) -> Site | None:
        """The Label Studio to ask: the configured one, else the one that introduced itself in /setup.

        hostname, access_token: as /setup sent them. Its token is a last resort, used only without a configured one.
        The configured token never goes to an address that came with a request.
        sender: the IP address that /setup came from, None where it proved a login. Without a proof the Label Studio
        is believed to be where it spoke from; elsewhere it is a host like any other.
        """
        settings = self._settings
        if settings.label_studio_url:
            token = settings.label_studio_api_key
            credentials = Credentials.of(token) if token else Credentials.of(access_token, from_setup=True)
            return Site(settings.label_studio_url, credentials)
        base = (hostname or "").strip().rstrip("/")
        return Site(base, Credentials.of(access_token, from_setup=True), sender) if is_http(base) else None

    def read(self, address: object, site: Site | None, task_id: int | str | None) -> bytes:
        """The encoded image behind one address of a task. Raises ImageUnavailable or TooLarge with one sentence."""
        if not isinstance(address, str) or not address.strip():
            raise ImageUnavailable(f"the task names no image, but {str(address)[:80]!r}")
        address = address.strip()
        scheme = _scheme(address)
        if scheme == "data":
            return _decode_data_url(address, self._limit)
        if scheme in ("http", "https"):
            return self._read_http(address, site)
        if scheme in _CLOUD:
            return self._read_cloud(address, site, task_id)
        if scheme:
            raise ImageUnavailable(f"addresses that start with {scheme}: are not read")
        return self._read_relative(address, site)

    def _read_http(self, url: str, site: Site | None) -> bytes:
        check_http(url)
        if site is None or not site.owns(url):
            return self._get(url, site)
        parts = urlsplit(url)
        # The address may use a name of the host that means another machine here (localhost inside a container).
        return self._read_own(parts.path + (f"?{parts.query}" if parts.query else ""), site)

    def _read_relative(self, path: str, site: Site | None) -> bytes:
        if path.startswith("upload/"):  # export snapshots leave the first folder out
            path = "/data/" + path
        if not path.startswith("/") or path.startswith("//") or "\\" in path or not path.isprintable():
            raise ImageUnavailable(f"{quotable(path)!r} is no address of an image")
        return self._read_own(path, site)

    def _read_own(self, path: str, site: Site | None) -> bytes:
        """A path of Label Studio itself."""
        local = self._read_local(path)
        if local is not None:
            return local
        if site is None:
            raise ImageOutOfReach(f"{quotable(path)} needs Label Studio's address: set SAM3_LABEL_STUDIO_URL")
        return self._get(site.at(path), site)

    def _read_cloud(self, uri: str, site: Site | None, task_id: int | str | None) -> bytes:
        if site is None or task_id is None:
            raise ImageUnavailable(
                f"{quotable(uri)} is opened through Label Studio: that needs SAM3_LABEL_STUDIO_URL and a task's id"
            )
        encoded = base64.urlsafe_b64encode(uri.encode()).decode()
        path = f"/tasks/{quote(str(task_id), safe='')}/resolve/?fileuri={quote(encoded, safe='')}"
        return self._get(site.at(path), site)

    def _get(self, url: str, site: Site | None) -> bytes:
        """Fetch; a refusal by Label Studio becomes advice, after one try with a freshly exchanged token."""
        try:
            return self._download(url, site, renew=False)
        except Refused as refusal:
            if site is None or not site.owns(refusal.url):
                raise
            if site.credentials.kind is TokenKind.PERSONAL and refusal.refusal == 401:
                try:
                    return self._download(url, site, renew=True)
                except Refused as again:
                    refusal = again
            raise ImageOutOfReach(site.credentials.advice(site.base, refusal.refusal)) from None

    def _download(self, url: str, site: Site | None, *, renew: bool) -> bytes:
        def authorize(target: str) -> str | None:
            if site is None or not site.owns(target):
                return None
            return self._tokens.header(site.base, site.credentials, renew=renew)

        door = Door(self._hosts, site.home if site else None)
        seconds = self._settings.fetch_seconds
        return download(self._session, url, authorize, door=door, seconds=seconds, limit=self._limit)

    def _read_local(self, path: str) -> bytes | None:
        """The file in the mounted folder; None when there is no such folder, address or file.

        Raises ImageUnavailable for an address that leads out of the folder, by dots or by a link, and TooLarge.
        """
        root = self._settings.local_files_root
        before, _, query = path.partition("?")
        if root is None or not before.endswith(_LOCAL_FILES):
            return None
        name = (parse_qs(query).get("d") or [""])[0]
        return read_local(root, name, self._limit)


def is_data(address: str) -> bool:
    """Whether an address is the image itself."""
    return _scheme(address.strip()) == "data"


def is_cloud(address: str) -> bool:
    """Whether an address is opened by Label Studio, for one of its tasks."""
    return _scheme(address.strip()) in _CLOUD


def _scheme(address: str) -> str:
    return address[:16].partition(":")[0].lower() if ":" in address[:16] else ""


def _endpoint(url: str) -> tuple[str, int]:
    """Host and port of an address, with every name of this machine made one."""
    host, port = endpoint(url)
    return ("localhost" if host in _SAME_HOST else host), port


def _decode_data_url(url: str, limit: int) -> bytes:
    """The bytes of ``data:[<type>][;base64],<data>`` (RFC 2397)."""
    head, comma, data = url.partition(",")
    if not comma:
        raise ImageUnavailable("a data: address without a comma holds no image")
    if len(data) > 4 * limit:  # of base64 with every character escaped
        raise TooLarge(f"the data: address is larger than the allowed {limit} bytes")
    raw = unquote_to_bytes(data)
    if head.lower().endswith(";base64"):
        try:
            raw = base64.b64decode(b"".join(raw.split()), validate=True)
        except (binascii.Error, ValueError):
            raise ImageUnavailable("a data: address holds no valid base64") from None
    if len(raw) > limit:
        raise TooLarge(f"the data: address is larger than the allowed {limit} bytes")
    return raw
