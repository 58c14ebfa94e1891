"""Bodies as Label Studio sends them, with what nobody should send in them: no defect, no hang, always a sentence."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from fuzzing import LONG, check, examples, mutated, written
from hypothesis import given
from hypothesis import strategies as st
from request_bodies import data_url, keypoint, plain, predict_body, rectangle, text
from scene_segmenter import SceneSegmenter

from backend.app import create_app
from backend.settings import BackendSettings
from sam3_core import Segmenter
from sam3_core.demo.scenes import render_scene

SCENE = render_scene(9, objects=(2, 4), size=(160, 120))
IMAGE = data_url(SceneSegmenter().add(SCENE))
CLICKS = """
<View>
  <Image name="image" value="$image" threshold="0.4"/>
  <BrushLabels name="brush" toName="image" max_vertices="50">
    <Label value="Circle" prompt="red circle; disc" negative_prompt="square"/><Label value="Square"/>
  </BrushLabels>
  <KeyPointLabels name="kp" toName="image" smart="true">
    <Label value="Circle"/><Label value="Square"/>
  </KeyPointLabels>
  <RectangleLabels name="box" toName="image" smart="true"><Label value="Circle" exemplar="true"/></RectangleLabels>
  <TextArea name="prompt" toName="image" remember_prompt="true"/>
