"""The memory of task images: what is fetched again, what is not, and for whom."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from label_studio_stand_in import LEGACY, StandIn, label_studio
from request_bodies import data_url

from backend.auth import Credentials
from backend.images import ImageReader, Site
from backend.pictures import Pictures
from backend.settings import BackendSettings
from sam3_core.errors import ImageUnavailable

IMAGE = b"x" * 1000
KB = 1 / 1024  # MiB


@pytest.fixture
def site() -> Iterator[StandIn]:
    with label_studio() as site:
        site.legacy = True
        site.files = {f"/data/{name}.png": IMAGE for name in "abc"}
        yield site


def pictures(megabytes: float = 1.0, seconds: float = 100.0) -> Pictures:
    return Pictures(ImageReader(BackendSettings()), megabytes=megabytes, fresh_seconds=seconds)


def login(site: StandIn, token: str = LEGACY) -> Site:
    return Site(site.url, Credentials.of(token))


def fetched(site: StandIn) -> list[str]:
    return [path for path, _ in site.requests]


def test_a_picture_that_is_kept_is_fetched_once(site: StandIn) -> None:
    memory = pictures()
    first = memory.get("/data/a.png", login(site), 1, keep=True)
    assert first.data == IMAGE
    assert memory.get(" /data/a.png ", login(site), 2, keep=False) is first
    assert memory.get("/data/a.png", login(site), None, keep=True) is first
    assert fetched(site) == ["/data/a.png"]
    info = memory.info()
    assert (info.bytes, info.entries, info.hits, info.misses) == (1000, 1, 2, 1)


def test_looking_keeps_nothing(site: StandIn) -> None:
    memory = pictures()
    for _ in range(2):
        memory.get("/data/a.png", login(site), 1, keep=False)
    assert len(fetched(site)) == 2
    assert memory.info().entries == 0


def test_who_may_not_read_it_gets_it_from_nobody_elses_visit(site: StandIn) -> None:
    memory = pictures()
    memory.get("/data/a.png", login(site), 1, keep=True)
    with pytest.raises(ImageUnavailable):
        memory.get("/data/a.png", login(site, "f" * 40), 1, keep=True)
    with pytest.raises(ImageUnavailable):
        memory.get("/data/a.png", None, 1, keep=True)


def test_a_cloud_address_is_opened_for_each_task(site: StandIn) -> None:
    site.files["s3://bucket/a.png"] = IMAGE
    memory = pictures()
    for task in (1, 2, 1):
        memory.get("s3://bucket/a.png", login(site), task, keep=True)
    assert len(fetched(site)) == 2


def test_what_is_stale_is_fetched_again(site: StandIn) -> None:
    memory = pictures(seconds=0.0)
    memory.get("/data/a.png", login(site), 1, keep=True)
    site.files["/data/a.png"] = b"changed"
    assert memory.get("/data/a.png", login(site), 1, keep=True).data == b"changed"
    assert memory.info().bytes == len(b"changed")


def test_the_least_recently_used_makes_room(site: StandIn) -> None:
    memory = pictures(megabytes=2.5 * KB)
    for name in "abac":
        memory.get(f"/data/{name}.png", login(site), 1, keep=True)
    assert memory.info().bytes == 2000
    memory.get("/data/a.png", login(site), 1, keep=True)
    assert fetched(site) == ["/data/a.png", "/data/b.png", "/data/c.png"]
    memory.get("/data/b.png", login(site), 1, keep=True)
    assert fetched(site)[-1] == "/data/b.png"


@pytest.mark.parametrize("megabytes", [0.0, 0.5 * KB])
def test_a_picture_larger_than_the_memory_is_answered_all_the_same(site: StandIn, megabytes: float) -> None:
    memory = pictures(megabytes)
    assert memory.get("/data/a.png", login(site), 1, keep=True).data == IMAGE
    assert memory.info().bytes == memory.info().entries == 0


def test_data_addresses_are_not_remembered_by_their_text() -> None:
    memory = pictures()
    assert memory.get(data_url(IMAGE), None, 1, keep=True).data == IMAGE
    assert memory.info().entries == 0


def test_many_clicks_at_once_fetch_once_and_share_what_went_wrong(site: StandIn) -> None:
    memory, started, release = pictures(), threading.Event(), threading.Event()
    answers = [(404, {}, b""), (200, {}, IMAGE)]

    def slow(_: object) -> tuple[int, dict[str, str], bytes]:
        started.set()
        release.wait(30)
        return answers.pop(0)

    site.routes["/data/slow.png"] = slow

    def get() -> object:
        try:
            return memory.get("/data/slow.png", login(site), 1, keep=True)
        except ImageUnavailable as error:
            return error

    for expected in (ImageUnavailable, object):
        started.clear()
        release.clear()
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(get)]
            assert started.wait(30)
            waiting += [pool.submit(get) for _ in range(3)]
            while memory.info().misses % 4:
                pass
            release.set()
            got = [future.result() for future in waiting]
        assert len({id(one) for one in got}) == 1
        assert isinstance(got[0], expected)
    assert len(fetched(site)) == 2
