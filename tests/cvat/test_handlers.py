"""Requests through the functions' handlers: bodies, replies, errors and the log; and Label Studio beside CVAT."""

from __future__ import annotations

import base64
import io
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from function_context import Context, Event, Response, Script
from label_studio_sdk.converter.brush import decode_rle
from numpy.typing import NDArray
from PIL import Image
from server_twin import detector_request, interactor_request

from backend.app import create_app
from backend.settings import BackendSettings
from cvat_nuclio import handlers
from cvat_nuclio.detector import main as detector
from cvat_nuclio.interactor import main as interactor
from cvat_nuclio.masks import mask_of_rle
from sam3_core import Concept, Instance, Lane, Mask, Segmenter
from sam3_core.demo.scenes import Scene
from sam3_core.errors import (
    BadSettings,
    BrokenImage,
    InvalidPrompt,
    ModelUnavailable,
    NotReady,
    Sam3Error,
    TooLarge,
    Unauthorized,
    Unsupported,
)
from sam3_core.rules import Tiling

SIZE = (200, 150)
LABELS = '[{"name": "bus"}]'


def picture(size: tuple[int, int] = (20, 10)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "white").save(buffer, "PNG")
    return buffer.getvalue()


PICTURE = picture()
FOUND = Instance(Mask(np.ones((2, 3), np.bool_), 4, 5, (20, 10)), 0.75)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Context]:
    """A started function: its module, its segmenter, its variables."""

    def started(module: Any, segmenter: Segmenter, **variables: str) -> Context:
        monkeypatch.setattr(handlers, "make_segmenter", lambda settings: segmenter)
        for name, value in variables.items():
            monkeypatch.setenv(f"SAM3_{name}", value)
        context = Context()
        module.init_context(context)
        return context

    return started


def reply(module: Any, context: Context, body: Any) -> Any:
    """What JSON says of an answer that must be one."""
    response = module.handler(context, Event(body))
    assert isinstance(response, Response)
    assert (response.status_code, response.content_type) == (200, "application/json")
    return strict(response)


def strict(response: Response) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(response.body, parse_constant=refuse)


def test_both_kinds_of_bodies_are_read(start: Callable[..., Context]) -> None:
    context = start(detector, Script({"bus": [FOUND]}), LABELS=LABELS)
    body = detector_request(PICTURE)
    as_dict = reply(detector, context, body)
    assert as_dict[0]["label"] == "bus"
    for raw in (json.dumps(body).encode(), json.dumps(body), b"\xef\xbb\xbf" + json.dumps(body).encode()):
        assert reply(detector, context, raw) == as_dict


def test_what_is_missing_from_a_request_of_the_interactor_is_empty(start: Callable[..., Context]) -> None:
    context = start(interactor, Script())
    body = {"image": base64.b64encode(PICTURE).decode()}
    assert reply(interactor, context, body) == {"shapes": []}
    assert "neither a box nor a positive click" in context.logger.of("info")


@pytest.mark.parametrize("module", [detector, interactor])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe\xfd", b"[" * 100_000, [1], "5", {}, {"image": None}, {"image": [1]}, None]
)
def test_a_request_that_cvat_never_sends_is_refused(start: Callable[..., Context], module: Any, body: Any) -> None:
    context = start(module, Script(), LABELS=LABELS)
    response = module.handler(context, Event(body))
    assert response.status_code == 400
    assert strict(response)["error"] in context.logger.of("error")


@pytest.mark.parametrize("threshold", ["0.5", True, 2, -1, float("nan"), [0.5]])
def test_a_threshold_that_is_none_is_refused(start: Callable[..., Context], threshold: object) -> None:
    context = start(detector, Script(), LABELS=LABELS)
    body = detector_request(PICTURE) | {"threshold": threshold}
    assert detector.handler(context, Event(body)).status_code == 400


def test_prompts_that_are_none_are_refused(start: Callable[..., Context]) -> None:
    context = start(interactor, Script())
    assert interactor.handler(context, Event(interactor_request(PICTURE, [[1]]))).status_code == 400


@pytest.mark.parametrize("text", ["!!!", base64.b64encode(b"hello").decode(), "\ud800", ""])
def test_a_broken_picture_is_an_empty_answer_with_its_reason(start: Callable[..., Context], text: str) -> None:
    script = Script(error=AssertionError("asked"))
    script.warm = lambda image, **_: None  # type: ignore[method-assign]
    for module, nothing in ((detector, []), (interactor, {"shapes": []})):
        context = start(module, script, LABELS=LABELS)
        assert reply(module, context, {"image": text, "pos_points": [[1, 1]]}) == nothing
        assert context.logger.of("warn")
        assert "Traceback" not in str(context.logger.lines)


