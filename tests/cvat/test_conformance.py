"""Golden requests: our functions, in processes of their own, behind Nuclio's wire and CVAT's reading of the replies.

The weights are the demo checkpoint's, the wrapper's objects nuclio-sdk's, the decoder of masks cvat-sdk's.

Which tests hold which line of the contract's checklist; a name without a file is a test here:

1. yaml files: test_function_yaml.py, by yaml_twin.py; written ones: test_cvat_spec.py.
2. interactor's prompts, legacy switch, nothing found: test_every_prompt_on_every_picture,
   test_the_legacy_mask_is_the_shapes_mask, test_nothing_found_in_legacy_form, test_exemplars_find_everything_alike.
3. detector's items and thresholds: test_detector_items_on_every_picture, test_masks_convert_to_polygons,
   test_thresholds; groups of parts: test_detection.py.
4. trackers: none yet, they come with video.
5. bodies, error path, strict JSON: test_charset_gives_bytes_and_the_same_answer, test_broken_requests,
   test_points_that_are_none; every reply is read by ``Reply.json``, which is strict.
6. large bodies and image modes: test_a_body_of_40_megabytes, every_picture; more modes: test_cvat_pictures.py.
7. a second click decodes nothing: test_handlers.py; sends nothing: test_thin_functions.py; runs no vision pass:
   tests/engine/test_repeat_click.py. Bounds: test_cvat_pictures.py (names), tests/engine/test_embeddings.py. How much
   faster that is, benchmarks/clicks.py measures.
8. cvat-cli and the SDK's functions: test_auto_annotation.py, test_sdk_functions.py; our runner:
   test_cvat_command.py, test_runner.py.
9. agents with ``--burst``, regions included: test_agents.py, for detectors and interactors.
10. drills: test_a_batch_survives_its_pictures, test_content_is_never_an_error, test_a_killed_worker_comes_back;
    a busy server, or one short of memory: test_thin_functions.py; time-out, restart, busy, size limit:
    test_nuclio_process.py.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from browser_twin import decoded, old_browser_bits, polygon
from cvat_sdk.masks import decode_mask
from golden import OTHER, PROMPTS, SCENE, TARGET, Picture, Prompts, overlap, pictures
from nuclio_wire import Limits, NuclioFunction, Reply
from PIL import Image
from server_twin import TaskLabel, converted, detector_request, interactor_request

from sam3_core.demo.scenes import render_scene

_ROOM = Path(__file__).parents[2] / "cvat_nuclio"
_ENV = {
    "SAM3_CORE_URL": "",
    "SAM3_MODEL": "demo",
    "SAM3_DEVICE": "cpu",
    "SAM3_DTYPE": "float32",
    "OMP_NUM_THREADS": "1",
}
_SCORE = {"name": "score", "input_type": "text", "values": []}
_TABLE = [
    {"name": "round", "type": "mask", "prompt": "circle"},
    {"name": "square", "type": "polygon", "prompt": "white square"},
    {"name": "frame", "type": "rectangle", "prompt": "white square"},
    {"name": "free", "type": "any", "prompt": "white square"},
    {"name": "there", "type": "tag", "prompt": "white square"},
    {"name": "absent", "type": "mask", "prompt": "green star"},
]
_LABELS = {
    row["name"]: TaskLabel(number, "any", {"score": ("text", [])}) for number, row in enumerate(_TABLE, start=1)
}
_PICTURES = pictures()
_SMALL = {name: picture for name, picture in _PICTURES.items() if picture.size[0] < 1000}
"""For dense masks; benchmarks.cvat_replies measures large ones."""

_RECTANGLE = 4  # numbers

every_picture = pytest.mark.parametrize("picture", _PICTURES.values(), ids=list(_PICTURES))


class Functions:
    """Started when first asked for, one process each, for the whole module."""

    def __init__(self, root: Path) -> None:
        self._root, self._stack, self._running = root, ExitStack(), dict[tuple[str, ...], NuclioFunction]()

    def __call__(self, kind: str, **settings: str) -> NuclioFunction:
        key = (kind, *(f"{name}={value}" for name, value in sorted(settings.items())))
        if key not in self._running:
            folder = self._root / str(len(self._running))
            shutil.copytree(_ROOM / kind, folder)
            path = folder / "function.yaml"
            if kind == "detector":
                _write_labels(path)
                settings = {"SAM3_LABELS": json.dumps(_TABLE), **settings}
            function = NuclioFunction(folder, Limits.of_yaml(path), {**_ENV, **settings})
            self._running[key] = self._stack.enter_context(function)
        return self._running[key]

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Functions]:
    running = Functions(tmp_path_factory.mktemp("functions"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def detector(functions: Functions) -> NuclioFunction:
    return functions("detector")


@pytest.fixture(scope="module")
def interactor(functions: Functions) -> NuclioFunction:
    return functions("interactor")


def _write_labels(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    labels = [{"name": row["name"], "type": row["type"], "attributes": [_SCORE]} for row in _TABLE]
    document["metadata"]["annotations"]["spec"] = json.dumps(labels)
    path.write_text(yaml.safe_dump(document))


def _check_worked(reply: Reply) -> None:
    """An answer, and not because the picture could not be used, which is logged as a warning."""
    assert (reply.status, reply.content_type) == (200, "application/json")
    assert {log["level"] for log in reply.logs} == {"info"}


# What is clicked or boxed


@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=list(PROMPTS))
@every_picture
def test_every_prompt_on_every_picture(interactor: NuclioFunction, picture: Picture, prompts: Prompts) -> None:
    reply = interactor.post(interactor_request(picture.data, **prompts.on(picture)))
    _check_worked(reply)
    assert set(reply.json) == {"shapes"}
    outlines = decoded(reply.json, picture.size)
    if not prompts.asks:
        assert reply.json == {"shapes": []}
        return
    if not picture.scene:
        return
    assert len(outlines) == (2 if prompts is PROMPTS["two boxes"] else 1)
    enough = 0.8 if picture.colours else 0.5
    for outline, item in zip(outlines, (TARGET, OTHER), strict=False):
        assert overlap(outline.bits, picture.truth(item.mask)) > enough
        assert 0 < outline.confidence < 1, "a confidence that the browser could not read counts as 1"


@pytest.mark.parametrize("prompts", [each for each in PROMPTS.values() if each.asks])
def test_the_browser_draws_a_polygon(interactor: NuclioFunction, prompts: Prompts) -> None:
    """Of the first contour that it meets, which is the object's here: a speck would be no polygon at all."""
    picture = _PICTURES["JPEG"]
    reply = interactor.post(interactor_request(picture.data, **prompts.on(picture)))
    for outline in decoded(reply.json, picture.size):
        assert len(polygon(outline)) >= 3


