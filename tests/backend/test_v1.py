"""The API's routes: files and keys, limits, hostile bodies. That answers are the core's is told by test_remote."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from pycocotools import mask as pycoco
from scene_segmenter import VERSION, SceneSegmenter

from backend.app import create_app
from backend.settings import BackendSettings
from backend.v1 import Uploads
from sam3_core import EncodedImage, Mask, ModelState
from sam3_core.demo.scenes import Scene
from sam3_core.engine import LocalSegmenter
from sam3_core.errors import Dropped, NotReady, UnknownImage, Unsupported
from sam3_core.wire.base import WireMask

FIND: dict[str, Any] = {"concepts": [{"phrases": ["shape"]}]}
OUTLINE: dict[str, Any] = {"prompt": {"box": [0, 0, 9, 9]}}
BODIES = {"/v1/find": FIND, "/v1/outline": OUTLINE, "/v1/warm": {}}


def send(client: FlaskClient, path: str, body: object, file: bytes) -> Any:
    """As curl -F does: the request as a field, the image as a file."""
    return client.post(path, data={"request": json.dumps(body), "image": (io.BytesIO(file), "a.png")})


def by_key(body: dict[str, Any], key: str) -> dict[str, Any]:
    return body | {"image": {"key": key}}


def refused(answer: Any, status: int, kind: str) -> str:
    assert (answer.status_code, answer.json.get("kind")) == (status, kind), answer.text
    assert set(answer.json) == {"error", "kind", "request_id"}
    assert "\n" not in answer.json["error"]
    return str(answer.json["error"])


def test_what_is_found_comes_with_its_pixels(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    data = oracle.add(scenes[0])
    body = {"concepts": [{"phrases": ["shape"]}, {"phrases": ["zebra"]}]}
    answer = send(client, "/v1/find", body, data)
    assert answer.status_code == 200
    size = [scenes[0].width, scenes[0].height]
    assert answer.json["model"] == VERSION
    assert answer.json["image"] == {"key": EncodedImage(data).key, "size": size}
    found, nothing = answer.json["results"]
    assert len(found["instances"]) == len(scenes[0].objects)
    for instance in found["instances"]:
        full = np.zeros((scenes[0].height, scenes[0].width), bool)
        bits, x, y = pycoco.decode(instance["mask"]["rle"]).astype(bool), instance["mask"]["x"], instance["mask"]["y"]
        full[y : y + bits.shape[0], x : x + bits.shape[1]] = bits
        assert any(np.array_equal(full, item.mask) for item in scenes[0].objects)
    assert nothing["instances"] == []
    assert nothing["reason"].startswith("nothing found")


@pytest.mark.parametrize("path", BODIES)
def test_a_key_stands_for_a_file_that_was_sent(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene], path: str
) -> None:
    data = oracle.add(scenes[0])
    key = EncodedImage(data).key
    unknown = client.post(path, json=by_key(BODIES[path], key))
    assert "send its file" in refused(unknown, 404, "unknown_image")
    sent = send(client, path, BODIES[path], data)
    named = client.post(path, json=by_key(BODIES[path], key))
    assert (sent.status_code, named.status_code) == (200, 200)
    assert sent.json == named.json


def test_the_request_may_be_a_file_too(client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    data = oracle.add(scenes[0])
    parts = {
        "request": (io.BytesIO(json.dumps(FIND).encode()), "request.json", "application/json"),
        "image": (io.BytesIO(data), "a.png"),
    }
    assert client.post("/v1/find", data=parts).status_code == 200


def test_a_field_may_be_as_long_as_the_body(client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    """Flask's own limit for one is half a megabyte; drawn masks need more."""
    data = oracle.add(scenes[0])
    mask = json.loads(WireMask.of(Mask.from_full(scenes[0].objects[0].mask)).text())
    body = {"concepts": [{"phrases": ["shape"], "drawn": [{"mask": mask}] * 5000}]}
    assert len(json.dumps(body)) > 600_000
    answer = send(client, "/v1/find", body, data)
    assert answer.status_code == 200
    assert len(answer.json["results"][0]["instances"]) == len(scenes[0].objects) - 1


def test_info_in_every_state(client: FlaskClient, oracle: SceneSegmenter) -> None:
    for state in ModelState:
        oracle.state = state
        answer = client.get("/v1/info")
        assert (answer.status_code, answer.json["state"], answer.json["version"]) == (200, state.value, VERSION)


