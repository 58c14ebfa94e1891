"""/ready, /status and /status.json: true, complete, without secrets, and fit to look at."""

from __future__ import annotations

import threading
import time
from html.parser import HTMLParser
from typing import Any

import pytest
from flask.testing import FlaskClient
from request_bodies import CONFIG, data_url, predict_body
from scene_segmenter import VERSION, SceneSegmenter
from scraped import LOAD, metric, metrics

from backend.app import create_app
from backend.settings import BackendSettings
from backend.standing import Informant
from sam3_core import ModelInfo, ModelState
from sam3_core.demo.scenes import Scene
from sam3_core.load import Load
from sam3_core.types import CacheInfo, CacheTier

HOSTILE = '</script><img src=x onerror="document.title=1">'
SETUP = {"project": "7.5", "schema": CONFIG, "hostname": "http://ls:8080", "access_token": "a" * 40}


def setup(client: FlaskClient, config: str, project: str = "7.5", **more: Any) -> None:
    assert client.post("/setup", json=SETUP | {"schema": config, "project": project} | more).status_code == 200


class Page(HTMLParser):
    """Tags and their attributes, and the text outside of the style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._silent = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._silent = tag == "style"

    def handle_data(self, data: str) -> None:
        self.text += "" if self._silent else data


# ---- /ready --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "status"), [(ModelState.READY, 200), (ModelState.LOADING, 503), (ModelState.FAILED, 503)]
)
def test_ready_only_when_prompts_are_answered(
    client: FlaskClient, oracle: SceneSegmenter, state: ModelState, status: int
) -> None:
    oracle.state = state
    answer = client.get("/ready")
    assert answer.status_code == status
    assert (answer.json["ready"], answer.json["model_state"]) == (status == 200, state.value)
    assert answer.json["sentence"]
    assert answer.json["model_version"] == VERSION
    assert ("Retry-After" in answer.headers) is (state is ModelState.LOADING)


def test_a_failed_model_says_what_to_do(client: FlaskClient, oracle: SceneSegmenter) -> None:
    oracle.info = lambda: ModelInfo(
        VERSION, ModelState.FAILED, "cuda", "auto", "the repository is gated: set HF_TOKEN"
    )  # type: ignore[method-assign]
    assert client.get("/ready").json["sentence"] == "the repository is gated: set HF_TOKEN"
    assert "the repository is gated" in Page(client.get("/status").text).text


# ---- a model that does not say how it stands -----------------------------------------------------------------------


def test_nobody_waits_for_a_model_that_does_not_answer(client: FlaskClient, oracle: SceneSegmenter) -> None:
    assert client.get("/health").json["model_state"] == "ready"
    free, asked = threading.Event(), threading.Event()
    inner = oracle.info

    def info() -> ModelInfo:
        asked.set()
        assert free.wait(60)
        return inner()

    oracle.info = info  # type: ignore[method-assign]
    oracle.state = ModelState.FAILED
    try:
        for path in ("/health", "/", "/status", "/status.json", "/metrics", "/versions"):
            assert client.get(path).status_code == 200, path
        assert client.post("/setup", json=SETUP).json == {"model_version": VERSION}
        assert asked.is_set()
        assert client.get("/health").json["model_state"] == "ready"  # the last that was heard
    finally:
        free.set()
    while client.get("/health").json["model_state"] != "failed":
        pass


def test_a_silent_model_is_not_ready(oracle: SceneSegmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    informant = Informant(oracle)
    assert informant.standing(5).ready
    now = time.monotonic()
    monkeypatch.setattr("backend.standing.time.monotonic", lambda: now + 60)
    oracle.info = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    standing = informant.standing(5)
    assert not standing.ready
    assert "has not said" in standing.sentence


def test_the_version_is_waited_for_once(oracle: SceneSegmenter) -> None:
    informant = Informant(oracle)
    slow = oracle.info
    oracle.info = lambda: (time.sleep(0.3), slow())[1]  # type: ignore[method-assign]
    assert informant.version() == VERSION
    oracle.info = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    assert informant.version() == VERSION


# ---- /status.json --------------------------------------------------------------------------------------------------


def test_everything_is_told(client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    oracle.load, oracle.cache = LOAD, CacheInfo(5, 3, CacheTier(1000, 2, 1), CacheTier(500, 1, 4))
    good = {"id": 1, "data": {"image": data_url(oracle.add(scenes[0]))}}
    bad = {"data": {"image": data_url(b"no picture")}}
    for number in (2, 3, 4):
        client.post(
            "/predict", json=predict_body([good, {"id": number} | bad]), headers={"X-Request-Id": f"r{number}"}
        )
    told = client.get("/status.json").json
    assert told["model"] | {"sentence": ""} == {
        "version": VERSION, "state": "ready", "ready": True, "sentence": "", "device": "cpu", "dtype": "float32",
        "clicks": True,
    }  # fmt: skip
    assert told["product"]["version"]
    assert told["uptime_seconds"] >= 0
    assert told["lanes"][1] == {
        "lane": "bulk", "at_work": 0, "limit": 16, "refused": 0, "device_waiting": 50, "device_done": 60,
        "device_dropped": 7, "device_refused": 8,
    }  # fmt: skip
    assert told["passes"][0] == {
        "kind": "vision", "passes": 15, "items": 30, "mean_items": 2.0, "most_items": 4, "limit": 16, "seconds": 2.5,
        "out_of_memory": 2,
    }  # fmt: skip
    assert told["memory"] == {"used": 3 << 30, "peak": 4 << 30, "total": 8 << 30}
    assert told["caches"]["embeddings"]["hits"] == 5
    (failure,) = told["failures"]
    assert (failure["kind"], failure["task"], failure["project"]) == ("broken_image", "4", "1")
    assert (failure["times"], failure["request"]) == (3, "r4")
    assert failure["hint"]


def test_a_bulk_job_at_work_is_told(
    app: Any, client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    task = {"data": {"image": data_url(oracle.add(scenes[0]))}}
    body = predict_body([{"id": i} | task for i in range(3)])
    with oracle.device:
        call = threading.Thread(target=lambda: app.test_client().post("/predict", json=body))
        call.start()
        while not oracle.queued:
            time.sleep(0.01)
        (job,) = client.get("/status.json").json["jobs"]
        assert (job["project"], job["total"], job["done"], job["waiting"]) == ("1", 3, 0, 3)
        assert job["seconds"] >= 0
        assert "0 of 3 tasks" in " ".join(Page(client.get("/status").text).text.split())
        assert metric(client, "sam3_job_tasks", what="total") == 3
        assert sum(metrics(client, "sam3_requests_at_work").values()) == 1
    call.join()


def test_projects_are_checked(client: FlaskClient) -> None:
    setup(client, CONFIG, extra_params={"threshold": 0.3})
    setup(client, "<View/>", "8.5")
    eight, seven = client.get("/status.json").json["projects"]  # the last one first
    assert eight["project"] == "8"
    assert "no Image tag" in eight["problem"]
    assert (seven["project"], seven["hostname"], seven["options"]) == ("7", "http://ls:8080", {"threshold": "0.3"})
    assert [label["label"] for label in seven["labels"]] == ["circle", "square", "triangle", "star"]
    assert seven["labels"][0]["phrases"] == ["circle"]
    setup(client, CONFIG, "8.5")
    assert [project["problem"] for project in client.get("/status.json").json["projects"]] == ["", ""]


def test_tokens_are_told_to_nobody(client: FlaskClient) -> None:
    setup(client, CONFIG, hostname="http://user:hunter22@ls:8080", access_token="b" * 20)
    for path in ("/status", "/status.json"):
        assert "b" * 20 not in client.get(path).text
        assert "hunter22" not in client.get(path).text


def test_the_settings_are_remarked_upon(oracle: SceneSegmenter) -> None:
    plain = create_app(BackendSettings(), oracle).test_client().get("/status.json").json["remarks"]
    assert any("SAM3_LABEL_STUDIO_API_KEY" in remark for remark in plain)
    assert not any("webhook" in remark for remark in plain)
    guarded = BackendSettings(
        basic_auth_user="u",
        basic_auth_password="p",
        label_studio_url="http://ls:8080",
        label_studio_api_key="c" * 40,
        model="facebook/sam3",
        learn="off",
    )
    told = create_app(guarded, oracle).test_client().get("/status.json", auth=("u", "p")).json["remarks"]
    assert len(told) == 1
    assert "SAM3_OPEN_WEBHOOK" in told[0]


# ---- the page ------------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_from_elsewhere_and_believes_no_name(client: FlaskClient) -> None:
    config = CONFIG.replace(
        'value="circle"', 'value="&lt;/script&gt;&lt;img src=x onerror=&quot;document.title=1&quot;&gt;"'
    )
    setup(client, config, hostname=f"http://{HOSTILE}")
    client.post("/predict", json=predict_body([{"id": HOSTILE, "data": {"image": HOSTILE}}]))
    answer = client.get("/status")
    page = Page(answer.text)
    assert HOSTILE in page.text
    assert not {"script", "img", "link", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    assert {attrs["href"] for tag, attrs in page.tags if tag == "a"} == {"status.json", "metrics"}
    assert not any(name.startswith("on") or name == "src" for _, attrs in page.tags for name in attrs)
    assert ("meta", {"http-equiv": "refresh", "content": "5"}) in page.tags
    assert any(attrs.get("name") == "viewport" for _, attrs in page.tags)
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("load", [Load(), LOAD], ids=["idle", "busy"])
@pytest.mark.parametrize("state", list(ModelState))
def test_the_page_shows_every_state(
    client: FlaskClient, oracle: SceneSegmenter, load: Load, state: ModelState
) -> None:
    oracle.load, oracle.state = load, state
    page = Page(client.get("/status").text)
    text = " ".join(page.text.split())
    assert f"{state.value}:" in text
    assert ("3,072 MiB used" in text) is bool(load.passes)
    assert "None" not in text
    assert "Undefined" not in text
    opened: list[str] = []
    for tag, _ in page.tags:
        opened += [] if tag in ("meta", "br") else [tag]
    assert opened[:2] == ["html", "head"]
