"""A project read through label-studio-sdk: pages, tokens, and what goes wrong on the way. See also tests/e2e."""

from __future__ import annotations

import json
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from label_studio_stand_in import LEGACY, Answer, StandIn, label_studio, make_jwt, served
from review_events import CONFIG, annotation, square, task_of

from backend.database import Database
from backend.learning.predicted import Predictions
from backend.learning.rebuild import rebuild
from backend.learning.reviews import Reviews
from sam3_core.errors import InvalidInput, ServerUnavailable

TASKS = [
    task_of(number) | {
        "annotations": [annotation(number, [square("a", 10)], task=number)],
        "predictions": [{"id": number, "model_version": "v3", "result": [square("a", 10)], "task": number,
                         "created_at": "2026-11-22T02:00:00Z"}],
    }
    for number in range(1, 61)
]  # fmt: skip


class TasksStandIn(StandIn):
    """A Label Studio with one project, number 1, and its tasks. asked: pages of them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[str, list[str]]] = []
        self.broken: Answer | None = None

    def answer(self, path: str, header: str | None) -> Answer:
        parts = urlsplit(path)
        known = {"/api/projects/1/": {"id": 1, "title": "cars", "label_config": CONFIG}}
        if self.refusal(header) or parts.path not in {*known, "/api/tasks/"}:
            return super().answer(path, header)
        found: object = known.get(parts.path)
        if found is None:
            if self.broken and self.asked:
                return self.broken
            query = parse_qs(parts.query)
            self.asked.append(query)
            page, size = int(query["page"][0]), int(query["page_size"][0])
            found = {"tasks": TASKS[(page - 1) * size : page * size], "total": len(TASKS)}
            found |= {"total_annotations": 60, "total_predictions": 60}
        return 200, {"Content-Type": "application/json"}, json.dumps(found).encode()


def empty() -> Reviews:
    database = Database(None)
    return Reviews(database, Predictions(database))


@pytest.mark.parametrize("legacy", [False, True])
def test_all_pages_are_read_with_either_token(legacy: bool) -> None:
    reviews, counted = empty(), list[int]()
    with served(TasksStandIn()) as site:
        site.legacy = legacy
        assert rebuild(reviews, site.url, LEGACY if legacy else site.personal, "1", told=counted.append) == 60
    assert counted == list(range(1, 61))
    assert len(site.asked) > 1
    assert all(query["fields"] == ["all"] and query["project"] == ["1"] for query in site.asked)
    assert all(review.version == "v3" and len(review.outcomes) == 1 for review in reviews.of("1"))
    paths = {urlsplit(path).path for path, _ in site.requests}
    assert paths <= {"/api/projects/1/", "/api/tasks/", "/api/token/refresh/"}


def test_one_that_breaks_off_changes_nothing() -> None:
    reviews = empty()
    with served(TasksStandIn()) as site:
        rebuild(reviews, site.url, site.personal, "1", told=lambda count: None)
        before = reviews.tasks("1")
        site.broken = (418, {}, b"<html>no gateway</html>")
        with pytest.raises(ServerUnavailable, match=r"answered 418$"):
            rebuild(reviews, site.url, site.personal, "1", told=lambda count: None)

        def stop(count: int) -> None:
            raise InvalidInput("enough")

        site.broken = None
        with pytest.raises(InvalidInput, match="enough"):
            rebuild(reviews, site.url, site.personal, "1", told=stop)
    assert reviews.tasks("1") == before
    assert len(before) == 60


def refused(site: StandIn, token: str, project: str = "1", url: str = "") -> str:
    """The sentence, which must not hold the token."""
    with pytest.raises((ServerUnavailable, InvalidInput)) as caught:
        rebuild(empty(), url or site.url, token, project, told=lambda count: None)
    assert not token or token not in str(caught.value)
    return str(caught.value)


def test_what_is_refused_is_a_sentence() -> None:
    with label_studio() as site:
        assert "has no project 7, or none" in refused(site, site.personal, "7")
        assert "use a personal access token" in refused(site, LEGACY)
        assert "create a new one" in refused(site, make_jwt("refresh"))
        assert "answered 401" in refused(site, make_jwt("refresh", lives=-time.time() / 2))
        for project in ("", "x", "1/2", "-1", "\u0661"):
            assert "is a number" in refused(site, site.personal, project)
        site.files["/api/projects/1/"] = b"<html>a login page</html>"
        assert "answered something else than its API" in refused(site, site.personal)
    assert "gives no answer" in refused(site, LEGACY)
    for url in (" ", "ftp://127.0.0.1", "http://["):
        assert refused(site, LEGACY, url=url)