# ---- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff\xfe", b"null", b"[]", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 9999]
)
def test_what_is_no_request_is_a_400(client: FlaskClient, path: str, raw: bytes) -> None:
    refused(client.post(path, data=raw, content_type="application/json"), 400, "invalid_input")
    refused(client.post(path, data={"request": raw, "image": (io.BytesIO(b"x"), "a")}), 400, "invalid_input")


@pytest.mark.parametrize("path", BODIES)
def test_an_image_is_named_once(client: FlaskClient, path: str) -> None:
    body = BODIES[path]
    assert "image" in refused(client.post(path, json=body), 400, "invalid_input")
    assert "one of the two" in refused(send(client, path, by_key(body, "0" * 32), b"x"), 400, "invalid_input")
    assert "image.key" in refused(client.post(path, json=by_key(body, "../etc/passwd")), 400, "invalid_input")
    assert "part named request" in refused(
        client.post(path, data={"image": (io.BytesIO(b"x"), "a")}), 400, "invalid_input"
    )
    broken = client.post(path, data=b"no parts", content_type="multipart/form-data; boundary=x")
    refused(broken, 400, "invalid_input")
    refused(client.post(path, data=b"x", content_type="multipart/form-data"), 400, "invalid_input")


@pytest.mark.parametrize("path", BODIES)
def test_a_file_that_is_no_picture_is_a_422(client: FlaskClient, path: str) -> None:
    assert "web page" in refused(send(client, path, BODIES[path], b"<html>"), 422, "broken_image")
    assert "empty" in refused(send(client, path, BODIES[path], b""), 422, "broken_image")