@pytest.mark.parametrize("error", [BrokenImage("is cut off"), TooLarge("is large"), InvalidPrompt("names nothing")])
def test_what_the_core_says_of_a_picture_ends_no_batch(start: Callable[..., Context], error: Sam3Error) -> None:
    script = Script()
    context = start(detector, script, LABELS=LABELS)
    script.error = error
    assert reply(detector, context, detector_request(PICTURE)) == []
    assert str(error) in context.logger.of("warn")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotReady("still loading"), 503),
        (ModelUnavailable("cannot reach the server"), 503),
        (Unsupported("no clicks"), 501),
        (Unauthorized("wrong password"), 500),  # 401 would send CVAT's user to the login page
        (Sam3Error("broke"), 500),
    ],
)
def test_frames_that_nobody_looked_at_do_not_look_empty(
    start: Callable[..., Context], error: Sam3Error, status: int
) -> None:
    script = Script()
    context = start(detector, script, LABELS=LABELS)
    script.error = error
    response = detector.handler(context, Event(detector_request(PICTURE)))
    assert (response.status_code, strict(response)) == (status, {"error": str(error)})
    assert str(error) in context.logger.of("error")


@pytest.mark.parametrize("mode", ["outline", "exemplar"])
def test_all_the_work_of_a_request_shares_one_budget(start: Callable[..., Context], mode: str) -> None:
    script = Script({"": [FOUND]}, outlined=[[FOUND]] * 2)
    context = start(interactor, script, INTERACTOR=mode, BUDGET_SECONDS="50")
    before = time.monotonic()
    clicks = [[18, 8]] if mode == "exemplar" else []  # of which the object is outlined first
    reply(interactor, context, interactor_request(PICTURE, clicks, boxes=[(4, 5), (7, 7), (10, 1), (15, 3)]))
    _, *callers = script.callers  # the first is the start's
    assert len(callers) == 2
    assert {caller.lane for caller in callers} == {Lane.CLICK}
    (deadline,) = {caller.deadline for caller in callers}
    assert before + 50 <= deadline <= time.monotonic() + 50


def test_a_search_has_the_budget_and_waits_with_the_bulk(start: Callable[..., Context]) -> None:
    script = Script()
    context = start(detector, script, LABELS=LABELS, BUDGET_SECONDS="50")
    before = time.monotonic()
    reply(detector, context, detector_request(PICTURE))
    caller = script.callers[-1]
    assert caller.lane is Lane.BULK
    assert before + 50 <= caller.deadline <= time.monotonic() + 50


def test_what_took_too_long_is_a_503(start: Callable[..., Context]) -> None:
    for module, body in (
        (detector, detector_request(PICTURE)),
        (interactor, interactor_request(PICTURE, [[5, 6]])),
    ):
        context = start(module, Script(), LABELS=LABELS, BUDGET_SECONDS="1e-9")
        assert module.handler(context, Event(body)).status_code == 503
        assert "ran out" in context.logger.of("error")


def test_a_defect_is_told_to_the_log_alone(start: Callable[..., Context]) -> None:
    script = Script()
    context = start(detector, script, LABELS=LABELS)
    script.error = ZeroDivisionError("secret")
    response = detector.handler(context, Event(detector_request(PICTURE)))
    assert response.status_code == 500
    assert "secret" not in response.body
    assert "Traceback" in context.logger.of("error")
    script.error = None
    assert reply(detector, context, detector_request(PICTURE)) == []  # the next one is answered


def test_a_threshold_of_the_request_and_of_the_settings(start: Callable[..., Context]) -> None:
    script = Script()
    context = start(detector, script, LABELS=LABELS, THRESHOLD="0.25", TILES="on")
    for threshold in (0.75, 0, None):
        reply(detector, context, detector_request(PICTURE) | {"threshold": threshold})
    asked = [(concepts[0].rules.threshold, options.rules.threshold) for concepts, options in script.searches]
    assert asked == [(0.75, 0.25), (None, 0.25), (None, 0.25)]
    assert {options.tiles for _, options in script.searches} == {Tiling.ON}


def test_what_is_not_set_is_left_to_the_server_behind(start: Callable[..., Context]) -> None:
    script = Script()
    reply(detector, start(detector, script, LABELS=LABELS), detector_request(PICTURE))
    ((_, options),) = script.searches
    assert (options.rules.threshold, options.tiles) == (None, None)


