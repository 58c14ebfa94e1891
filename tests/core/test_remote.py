"""RemoteSegmenter against a real server with real weights: adapters cannot tell it from LocalSegmenter."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import request
from http_servers import served
from numpy.typing import NDArray

from backend.app import create_app
from backend.settings import BackendSettings
from sam3_core import (
    Box,
    Concept,
    ConceptResult,
    EncodedImage,
    Exemplar,
    FindOptions,
    Instance,
    Mask,
    ModelState,
    OutlineOptions,
    Point,
    Rules,
    Segmenter,
    VisualPrompt,
)
from sam3_core.caller import Caller
from sam3_core.demo.scenes import Scene
from sam3_core.engine import LocalSegmenter
from sam3_core.errors import (
    BadSettings,
    BrokenImage,
    Dropped,
    InvalidPrompt,
    Unauthorized,
    UnknownAdapter,
)
from sam3_core.prototypes import Prototypes
from sam3_core.remote import RemoteSegmenter
from sam3_core.rules import Area, Tiling

COLORS = ("red", "green", "blue", "yellow")


@pytest.fixture(scope="module")
def wire() -> list[tuple[str, str, int]]:
    """What the server got, in order: path, content type, bytes of the body."""
    return []


@pytest.fixture(scope="module")
def address(segmenter: LocalSegmenter, wire: list[tuple[str, str, int]]) -> Iterator[str]:
    """A server with the demo weights."""
    app = create_app(BackendSettings(), segmenter)

    @app.before_request
    def note() -> None:
        wire.append((request.path, request.mimetype, request.content_length or 0))

    with served(app) as url:
        yield url


@pytest.fixture(scope="module")
def far(address: str) -> RemoteSegmenter:
    return RemoteSegmenter(address)


@pytest.fixture(scope="module")
def picture(scene: Callable[..., Scene]) -> Scene:
    return scene(501, objects=(3, 4), size=(320, 240))


# ---- the same answers --------------------------------------------------------------------------------------------


def same_instances(one: Any, other: Any) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a.score, a.phrase, a.box, a.mask.frame) == (b.score, b.phrase, b.box, b.mask.frame)
        assert np.array_equal(a.mask.bits, b.mask.bits)
        assert b.mask.bits.dtype == np.bool_
        assert (a.feature is None) == (b.feature is None)
        assert a.feature is None or (np.array_equal(a.feature, b.feature) and b.feature.dtype == np.float32)


def same_results(one: list[ConceptResult], other: list[ConceptResult]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        same_instances(a.instances, b.instances)
        for name in (
            "presence",
            "best_rejected",
            "rules",
            "size",
            "tiles",
            "resolution",
            "removed",
            "notes",
            "reason",
        ):
            assert getattr(a, name) == getattr(b, name), name


def concepts_about(scene: Scene) -> dict[str, tuple[list[Concept], FindOptions]]:
    item = scene.objects[-1]
    shown = Exemplar(Box(*item.box))
    other = Exemplar(Box(*scene.objects[0].box), positive=False)
    every = tuple(f"{color} shape" for color in COLORS)
    drawn = (Mask.from_full(item.mask), Box(*scene.objects[0].box))
    padded = Mask(item.mask, 0, 0, (scene.width, scene.height))
    return {
        "text": ([Concept(phrases=(phrase,)) for phrase in every], FindOptions()),
        "synonyms": ([Concept(phrases=every)], FindOptions(rules=Rules(threshold=0.3))),
        "exemplars": ([Concept(exemplars=(shown, other))], FindOptions()),
        "text and exemplar": ([Concept(phrases=(f"{item.color} shape",), exemplars=(shown,))], FindOptions()),
        "negatives": ([Concept(phrases=("shape",), negatives=(f"{item.color} shape",))], FindOptions()),
        "drawn": ([Concept(phrases=every, drawn=drawn), Concept(phrases=every, drawn=(padded,))], FindOptions()),
        "rules": (
            [
                Concept(
                    phrases=every,
                    rules=Rules(
                        threshold=0.123456789,
                        presence=0.01,
                        min_area=Area(0.001, relative=True),
                        max_area=Area(1 / 3, relative=True),
                        max_instances=2,
                        top_k=3,
                        overlap=True,
                    ),
                )
            ],
            FindOptions(
                rules=Rules(min_area=Area(12.5)),
                duplicate_iou=0.31,
                contained_share=0.5,
                across_iou=0.4,
                negative_margin=0.1,
            ),
        ),
        "tiles": ([Concept(phrases=every)], FindOptions(tiles=Tiling.ON)),
        "nothing": ([Concept(phrases=("zebra",)), Concept(phrases=("紅い 形 ☃",))], FindOptions()),
        "removed": ([Concept(phrases=every, rules=Rules(min_area=Area(0.9, relative=True)))], FindOptions()),
        "no concepts": ([], FindOptions()),
        "features": ([Concept(phrases=("shape",))], FindOptions(features=True)),
        "prototypes": ([Concept(phrases=("shape",), prototypes=NOISE)], FindOptions()),
    }


_DRAWN = np.random.default_rng(7).normal(size=(5, 128)).astype(np.float32)
NOISE = Prototypes.of(_DRAWN[:2], _DRAWN[2:], 8.0, 1.0)


FIND_CASES = (
    "text", "synonyms", "exemplars", "text and exemplar", "negatives", "drawn", "rules", "tiles", "nothing",
    "removed", "no concepts", "features", "prototypes",
)  # fmt: skip


@pytest.mark.parametrize("case", FIND_CASES)
def test_find_is_the_same_here_and_there(
    segmenter: LocalSegmenter, far: RemoteSegmenter, picture: Scene, case: str
) -> None:
    concepts, options = concepts_about(picture)[case]
    here = segmenter.find(picture.encode(), concepts, options)
    same_results(here, far.find(picture.encode(), concepts, options))
    if case in ("nothing", "removed"):
        assert all(result.reason for result in here)
    elif concepts:
        assert any(result.instances for result in here)


def test_the_cases_are_all_there(picture: Scene) -> None:
    assert tuple(concepts_about(picture)) == FIND_CASES


def prompts_about(scene: Scene) -> dict[str, VisualPrompt]:
    item = scene.objects[-1]
    rows, columns = np.nonzero(item.mask)
    middle = Point(float(np.median(columns)) + 0.123, float(np.median(rows)) + 0.5)
    outside = Point(1.0, 1.0, positive=False)
    mask = Mask.from_full(item.mask)
    return {
        "point": VisualPrompt(points=(middle,)),
        "points": VisualPrompt(points=(middle, outside)),
        "box": VisualPrompt(box=Box(*item.box)),
        "box and points": VisualPrompt(points=(outside,), box=Box(*item.box)),
        "mask": VisualPrompt(mask=mask),
        "mask and points": VisualPrompt(points=(middle, outside), mask=Mask(item.mask, 0, 0, mask.frame)),
    }


@pytest.mark.parametrize("case", ["point", "points", "box", "box and points", "mask", "mask and points"])
@pytest.mark.parametrize("candidates", [1, 3])
def test_outline_is_the_same_here_and_there(
    segmenter: LocalSegmenter, far: RemoteSegmenter, picture: Scene, case: str, candidates: int
) -> None:
    prompt, options = prompts_about(picture)[case], OutlineOptions(candidates)
    here = segmenter.outline(picture.encode(), prompt, options)
    assert here
    same_instances(here, far.outline(picture.encode(), prompt, options))


def test_no_object_is_an_empty_answer_both_times(
    segmenter: LocalSegmenter, far: RemoteSegmenter, picture: Scene
) -> None:
    bare = np.logical_or.reduce([item.mask for item in picture.objects])
    spots = [Point(x + 0.5, y + 0.5) for y in range(4, 240, 20) for x in range(4, 320, 20) if not bare[y, x]]
    answers = [(segmenter.outline(picture.encode(), VisualPrompt(points=(spot,))), spot) for spot in spots]
    empty = next(spot for found, spot in answers if not found)
    assert far.outline(picture.encode(), VisualPrompt(points=(empty,))) == []


def test_defaults_are_the_same(segmenter: LocalSegmenter, far: RemoteSegmenter, picture: Scene) -> None:
    concept = Concept(phrases=("red shape", "blue shape"))
    same_results(segmenter.find(picture.encode(), [concept]), far.find(picture.encode(), [concept]))
    prompt = prompts_about(picture)["box"]
    same_instances(segmenter.outline(picture.encode(), prompt), far.outline(picture.encode(), prompt))


def test_info_is_the_same(segmenter: LocalSegmenter, far: RemoteSegmenter, picture: Scene) -> None:
    far.warm(picture.encode())
    there, here = far.info(), segmenter.info()
    assert there.load.memory.used > 0
    assert replace(there, load=replace(there.load, memory=here.load.memory)) == here  # memory is never the same twice
    assert far.info().cache.device.entries > 0


def mask_of(bits: NDArray[np.bool_], frame: tuple[int, int] = (9, 9)) -> Mask:
    return Mask(bits, 3, 4, frame)


OUTSIDE = Box(900.0, 900.0, 950.0, 950.0)
BAD_CALLS: dict[str, Callable[[Segmenter, bytes], object]] = {
    "no picture": lambda s, _: s.find(b"no picture", [Concept(phrases=("red shape",))]),
    "an empty file": lambda s, _: s.outline(b"", VisualPrompt(box=Box(0, 0, 9, 9))),
    "a cut file": lambda s, data: s.find(data[: len(data) // 2], [Concept(phrases=("red shape",))]),
    "warming no picture": lambda s, _: s.warm(b"<html>"),
    "an exemplar outside": lambda s, data: s.find(data, [Concept(exemplars=(Exemplar(OUTSIDE),))]),
    "a box outside": lambda s, data: s.outline(data, VisualPrompt(box=OUTSIDE)),
    "a point outside": lambda s, data: s.outline(data, VisualPrompt(points=(Point(9e9, 5.0),))),
    "a mask of another image": lambda s, data: s.outline(data, VisualPrompt(mask=mask_of(np.ones((2, 2), bool)))),
    "prototypes of another width": lambda s, data: s.find(
        data, [Concept(("shape",), prototypes=Prototypes(3, b"", b"", 1.0))]
    ),
    "an adapter that is not there": lambda s, data: s.find(
        data, [Concept(("shape",), adapter="better-than-ever")]
    ),
    "an empty mask": lambda s, data: s.outline(data, VisualPrompt(mask=mask_of(np.zeros((0, 0), bool), (320, 240)))),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_CALLS)
def test_errors_are_the_same(segmenter: LocalSegmenter, far: RemoteSegmenter, picture: Scene, case: str) -> None:
    raised = []
    for one in (segmenter, far):
        with pytest.raises((BrokenImage, InvalidPrompt, UnknownAdapter)) as caught:
            BAD_CALLS[case](one, picture.encode())
        raised.append((type(caught.value), str(caught.value)))
    assert raised[0] == raised[1]


def test_many_threads_get_their_own_answers(
    segmenter: LocalSegmenter, far: RemoteSegmenter, scene: Callable[..., Scene]
) -> None:
    scenes = [scene(seed, objects=(2, 4), size=(320, 240)) for seed in range(500, 504)]
    jobs = [(one, color) for one in scenes for color in COLORS] * 2

    def ask(which: Segmenter, job: tuple[Scene, str]) -> list[ConceptResult]:
        return which.find(job[0].encode(), [Concept(phrases=(f"{job[1]} shape",))])

    with ThreadPoolExecutor(8) as pool:
        there = list(pool.map(lambda job: ask(far, job), jobs))
    for job, result in zip(jobs, there, strict=True):
        (alone,), (among_others,) = ask(segmenter, job), result  # which may differ in the last digits
        assert among_others.presence == pytest.approx(alone.presence, rel=1e-3)
        assert len(among_others.instances) == len(alone.instances)
        for one, other in zip(alone.instances, among_others.instances, strict=True):
            assert other.score == pytest.approx(one.score, rel=1e-3)
            assert other.mask.area == pytest.approx(one.mask.area, rel=0.01)


# ---- what travels ------------------------------------------------------------------------------------------------


def test_a_file_travels_once(far: RemoteSegmenter, wire: list[Any], scene: Callable[..., Scene]) -> None:
    data = scene(640, objects=(1, 2), size=(200, 100)).encode()
    wire.clear()
    far.outline(data, VisualPrompt(box=Box(10, 10, 90, 90)))
    far.find(data, [Concept(phrases=("red shape",))])
    far.warm(data)
    assert [(path, kind) for path, kind, _ in wire] == [
        ("/v1/outline", "application/json"),
        ("/v1/outline", "multipart/form-data"),
        ("/v1/find", "application/json"),
        ("/v1/warm", "application/json"),
    ]
    assert [size > len(data) for _, _, size in wire] == [False, True, False, False]


@pytest.mark.parametrize("name", ["0" * 32, "any name at all"])
def test_an_image_under_a_name_of_the_adapters_own_is_read_once(
    far: RemoteSegmenter, scene: Callable[..., Scene], name: str
) -> None:
    data = scene(641, objects=(1, 2), size=(200, 100)).encode()
    loads = []

    def load() -> bytes:
        loads.append(1)
        return data

    for _ in range(3):
        far.warm(EncodedImage.deferred(name, load))
    assert len(loads) == 1


def test_a_file_that_the_server_forgot_is_sent_again(segmenter: LocalSegmenter, scene: Callable[..., Scene]) -> None:
    one, other = (scene(seed, objects=(1, 2), size=(200, 100)).encode() for seed in (642, 643))
    room = max(len(one), len(other)) / (1 << 20)
    with served(create_app(BackendSettings(image_cache_mb=room), segmenter)) as url:
        far = RemoteSegmenter(url)
        for data in (one, other, one):
            same_instances(
                far.outline(data, VisualPrompt(box=Box(10, 10, 90, 90))),
                segmenter.outline(data, VisualPrompt(box=Box(10, 10, 90, 90))),
            )


def test_what_is_not_wanted_is_not_sent(far: RemoteSegmenter, wire: list[Any], scene: Callable[..., Scene]) -> None:
    data = scene(644, objects=(1, 2), size=(200, 100)).encode()
    prompt = VisualPrompt(box=Box(10, 10, 90, 90))
    wire.clear()
    with pytest.raises(Dropped):
        far.outline(data, prompt, caller=Caller(wanted=lambda: False))
    assert wire == []
    asked = iter([True, False])
    with pytest.raises(Dropped):
        far.outline(data, prompt, caller=Caller(wanted=lambda: next(asked)))
    assert [kind for _, kind, _ in wire] == ["application/json"]


def test_logins(segmenter: LocalSegmenter, picture: Scene) -> None:
    settings = BackendSettings(basic_auth_user="ännotator", basic_auth_password="geheim: ü@")
    with served(create_app(settings, segmenter)) as url:
        RemoteSegmenter(url, user="ännotator", password="geheim: ü@").warm(picture.encode())
        RemoteSegmenter(url.replace("//", "//%C3%A4nnotator:geheim%3A%20%C3%BC%40@")).warm(picture.encode())
        for wrong in (RemoteSegmenter(url), RemoteSegmenter(url, user="ännotator", password="guessed")):
            with pytest.raises(Unauthorized):
                wrong.warm(picture.encode())
            info = wrong.info()
            assert info.state is ModelState.FAILED
            assert "password" in info.problem
            assert "guessed" not in info.problem


def test_a_token_instead_of_a_password(segmenter: LocalSegmenter, picture: Scene) -> None:
    with served(create_app(BackendSettings(api_token="a-token"), segmenter)) as url:
        RemoteSegmenter(url, token="a-token").warm(picture.encode())
        assert RemoteSegmenter(url, token="a-token").info().state is ModelState.READY
        for wrong in (RemoteSegmenter(url, token="a-toke"), RemoteSegmenter(url, user="a-token", password="a-token")):
            with pytest.raises(Unauthorized, match="Bearer") as caught:
                wrong.warm(picture.encode())
            assert "a-tok" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "gpu:9090", "ftp://gpu", "http://", "http://a b", "http://gpu/?x=1", "http://u:secret@/"]
)
def test_no_address_stops_at_once(url: str) -> None:
    with pytest.raises(BadSettings, match="http://gpu-box:9090") as caught:
        RemoteSegmenter(url)
    assert "secret" not in str(caught.value)


def test_an_instance_is_an_instance(far: RemoteSegmenter, picture: Scene) -> None:
    (found,) = far.outline(picture.encode(), prompts_about(picture)["box"])
    assert isinstance(found, Instance)
    assert found.mask.frame == (320, 240)


def test_the_examples_of_the_documentation_run(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], picture: Scene
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(examples) == 2
    (tmp_path / "street.jpg").write_bytes(picture.encode())
    monkeypatch.chdir(tmp_path)
    for example in examples:
        for phrase in ('"yellow school bus", "bus"', '"bus"'):
            example = example.replace(phrase, '"shape", "circle"')
        exec(example.replace("http://localhost:9090", address), {})
        assert re.search(r"0\.\d+ [\[(]\d+", capsys.readouterr().out)
