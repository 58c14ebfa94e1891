"""Where pictures are fetched from: over real sockets, with names that change what they stand for and servers that
stall."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from label_studio_stand_in import LEGACY, StandIn, label_studio
from local_tls import tls_server

import backend.local_files
from backend.addresses import AddressRefused, Door, Hosts
from backend.images import ImageReader
from backend.settings import BackendSettings
from backend.visits import visiting
from sam3_core.errors import ImageUnavailable, TooLarge

IMAGE = b"\x89PNG the bytes of an image"


@pytest.fixture
def inside() -> Iterator[StandIn]:
    """A service of the private network."""
    with label_studio() as service:
        service.files = {"/public/a.png": IMAGE, "/data/upload/1/a.png": IMAGE}
        service.legacy = True
        yield service


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names stand for, one answer after another, the last for ever; and which addresses were connected to."""
    known: dict[str, list[str]] = {}
    resolve = socket.getaddrinfo

    def answer(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(host, str) and host in known:
            addresses = known[host]
            host = addresses.pop(0) if len(addresses) > 1 else addresses[0]
        return resolve(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return known


def read(url: str, **settings: Any) -> bytes:
    reader = ImageReader(BackendSettings(**settings))
    return reader.read(url, reader.site(), 1)


# ---- where it leads ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1", "2130706433", "0x7f.1", "0"]
)
def test_this_machine_by_any_name_is_refused(inside: StandIn, host: str) -> None:
    with pytest.raises(ImageUnavailable):
        read(f"http://{host}:{inside.port}/public/a.png")
    assert inside.requests == []


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.0/8", "*", "public 127.0.0.1"])
def test_and_is_open_where_it_is_allowed(inside: StandIn, allowed: str) -> None:
    assert read(f"http://127.0.0.1:{inside.port}/public/a.png", allowed_hosts=allowed) == IMAGE


def test_a_name_that_changes_its_address_is_connected_to_where_it_was_checked(
    inside: StandIn, names: dict[str, list[str]]
) -> None:
    """Rebinding: whoever looks twice sees a public address first and connects to the private one after."""
    names["rebind.example"] = ["93.184.216.34", "127.0.0.1"]
    with pytest.raises(ImageUnavailable):
        read(f"http://rebind.example:{inside.port}/public/a.png", fetch_seconds=1.5)
    with pytest.raises(AddressRefused):
        read(f"http://rebind.example:{inside.port}/public/a.png")
    assert inside.requests == []


def test_the_name_stays_the_hosts(inside: StandIn, names: dict[str, list[str]]) -> None:
    names["pictures.example"] = ["127.0.0.1"]
    seen = []
    inside.routes["/host"] = lambda handler: (seen.append(handler.headers["Host"]), (200, {}, IMAGE))[1]
    url = f"http://pictures.example:{inside.port}/host"
    settings = {"label_studio_url": url.removesuffix("/host"), "label_studio_api_key": LEGACY}
    assert read(url, **settings) == IMAGE
    assert seen == [f"pictures.example:{inside.port}"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_the_certificate_is_checked_against_the_name(
    names: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names["pictures.example"] = names["other.example"] = ["127.0.0.1"]
    with tls_server("pictures.example", IMAGE, tmp_path) as (port, authority, asked):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
        assert read(f"https://pictures.example:{port}/a.png", allowed_hosts="*") == IMAGE
        assert asked == ["pictures.example"]  # SNI
        with pytest.raises(ImageUnavailable, match="certificate"):
            read(f"https://other.example:{port}/a.png", allowed_hosts="*")
        with pytest.raises(AddressRefused):
            read(f"https://pictures.example:{port}/a.png")


def test_every_redirect_is_checked(inside: StandIn, names: dict[str, list[str]]) -> None:
    names["open.example"] = names["closed.example"] = ["127.0.0.1"]
    inside.routes["/public/hop"] = lambda _: (
        302, {"Location": f"http://closed.example:{inside.port}/public/a.png"}, b"",
    )  # fmt: skip
    with pytest.raises(AddressRefused, match=r"closed\.example"):
        read(f"http://open.example:{inside.port}/public/hop", allowed_hosts="open.example")
    assert [path for path, _ in inside.requests] == ["/public/hop"]


def test_a_kept_connection_is_no_way_around(inside: StandIn) -> None:
    """A project whose Label Studio is believed made the connection; another one, that nobody believes, finds it."""
    reader = ImageReader(BackendSettings())
    believed, stranger = reader.site(inside.url, LEGACY, "127.0.0.1"), reader.site(inside.url, LEGACY, "8.8.8.8")
    assert reader.read("/data/upload/1/a.png", believed, 1) == IMAGE
    with pytest.raises(AddressRefused, match="SAM3_LABEL_STUDIO_URL"):
        reader.read("/data/upload/1/a.png", stranger, 1)
    with pytest.raises(AddressRefused):
        reader.read(f"{inside.url}/public/a.png", None, 1)
    assert reader.read("/data/upload/1/a.png", reader.site(inside.url, LEGACY, None), 1) == IMAGE
    assert len(inside.requests) == 2


def test_the_token_is_not_exchanged_with_a_stranger(inside: StandIn) -> None:
    reader = ImageReader(BackendSettings())
    with pytest.raises(AddressRefused):
        reader.read("/data/upload/1/a.png", reader.site(inside.url, inside.personal, "8.8.8.8"), 1)
    assert inside.requests == []


def test_a_proxy_is_asked_only_for_what_is_open(inside: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", inside.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(ImageUnavailable, match="401"):  # what the stand-in says to everything without a token
        read("http://no-such-host.invalid/a.png")
    with pytest.raises(AddressRefused):
        read("http://10.0.0.1/a.png")
    with pytest.raises(AddressRefused):
        read("http://localhost:1/a.png")
    assert inside.requests == [("http://no-such-host.invalid/a.png", None)]


# ---- how long it takes -------------------------------------------------------------------------------------------


def test_headers_that_drip_meet_the_deadline(inside: StandIn) -> None:
    """Each byte begins the socket's time-out anew."""
    stop = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not stop.wait(0.05):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    inside.routes["/public/drip"] = drip
    started = time.monotonic()
    try:
        with pytest.raises(ImageUnavailable, match=r"longer than 0\.5 seconds"):
            read(f"{inside.url}/public/drip", allowed_hosts="127.0.0.1", fetch_seconds=0.5)
    finally:
        stop.set()
    assert time.monotonic() - started < 30  # for ever, without the deadline


def test_a_body_without_a_length_that_is_cut_is_no_picture(inside: StandIn) -> None:
    stop = threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n" + IMAGE)
        handler.wfile.flush()
        stop.wait(20)
        handler.close_connection = True

    inside.routes["/public/stall"] = stall
    try:
        with pytest.raises(ImageUnavailable):
            read(f"{inside.url}/public/stall", allowed_hosts="127.0.0.1", fetch_seconds=0.5)
    finally:
        stop.set()


def test_a_tls_handshake_that_stalls() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ImageUnavailable, match=r"longer|in time"):
        read(f"https://127.0.0.1:{silent.getsockname()[1]}/a", allowed_hosts="127.0.0.1", fetch_seconds=0.6)


def test_connections_do_not_outlive_their_sockets(inside: StandIn) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0  # noqa: PTH208
    for _ in range(20):
        assert read(f"{inside.url}/public/a.png", allowed_hosts="127.0.0.1") == IMAGE
    after = len(os.listdir("/proc/self/fd")) if before else 0  # noqa: PTH208
    assert after <= before + 8


def test_outside_of_a_visit_there_is_no_connection() -> None:
    from backend.download import new_session

    with pytest.raises(LookupError):
        new_session().get("http://127.0.0.1:9/")
    with visiting(Door(Hosts()), 5.0), pytest.raises(AddressRefused):
        new_session().get("http://127.0.0.1:9/")


# ---- how much it is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2])
def test_a_bomb_of_compressed_zeros_takes_no_memory(inside: StandIn, layers: int) -> None:
    body = bytes(200_000_000)
    for _ in range(layers):
        body = gzip.compress(body, 1)
    coding = ", ".join(["gzip"] * layers)
    inside.routes["/public/bomb"] = lambda _: (200, {"Content-Encoding": coding}, body)
    tracemalloc.start()
    try:
        with pytest.raises((TooLarge, ImageUnavailable)):
            read(f"{inside.url}/public/bomb", allowed_hosts="127.0.0.1", max_image_mb=1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("length", ["5", "99999999999999999999", "-1", "x", "0x10", "1, 2"])
def test_lengths_that_are_lies(inside: StandIn, length: str) -> None:
    """Never more than is said, never a hang, never something else than the two."""

    def lie(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(
            f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode() + IMAGE
        )
        handler.close_connection = True

    inside.routes["/public/lie"] = lie
    try:
        data = read(f"{inside.url}/public/lie", allowed_hosts="127.0.0.1", fetch_seconds=3)
    except (ImageUnavailable, TooLarge):
        return
    assert data in (IMAGE, IMAGE[:5])


# ---- the mounted folder ------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "dir").mkdir(parents=True)
    (root / "dir" / "a.png").write_bytes(IMAGE)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "a.png").write_bytes(b"secret")
    (root / "inner.png").symlink_to(root / "dir" / "a.png")
    os.mkfifo(root / "pipe.png")
    return root


def local(folder: Path, name: str) -> bytes:
    return read(f"/data/local-files/?d={name}", local_files_root=folder)


def test_a_link_inside_of_the_folder_is_followed(folder: Path) -> None:
    assert local(folder, "inner.png") == IMAGE


@pytest.mark.parametrize("when", ["folder", "file"])
def test_a_link_that_appears_after_the_look_is_not_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    look = Path.is_file

    def swap(path: Path) -> bool:
        found = look(path)
        if when == "folder":
            (folder / "dir").rename(folder / "old")
            (folder / "dir").symlink_to(folder.parent / "secrets")
        else:
            (folder / "dir" / "a.png").unlink()
            (folder / "dir" / "a.png").symlink_to(folder.parent / "secrets" / "a.png")
        return found

    monkeypatch.setattr(backend.local_files.Path, "is_file", swap)
    with pytest.raises(ImageUnavailable, match="cannot be read"):
        local(folder, "dir/a.png")


@pytest.mark.parametrize(
    "name",
    [
        "pipe.png", "dir/a.png/", "DIR/A.PNG", "dir/a.png%00.jpg", "%c0%ae%c0%ae/secrets/a.png",
        "..%5csecrets%5ca.png", "dir%E2%81%84a.png", "．．/secrets/a.png", "%252e%252e/secrets/a.png",
        "dir/./../../secrets/a.png", "~", "%ud800", "\ud800",
    ],
)  # fmt: skip
def test_no_spelling_leads_out(folder: Path, name: str) -> None:
    with contextlib.suppress(ImageUnavailable):
        assert local(folder, name) == IMAGE  # where the file system takes the spelling for the file's
