"""One request over a socket of its own, by clients with all kinds of manners."""

from __future__ import annotations

import json
import random
import socket
import struct
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_TIMEOUT = 120.0  # seconds
_RESET = struct.pack("ii", 1, 0)


class Manner(StrEnum):
    """How a client behaves. All but POLITE, SLOW and STOPS leave without an answer."""

    POLITE = "polite"
    SLOW = "slow"
    STOPS = "stops in the body"
    LEAVES_HEAD = "leaves in the head"
    LEAVES_BODY = "leaves in the body"
    LEAVES_WAITING = "leaves while waiting"
    LEAVES_READING = "leaves while reading"

    @property
    def stays(self) -> bool:
        """Whether it waits for an answer."""
        return self in (Manner.POLITE, Manner.SLOW, Manner.STOPS)


@dataclass(frozen=True, slots=True)
class Answer:
    """status: 0 where there is none; ``text`` says why then. headers: by lower-case name."""

    status: int
    headers: dict[str, str]
    text: bytes

    def json(self) -> Any:
        """Raises ValueError."""
        return json.loads(self.text)


@dataclass(frozen=True, slots=True)
class Message:
    """A request. raw: sent as it is, instead of all else."""

    method: str
    path: str
    body: bytes = b""
    kind: str = "application/json"
    login: str | None = None
    raw: bytes = b""

    @property
    def head(self) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: chaos", "Connection: close"]
        if self.login:
            lines.append(f"Authorization: {self.login}")
        if self.method != "GET":
            lines += [f"Content-Type: {self.kind}", f"Content-Length: {len(self.body)}"]
        return "\r\n".join([*lines, "", ""]).encode()


def send(port: int, message: Message, manner: Manner, rng: random.Random) -> Answer:
    """The answer; one with status 0 for who leaves, and where the connection breaks."""
    try:
        with socket.create_connection(("127.0.0.1", port), _TIMEOUT) as connection:
            return _talk(connection, message, manner, rng)
    except OSError as error:
        return Answer(0, {}, f"{type(error).__name__}: {error}".encode())


def _talk(connection: socket.socket, message: Message, manner: Manner, rng: random.Random) -> Answer:
    whole = message.raw or message.head + message.body
    first = whole.find(b"\r\n\r\n") + 4
    if manner is Manner.LEAVES_HEAD:
        return _leave(connection, whole[: rng.randrange(first)], rng)
    if manner is Manner.LEAVES_BODY:
        return _leave(connection, whole[: rng.randrange(first, len(whole) + 1)], rng)
    if manner is Manner.STOPS:
        _say(connection, whole[: first + len(message.body) // 2])
        return _listen(connection)
    if manner is Manner.SLOW:
        _drip(connection, whole, rng)
        return _listen(connection)
    if manner is Manner.LEAVES_WAITING:
        return _leave(connection, whole, rng, after=rng.uniform(0, 0.4))
    if manner is Manner.LEAVES_READING:
        _say(connection, whole)
        connection.recv(rng.randrange(1, 200))
        return _leave(connection, b"", rng)
    _say(connection, whole)
    return _listen(connection)


def _say(connection: socket.socket, data: bytes) -> None:
    """As much as the server takes: it may refuse, and have answered, before it has read everything."""
    try:
        connection.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        return


def _drip(connection: socket.socket, data: bytes, rng: random.Random) -> None:
    """In some pieces, with pauses; a second and a half altogether."""
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(5))
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        _say(connection, data[start:end])
        time.sleep(0.25)


def _leave(connection: socket.socket, data: bytes, rng: random.Random, after: float = 0.0) -> Answer:
    """Say that much and go, half of them with a reset."""
    _say(connection, data)
    time.sleep(after)
    if rng.random() < 0.5:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    return Answer(0, {}, b"left")


def _listen(connection: socket.socket) -> Answer:
    received = bytearray()
    try:
        while piece := connection.recv(1 << 16):
            received += piece
    except TimeoutError:
        return Answer(0, {}, b"no answer in time")
    except ConnectionResetError:
        if not received:
            raise
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) < 2 or not words[1].isdecimal():
        return Answer(0, {}, b"no answer, but the end of the connection")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if len(body) < int(headers.get("content-length", "0")):
        return Answer(0, {}, b"an answer that breaks off")
    return Answer(int(words[1]), headers, body)
