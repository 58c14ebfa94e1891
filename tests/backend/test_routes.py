"""Every route with the bodies Label Studio 1.23 sends, and with every kind of broken one."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from label_studio_stand_in import label_studio
from prometheus_client.parser import text_string_to_metric_families
from request_bodies import CONFIG, data_url, predict_body
from scene_segmenter import VERSION, SceneSegmenter

from backend.app import create_app
from backend.settings import BackendSettings
from sam3_core import ModelState
from sam3_core.demo.scenes import Scene
from sam3_core.errors import ModelUnavailable, NotReady
from sam3_core.types import CacheInfo, CacheTier

SETUP = {
    "project": "1.1795263632",
    "schema": CONFIG,
    "hostname": "http://127.0.0.1:8087",
    "access_token": "0123456789abcdef0123456789abcdef01234567",
    "extra_params": None,
}


@pytest.mark.parametrize("path", ["/", "/health"])
@pytest.mark.parametrize("state", list(ModelState))
def test_health_is_up_whatever_the_model_does(
    client: FlaskClient, oracle: SceneSegmenter, path: str, state: ModelState
) -> None:
    oracle.state = state
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.json == {
        "status": "UP",
        "model_class": "Sam3Backend",
        "model_version": VERSION,
        "model_state": state.value,
        "problem": "",
    }


@pytest.mark.parametrize("extra", [None, {"a": 1}, '{"a": 1}', "not json", [1], 5])
def test_setup_names_the_version_and_takes_any_extra_params(client: FlaskClient, extra: object) -> None:
    answer = client.post("/setup", json=SETUP | {"extra_params": extra})
    assert (answer.status_code, answer.json) == (200, {"model_version": VERSION})


def test_setup_and_health_answer_while_the_model_is_busy(
    app: Any, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    """Neither may wait for what /predict waits for."""
    busy, free = threading.Event(), threading.Event()

    def find(*_: object, **__: object) -> list[object]:
        busy.set()
        free.wait(30)
        return []

    oracle.find = find  # type: ignore[method-assign, assignment]
    body = predict_body([{"id": 1, "data": {"image": data_url(oracle.add(scenes[0]))}}])
    call = threading.Thread(target=lambda: app.test_client().post("/predict", json=body))
    call.start()
    try:
        assert busy.wait(30)
        assert app.test_client().get("/health").status_code == 200
        assert app.test_client().post("/setup", json=SETUP).json == {"model_version": VERSION}
    finally:
        free.set()
        call.join()


def test_versions(client: FlaskClient) -> None:
    assert client.get("/versions").json == {"versions": [VERSION]}


def test_predict(client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    image = data_url(oracle.add(scenes[0]))
    answer = client.post("/predict", json=predict_body([{"id": 1, "data": {"image": image}}]))
    assert answer.status_code == 200
    (prediction,) = answer.json["results"]
    assert prediction["model_version"] == VERSION
    assert len(prediction["result"]) == len(scenes[0].objects)
    assert 0 < prediction["score"] <= 1


def test_no_tasks_no_results(client: FlaskClient) -> None:
    assert client.post("/predict", json=predict_body([])).json == {"results": []}


PROJECT = {"id": 1, "title": "t", "label_config": CONFIG}


@pytest.mark.parametrize(
    ("body", "status", "annotations"),
    [
        ({"action": "ANNOTATION_CREATED", "annotation": {"id": 1}, "task": {"id": 1}, "project": PROJECT}, 201, 1),
        ({"action": "ANNOTATION_UPDATED", "annotation": {"id": 1}, "task": {"id": 1}, "project": PROJECT}, 201, 1),
        ({"action": "ANNOTATIONS_CREATED", "annotation": [{}, {}], "task": [{}, {}], "project": PROJECT}, 201, 2),
        ({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 2}], "project": PROJECT}, 201, 1),
        ({"action": "START_TRAINING", "project": PROJECT}, 201, 0),
        ({"action": "TASKS_DELETED", "tasks": [{"id": 4}], "project": PROJECT}, 201, 0),
        ({"action": "PROJECT_UPDATED", "project": PROJECT}, 201, 0),
        ({"action": "SOMETHING_NEW"}, 200, None),
    ],
)
def test_webhook(client: FlaskClient, body: dict[str, Any], status: int, annotations: int | None) -> None:
    answer = client.post("/webhook", json=body)
    assert answer.status_code == status
    if annotations is None:
        assert answer.json == {"status": "ignored"}
    else:
        result = {"event": body["action"], "annotations": annotations}
        assert answer.json == {"status": "ok", "result": result}


# ---- broken requests ---------------------------------------------------------------------------------------------

POSTS = ("/setup", "/predict", "/webhook")


def assert_refused(answer: Any, status: int = 400) -> None:
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/json"
    assert {"error"} <= set(answer.json) <= {"error", "kind", "request_id"}
    assert "Traceback" not in answer.text
    assert "\n" not in answer.json["error"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"tasks=1", b"\xff\xfe", b"null", b"[]", b"5", b'"x"', b"{}",
        b"[" * 100_000, b'{"a":' * 100_000, b"9" * 9999,
    ],
    ids=lambda raw: repr(raw[:9]),
)  # fmt: skip
def test_what_is_no_object_is_a_400_sentence(client: FlaskClient, path: str, raw: bytes) -> None:
    assert_refused(client.post(path, data=raw))


def _without(body: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != key}


GOOD = predict_body([{"id": 1, "data": {"image": "x"}}])


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/setup", _without(SETUP, "project"), "project"),
        ("/setup", SETUP | {"project": None}, "project"),
        ("/setup", SETUP | {"project": {"id": 1}}, "project"),
        ("/setup", SETUP | {"schema": 5}, "schema"),
        ("/setup", SETUP | {"hostname": []}, "hostname"),
        ("/predict", _without(GOOD, "tasks"), "tasks"),
        ("/predict", _without(GOOD, "label_config"), "label_config"),
        ("/predict", GOOD | {"tasks": None}, "tasks"),
        ("/predict", GOOD | {"tasks": "all"}, "tasks"),
        ("/predict", GOOD | {"tasks": {"id": 1}}, "tasks"),
        ("/predict", GOOD | {"tasks": [5]}, "$.tasks[0]"),
        ("/predict", GOOD | {"tasks": [{"id": 1}]}, "`data` - at `$.tasks[0]"),
        ("/predict", GOOD | {"tasks": [{"id": 1, "data": []}]}, "$.tasks[0].data"),
        ("/predict", GOOD | {"tasks": [{"id": [1], "data": {}}]}, "$.tasks[0].id"),
        ("/predict", GOOD | {"label_config": {}}, "label_config"),
        ("/predict", GOOD | {"params": 5}, "params"),
        ("/predict", GOOD | {"params": {"context": [1]}}, "params.context"),
        ("/predict", GOOD | {"params": {"context": {"result": {}}}}, "params.context.result"),
        ("/predict", GOOD | {"params": {"context": {"result": [{"value": 5}]}}}, "params.context.result[0].value"),
        ("/predict", GOOD | {"params": {"context": {"result": [{"item_index": -1}]}}}, "item_index"),
        ("/predict", GOOD | {"params": {"context": {"event": 5}}}, "event"),
        ("/webhook", {"project": PROJECT}, "action"),
        ("/webhook", {"action": 5, "project": PROJECT}, "action"),
        ("/webhook", {"action": "START_TRAINING", "project": [1]}, "project"),
        ("/webhook", {"action": "ANNOTATION_CREATED", "annotation": 5}, "annotation"),
        ("/webhook", {"action": "ANNOTATION_CREATED", "annotation": {"result": {}}}, "annotation"),
    ],
)
def test_wrong_types_and_missing_keys_name_the_field(
    client: FlaskClient, path: str, body: dict[str, Any], named: str
) -> None:
    answer = client.post(path, json=body)
    assert_refused(answer)
    assert named in answer.json["error"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
keys = ["tasks", "label_config", "project", "params", "schema", "hostname", "action", "annotation", "extra_params"]


@given(st.sampled_from(POSTS), st.dictionaries(st.sampled_from(keys), json_values))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_breaks_the_server(client: FlaskClient, path: str, body: dict[str, Any]) -> None:
    answer = client.post(path, data=json.dumps(body))
    assert answer.status_code in (200, 201, 400)
    json.loads(answer.text, parse_constant=lambda name: pytest.fail(f"{name} left"))


@given(context=json_values, data=st.dictionaries(st.sampled_from(["image", "other"]), json_values))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_task_or_context_breaks_the_server(client: FlaskClient, context: Any, data: dict[str, Any]) -> None:
    body = predict_body([{"id": 1, "data": data}]) | {"params": {"context": context}}
    answer = client.post("/predict", data=json.dumps(body))
    assert answer.status_code in (200, 400)
    if answer.status_code == 200:
        (prediction,) = answer.json["results"]
        assert all(isinstance(sentence, str) for sentence in prediction.pop("meta", {}).values())
        assert prediction == {"result": [], "score": 0.0, "model_version": VERSION}


@pytest.mark.parametrize("path", POSTS)
def test_a_body_over_the_limit_is_a_413(oracle: SceneSegmenter, path: str) -> None:
    client = create_app(BackendSettings(max_request_mb=0.001), oracle).test_client()
    assert_refused(client.post(path, data=b" " * 2000 + b"{}"), 413)


@pytest.mark.parametrize("path", ["/nothing", "/predict/", "/train", "/../etc/passwd"])
def test_unknown_routes_are_a_json_404(client: FlaskClient, path: str) -> None:
    assert_refused(client.get(path), 404)


def test_wrong_methods_are_a_json_405(client: FlaskClient) -> None:
    answer = client.get("/predict")
    assert_refused(answer, 405)
    assert "POST" in answer.headers["Allow"]


def test_a_model_that_is_not_ready_is_a_503_with_retry_after(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    image = data_url(oracle.add(scenes[0]))
    oracle.error = NotReady("the weights are still loading", retry_after=7)
    answer = client.post("/predict", json=predict_body([{"id": 1, "data": {"image": image}}]))
    assert_refused(answer, 503)
    assert answer.headers["Retry-After"] == "7"


def test_a_model_that_cannot_load_is_a_503_with_the_reason(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    image = data_url(oracle.add(scenes[0]))
    oracle.error = ModelUnavailable("the repository is gated: set HF_TOKEN")
    answer = client.post("/predict", json=predict_body([{"id": 1, "data": {"image": image}}]))
    assert_refused(answer, 503)
    assert answer.json["error"] == "the repository is gated: set HF_TOKEN"


def test_a_defect_shows_no_traceback(client: FlaskClient, oracle: SceneSegmenter) -> None:
    oracle.info = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    assert_refused(client.get("/v1/info"), 500)
    assert client.get("/health").status_code == 200  # whatever the model does


# ---- basic auth --------------------------------------------------------------------------------------------------


def login(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def guarded(oracle: SceneSegmenter) -> FlaskClient:
    settings = BackendSettings(basic_auth_user="ännotator", basic_auth_password="geheim: ü")
    return create_app(settings, oracle).test_client()


WRONG = [
    {}, login("ännotator", "wrong"), login("", ""), login("wrong", "geheim: ü"),
    {"Authorization": "Basic !!!"}, {"Authorization": "Bearer x"}, {"Authorization": "Basic " + "A" * 5000},
]  # fmt: skip


@pytest.mark.parametrize("headers", WRONG, ids=str)
@pytest.mark.parametrize("path", ["/health", "/versions", "/metrics", "/nothing"])
def test_basic_auth_guards_every_route(guarded: FlaskClient, path: str, headers: dict[str, str]) -> None:
    answer = guarded.get(path, headers=headers)
    assert_refused(answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Basic")


@pytest.mark.parametrize("path", POSTS)
def test_basic_auth_comes_before_the_body(guarded: FlaskClient, path: str) -> None:
    assert_refused(guarded.post(path, data=b"not json"), 401)


def test_the_right_login_opens(guarded: FlaskClient) -> None:
    assert guarded.get("/health", headers=login("ännotator", "geheim: ü")).status_code == 200
    assert guarded.get("/").status_code == 200


def test_the_webhook_can_be_left_open_alone(oracle: SceneSegmenter) -> None:
    settings = BackendSettings(basic_auth_user="u", basic_auth_password="p", open_webhook=True)
    client = create_app(settings, oracle).test_client()
    assert client.post("/webhook", json={"action": "START_TRAINING", "project": PROJECT}).status_code == 201
    assert client.get("/health").status_code == 401
    assert client.post("/predict", json=GOOD).status_code == 401


# ---- metrics -----------------------------------------------------------------------------------------------------


def samples(client: FlaskClient) -> dict[tuple[str, ...], float]:
    answer = client.get("/metrics")
    assert answer.mimetype == "text/plain"
    families = text_string_to_metric_families(answer.text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_metrics_count_what_happened(client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    good = {"id": 1, "data": {"image": data_url(oracle.add(scenes[0]))}}
    bad = {"id": 2, "data": {"image": data_url(b"no picture")}}
    client.post("/predict", json=predict_body([good, bad]))
    client.post("/predict", data=b"{")
    client.get("/no/such/route")
    client.get("/no/such/other")
    counted = samples(client)
    assert counted["sam3_requests_total", "/predict", "200"] == 1
    assert counted["sam3_requests_total", "/predict", "400"] == 1
    assert counted["sam3_requests_total", "unknown", "404"] == 2
    assert counted["sam3_tasks_total",] == 2
    assert counted["sam3_instances_total",] == len(scenes[0].objects)
    assert counted["sam3_failures_total", "BrokenImage"] == 1
    assert counted["sam3_predict_seconds_count",] == 1
    assert counted["sam3_model_state", "ready"] == 1
    assert counted["sam3_model_state", "loading"] == 0


def test_metrics_of_the_caches_are_asked_at_the_scrape(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    with label_studio() as site:
        site.files["/public/a.png"] = oracle.add(scenes[0])
        body = predict_body([{"id": 1, "data": {"image": f"{site.url}/public/a.png"}}])
        for _ in range(3):
            client.post("/predict", json=body)
    oracle.cache = CacheInfo(5, 3, CacheTier(1000, 2, 1), CacheTier(500, 1, 4))
    counted = samples(client)
    assert counted["sam3_image_cache_hits_total",] == 2
    assert counted["sam3_image_cache_misses_total",] == 1
    assert counted["sam3_image_cache_bytes",] == len(scenes[0].encode("PNG"))
    assert counted["sam3_image_cache_entries",] == 1
    name = "sam3_embedding_cache"
    assert (counted[f"{name}_hits_total",], counted[f"{name}_misses_total",]) == (5, 3)
    for tier, state in (("device", oracle.cache.device), ("host", oracle.cache.host)):
        assert counted[f"{name}_bytes", tier] == state.bytes
        assert counted[f"{name}_entries", tier] == state.entries
        assert counted[f"{name}_evictions_total", tier] == state.evictions
    assert counted["sam3_superseded_clicks_total",] == 0
    assert counted["sam3_interactive_seconds_count",] == 0
