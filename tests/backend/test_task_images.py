"""Task images from every form of address, over real HTTP against a stand-in for Label Studio."""

from __future__ import annotations

import base64
import gzip
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from label_studio_stand_in import LEGACY, StandIn, label_studio, make_jwt
from request_bodies import data_url

from backend.auth import Credentials, TokenKind
from backend.images import ImageReader, Site
from backend.settings import BackendSettings
from sam3_core.errors import ImageUnavailable, TooLarge

IMAGE = b"\x89PNG the bytes of an image"
UPLOAD = "/data/upload/1/41c9db41-a.png"
LOCAL = "/data/local-files/?d=dir/a.png"
S3 = "s3://bucket/some folder/ä.png"


@pytest.fixture
def site() -> Iterator[StandIn]:
    with label_studio() as site:
        site.files = {UPLOAD: IMAGE, LOCAL: IMAGE, S3: IMAGE, "/public/a.png": IMAGE}
        yield site


@pytest.fixture
def elsewhere() -> Iterator[StandIn]:
    """Another host: another port."""
    with label_studio() as site:
        site.files = {"/public/a.png": IMAGE}
        yield site


def read(address: object, settings: BackendSettings, task: int | None = 7) -> bytes:
    reader = ImageReader(settings)
    return reader.read(address, reader.site(), task)


LOOPBACK = "public, 127.0.0.1"  # where these tests put their hosts


def with_token(site: StandIn, **more: object) -> BackendSettings:
    known = {"label_studio_url": site.url, "label_studio_api_key": site.personal, "allowed_hosts": LOOPBACK}
    return BackendSettings(**(known | more))


# ---- every form of address ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [UPLOAD, UPLOAD.removeprefix("/data/"), LOCAL, S3])
def test_addresses_that_label_studio_opens(site: StandIn, address: str) -> None:
    assert read(address, with_token(site)) == IMAGE


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "host.docker.internal", "LOCALHOST"])
def test_absolute_addresses_of_label_studio_by_any_name_of_this_machine(site: StandIn, host: str) -> None:
    """host.docker.internal does not even resolve here: the request goes to the configured address."""
    assert read(f"http://{host}:{site.port}{LOCAL}", with_token(site)) == IMAGE


def test_a_plain_link_gets_no_token(site: StandIn, elsewhere: StandIn) -> None:
    assert read(f"{elsewhere.url}/public/a.png", with_token(site)) == IMAGE
    assert elsewhere.requests == [("/public/a.png", None)]
    assert site.requests == []


def test_a_plain_link_needs_no_label_studio(elsewhere: StandIn) -> None:
    assert read(f"{elsewhere.url}/public/a.png", BackendSettings(allowed_hosts=LOOPBACK)) == IMAGE


def test_a_cloud_address_follows_the_presigned_link_without_the_token(site: StandIn, elsewhere: StandIn) -> None:
    site.presigned[S3] = f"{elsewhere.url}/public/a.png?X-Amz-Signature=secret"
    elsewhere.files["/public/a.png?X-Amz-Signature=secret"] = IMAGE
    assert read(S3, with_token(site)) == IMAGE
    asked, header = site.requests[-1]
    assert asked.startswith("/tasks/7/resolve/?fileuri=")
    assert header is not None
    assert elsewhere.requests == [("/public/a.png?X-Amz-Signature=secret", None)]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_takes_the_token_to_another_host(site: StandIn, elsewhere: StandIn, status: int) -> None:
    site.routes["/data/moved.png"] = lambda _: (status, {"Location": f"{elsewhere.url}/public/a.png"}, b"")
    assert read("/data/moved.png", with_token(site)) == IMAGE
    assert elsewhere.requests == [("/public/a.png", None)]


def test_a_redirect_on_the_same_host_keeps_the_token(site: StandIn) -> None:
    site.routes["/data/moved.png"] = lambda _: (302, {"Location": UPLOAD}, b"")
    assert read("/data/moved.png", with_token(site)) == IMAGE


