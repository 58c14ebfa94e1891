"""Requests that are wrong in some way, and what is to be said to them."""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from collections.abc import Callable

from PIL import Image

from tools.chaos.bodies import CONFIG, LOGIN, post, predict, upload
from tools.chaos.clients import Message
from tools.chaos.good import Good
from tools.chaos.server import PASSWORD, USER
from tools.chaos.stand_in import LabelStudio
from tools.chaos.verdicts import Ask, refusal

_DEEP = 50_000
_HUGE = 3 << 20  # bytes, where the server takes 2 MiB


def add_odd_files(site: LabelStudio) -> None:
    """Files that are no pictures that anybody can use, and redirects that lead nowhere good."""
    photo = site.photos[0].data
    site.odd |= {
        "cut.jpg": photo[: len(photo) // 3],
        "noise.jpg": random.Random(0).randbytes(5000),
        "page.jpg": b"<html><body>please log in</body></html>",
        "empty.jpg": b"",
        "bomb.png": bomb(),
        "large.jpg": photo + bytes(_HUGE),
        "loop.jpg": f"{site.url}/public/loop.jpg",
        "inside.jpg": "http://169.254.169.254/latest/meta-data/",
        "file.jpg": "file:///etc/passwd",
    }


def bomb() -> bytes:
    """A PNG of 30000x30000 black pixels, in a hundred kilobytes."""
    side = 30_000
    rows = zlib.compress(bytes(side // 8 + 1) * side, 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


class Bad:
    """Makes bad requests. good: where the good tasks of a batch with a bad one come from."""

    def __init__(self, good: Good) -> None:
        self._good, self._site = good, good.site
        add_odd_files(self._site)
        self._bomb = bomb()
        picture = io.BytesIO()
        Image.new("RGB", (8, 8)).save(picture, "PNG")
        self._tiny = picture.getvalue()

    def make(self, number: int, rng: random.Random) -> Ask:
        """One of them. number: of the request; its tasks are numbered by it."""
        makers: tuple[Callable[[int, random.Random], Ask], ...] = (
            self._json, self._types, self._size, self._login, self._route, self._http, self._v1, self._image,
            self._image, self._batch,
        )  # fmt: skip
        return rng.choice(makers)(number, rng)

    def _json(self, number: int, rng: random.Random) -> Ask:
        whole = predict([(number, self._site.address(0, 0))]).body
        deep = b'{"tasks":' + b"[" * _DEEP + b"]" * _DEEP + b"}"
        body = rng.choice(
            (b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe{}", whole[: rng.randrange(len(whole))], deep, b"NaN",
             whole.replace(b'"tasks"', b'"tasks\x00"'), rng.randbytes(200))
        )  # fmt: skip
        path = rng.choice(("/predict", "/setup", "/webhook"))
        return Ask("broken JSON", Message("POST", path, body, login=LOGIN), refusal(400), bad=True)

    def _types(self, number: int, rng: random.Random) -> Ask:
        body = json.loads(predict([(number, self._site.address(0, 0))]).body)
        changes: tuple[dict[str, object], ...] = (
            {"tasks": "x"}, {"tasks": [7]}, {"tasks": [{"id": 1, "data": []}]}, {"label_config": 5},
            {"params": []}, {"params": {"context": {"result": "x"}}}, {"params": {"context": {"result": [[]]}}},
            {"params": {"threshold": "much"}}, {"params": {"max_vertices": -4}},
        )  # fmt: skip
        return Ask("wrong types", post("/predict", body | rng.choice(changes)), refusal(400, 422), bad=True)

    def _size(self, number: int, rng: random.Random) -> Ask:
        path = rng.choice(("/predict", "/setup", "/webhook", "/v1/find"))
        return Ask("huge body", Message("POST", path, b" " * _HUGE, login=LOGIN), refusal(413), bad=True)

    def _login(self, number: int, rng: random.Random) -> Ask:
        login = rng.choice((None, "Bearer wrong-token-1", "Basic Y2hhb3M6d3Jvbmc=", "Basic %%%", "Digest x", "Bearer",
                            f"Bearer {USER}:{PASSWORD}"))  # fmt: skip
        whole = predict([(number, self._site.address(0, 0))])
        message = rng.choice(
            (
                Message("POST", "/predict", whole.body, login=login),
                Message("GET", rng.choice(("/status", "/metrics", "/v1/info")), login=login),
                Message("POST", "/webhook", b'{"action": "TASKS_CREATED"}', login=login),
            )
        )
        return Ask("wrong login", message, refusal(401), bad=True)

    def _route(self, number: int, rng: random.Random) -> Ask:
        method, path = rng.choice(
            (("GET", "/predict"), ("POST", "/health"), ("DELETE", "/v1/find"), ("GET", "/nothing"),
             ("POST", "/../../etc/passwd"), ("GET", "/v1/%00"), ("PUT", "/setup"))
        )  # fmt: skip
        return Ask("wrong route", Message(method, path, b"", login=LOGIN), refusal(400, 404, 405), bad=True)

    def _http(self, number: int, rng: random.Random) -> Ask:
        raw = rng.choice(
            (
                b"hello\r\n\r\n",
                b"GET / HTTP/9.9\r\n\r\n",
                b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
                b"GET / HTTP/1.1\r\nX: " + b"b" * 9000 + b"\r\n\r\n",
                b"GET / HTTP/1.1\r\nno colon here\r\n\r\n",
                b"POST /predict HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
                b"POST /predict HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                b"POST /predict HTTP/1.1\r\nTransfer-Encoding: rot13\r\n\r\n",
            )
        )
        message = Message("GET", "/", raw=raw)
        return Ask("no HTTP", message, refusal(400, 414, 431, 501), bad=True)

    def _v1(self, number: int, rng: random.Random) -> Ask:
        circle = {"concepts": [{"phrases": ["circle"]}]}
        point = {"prompt": {"points": [{"x": 1, "y": 1}]}}
        message = rng.choice(
            (
                upload("/v1/find", circle, None),
                upload("/v1/find", circle, b""),
                upload("/v1/find", circle, b"no picture"),
                upload("/v1/find", circle, self._bomb),
                upload("/v1/find", {"concepts": [{"phrases": []}]}, self._tiny),
                upload("/v1/find", {"concepts": "circle"}, self._tiny),
                upload("/v1/outline", {"prompt": {"points": []}}, self._tiny),
                upload("/v1/outline", {"prompt": {"points": [{"x": "a", "y": 1}]}}, self._tiny),
                upload("/v1/outline", point | {"image": {"key": "0" * 32}}, self._tiny),
                post("/v1/outline", point | {"image": {"key": "0" * 32}}),
                post("/v1/outline", point | {"image": {"key": "../etc"}}),
                Message("POST", "/v1/find", b"--x\r\nbroken", "multipart/form-data; boundary=x", LOGIN),
                Message("POST", "/v1/find", b"[" * _DEEP, login=LOGIN),
            )
        )
        return Ask("wrong /v1", message, refusal(400, 404, 413, 422), bad=True)

    def _image(self, number: int, rng: random.Random) -> Ask:
        """An opened task whose image cannot be used: its prediction says so."""
        return self._good.batch(number, [-1], [self._odd(rng)], "bad image")

    def _batch(self, number: int, rng: random.Random) -> Ask:
        """A batch in which one task's image cannot be used: the others have theirs."""
        photos = [rng.randrange(len(self._site.photos)) for _ in range(3)]
        addresses = [self._site.address(photo, rng.randrange(10**6)) for photo in photos]
        place = rng.randrange(3)
        photos[place], addresses[place] = -1, self._odd(rng)
        return self._good.batch(number, photos, addresses, "bad image in a batch")

    def _odd(self, rng: random.Random) -> str:
        names = [f"/data/upload/1/{name}" for name in (*self._site.odd, "missing.jpg")]
        others = [
            "", "no address", "file:///etc/passwd", "ftp://127.0.0.1/a.jpg", "http://169.254.169.254/a.jpg",
            "http://[::1", "data:image/png;base64,!!!!", "data:image/png;base64," + "A" * 5000, CONFIG,
        ]  # fmt: skip
        return rng.choice(names + others)