def test_nothing_found_is_told(start: Callable[..., Context]) -> None:
    context = start(detector, Script(), LABELS=LABELS)
    assert reply(detector, context, detector_request(PICTURE)) == []
    assert "bus: nothing found: presence 0.25" in context.logger.of("info")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"LABELS": "[{"}, "not JSON"),
        ({"REPLY": "masks"}, "SAM3_REPLY"),
        ({"BUDGET_SECONDS": "120"}, "SAM3_BUDGET_SECONDS"),
        ({"CORE_URL": "gpu-box:9090"}, "SAM3_CORE_URL"),
        ({"CORE_USER": "me"}, "SAM3_CORE_PASSWORD"),
        ({"LABLES": "[]"}, "unknown setting SAM3_LABLES"),
        ({"SPEC": "other.yaml"}, "other.yaml"),
    ],
)
def test_wrong_settings_stop_the_start_with_a_sentence_in_the_log(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"SAM3_{name}", value)
    context = Context()
    with pytest.raises(BadSettings):
        detector.init_context(context)
    assert said in context.logger.of("error")
    assert not vars(context.user_data)


def test_variables_of_the_server_do_not_stop_a_function_and_are_named(start: Callable[..., Context]) -> None:
    context = start(interactor, Script(), LABEL_STUDIO_URL="http://studio:8080", BASIC_AUTH_PASSWORD="secret")
    assert "SAM3_BASIC_AUTH_PASSWORD, SAM3_LABEL_STUDIO_URL" in context.logger.of("info")
    assert "secret" not in str(context.logger.lines)


def test_without_torch_and_without_a_server_the_start_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvat_nuclio.segmenter.find_spec", lambda name: None)
    context = Context()
    with pytest.raises(BadSettings):
        interactor.init_context(context)
    assert "SAM3_CORE_URL" in context.logger.of("error")


def test_a_server_that_is_not_there_yet_does_not_stop_the_start(start: Callable[..., Context]) -> None:
    script = Script(error=ModelUnavailable("cannot reach it"))
    context = start(interactor, script)
    assert "not ready yet: cannot reach it" in context.logger.of("error")
    script.error = None
    assert reply(interactor, context, interactor_request(PICTURE)) == {"shapes": []}


def test_the_bundled_spec_is_beside_the_detector(start: Callable[..., Context]) -> None:
    context = start(detector, Script())
    assert [row.name for row in context.user_data.sam3.labels] == ["person", "car"]
    context = start(detector, Script(), LABELS='[{"name": "car"}, {"name": "bus"}]')
    assert "CVAT drops them: bus" in context.logger.of("warn")


def test_the_legacy_reply(start: Callable[..., Context]) -> None:
    context = start(interactor, Script(outlined=[[FOUND]]), REPLY="mask")
    got = reply(interactor, context, interactor_request(PICTURE, [[5, 6]]))
    full = FOUND.mask.full().astype(int).tolist()
    assert got == {"mask": full}
    for body in (interactor_request(PICTURE, negative=[[5, 6]]), interactor_request(picture((7, 3)))):
        mask = reply(interactor, context, body)["mask"]
        assert mask == [[0] * len(mask[0])] * len(mask)
        assert (len(mask[0]), len(mask)) in {(20, 10), (7, 3)}
    assert reply(interactor, context, {"image": "!"}) == {"mask": [[0]]}


def test_the_legacy_reply_has_the_pictures_size_whatever_the_core_refuses(start: Callable[..., Context]) -> None:
    script = Script()
    context = start(interactor, script, REPLY="mask")
    script.error = TooLarge("is large")
    assert reply(interactor, context, interactor_request(PICTURE, [[5, 6]])) == {"mask": [[0] * 20] * 10}


def test_the_exemplar_mode(start: Callable[..., Context]) -> None:
    script = Script({"": [FOUND, FOUND]})
    context = start(interactor, script, INTERACTOR="exemplar")
    got = reply(interactor, context, interactor_request(PICTURE, boxes=[(4, 5), (7, 7)]))
    assert [shape["attributes"] for shape in got["shapes"]] == [[{"spec_id": 0, "value": "0.75"}]] * 2
    assert script.searches
    assert not script.prompts


def test_a_picture_of_one_pixel(start: Callable[..., Context], segmenter: Segmenter) -> None:
    body = interactor_request(picture((1, 1)), [[0.5, 0.5]], boxes=[(0, 0), (1, 1)])
    assert set(reply(interactor, start(interactor, segmenter), body)) == {"shapes"}
    context = start(detector, segmenter, LABELS='[{"name": "circle"}]')
    assert isinstance(reply(detector, context, detector_request(picture((1, 1)))), list)