def test_data_addresses() -> None:
    assert read(data_url(IMAGE), BackendSettings()) == IMAGE
    assert read("data:,a%20b", BackendSettings()) == b"a b"


def test_a_path_prefix_of_label_studio_is_kept_and_not_doubled() -> None:
    site = Site("https://host/ls", Credentials.of(None))
    assert site.at("/data/upload/1/a.png") == "https://host/ls/data/upload/1/a.png"
    assert site.at("/ls/data/upload/1/a.png") == "https://host/ls/data/upload/1/a.png"


def test_without_a_configured_address_the_host_of_setup_is_asked(site: StandIn) -> None:
    site.legacy = True
    reader = ImageReader(BackendSettings())
    assert reader.read(UPLOAD, reader.site(site.url, LEGACY), 1) == IMAGE


def test_the_token_of_setup_never_replaces_a_configured_one(site: StandIn) -> None:
    reader = ImageReader(with_token(site))
    assert reader.read(UPLOAD, reader.site("http://elsewhere.test", LEGACY), 1) == IMAGE
    assert all(LEGACY not in (header or "") for _, header in site.requests)


# ---- addresses that are refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        None, 5, [], {}, "", "   ", "image.png", "../a.png", "//evil.test/a.png", "/\\evil.test/a.png", "/a\nb",
        "file:///etc/passwd", "ftp://host/a.png", "gopher://x", "javascript:alert(1)", "http://", "http:///a.png",
        "http://[::1", "http://host:port/a", "http://a\\@b/", "data:nothing", "data:image/png;base64,%%%", "s3:",
        "$undefined$",
    ],
)  # fmt: skip
def test_what_is_no_address_of_an_image_is_one_sentence(site: StandIn, address: object) -> None:
    with pytest.raises(ImageUnavailable) as caught:
        read(address, with_token(site), task=None)
    assert "\n" not in str(caught.value)
    assert site.requests == []


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://host/", "http://[", "//", "javascript:1"])
def test_a_redirect_to_another_scheme_is_refused(site: StandIn, location: str) -> None:
    site.routes["/data/moved.png"] = lambda _: (302, {"Location": location}, b"")
    with pytest.raises(ImageUnavailable):
        read("/data/moved.png", with_token(site))


def test_a_loop_of_redirects_ends(site: StandIn) -> None:
    site.routes["/data/loop"] = lambda _: (302, {"Location": "/data/loop"}, b"")
    with pytest.raises(ImageUnavailable, match="redirects"):
        read("/data/loop", with_token(site))


def test_https_sites_send_no_token_over_http() -> None:
    site = Site("https://ls.test:8080", Credentials.of("x"))
    assert site.owns("https://LS.test:8080/a")
    assert not site.owns("http://ls.test:8080/a")
    assert not site.owns("https://ls.test/a")
    assert not site.owns("https://ls.test.evil.test:8080/a")
    assert not site.owns("https://ls.test:8080@evil.test/a")


# ---- the mounted folder ------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "dir").mkdir(parents=True)
    (root / "dir" / "b c.png").write_bytes(b"from disk")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "root-2").mkdir()
    (tmp_path / "root-2" / "x.png").write_bytes(b"secret")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "loop").symlink_to(root / "loop")
    return root


@pytest.mark.parametrize("host", ["", "http://anything.test:8080"])
def test_local_files_come_from_the_mounted_folder(folder: Path, host: str) -> None:
    settings = BackendSettings(local_files_root=folder, label_studio_url="http://anything.test:8080")
    assert read(f"{host}/data/local-files/?d=dir/b%20c.png", settings) == b"from disk"


@pytest.mark.parametrize("name", ["../secret.png", "dir/../../secret.png", "link.png", "../root-2/x.png"])
def test_nothing_outside_the_folder_is_read(folder: Path, name: str) -> None:
    with pytest.raises(ImageUnavailable, match="outside"):
        read(f"/data/local-files/?d={name}", BackendSettings(local_files_root=folder))