def test_a_file_that_is_no_picture_pushes_none_out(oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    data = oracle.add(scenes[0])
    client = create_app(BackendSettings(image_cache_mb=len(data) / (1 << 20)), oracle).test_client()
    assert send(client, "/v1/warm", {}, data).status_code == 200
    assert send(client, "/v1/warm", {}, b"x" * len(data)).status_code == 422
    assert client.post("/v1/warm", json=by_key({}, EncodedImage(data).key)).status_code == 200


def test_limits(oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    data = oracle.add(scenes[0])
    limits = {
        "SAM3_MAX_REQUEST_MB": BackendSettings(max_request_mb=0.001),
        "SAM3_MAX_IMAGE_MB": BackendSettings(max_image_mb=0.001),
        "SAM3_MAX_MEGAPIXELS": BackendSettings(max_megapixels=0.001),
    }
    assert len(data) > 2000
    for name, settings in limits.items():
        answer = send(create_app(settings, oracle).test_client(), "/v1/find", FIND, data)
        assert name in refused(answer, 413, "too_large")


def test_errors_of_the_model_keep_their_kind(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    data = oracle.add(scenes[0])
    oracle.error = NotReady("the weights are still loading", retry_after=7)
    answer = send(client, "/v1/find", FIND, data)
    assert refused(answer, 503, "not_ready") == "the weights are still loading"
    assert answer.headers["Retry-After"] == "7"
    oracle.error = Unsupported("no clicks here")
    refused(send(client, "/v1/outline", OUTLINE, data), 501, "unsupported")


def test_a_click_that_waited_too_long_is_a_503(oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    client = create_app(BackendSettings(request_seconds=1e-9), oracle).test_client()
    answer = send(client, "/v1/outline", OUTLINE, oracle.add(scenes[0]))
    refused(answer, 503, "out_of_time")
    assert answer.headers["Retry-After"]
    oracle.error = Dropped("its sender left")
    client = create_app(BackendSettings(), oracle).test_client()
    refused(send(client, "/v1/outline", OUTLINE, oracle.add(scenes[0])), 409, "dropped")


def test_a_defect_is_a_500_without_a_traceback(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    oracle.error = ZeroDivisionError("secret")
    answer = send(client, "/v1/find", FIND, oracle.add(scenes[0]))
    assert answer.status_code == 500
    assert set(answer.json) == {"error", "request_id"}
    assert "secret" not in answer.text


@pytest.mark.parametrize("path", ["/v1/info", *BODIES])
def test_the_guard_stands_here_too(oracle: SceneSegmenter, path: str) -> None:
    settings = BackendSettings(basic_auth_user="u", basic_auth_password="p")
    client = create_app(settings, oracle).test_client()
    refused(client.open(path, method="GET" if path == "/v1/info" else "POST"), 401, "unauthorized")
    assert client.get("/v1/info", auth=("u", "p")).status_code == 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
edges = st.floats() | st.sampled_from([0, -1, 1e308, -1e308, 1e-300, 160, 120])
box = st.lists(edges, min_size=4, max_size=4)
points = st.fixed_dictionaries({"x": edges, "y": edges}, optional={"positive": st.booleans()})
sizes = st.lists(st.sampled_from([0, 1, 2, 3, 120, 160, 2**31 - 1, 2**31, -1]), min_size=2, max_size=2)
masks = st.fixed_dictionaries(
    {
        "frame": sizes | st.just([160, 120]),
        "x": st.integers(-1, 170),
        "y": st.integers(-1, 170),
        "rle": st.fixed_dictionaries(
            {"size": sizes, "counts": st.sampled_from(["", "0", "06", "15", "é", "o" * 30])}
        ),
    }
)


@given(
    concept=st.fixed_dictionaries(
        {"phrases": st.just(["red shape"])},
        optional={
            "exemplars": st.lists(st.fixed_dictionaries({"box": box}), max_size=2),
            "drawn": st.lists(
                st.fixed_dictionaries({"mask": masks}) | st.fixed_dictionaries({"box": box}), max_size=2
            ),
            "rules": st.dictionaries(st.sampled_from(["threshold", "top_k", "min_area"]), json_values),
        },
    ),
    prompt=st.fixed_dictionaries({"points": st.lists(points, max_size=2)}, optional={"box": box, "mask": masks}),
)
@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_numbers_break_the_real_model(
    segmenter: LocalSegmenter, scenes: list[Scene], concept: dict[str, Any], prompt: dict[str, Any]
) -> None:
    """Boxes and points anywhere, masks of any frame: an answer or a sentence, and always JSON."""
    client = create_app(BackendSettings(), segmenter).test_client()
    for path, body in (("/v1/find", {"concepts": [concept]}), ("/v1/outline", {"prompt": prompt})):
        answer = send(client, path, body, scenes[0].encode("PNG"))
        assert answer.status_code in (200, 400, 413, 422), answer.text
        json.loads(answer.text, parse_constant=lambda name: pytest.fail(f"{name} left"))


@given(
    path=st.sampled_from(list(BODIES)),
    body=st.dictionaries(st.sampled_from(["concepts", "options", "prompt", "image", "x"]), json_values),
    parts=st.booleans(),
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_breaks_the_server(client: FlaskClient, path: str, body: dict[str, Any], parts: bool) -> None:
    answer = send(client, path, body, b"x") if parts else client.post(path, data=json.dumps(body))
    assert answer.status_code in (400, 404, 422)


# ---- what is kept, counted and timed -----------------------------------------------------------------------------


def test_files_are_kept_within_their_room() -> None:
    uploads = Uploads(megabytes=10 / (1 << 20))
    one, two, three = (uploads.put(EncodedImage(letter * 4)) for letter in (b"a", b"b", b"c"))
    with pytest.raises(UnknownImage):
        uploads.get(one.key)
    assert uploads.get(two.key) is two
    uploads.put(EncodedImage(b"d" * 4))  # the longest unused goes, not the oldest
    assert uploads.get(two.key) is two
    with pytest.raises(UnknownImage):
        uploads.get(three.key)
    assert uploads.put(EncodedImage(b"b" * 4)) is two


def test_one_file_sent_often_takes_its_room_once() -> None:
    uploads = Uploads(megabytes=10 / (1 << 20))
    for _ in range(9):
        one = uploads.put(EncodedImage(b"a" * 4))
    other = uploads.put(EncodedImage(b"b" * 4))
    assert uploads.get(one.key) is one
    assert uploads.get(other.key) is other


def test_what_has_no_room_is_answered_and_not_kept() -> None:
    uploads = Uploads(megabytes=10 / (1 << 20))
    large = uploads.put(EncodedImage(b"a" * 11))
    assert large.data == b"a" * 11
    with pytest.raises(UnknownImage):
        uploads.get(large.key)
    small = uploads.put(EncodedImage(b"b" * 10))
    assert uploads.get(small.key) is small


def test_requests_are_counted_and_timed(client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    answer = send(client, "/v1/find", FIND, oracle.add(scenes[0]))
    assert {"parse", "encode", "total"} <= set(re.findall(r"(\w+);dur=", answer.headers["Server-Timing"]))
    send(client, "/v1/outline", OUTLINE, oracle.add(scenes[0]))
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }
    assert values["sam3_requests_total", "/v1/find", "200"] == 1
    assert values["sam3_instances_total",] >= len(scenes[0].objects)
    assert values["sam3_interactive_seconds_count",] == 1
