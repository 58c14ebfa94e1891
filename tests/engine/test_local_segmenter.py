"""LocalSegmenter from outside: states, caching, threads, and that results are what the parts say."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from device import busy
from tiny_sam3 import IMAGE, PATCH, png, save_state

from sam3_core.caller import Caller
from sam3_core.engine import LocalSegmenter, local
from sam3_core.engine.model import Sam3
from sam3_core.errors import (
    BadSettings,
    BrokenImage,
    Dropped,
    InvalidPrompt,
    ModelUnavailable,
    NotReady,
    TooLarge,
    Unsupported,
)
from sam3_core.images import EncodedImage
from sam3_core.masks import Mask
from sam3_core.rules import Rules
from sam3_core.segmenter import Segmenter
from sam3_core.settings import CoreSettings
from sam3_core.timing import collected
from sam3_core.types import Box, Concept, Exemplar, FindOptions, ModelState, OutlineOptions, Point, VisualPrompt

DOG = Concept(phrases=("dog",))
CLICK = VisualPrompt(points=(Point(20, 20),))
LOW = FindOptions(rules=Rules(threshold=0.01, overlap=True))  # random weights see every phrase everywhere


def settings(model: Path | str, **changes: object) -> CoreSettings:
    return CoreSettings(model=str(model), **{"device": "cpu", **changes})


@pytest.fixture(scope="module")
def shared(checkpoint: Path) -> LocalSegmenter:
    """For tests that leave nothing behind but warm caches."""
    made = LocalSegmenter(settings(checkpoint))
    made.wait_until_ready(120)
    return made


@pytest.fixture
def segmenter(shared: LocalSegmenter, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> LocalSegmenter:
    """With cold caches; the weights are loaded once for all."""
    loaded = shared._ready(None).model
    monkeypatch.setattr(Sam3, "load", lambda *_: Sam3(loaded._parts))
    made = LocalSegmenter(settings(checkpoint))
    made.wait_until_ready(120)
    return made


@pytest.fixture
def calls(segmenter: LocalSegmenter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often a picture was decoded and each part of the model ran."""
    counted: Counter[str] = Counter()
    decode = local.decode

    def counting(*args: object, **kwargs: object) -> np.ndarray:
        counted["decode"] += 1
        return decode(*args, **kwargs)

    monkeypatch.setattr(local, "decode", counting)
    parts = segmenter._ready(None).model._parts
    detector, video = parts.detector, parts.video
    assert video is not None
    hooks = [
        detector.vision_encoder.backbone.register_forward_pre_hook(lambda *_: counted.update(["vision"])),
        detector.detr_encoder.register_forward_pre_hook(lambda *_: counted.update(["detr"])),
        video.tracker_neck.register_forward_pre_hook(lambda *_: counted.update(["neck"])),
        video.tracker_model.mask_decoder.register_forward_pre_hook(lambda *_: counted.update(["click"])),
    ]
    yield counted
    for hook in hooks:
        hook.remove()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Loading waits for it."""
    opened = threading.Event()
    find = local.find_weights

    def waiting(*args: object) -> Path:
        assert opened.wait(60)
        return find(*args)

    monkeypatch.setattr(local, "find_weights", waiting)
    yield opened
    opened.set()


def test_is_a_segmenter(shared: LocalSegmenter) -> None:
    segmenter: Segmenter = shared
    assert segmenter.info().state is ModelState.READY


def test_loads_in_the_background(checkpoint: Path, gate: threading.Event) -> None:
    segmenter = LocalSegmenter(settings(checkpoint, load_wait=0.01))
    before = segmenter.info()
    assert (before.state, before.problem) == (ModelState.LOADING, "")
    for call in (lambda: segmenter.find(png(), [DOG]), lambda: segmenter.outline(png(), CLICK)):
        with pytest.raises(NotReady, match="still loading") as caught:
            call()
        assert caught.value.retry_after is not None
    with pytest.raises(NotReady):
        segmenter.wait_until_ready(0.01)
    gate.set()
    segmenter.wait_until_ready(120)
    after = segmenter.info()
    assert (after.state, after.device, after.dtype, after.can_outline) == (ModelState.READY, "cpu", "float32", True)
    assert after.version == before.version
    assert after.version.startswith("tiny-")
    assert len(segmenter.find(png(), [DOG])) == 1


def test_a_request_waits_for_loading_to_end(checkpoint: Path, gate: threading.Event) -> None:
    segmenter = LocalSegmenter(settings(checkpoint, load_wait=60))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(segmenter.find, png(), [DOG])
        gate.set()
        assert len(asked.result(120)) == 1


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"model": "/nowhere/at/all"}, ModelUnavailable, "there is no folder"),
        ({"device": "gpu"}, BadSettings, "SAM3_DEVICE=gpu"),
    ],
)
def test_a_failure_is_remembered(
    checkpoint: Path, changes: dict[str, str], error: type[ModelUnavailable], words: str
) -> None:
    segmenter = LocalSegmenter(settings(**{"model": checkpoint, **changes}))
    for _ in range(2):
        with pytest.raises(error, match=words):
            segmenter.find(png(), [DOG])
    with pytest.raises(error, match=words):
        segmenter.outline(png(), CLICK)
    info = segmenter.info()
    assert info.state is ModelState.FAILED
    assert words in info.problem


def test_an_unforeseen_failure_is_a_failure_too(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Sam3:
        raise ZeroDivisionError("bug")

    monkeypatch.setattr(Sam3, "load", broken)
    segmenter = LocalSegmenter(settings(checkpoint))
    with pytest.raises(ModelUnavailable, match="ZeroDivisionError"):
        segmenter.wait_until_ready(60)
    assert segmenter.info().state is ModelState.FAILED


def test_close_forgets_and_may_come_twice_or_early(
    checkpoint: Path, segmenter: LocalSegmenter, gate: threading.Event
) -> None:
    segmenter.close()
    segmenter.close()
    with pytest.raises(ModelUnavailable, match="closed"):
        segmenter.find(png(), [DOG])
    early = LocalSegmenter(settings(checkpoint))
    early.close()
    gate.set()
    with pytest.raises(ModelUnavailable, match="closed"):
        early.wait_until_ready(60)


def test_one_vision_pass_per_picture(segmenter: LocalSegmenter, calls: Counter[str]) -> None:
    concepts = [Concept(phrases=(p,)) for p in ("dog", "red dog", "cat", "bird", "猫")]
    first = segmenter.find(png(), concepts, LOW)
    assert calls == {"decode": 1, "vision": 1, "detr": 1}
    segmenter.outline(png(), CLICK)
    again = segmenter.find(EncodedImage(png()), concepts[:2], LOW)
    assert calls == {"decode": 1, "vision": 1, "neck": 1, "click": 1, "detr": 2}
    assert [len(r.instances) for r in again] == [len(r.instances) for r in first[:2]]
    assert again[0].instances[0].score == pytest.approx(first[0].instances[0].score, abs=1e-5)
    segmenter.find(png(1), concepts[:1])
    assert calls == {"decode": 2, "vision": 2, "neck": 1, "click": 1, "detr": 3}


def test_a_repeat_click_runs_the_decoder_alone(segmenter: LocalSegmenter, calls: Counter[str]) -> None:
    first = segmenter.outline(png(), CLICK)
    assert calls == {"decode": 1, "vision": 1, "neck": 1, "click": 1}
    calls.clear()
    again = segmenter.outline(EncodedImage(png()), CLICK)
    assert calls == {"click": 1}
    assert [(i.score, i.mask.area) for i in again] == [(i.score, i.mask.area) for i in first]


def test_click_maps_alone_are_enough_for_a_click(
    segmenter: LocalSegmenter, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter.warm(png())
    cache = segmenter._ready(None).cache
    cache._device.take((EncodedImage(png()).key, "vision"))
    calls.clear()
    assert segmenter.outline(png(), CLICK)[0].mask.frame == (60, 44)
    assert calls == {"click": 1}


def test_warm_makes_the_first_prompt_a_later_one(segmenter: LocalSegmenter, calls: Counter[str]) -> None:
    segmenter.warm(png())
    assert calls == {"decode": 1, "vision": 1, "neck": 1}
    segmenter.outline(png(), CLICK)
    segmenter.find(png(), [DOG])
    segmenter.warm(EncodedImage(png()))
    assert calls == {"decode": 1, "vision": 1, "neck": 1, "click": 1, "detr": 1}


def test_finding_alone_leaves_no_click_maps(segmenter: LocalSegmenter) -> None:
    for seed in range(3):
        segmenter.find(png(seed), [DOG])
    cache = segmenter.info().cache
    assert (cache.hits, cache.misses, cache.device.entries) == (0, 3, 3)
    hidden = (IMAGE // PATCH) ** 2 * 32 * 4
    assert cache.device.bytes == 3 * hidden
    segmenter.outline(png(), CLICK)
    cache = segmenter.info().cache
    assert (cache.hits, cache.misses, cache.device.entries) == (1, 4, 4)
    segmenter.outline(png(), CLICK)
    assert segmenter.info().cache.hits == 2


def test_eight_clicks_on_one_new_image_embed_it_once(segmenter: LocalSegmenter, calls: Counter[str]) -> None:
    prompts = [VisualPrompt(points=(Point(5 + 6 * n, 20),)) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda prompt: segmenter.outline(png(), prompt), prompts))
    assert calls == {"decode": 1, "vision": 1, "neck": 1, "click": 8}
    for prompt, answer in zip(prompts, answers, strict=True):
        alone = segmenter.outline(png(), prompt)
        assert [i.mask.area for i in answer] == [i.mask.area for i in alone]


def test_stages_are_told_apart(segmenter: LocalSegmenter) -> None:
    everything = ["decode", "queue", "vision", "model", "masks"]
    for ask, stages in (
        (lambda: segmenter.outline(png(), CLICK), everything),
        (lambda: segmenter.find(png(1), [DOG], LOW), everything),
        (lambda: segmenter.outline(png(), CLICK), ["model", "queue", "masks"]),
        (lambda: segmenter.find(png(), [DOG], LOW), ["queue", "model", "masks"]),
    ):
        with collected() as seconds:
            started = time.perf_counter()
            ask()
            took = time.perf_counter() - started
        assert list(seconds) == stages
        assert 0 < sum(seconds.values()) <= took  # which it would exceed if one lay in another


class Asked:
    """A ``wanted`` that says yes so often, then no, and knows when it was asked."""

    def __init__(self, yes: int, calls: Counter[str]) -> None:
        self.yes = yes
        self.calls = calls
        self.seen: list[Counter[str]] = []

    def __call__(self) -> bool:
        self.seen.append(self.calls.copy())
        return len(self.seen) <= self.yes


def test_wanted_is_asked_before_each_piece_of_work(segmenter: LocalSegmenter, calls: Counter[str]) -> None:
    wanted = Asked(99, calls)
    segmenter.outline(png(), CLICK, caller=Caller(wanted=wanted))
    assert wanted.seen == [
        {},
        {"decode": 1},
        {"decode": 1, "vision": 1},
        {"decode": 1, "vision": 1, "neck": 1},
    ]
    again = Asked(99, Counter())
    segmenter.outline(png(), CLICK, caller=Caller(wanted=again))
    assert len(again.seen) == 1


@pytest.mark.parametrize("yes", [0, 1, 2, 3])
def test_what_is_not_wanted_is_dropped_at_once(segmenter: LocalSegmenter, calls: Counter[str], yes: int) -> None:
    wanted = Asked(yes, calls)
    with pytest.raises(Dropped):
        segmenter.outline(png(), CLICK, caller=Caller(wanted=wanted))
    assert sum(calls.values()) == yes  # decode, vision, neck: one more each time, and the decoder never
    assert calls["click"] == 0
    assert segmenter.outline(png(), CLICK)  # and nothing is stuck
    assert calls["decode"] == (2 if yes == 1 else 1)


def test_a_click_that_waited_for_the_device_is_dropped_when_its_turn_comes(
    segmenter: LocalSegmenter, calls: Counter[str]
) -> None:
    segmenter.warm(png())
    asked: list[bool] = []

    def superseded() -> bool:
        asked.append(True)
        return False

    with ThreadPoolExecutor(1) as pool, busy(segmenter._ready(None).model):
        click = pool.submit(segmenter.outline, png(), CLICK, caller=Caller(wanted=superseded))
        time.sleep(0.05)
        assert asked == []  # the question comes with the turn
    with pytest.raises(Dropped):
        click.result(30)
    assert asked == [True]
    assert calls["click"] == 0


def test_a_newer_click_survives_the_drop_of_the_one_it_waits_for(
    segmenter: LocalSegmenter, calls: Counter[str]
) -> None:
    """The older click holds the single flight of a new image; its drop must not reach the click that replaced it."""
    newer_came = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        with busy(segmenter._ready(None).model):
            older = pool.submit(
                segmenter.outline, png(), CLICK, caller=Caller(wanted=lambda: not newer_came.is_set())
            )
            while not calls["decode"]:
                time.sleep(0.001)
            newer = pool.submit(segmenter.outline, png(), CLICK, caller=Caller(wanted=lambda: True))
            newer_came.set()
        with pytest.raises(Dropped):
            older.result(30)
        assert newer.result(30)
    assert calls["vision"] == 1
    assert calls["click"] == 1


def test_a_wrong_prompt_is_refused_before_the_decoder_runs(segmenter: LocalSegmenter, calls: Counter[str]) -> None:
    with pytest.raises(InvalidPrompt):
        segmenter.find(png(), [Concept(exemplars=(Exemplar(Box(600, 600, 700, 700)),))])
    assert calls["detr"] == 0


def test_no_concepts_no_work(segmenter: LocalSegmenter, calls: Counter[str]) -> None:
    assert segmenter.find(png(), []) == []
    assert calls == {}


def test_threads_get_what_one_would(segmenter: LocalSegmenter, calls: Counter[str]) -> None:
    concepts = [Concept(phrases=("dog",)), Concept(phrases=("red dog",), exemplars=(Exemplar(Box(3, 3, 30, 30)),))]

    def ask(seed: int) -> list[tuple[float, int]]:
        found = [i for r in segmenter.find(png(seed), concepts, LOW) for i in r.instances]
        found += segmenter.outline(png(seed), CLICK)
        return [(i.score, i.mask.area) for i in found]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, [0, 1, 2] * 8))
    assert calls["decode"] == 3
    assert calls["vision"] <= 3  # images that wait together go through together
    alone = [ask(seed) for seed in range(3)]
    assert alone[0] != alone[1]
    for place, answer in enumerate(answers):
        np.testing.assert_allclose(answer, alone[place % 3], rtol=1e-4)


def test_one_caller_at_a_time_is_on_the_device(segmenter: LocalSegmenter) -> None:
    parts = segmenter._ready(None).model._parts
    assert parts.video is not None
    here: set[int] = set()
    crowds: list[set[int]] = []

    def enter(*_: object) -> None:
        here.add(threading.get_ident())
        crowds.append(set(here))
        time.sleep(0.003)  # long enough for another to come in, if it may

    def leave(*_: object) -> None:
        here.discard(threading.get_ident())

    stages = (
        parts.detector.vision_encoder.backbone,
        parts.detector.detr_encoder,
        parts.video.tracker_model.mask_decoder,
    )
    hooks = [stage.register_forward_pre_hook(enter) for stage in stages]
    hooks += [stage.register_forward_hook(leave) for stage in stages]

    def ask(seed: int) -> None:
        segmenter.find(png(seed), [DOG])
        segmenter.outline(png(seed), CLICK)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(6)))
    for hook in hooks:
        hook.remove()
    assert 6 + 2 <= len(crowds) <= 18  # each click alone, the rest as it comes
    assert len(set[int]().union(*crowds)) == 1
    assert all(len(crowd) == 1 for crowd in crowds)


def test_results_are_in_order_and_inside_the_picture(segmenter: LocalSegmenter) -> None:
    asked = (("dog", 0.02), ("red dog", 0.01), ("cat", 1.0))
    concepts = [Concept(phrases=(phrase,), rules=Rules(threshold=least, overlap=True)) for phrase, least in asked]
    results = segmenter.find(png(0, (301, 97)), concepts)
    assert [r.threshold for r in results] == [0.02, 0.01, 1.0]
    assert all(r.size == (301, 97) for r in results)
    assert results[2].instances == ()
    assert results[2].best_rejected is not None
    for result in results[:2]:
        scores = [i.score for i in result.instances]
        assert scores
        assert scores == sorted(scores, reverse=True)
        assert all(result.threshold <= s <= result.presence for s in scores)
        assert all(i.mask.area > 0 and i.mask.frame == (301, 97) for i in result.instances)
        assert {i.phrase for i in result.instances} == set(concepts[results.index(result)].phrases)


def test_the_settings_threshold_holds_unless_options_say_other(checkpoint: Path, segmenter: LocalSegmenter) -> None:
    assert segmenter.find(png(), [DOG])[0].threshold == 0.5
    strict = LocalSegmenter(settings(checkpoint, threshold=0.9))
    assert strict.find(png(), [DOG])[0].threshold == 0.9
    assert strict.find(png(), [DOG], FindOptions(rules=Rules(threshold=0.2)))[0].threshold == 0.2


def test_an_unknown_phrase_in_any_script_is_no_error(segmenter: LocalSegmenter) -> None:
    phrases = ["猫", "x" * 5000, "😀 emoji", "Straßenbahn", "\u202eright to left", "a\x00b"]
    assert len(segmenter.find(png(), [Concept(phrases=(p,)) for p in phrases])) == len(phrases)


def test_outline_candidates(segmenter: LocalSegmenter) -> None:
    counts = [len(segmenter.outline(png(), CLICK, OutlineOptions(candidates=n))) for n in (1, 2, 3)]
    assert counts == sorted(counts)
    assert counts[0] == 1
    readings = segmenter.outline(png(), CLICK, OutlineOptions(candidates=3))
    scores = [i.score for i in readings]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= s <= 1 for s in scores)
    assert all(i.mask.area and i.phrase == "" for i in readings)
    assert segmenter.outline(png(), CLICK)[0].score == scores[0]


def test_outline_takes_every_kind_of_prompt(segmenter: LocalSegmenter) -> None:
    earlier = Mask(np.ones((20, 25), dtype=np.bool_), 10, 12, (60, 44))
    points = (Point(20, 20), Point(50, 40, positive=False))
    prompts = [
        VisualPrompt(points=points),
        VisualPrompt(box=Box(5, 5, 40, 40)),
        VisualPrompt(points=points, box=Box(5, 5, 40, 40)),
        VisualPrompt(points=points, mask=earlier),
        VisualPrompt(points=points[1:], mask=earlier, box=Box(5, 5, 40, 40)),
    ]
    assert all(len(segmenter.outline(png(), prompt)) <= 1 for prompt in prompts)
    with pytest.raises(InvalidPrompt, match="outside"):
        segmenter.outline(png(), VisualPrompt(points=(Point(600, 20),)))


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\x00" * 50])
def test_a_broken_picture_is_one_error_and_not_remembered(segmenter: LocalSegmenter, data: bytes) -> None:
    for _ in range(2):
        with pytest.raises(BrokenImage):
            segmenter.find(data, [DOG])
    assert len(segmenter.find(png(), [DOG])) == 1


def test_a_huge_picture_is_refused(checkpoint: Path, segmenter: LocalSegmenter) -> None:
    small = LocalSegmenter(settings(checkpoint, max_megapixels=0.001))
    with pytest.raises(TooLarge):
        small.find(png(), [DOG])


def test_detector_only_says_so(checkpoint: Path, shared: LocalSegmenter, tmp_path: Path) -> None:
    for file in checkpoint.iterdir():
        if file.name != "model.safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    state = shared._ready(None).model._parts.detector.state_dict()
    save_state({f"detector_model.{k}": v for k, v in state.items()}, tmp_path)
    segmenter = LocalSegmenter(settings(tmp_path))
    segmenter.wait_until_ready(120)
    assert segmenter.info().can_outline is False
    with pytest.raises(Unsupported):
        segmenter.outline(png(), CLICK)
    mine, theirs = segmenter.find(png(), [DOG], LOW)[0], shared.find(png(), [DOG], LOW)[0]
    assert [i.score for i in mine.instances] == pytest.approx([i.score for i in theirs.instances], abs=1e-5)


def test_importing_the_engine_is_quick_because_torch_comes_later() -> None:
    """A server must answer /health while torch imports, so the constructor's module may not import it."""
    import subprocess

    code = "import sys, sam3_core.engine; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_results_do_not_keep_tensors(segmenter: LocalSegmenter) -> None:
    found = segmenter.find(png(), [DOG], LOW)[0]
    kinds = {type(v) for v in (found.presence, found.best_rejected, found.instances[0].score)}
    assert kinds <= {float, type(None)}
    assert not isinstance(found.instances[0].mask.bits, torch.Tensor)