@pytest.mark.parametrize("picture", _SMALL.values(), ids=list(_SMALL))
def test_the_legacy_mask_is_the_shapes_mask(functions: Functions, picture: Picture) -> None:
    request = interactor_request(picture.data, **PROMPTS["two boxes"].on(picture))
    new = functions("interactor").post(request).json
    old = functions("interactor", SAM3_REPLY="mask").post(request).json
    assert set(old) == {"mask"}
    both = np.zeros(picture.size[::-1], bool)
    for outline in decoded(new, picture.size):
        both |= outline.bits
    assert (old_browser_bits(old, picture.size) == both).all()


def test_nothing_found_in_legacy_form(functions: Functions) -> None:
    """All zeros; row 0 is read whatever comes."""
    picture = _PICTURES["JPEG"]
    legacy = functions("interactor", SAM3_REPLY="mask")
    for prompts in (PROMPTS["none"], PROMPTS["-"], Prompts(((-50.0, -50.0),))):
        bits = old_browser_bits(
            legacy.post(interactor_request(picture.data, **prompts.on(picture))).json, picture.size
        )
        assert not bits.any()


def test_exemplars_find_everything_alike(functions: Functions) -> None:
    """A box around one of two yellow stars: both are found, where the other mode outlines the one in it."""
    scene = render_scene(31, objects=(3, 5), size=(320, 240))
    stars = [item for item in scene.objects if item.name == "yellow star"]
    x0, y0, x1, y1 = stars[0].box
    request = interactor_request(scene.encode("PNG"), boxes=[(x0, y0), (x1, y1)])
    for mode, wanted in (("exemplar", stars), ("outline", stars[:1])):
        outlines = decoded(functions("interactor", SAM3_INTERACTOR=mode).post(request).json, (320, 240))
        assert len(outlines) == len(wanted)
        for star in wanted:
            assert max(overlap(outline.bits, star.mask) for outline in outlines) > 0.8
        assert all(0 < outline.confidence < 1 for outline in outlines)
    assert len(stars) == 2