@pytest.mark.parametrize(
    "name", ["", "dir", "loop", "missing.png", "a%00b", "x" * 5000, "%2Fetc%2Fpasswd", "/etc/passwd"]
)
def test_what_is_no_file_of_the_folder_is_asked_from_label_studio(folder: Path, site: StandIn, name: str) -> None:
    with pytest.raises(ImageUnavailable, match="404"):
        read(f"/data/local-files/?d={name}", with_token(site, local_files_root=folder))


def test_a_foreign_host_does_not_reach_the_folder(folder: Path, elsewhere: StandIn) -> None:
    settings = BackendSettings(local_files_root=folder, label_studio_url="http://anything.test:8080")
    with pytest.raises(ImageUnavailable):
        read(f"{elsewhere.url}/data/local-files/?d=dir/b%20c.png", settings)


# ---- tokens ------------------------------------------------------------------------------------------------------


def test_a_personal_token_is_exchanged_once_for_many_images(site: StandIn) -> None:
    reader = ImageReader(with_token(site))
    for _ in range(3):
        assert reader.read(UPLOAD, reader.site(), 1) == IMAGE
    assert site.refreshes() == 1
    assert [header for path, header in site.requests if path == UPLOAD] == [f"Bearer {site.access[0]}"] * 3


def test_it_is_exchanged_again_before_its_end(site: StandIn) -> None:
    """29 s left is too little: the header could arrive too late."""
    site.access_lives = 29
    reader = ImageReader(with_token(site))
    for _ in range(2):
        assert reader.read(UPLOAD, reader.site(), 1) == IMAGE
    assert site.refreshes() == 2


def test_an_access_token_that_stopped_working_is_replaced(site: StandIn) -> None:
    reader = ImageReader(with_token(site))
    reader.read(UPLOAD, reader.site(), 1)
    site.access.clear()  # as after a restart with another secret
    assert reader.read(UPLOAD, reader.site(), 1) == IMAGE
    assert site.refreshes() == 2


@pytest.mark.parametrize(
    ("token", "kind", "advice"),
    [
        (None, TokenKind.NONE, "SAM3_LABEL_STUDIO_API_KEY"),
        (LEGACY, TokenKind.LEGACY, "off by default"),
        (make_jwt("refresh", lives=1e6), TokenKind.PERSONAL, "create a new one"),
        (make_jwt("access"), TokenKind.ACCESS, "personal access token"),
    ],
)
def test_a_refusal_says_which_token_was_tried_and_what_to_do(
    site: StandIn, token: str | None, kind: TokenKind, advice: str
) -> None:
    settings = BackendSettings(label_studio_url=site.url, label_studio_api_key=token)
    with pytest.raises(ImageUnavailable) as caught:
        read(UPLOAD, settings)
    sentence = str(caught.value)
    assert kind.value in sentence
    assert advice in sentence
    assert "401" in sentence
    assert not token or token not in sentence


def test_the_refused_token_of_setup_is_named(site: StandIn) -> None:
    reader = ImageReader(BackendSettings(label_studio_url=site.url))
    with pytest.raises(ImageUnavailable, match=r"sent in /setup.*SAM3_LABEL_STUDIO_API_KEY"):
        reader.read(UPLOAD, reader.site("http://other.test", LEGACY), 1)


def test_a_legacy_token_works_where_it_is_switched_on(site: StandIn) -> None:
    site.legacy = True
    settings = BackendSettings(label_studio_url=site.url, label_studio_api_key=LEGACY)
    assert read(UPLOAD, settings) == IMAGE


def test_tokens_stay_out_of_the_log_and_out_of_repr(site: StandIn) -> None:
    settings = with_token(site)
    assert site.personal not in repr(settings)
    assert site.personal not in repr(ImageReader(settings).site())


def test_an_exchange_with_something_else_than_label_studio(site: StandIn) -> None:
    site.refresh = lambda body: (200, {}, b"<html>")  # type: ignore[method-assign]
    with pytest.raises(ImageUnavailable, match="no Label Studio"):
        read(UPLOAD, with_token(site))


