"""Storing predictions through Label Studio's API: once, with its kinds of tokens, and what its refusals mean."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from label_studio_stand_in import LEGACY, make_jwt
from predictions_api import PredictionsStandIn, predictions_api

from backend.addresses import Hosts
from backend.auth import Credentials
from backend.images import Site
from backend.push import LabelStudioApi, NoAccess, NotTaken, TryLater

PREDICTION: dict[str, Any] = {"result": [], "score": 0.5, "model_version": "v1", "meta": {"nothing": {}}}
PUBLIC = Hosts.parse("public")


@pytest.fixture
def label_studio() -> Iterator[PredictionsStandIn]:
    with predictions_api() as site:
        yield site


@pytest.fixture
def site(label_studio: PredictionsStandIn) -> Site:
    return Site(label_studio.url, Credentials.of(label_studio.personal))


@pytest.fixture
def api() -> LabelStudioApi:
    return LabelStudioApi(PUBLIC, seconds=5)


def test_a_prediction_is_stored_as_label_studio_takes_it(
    label_studio: PredictionsStandIn, site: Site, api: LabelStudioApi
) -> None:
    assert api.store(site, "3", 7, PREDICTION)
    assert label_studio.stored == [{"task": 7, "project": 3, "result": [], "score": 0.5, "model_version": "v1"}]
    # GET /api/tasks/<id>/ would make Label Studio ask us for a prediction.
    assert not any("/tasks/" in path for path, _ in label_studio.requests)


def test_what_is_there_is_not_stored_again(label_studio: PredictionsStandIn, site: Site, api: LabelStudioApi) -> None:
    assert api.store(site, "3", 7, PREDICTION)
    assert not api.store(site, "3", 7, PREDICTION)
    assert api.store(site, "3", 8, PREDICTION)
    assert api.store(site, "3", 7, PREDICTION | {"model_version": "v2"})
    assert label_studio.versions(7) == ["v1", "v2"]


def test_an_access_token_that_ended_early_is_renewed(
    label_studio: PredictionsStandIn, site: Site, api: LabelStudioApi
) -> None:
    api.store(site, "3", 7, PREDICTION)
    label_studio.access.clear()  # as after a restart with another key
    assert api.store(site, "3", 8, PREDICTION)
    assert label_studio.refreshes() == 2


@pytest.mark.parametrize("token", [make_jwt("refresh"), LEGACY, "f" * 40, make_jwt("access")])
def test_a_token_that_is_refused_is_no_access(
    token: str, label_studio: PredictionsStandIn, api: LabelStudioApi
) -> None:
    with pytest.raises(NoAccess, match="answered 401 to") as caught:
        api.store(Site(label_studio.url, Credentials.of(token)), "3", 7, PREDICTION)
    assert token not in str(caught.value)
    assert label_studio.stored == []


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("7", 7, 7), ("86400", 300, 300), ("in a while", None, None), ("", None, None), ("date", 20, 61)],
)
def test_retry_after_in_both_forms(
    header: str,
    least: float | None,
    most: float | None,
    label_studio: PredictionsStandIn,
    site: Site,
    api: LabelStudioApi,
) -> None:
    value = formatdate(time.time() + 60, usegmt=True) if header == "date" else header
    label_studio.trouble = lambda method, task: (429, {"Retry-After": value}, b"")
    with pytest.raises(TryLater, match="answered 429") as caught:
        api.store(site, "3", 7, PREDICTION)
    after = caught.value.retry_after
    assert after is None if least is None or most is None else after is not None and least <= after <= most


@pytest.mark.parametrize(
    ("status", "error"), [(500, TryLater), (503, TryLater), (400, NotTaken), (404, NotTaken), (403, NoAccess)]
)
def test_what_a_status_means(
    status: int, error: type[Exception], label_studio: PredictionsStandIn, site: Site, api: LabelStudioApi
) -> None:
    label_studio.trouble = lambda method, task: (status, {}, b"no") if method == "POST" else None
    with pytest.raises(error, match=str(status)):
        api.store(site, "3", 7, PREDICTION)


def test_a_redirect_is_not_followed_with_the_token(
    label_studio: PredictionsStandIn, site: Site, api: LabelStudioApi
) -> None:
    with predictions_api() as other:
        label_studio.trouble = lambda method, task: (302, {"Location": other.url + "/api/predictions/"}, b"")
        with pytest.raises(NotTaken, match="302"):
            api.store(site, "3", 7, PREDICTION)
        assert other.requests == []


@pytest.mark.parametrize("body", [b"<html>", b'{"detail": 1}', b"[1]", b"[" * 100_000])
def test_something_else_than_a_label_studio(
    body: bytes, label_studio: PredictionsStandIn, site: Site, api: LabelStudioApi
) -> None:
    label_studio.trouble = lambda method, task: (200, {}, body)
    with pytest.raises(TryLater, match="something else"):
        api.store(site, "3", 7, PREDICTION)


def test_a_label_studio_that_hangs_or_is_gone(label_studio: PredictionsStandIn, site: Site) -> None:
    release = threading.Event()
    label_studio.trouble = lambda method, task: (release.wait(30), (500, {}, b""))[1]
    with pytest.raises(TryLater, match="no answer"):
        LabelStudioApi(PUBLIC, seconds=0.5).store(site, "3", 7, PREDICTION)
    release.set()
    nobody = Site("http://127.0.0.1:9", Credentials.of(LEGACY))
    with pytest.raises(TryLater, match="no answer"):
        LabelStudioApi(PUBLIC, seconds=5).store(nobody, "3", 7, PREDICTION)


def test_a_label_studio_that_says_it_is_elsewhere_gets_nothing(label_studio: PredictionsStandIn) -> None:
    """Anybody may introduce a host on our private network; see ``Home``."""
    introduced = Site(label_studio.url, Credentials.of(label_studio.personal), sender="198.51.100.7")
    with pytest.raises(NoAccess, match="SAM3_LABEL_STUDIO_URL"):
        LabelStudioApi(PUBLIC, seconds=5).store(introduced, "3", 7, PREDICTION)
    assert label_studio.requests == []


@pytest.mark.parametrize(
    ("token", "project", "task", "problem"),
    [
        ("", "3", 7, "no token"),
        (LEGACY, "", 7, "names no project"),
        (LEGACY, "3", None, "names no project"),
        (LEGACY, "3", "a", "names no project"),
        (LEGACY, "3/../4", 7, "names no project"),
        (LEGACY, "3", 7, ""),
    ],
)
def test_why_a_prediction_could_not_be_sent(
    token: str, project: str, task: int | str | None, problem: str, label_studio: PredictionsStandIn
) -> None:
    said = LabelStudioApi.problem(Site(label_studio.url, Credentials.of(token)), project, task)
    assert problem in said
    assert bool(problem) == bool(said)
    assert "no token" in LabelStudioApi.problem(None, project, task)