def test_the_second_click_decodes_nothing(
    start: Callable[..., Context], segmenter: Segmenter, scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = scene(31, objects=(2, 4), size=SIZE)
    body = interactor_request(drawn.encode("PNG"), [drawn.objects[0].box[:2]])
    context = start(interactor, segmenter)
    first = reply(interactor, context, body)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(base64, "b64decode", never)
    monkeypatch.setattr("sam3_core.engine.local.decode", never)
    assert reply(interactor, context, body) == first
    other = interactor_request(drawn.encode("PNG"), [drawn.objects[1].box[:2]]) | {"image": body["image"]}
    reply(interactor, context, other)


def label_studio_masks(segmenter: Segmenter, data: bytes, names: list[str]) -> set[tuple[str, bytes]]:
    """What our Label Studio backend answers to a task with brush labels of these names; decoded by the SDK."""
    labels = "".join(f'<Label value="{name}"/>' for name in names)
    config = f'<View><Image name="i" value="$i"/><BrushLabels name="b" toName="i">{labels}</BrushLabels></View>'
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    with create_app(BackendSettings(), segmenter).test_client() as client:
        body = {"tasks": [{"id": 1, "data": {"i": url}}], "label_config": config, "project": "1.1"}
        (prediction,) = client.post("/predict", json=body).json["results"]
    return {(region["value"]["brushlabels"][0], brush_bits(region).tobytes()) for region in prediction["result"]}


def brush_bits(region: dict[str, Any]) -> NDArray[np.bool_]:
    size = (region["original_height"], region["original_width"])
    return np.asarray(decode_rle(region["value"]["rle"])).reshape(*size, 4)[..., 3] > 0


def test_label_studio_and_cvat_give_the_same_masks(
    start: Callable[..., Context], segmenter: Segmenter, scene: Callable[..., Scene], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    drawn = scene(7, objects=(3, 5), size=SIZE)
    data, names = drawn.encode("PNG"), sorted({item.name for item in drawn.objects})
    context = start(detector, segmenter, LABELS=json.dumps([{"name": name, "type": "mask"} for name in names]))
    items = reply(detector, context, detector_request(data))
    ours = set()
    for item in items:
        *bits, x0, y0, x1, y1 = item["mask"]
        full = np.zeros(SIZE[::-1], np.bool_)
        full[y0 : y1 + 1, x0 : x1 + 1] = np.reshape(bits, (y1 - y0 + 1, x1 - x0 + 1))
        ours.add((item["label"], full.tobytes()))
    assert len(items) >= 3
    assert ours == label_studio_masks(segmenter, data, names)


def test_a_click_in_label_studio_and_in_cvat_gives_the_same_mask(
    start: Callable[..., Context], segmenter: Segmenter, scene: Callable[..., Scene]
) -> None:
    drawn = scene(7, objects=(3, 5), size=SIZE)
    data, item = drawn.encode("PNG"), drawn.objects[-1]
    rows, columns = np.nonzero(item.mask)
    x, y = float(columns[len(columns) // 2]), float(rows[len(rows) // 2])
    (shape,) = reply(interactor, start(interactor, segmenter), interactor_request(data, [[x, y]]))["shapes"]
    config = (
        '<View><Image name="i" value="$i"/><BrushLabels name="b" toName="i"><Label value="thing"/></BrushLabels>'
        '<KeyPointLabels name="k" toName="i" smart="true"><Label value="thing"/></KeyPointLabels></View>'
    )
    place = {"x": x / SIZE[0] * 100, "y": y / SIZE[1] * 100, "width": 0.2, "keypointlabels": ["thing"]}
    click = {
        "id": "a", "from_name": "k", "to_name": "i", "type": "keypointlabels", "is_positive": True, "value": place,
        "original_width": SIZE[0], "original_height": SIZE[1], "image_rotation": 0,
    }  # fmt: skip
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    with create_app(BackendSettings(), segmenter).test_client() as client:
        body = {
            "tasks": [{"id": 1, "data": {"i": url}}], "label_config": config, "project": "1.1",
            "params": {"context": {"result": [click]}},
        }  # fmt: skip
        ((region,),) = (one["result"] for one in client.post("/predict", json=body).json["results"])
    np.testing.assert_array_equal(mask_of_rle(shape["points"], SIZE).full(), brush_bits(region))


def test_the_core_is_asked_for_what_the_table_says(start: Callable[..., Context], tmp_path: Path) -> None:
    table = tmp_path / "labels.json"
    table.write_text('[{"name": "bus", "prompt": "coach; bus", "negative": "toy"}]')
    script = Script({"coach": [FOUND]})
    (item,) = reply(detector, start(detector, script, LABELS=str(table)), detector_request(PICTURE))
    assert (item["label"], script.searches[0][0]) == ("bus", (Concept(("coach", "bus"), negatives=("toy",)),))