@pytest.mark.parametrize(
    "request_body",
    [
        interactor_request(_PICTURES["JPEG"].data, [[-5, -5]]),
        interactor_request(_PICTURES["JPEG"].data, [[320.5, 10]]),
        interactor_request(_PICTURES["JPEG"].data, boxes=[(50, 50), (50, 90)]),
        interactor_request(_PICTURES["JPEG"].data, boxes=[(400, 400), (500, 500)]),
        interactor_request(b"no picture at all", [[5, 5]]),
        interactor_request(b"", [[5, 5]]),
        interactor_request(_PICTURES["JPEG"].data[:2000], [[5, 5]]),
    ],
    ids=["left of it", "right of it", "no width", "box outside", "no picture", "no bytes", "cut off"],
)
def test_content_is_never_an_error(interactor: NuclioFunction, request_body: dict[str, Any]) -> None:
    reply = interactor.post(request_body)
    assert (reply.status, reply.json) == (200, {"shapes": []})
    assert any(len(log["message"]) > len("0 found in 0.00 s") for log in reply.logs), "the reason goes to the log"


# What is found


@every_picture
def test_detector_items_on_every_picture(detector: NuclioFunction, picture: Picture) -> None:
    reply = detector.post(detector_request(picture.data))
    _check_worked(reply)
    stored = converted(reply.json, _LABELS)
    _check_geometry(reply.json, stored["shapes"], picture)
    if picture.scene and picture.colours:
        _check_found(stored, picture)
    strict = detector.post(detector_request(picture.data, 0.8))
    assert strict.json == [item for item in reply.json if float(item["confidence"]) >= 0.8]


def _check_geometry(items: list[dict[str, Any]], shapes: list[dict[str, Any]], picture: Picture) -> None:
    width, height = picture.size
    for item in items:
        assert 0 <= float(item["confidence"]) <= 1
        assert item["attributes"] == [{"name": "score", "value": item["confidence"]}]
        if "mask" in item:
            assert len(item["points"]) >= 6
    for shape in shapes:
        if shape["type"] == "mask":
            assert decode_mask(shape["points"], image_width=width, image_height=height).any()
        else:
            assert all(0 <= x <= width for x in shape["points"][::2])
            assert all(0 <= y <= height for y in shape["points"][1::2])


def _check_found(stored: Mapping[str, list[dict[str, Any]]], picture: Picture) -> None:
    width, height = picture.size
    shapes: dict[str, list[dict[str, Any]]] = {name: [] for name in _LABELS}
    names = {label.id: name for name, label in _LABELS.items()}
    for shape in stored["shapes"]:
        shapes[names[shape["label_id"]]].append(shape)
    bits = [decode_mask(each["points"], image_width=width, image_height=height) for each in shapes["round"]]
    for item in SCENE.matching("circle"):
        truth = picture.truth(item.mask)
        assert max(overlap(each, truth) for each in bits) > 0.8, item.name
    assert len(bits) == 3
    (square,), (frame,) = shapes["square"], shapes["frame"]
    box = [value for corner in (TARGET.box[:2], TARGET.box[2:]) for value in picture.at((corner[0], corner[1]))]
    assert square["type"] == "polygon"
    assert frame["points"] == pytest.approx(box, abs=6 * picture.scale)
    assert len(frame["points"]) == _RECTANGLE
    assert [shape["type"] for shape in shapes["free"]] == ["mask"]
    assert [names[tag["label_id"]] for tag in stored["tags"]] == ["there"]
    assert not shapes["absent"]


