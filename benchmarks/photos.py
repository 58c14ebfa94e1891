"""The images of the benchmark: rendered scenes as JPEG files, where to click in them, and a server that has them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np

from sam3_core.demo.scenes import SceneObject, render_scene

_FOLDER = "upload/1/"


@dataclass(frozen=True, slots=True)
class Spot:
    """A place well inside an object. x, y: percent of the image; spread: so far (percent of the width, of the height)
    a click may move and still be inside. label: the object's shape."""

    x: float
    y: float
    spread: tuple[float, float]
    label: str

    def click(self, rng: np.random.Generator) -> tuple[float, float]:
        """A random place of it, percent."""
        dx, dy = rng.uniform(-1, 1, 2) * self.spread
        return self.x + float(dx), self.y + float(dy)


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A JPEG file, its (width, height) in pixels, and a spot in each of its objects."""

    data: bytes
    size: tuple[int, int]
    spots: tuple[Spot, ...]

    def variant(self, number: int) -> bytes:
        """The same pixels in a file that no cache has seen: with a comment segment of its own (JPEG B.2.4.5)."""
        comment = f"variant {number}".encode()
        return self.data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + self.data[2:]


def render_photo(seed: int, size: tuple[int, int]) -> Photo:
    """A scene of four to six shapes, as a JPEG of high quality: larger files than usual for so few details, as photos
    have more."""
    scene = render_scene(seed, objects=(4, 6), size=size)
    return Photo(scene.encode(quality=98, subsampling=0), size, tuple(_spot(thing, size) for thing in scene.objects))


def _spot(thing: SceneObject, size: tuple[int, int]) -> Spot:
    """Around the pixel that is farthest from the object's border, a third of that distance."""
    x0, y0, x1, y1 = (int(edge) for edge in thing.box)
    inside = np.pad(thing.mask[y0:y1, x0:x1].astype(np.uint8), 1)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    reach = float(depth.max()) / 3
    x, y = x0 + float(column) - 0.5, y0 + float(row) - 0.5
    return Spot(100 * x / size[0], 100 * y / size[1], (100 * reach / size[0], 100 * reach / size[1]), thing.shape)


class PhotoServer:
    """Serves files on 127.0.0.1 under the addresses that uploads have in Label Studio, as a context manager.

    Both of them: ``/data/upload/...`` and the storage proxy, which label-studio-sdk asks first.
    """

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._files))
        self._server.daemon_threads = True

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="photos", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, name: str, data: bytes) -> str:
        """Have a file; returns its address as it stands in a task."""
        self._files[_FOLDER + name] = data
        return f"/data/{_FOLDER}{name}"

    def remove(self, address: str) -> None:
        del self._files[address.removeprefix("/data/")]


def _handler(files: dict[str, bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body are sent apart; held back for each other, a fetch would wait for delayed acknowledgements.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = parse_qs(parts.query).get("filepath", [parts.path.removeprefix("/data/")])[0]
            data = files.get(asked)
            self.send_response(200 if data else 404)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing: a line per image would be in the way of the table."""

    return Handler
