"""Who may ask what: every route of the app, with every kind of login."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import pytest
from flask import Flask
from request_bodies import CONFIG, data_url, predict_body
from scene_segmenter import SceneSegmenter

from backend.app import create_app
from backend.guard import Logins
from backend.settings import BackendSettings
from sam3_core.demo.scenes import Scene
from sam3_core.errors import BadSettings
from sam3_core.settings import load_settings

BASIC: dict[str, Any] = {"basic_auth_user": "ännotator", "basic_auth_password": "geheim: ü"}
TOKEN: dict[str, Any] = {"api_token": "a-token-of-ours"}
PROBES = {"/", "/ready"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


RIGHT_BASIC = basic("ännotator", "geheim: ü")
RIGHT_TOKEN = bearer("a-token-of-ours")
NOBODY: list[dict[str, str]] = [
    {},
    {"Authorization": ""},
    {"Authorization": "Basic"},
    {"Authorization": "Basic !!!"},
    {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode()},
    {"Authorization": "Bearer"},
    {"Authorization": "Digest username=x"},
    {"Authorization": "\x00"},
    basic("", ""),
    basic("ännotator", ""),
    basic("ännotator", "geheim: ü "),
    basic("", "geheim: ü"),
    basic("a-token-of-ours", "a-token-of-ours"),
    bearer(""),
    bearer("a-token-of-our"),
    bearer("a-token-of-ours2"),
    bearer("geheim: ü".encode().decode("latin-1")),
]


def routes(app: Flask) -> list[tuple[str, str]]:
    return [
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    ]


@pytest.mark.parametrize("settings", [BASIC, TOKEN, BASIC | TOKEN], ids=["basic", "token", "both"])
def test_every_route_asks_for_a_login(settings: dict[str, Any], oracle: SceneSegmenter) -> None:
    """Whatever is added to the app is guarded: the routes are those that it has."""
    app = create_app(BackendSettings(**settings), oracle)
    client = app.test_client()
    right = [RIGHT_BASIC] * ("basic_auth_user" in settings) + [RIGHT_TOKEN] * ("api_token" in settings)
    wrong = NOBODY + [one for one in (RIGHT_BASIC, RIGHT_TOKEN) if one not in right]
    assert len(routes(app)) >= 9
    for (method, path), headers in itertools.product(routes(app), wrong):
        answer = client.open(path, method=method, headers=headers)
        if path in PROBES:
            assert set(answer.json) == {"status"}, path
            continue
        assert answer.status_code == 401, (path, headers)
        assert "this server asks for" in answer.json["error"]
        assert answer.headers["WWW-Authenticate"].startswith("Basic" if "basic_auth_user" in settings else "Bearer")
    for (method, path), headers in itertools.product(routes(app), right):
        assert client.open(path, method=method, headers=headers).status_code != 401, path


def test_unknown_paths_and_methods_tell_nothing_either(oracle: SceneSegmenter) -> None:
    client = create_app(BackendSettings(**BASIC), oracle).test_client()
    for method, path in (("GET", "/nothing"), ("DELETE", "/predict"), ("OPTIONS", "/predict"), ("HEAD", "/health")):
        assert client.open(path, method=method).status_code == 401
    assert client.get("/v1/info/../../").status_code in (401, 404, 308)


def test_without_a_login_configured_everybody_may_ask(oracle: SceneSegmenter) -> None:
    client = create_app(BackendSettings(), oracle).test_client()
    assert client.get("/health", headers=bearer("anything")).status_code == 200
    assert "model_version" in client.get("/").json


def test_the_webhook_is_open_only_where_it_is_said(oracle: SceneSegmenter) -> None:
    body = {"action": "PROJECT_UPDATED", "project": {"id": 1}}
    for settings, status in ((TOKEN, 401), (TOKEN | {"open_webhook": True}, 201)):
        client = create_app(BackendSettings(**settings), oracle).test_client()
        assert client.post("/webhook", json=body).status_code == status
        assert client.post("/webhook/", json=body).status_code in (401, 404)
        assert client.post("/predict", json={}).status_code == 401


@pytest.mark.parametrize("variable", ["SAM3_API_TOKEN"])
@pytest.mark.parametrize("value", ["with space", "tökén", "line\nbreak"])
def test_a_token_that_no_header_can_carry_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadSettings, match=variable) as caught:
        load_settings(BackendSettings)
    assert value not in str(caught.value)


def test_every_login_is_compared_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """In constant time: equal lengths, and never fewer comparisons than there are logins."""
    import hmac

    lengths: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def counted(one: bytes, other: bytes) -> bool:
        lengths.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    from werkzeug.datastructures import Authorization

    logins = Logins.of(BackendSettings(**BASIC, **TOKEN))
    for login in (None, Authorization("basic", {"username": "x" * 5000, "password": "y"}), Authorization("bearer")):
        lengths.clear()
        assert not logins.known(login)
        assert lengths == [(32, 32)] * 3


# ---- what an introduction is worth -------------------------------------------------------------------------------


def introduced(settings: BackendSettings, oracle: SceneSegmenter, sender: str, **login: Any) -> str:
    """Why a task is left open after a Label Studio from ``sender`` said that it is on this machine."""
    client = create_app(settings, oracle).test_client()
    setup = {"project": "1.5", "schema": CONFIG, "hostname": "http://127.0.0.1:9", "access_token": "x"}
    environ = {"REMOTE_ADDR": sender}
    assert client.post("/setup", json=setup, environ_overrides=environ, **login).status_code == 200
    body = predict_body([{"id": 1, "data": {"image": "/data/upload/1/a.png"}}])
    answer = client.post("/predict", json=body, environ_overrides=environ, **login)
    assert answer.json["results"] == [[]]
    (failure,) = client.get("/status.json", **login).json["failures"]
    return str(failure["sentence"])


def test_an_introduction_is_believed_from_where_it_points_to_or_with_a_login(oracle: SceneSegmenter) -> None:
    """Nothing listens at port 9: who is believed hears that there is no connection, who is not, what to set."""
    assert "no connection" in introduced(BackendSettings(), oracle, "127.0.0.1")
    assert "SAM3_LABEL_STUDIO_URL" in introduced(BackendSettings(), oracle, "8.8.8.8")
    assert "no connection" in introduced(BackendSettings(**TOKEN), oracle, "8.8.8.8", headers=RIGHT_TOKEN)


def test_a_configured_label_studio_does_not_ask_who_introduces_itself(oracle: SceneSegmenter) -> None:
    settings = BackendSettings(label_studio_url="http://127.0.0.1:7")
    assert "no connection" in introduced(settings, oracle, "8.8.8.8")


def test_pictures_in_the_body_need_no_open_host(oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    client = create_app(BackendSettings(allowed_hosts=""), oracle).test_client()
    body = predict_body([{"id": 1, "data": {"image": data_url(oracle.add(scenes[0]))}}])
    assert client.post("/predict", json=body).json["results"][0]["result"]