def test_masks_convert_to_polygons(detector: NuclioFunction) -> None:
    items = detector.post(detector_request(_PICTURES["JPEG"].data)).json
    shapes = converted(items, _LABELS, conv_mask_to_poly=True)["shapes"]
    assert {shape["type"] for shape in shapes} == {"polygon", "rectangle"}


def test_thresholds(detector: NuclioFunction) -> None:
    """Absent, null and 0 are one to CVAT, and our own threshold, not none; a higher one leaves less."""
    data = _PICTURES["JPEG"].data
    plain = detector.post(detector_request(data)).json
    for threshold in (None, 0, 0.0):
        assert detector.post({**detector_request(data), "threshold": threshold}).json == plain
    assert detector.post(detector_request(data, 0.5)).json == plain
    strict = detector.post(detector_request(data, 0.93)).json
    assert 0 < len(strict) < len(plain)
    assert all(float(item["confidence"]) >= 0.93 for item in strict)


def test_a_batch_survives_its_pictures(detector: NuclioFunction) -> None:
    """One frame that answers otherwise than 2xx would end the job, and what was found before it with it."""
    good = _PICTURES["JPEG"].data
    before = detector.post(detector_request(good)).json
    for data in (b"", b"GIF89a", good[:500], b"\x00" * 1000, _PICTURES["1 x 1"].data):
        reply = detector.post(detector_request(data))
        assert reply.status == 200
        assert not converted(reply.json, _LABELS)["shapes"]
    assert detector.post(detector_request(good)).json == before


def test_a_body_of_40_megabytes(detector: NuclioFunction) -> None:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (3200, 3200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "PNG", compress_level=0)
    body = json.dumps(detector_request(file.getvalue())).encode()
    assert len(body) > 40e6
    assert detector.invoke(body).status == 200


def test_charset_gives_bytes_and_the_same_answer(detector: NuclioFunction, interactor: NuclioFunction) -> None:
    picture = _PICTURES["JPEG"]
    click = interactor_request(picture.data, **PROMPTS["+"].on(picture))
    for function, request in ((detector, detector_request(picture.data)), (interactor, click)):
        plain = function.post(request)
        assert plain.json
        assert function.post(request, "application/json; charset=utf-8").json == plain.json
        assert function.post(request, "text/plain").json == plain.json


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"{}", b'{"image": null}', b'{"image": 5}', b"\xff\xfe"],
)
def test_broken_requests(detector: NuclioFunction, interactor: NuclioFunction, body: bytes) -> None:
    """What CVAT never sends: 4xx with JSON that says why."""
    for function in (detector, interactor):
        reply: Reply = function.invoke(body)
        assert 400 <= reply.status < 500
        assert reply.json["error"]


@pytest.mark.parametrize("points", ["[[1, 2]]", {"x": 1}, [[1]], [1, 2], [["1", 2]], [[None, 2]]])
def test_points_that_are_none(interactor: NuclioFunction, points: Any) -> None:
    image = base64.b64encode(_PICTURES["JPEG"].data).decode()
    reply = interactor.post({"image": image, "pos_points": points, "neg_points": [], "obj_bbox": []})
    assert reply.status == 400
    assert "pos_points" in reply.json["error"]


def test_a_killed_worker_comes_back(functions: Functions) -> None:
    interactor = functions("interactor")
    picture = _PICTURES["JPEG"]
    request = interactor_request(picture.data, **PROMPTS["+"].on(picture))
    before = interactor.post(request).json
    os.kill(interactor.pids[0], signal.SIGKILL)
    assert interactor.post(request).status == 500
    assert interactor.post(request).json == before