# ---- limits ------------------------------------------------------------------------------------------------------


def test_a_login_page_is_no_image(site: StandIn) -> None:
    site.routes["/data/a"] = lambda _: (200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>")
    with pytest.raises(ImageUnavailable, match="web page"):
        read("/data/a", with_token(site))


SMALL = 1000 / (1 << 20)  # MiB


def test_files_over_the_limit_are_refused(site: StandIn, folder: Path) -> None:
    big = b"x" * 1001
    site.files["/data/big.png"] = big
    (folder / "big.png").write_bytes(big)
    for address in ("/data/big.png", "/data/local-files/?d=big.png", data_url(big)):
        with pytest.raises(TooLarge):
            read(address, with_token(site, max_image_mb=SMALL, local_files_root=folder))
    site.files["/data/fits.png"] = big[:1000]
    assert read("/data/fits.png", with_token(site, max_image_mb=SMALL)) == big[:1000]


def _chunked(handler: BaseHTTPRequestHandler, body: bytes, headers: dict[str, str]) -> None:
    handler.send_response(200)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(body)
    handler.close_connection = True


@pytest.mark.parametrize(
    ("body", "headers"),
    [(b"x" * 10_000, {}), (gzip.compress(b"x" * 1_000_000), {"Content-Encoding": "gzip"})],
)
def test_the_limit_holds_without_a_content_length_and_for_compressed_bodies(
    site: StandIn, body: bytes, headers: dict[str, str]
) -> None:
    site.routes["/data/a"] = lambda handler: _chunked(handler, body, headers)
    with pytest.raises(TooLarge):
        read("/data/a", with_token(site, max_image_mb=8000 / (1 << 20)))


def test_a_server_that_drips_is_left_at_the_time_limit(site: StandIn) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.02)

    site.routes["/data/slow"] = drip
    with pytest.raises(ImageUnavailable, match=r"longer than 0\.3 seconds"):
        read("/data/slow", with_token(site, fetch_seconds=0.3))


def test_a_silent_server_is_left_at_the_time_limit(site: StandIn) -> None:
    site.routes["/data/silent"] = lambda _: (time.sleep(1.0), (200, {}, IMAGE))[1]
    with pytest.raises(ImageUnavailable, match=r"longer than 0\.3 seconds"):
        read("/data/silent", with_token(site, fetch_seconds=0.3))


def test_a_body_cut_short_is_no_image(site: StandIn) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        _chunked(handler, b"x" * 10, {"Content-Length": "100"})

    site.routes["/data/cut"] = cut
    with pytest.raises(ImageUnavailable, match="broke off"):
        read("/data/cut", with_token(site))


def test_a_passing_gateway_error_is_retried(site: StandIn) -> None:
    answers = [(502, {}, b""), (200, {"Content-Type": "image/png"}, IMAGE)]
    site.routes["/data/a"] = lambda _: answers.pop(0)
    assert read("/data/a", with_token(site)) == IMAGE


def test_nobody_at_home() -> None:
    settings = BackendSettings(label_studio_url="http://127.0.0.1:9", fetch_seconds=2)
    with pytest.raises(ImageUnavailable, match="no connection"):
        read(UPLOAD, settings)


def test_sentences_do_not_repeat_the_signature_of_a_link(elsewhere: StandIn) -> None:
    link = f"http://user:pass@127.0.0.1:{elsewhere.port}/public/b.png?X-Amz-Signature=secret"
    with pytest.raises(ImageUnavailable) as caught:
        read(link, BackendSettings(allowed_hosts=LOOPBACK))
    assert "secret" not in str(caught.value)
    assert "pass" not in str(caught.value)


def test_resolve_asks_with_the_address_in_base64url(site: StandIn) -> None:
    read(S3, with_token(site))
    query = site.requests[-1][0].partition("fileuri=")[2]
    assert query.replace("%3D", "=") == base64.urlsafe_b64encode(S3.encode()).decode()
