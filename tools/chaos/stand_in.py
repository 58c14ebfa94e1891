"""Stands for a Label Studio that has images and takes predictions, and can stop answering for a while."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np

from sam3_core.demo.scenes import render_scene

TOKEN = "c4a05e55" * 5
"""Label Studio's; in the form of a legacy one."""
SIGNATURE = "chaos-signature-0815"
"""In the query of addresses, as presigned links have it."""

_PHOTOS = 4
_SIZE = (320, 240)
_UPLOADS = "/data/upload/1/"


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A JPEG file with drawn objects. spots: a place in each, percent of the image, and the object's label."""

    data: bytes
    spots: tuple[tuple[float, float, str], ...]

    def variant(self, number: int) -> bytes:
        """The same pixels in another file: with a comment segment of its own (JPEG B.2.4.5)."""
        comment = f"variant {number}".encode()
        return self.data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + self.data[2:]


def render_photo(seed: int) -> Photo:
    """A scene of three to five objects."""
    scene = render_scene(seed, objects=(3, 5), size=_SIZE)
    spots = []
    for thing in scene.objects:
        depth = cv2.distanceTransform(np.pad(thing.mask.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        spots.append((100 * (column + 0.5) / _SIZE[0], 100 * (row + 0.5) / _SIZE[1], thing.shape))
    return Photo(scene.encode(), tuple(spots))


class LabelStudio:
    """On 127.0.0.1, as a context manager.

    photos: what there is; ``address`` of a photo's variant is where it lies. odd: other files, by name; a text is
    where a redirect leads. stored: predictions that were pushed.
    """

    def __init__(self) -> None:
        self.photos = tuple(render_photo(seed) for seed in range(600, 600 + _PHOTOS))
        self.odd: dict[str, bytes | str] = {}
        self.stored: list[dict[str, Any]] = []
        self._asked: set[str] = set()
        self._answering = threading.Event()
        self._answering.set()
        self._silences: list[list[float]] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.answer_again()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def address(self, photo: int, variant: int) -> str:
        """As it stands in a task."""
        return f"{_UPLOADS}photo-{photo}-{variant}.jpg"

    def fall_silent(self) -> None:
        """Take connections and say nothing from now on."""
        if self._answering.is_set():
            self._silences.append([time.monotonic(), float("inf")])
            self._answering.clear()

    def answer_again(self) -> None:
        """End the silence; who still waits is answered."""
        if not self._answering.is_set():
            self._silences[-1][1] = time.monotonic()
            self._answering.set()

    def was_silent(self, since: float, until: float) -> bool:
        """Whether it did not answer at some time between two of ``time.monotonic``."""
        return any(start < until and end > since for start, end in self._silences)

    def was_asked(self, address: str) -> bool:
        """Whether anybody wanted what lies there."""
        return address in self._asked

    def get(self, target: str, login: str | None) -> tuple[int, dict[str, str], bytes]:
        """What a GET gets."""
        self._asked.add(target)
        self._answering.wait()
        parts = urlsplit(target)
        public = parts.path.startswith("/public/")
        if not public and login != f"Token {TOKEN}":
            return 401, {}, b'{"detail": "Invalid token."}'
        if parts.path == "/api/predictions/":
            task = int(parse_qs(parts.query)["task"][0])
            with self._lock:
                found = [one for one in self.stored if one["task"] == task]
            return 200, {}, json.dumps([{"model_version": one["model_version"]} for one in found]).encode()
        name = parts.path.rpartition("/")[2]
        odd = self.odd.get(name)
        if isinstance(odd, str):
            return 302, {"Location": odd}, b""
        if odd is not None:
            return 200, {}, odd
        if name.startswith("photo-"):
            photo, variant = map(int, name.removeprefix("photo-").removesuffix(".jpg").split("-"))
            return 200, {}, self.photos[photo].variant(variant)
        return 404, {}, b"there is no such file"

    def post(self, login: str | None, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """What a POST gets: a prediction is stored."""
        self._answering.wait()
        if login != f"Token {TOKEN}":
            return 401, {}, b'{"detail": "Invalid token."}'
        with self._lock:
            self.stored.append(json.loads(body))
        return 201, {}, b"{}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave early are what this is about."""


def _handler(site: LabelStudio) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(*site.get(self.path, self.headers.get("Authorization")))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._send(*site.post(self.headers.get("Authorization"), body))

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    return Handler