</View>
"""
DRAWN = {
    "id": "r1", "from_name": "brush", "to_name": "image", "type": "brushlabels", "original_width": 160,
    "original_height": 120, "image_rotation": 0,
    "value": {"format": "rle", "rle": [0, 1, 44, 0], "brushlabels": ["Circle"]},
}  # fmt: skip
OUTLINED = {
    "id": "r2", "from_name": "polygon", "to_name": "image", "type": "polygonlabels", "original_width": 160,
    "original_height": 120, "image_rotation": 0,
    "value": {"points": [[1, 1], [30, 5], [20, 40]], "closed": True, "polygonlabels": ["circle"]},
}  # fmt: skip


def _task(image: str, **more: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": image}} | more


def _bodies() -> dict[str, list[Any]]:
    layers = {
        "annotations": [{"id": 5, "result": [DRAWN, OUTLINED], "was_cancelled": False, "updated_at": "2026-01-01"}],
        "drafts": [{"id": 6, "annotation": 5, "result": [OUTLINED]}],
        "predictions": [{"id": 7, "result": [DRAWN], "model_version": "x", "score": 0.5}],
    }
    contexts = [[keypoint(30, 40)], [rectangle(10, 10, 30, 30)], [text("circle; square")], plain(keypoint(50, 50))]
    contexts += [[keypoint(30, 40), keypoint(5, 5, is_positive=False), rectangle(1, 1, 9, 9)], []]
    predicts = [
        predict_body([_task(IMAGE)]),
        predict_body([_task(IMAGE, **layers)]),
        predict_body([_task("/data/upload/1/a.png"), _task(IMAGE)]),
        predict_body([]),
        *(predict_body([_task(IMAGE, **layers)], CLICKS, {"result": context}) for context in contexts),
        predict_body([_task(IMAGE)], CLICKS, {"event": "prewarm"}),
    ]
    predicts[0]["params"] |= {"threshold": 0.3, "max_vertices": 20, "tiles": "auto", "min_area": "5%"}
    annotation = {"id": 1, "was_cancelled": False, "result": [text("disc"), DRAWN, OUTLINED]}
    project = {"id": 1, "label_config": CLICKS}
    setup = {"project": "1.5", "schema": CLICKS, "hostname": "http://127.0.0.1:9", "access_token": "0" * 40}
    return {
        "/predict": predicts,
        "/setup": [setup | {"extra_params": extra} for extra in (None, {"threshold": 0.2}, '{"top_k": 3}')],
        "/webhook": [
            {"action": "ANNOTATION_CREATED", "project": project, "task": _task(IMAGE), "annotation": annotation},
            {"action": "ANNOTATIONS_CREATED", "project": project, "annotation": [annotation, annotation]},
            {"action": "ANNOTATIONS_DELETED", "project": project, "annotations": [{"id": 1}, 2]},
            {"action": "START_TRAINING", "project": project},
        ],
    }  # fmt: skip


BODIES = _bodies()


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    """An app that outlives the examples, as a server does: what one leaves behind, the next ones meet."""
    segmenter: Segmenter = SceneSegmenter()
    if LONG:
        from sam3_core.engine import LocalSegmenter

        segmenter = LocalSegmenter(BackendSettings(device="cpu"))
        segmenter.wait_until_ready()
    else:
        segmenter.add(SCENE)  # type: ignore[attr-defined]
    settings = BackendSettings(max_megapixels=1, fetch_seconds=0.2, allowed_hosts="")
    return create_app(settings, segmenter).test_client()


@pytest.mark.parametrize("route", BODIES)
def test_the_bodies_themselves_are_good(client: FlaskClient, route: str, caplog: pytest.LogCaptureFixture) -> None:
    """Fuzzing begins at what works: mutants of a refused body would test nothing."""
    found = 0
    for body in BODIES[route]:
        answer = client.post(route, data=written(body))
        assert answer.status_code in (200, 201), answer.get_json()
        found += sum(bool(one and one["result"]) for one in check(answer, caplog).get("results", []))
    assert found >= 6 * (route == "/predict")


def _post(client: FlaskClient, route: str, body: Any, caplog: pytest.LogCaptureFixture) -> None:
    said = check(client.post(route, data=written(body)), caplog)
    if "results" in said:
        assert len(said["results"]) == len(body["tasks"])


@examples(250)
@given(body=mutated(BODIES["/predict"]))
def test_predict(client: FlaskClient, caplog: pytest.LogCaptureFixture, body: Any) -> None:
    _post(client, "/predict", body, caplog)


@examples(150)
@given(body=mutated(BODIES["/setup"]))
def test_setup(client: FlaskClient, caplog: pytest.LogCaptureFixture, body: Any) -> None:
    _post(client, "/setup", body, caplog)


@examples(150)
@given(body=mutated(BODIES["/webhook"]))
def test_webhook(client: FlaskClient, caplog: pytest.LogCaptureFixture, body: Any) -> None:
    _post(client, "/webhook", body, caplog)


@examples(100)
@given(
    route=st.sampled_from([*BODIES, "/v1/find", "/v1/outline", "/v1/warm", "/nothing", "/health"]),
    method=st.sampled_from(["POST", "GET", "PUT", "DELETE", "PATCH", "OPTIONS"]),
    kind=st.sampled_from(
        ["application/json", "multipart/form-data; boundary=x", "multipart/form-data", "text/plain", "x"]
    ),
    body=st.binary(max_size=200)
    | st.sampled_from([written(body)[:4000] for bodies in BODIES.values() for body in bodies])
    | st.just(b'--x\r\nContent-Disposition: form-data; name="request"\r\n\r\n{}\r\n--x--'),
)
def test_bodies_that_are_none(
    client: FlaskClient, caplog: pytest.LogCaptureFixture, route: str, method: str, kind: str, body: bytes
) -> None:
    answer = client.open(route, method=method, data=body, headers={"Content-Type": kind})
    if method != "OPTIONS":
        check(answer, caplog)


TAGS = ["View", "PolygonLabels", "BrushLabels", "Labels", "Brush", "KeyPointLabels", "TextArea", "Choices", "x:y"]
ATTRIBUTES = [
    "", "name='a' toName='image'", "name='a'", "toName='b'", "name='kp' toName='image' smart='true'", "threshold='x'",
    "a='1' a='2'", "name='' toName=''", "xmlns:x='u'",
]  # fmt: skip
LEAVES = ["", "text", "&amp;", "&x;", "<Label value='a'/>", "<Label/>", "<Image name='image' value='$image'/>"]
CONFIGS = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.builds(
        lambda tag, attributes, inside: f"<{tag} {attributes}>{''.join(inside)}</{tag}>",
        st.sampled_from(TAGS),
        st.sampled_from(ATTRIBUTES),
        st.lists(inner, max_size=4),
    ),
    max_leaves=12,
)


@examples(100)
@given(config=CONFIGS)
def test_labeling_configs(client: FlaskClient, caplog: pytest.LogCaptureFixture, config: str) -> None:
    _post(client, "/predict", predict_body([_task(IMAGE)], config), caplog)


LAUGHS = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9))
BOMBS = {
    "a billion laughs": f'<!DOCTYPE v [<!ENTITY l0 "ha">{LAUGHS}]><View>&l9;</View>',
    "quadratic": f'<!DOCTYPE v [<!ENTITY a "{"a" * 100_000}">]><View>{"&a;" * 10_000}</View>',
    "a file": '<!DOCTYPE v [<!ENTITY x SYSTEM "file:///etc/passwd">]><View>&x;</View>',
    "an address": '<!DOCTYPE v SYSTEM "http://127.0.0.1:9/x.dtd"><View/>',
    "with space": '<!DOCTYPE\n v [<!ENTITY x SYSTEM "file:///etc/passwd">]><View><Label value="&x;"/></View>',
    "included": '<View xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="file:///etc/passwd"/></View>',
    "deep": "<View>" * 100_000 + "</View>" * 40_000,
    "wide": "<View>" + "<Label/>" * 100_000 + "</View>",
    "names": "<View " + " ".join(f"a{i}='1'" for i in range(50_000)) + "/>",
    "one name": "<" + "a" * 900_000 + "/>",
    "comments": "<View><!--" + "-x" * 400_000 + "--></View>",
}  # fmt: skip


@pytest.mark.parametrize("config", BOMBS.values(), ids=BOMBS)
def test_xml_bombs(client: FlaskClient, caplog: pytest.LogCaptureFixture, config: str) -> None:
    """Refused or empty, with the reason, and nothing of this machine in it."""
    said = check(client.post("/predict", json=predict_body([_task("data:,")], config)), caplog)
    assert "root:" not in str(said)
    setup = {"project": "1.5", "schema": config, "hostname": "", "access_token": ""}
    check(client.post("/setup", json=setup), caplog)
    webhook = BODIES["/webhook"][0] | {"project": {"id": 1, "label_config": config}}
    check(client.post("/webhook", json=webhook), caplog)


@pytest.mark.parametrize("route", [*BODIES, "/v1/find", "/v1/outline", "/v1/warm"])
@pytest.mark.parametrize("depth", [100, 1_000, 100_000, 5_000_000])
def test_deep_json(client: FlaskClient, caplog: pytest.LogCaptureFixture, route: str, depth: int) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        raw = opening * depth + b"1" + closing * depth
        for body in (raw, b'{"project": 1, "tasks": [{"data": ' + raw + b'}], "label_config": "", "action": "x"}'):
            check(client.post(route, data=body[: 1 << 25]), caplog)


def test_a_mask_of_many_numbers_is_read_only_where_it_is_needed(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    region = DRAWN | {"value": {"format": "rle", "rle": [255] * 300_000, "brushlabels": ["Circle"]}}
    task = _task(IMAGE, annotations=[{"id": 1, "result": [region] * 5}])
    check(client.post("/predict", json=predict_body([task], CLICKS, {"result": [keypoint(30, 40)]})), caplog)
