"""Fine-tuned weights beside the checkpoint's: only searches that name them change, and nobody else waits or fails."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_sam3 import png

from sam3_core.engine import LocalSegmenter, heads
from sam3_core.engine.adapters import Change, save_adapter
from sam3_core.engine.heads import Heads, detect_each
from sam3_core.engine.loading import Parts
from sam3_core.engine.looks import looks
from sam3_core.engine.model import Sam3, Serving
from sam3_core.engine.plan import Prompt, Question
from sam3_core.errors import InvalidPrompt, UnknownAdapter
from sam3_core.results import ConceptResult
from sam3_core.rules import Rules, Tiling
from sam3_core.settings import CoreSettings
from sam3_core.types import Concept, FindOptions, ModelState, Point, VisualPrompt

DOG = Concept(phrases=("dog",))
LAYER = "detr_decoder.layers.0.mlp.fc1"
CLICK = VisualPrompt(points=(Point(20, 20),))


def save(folder: Path, name: str, parts: Parts, seed: int) -> Path:
    """An adapter that changes one layer of the decoder, a good deal."""
    layer, random = parts.detector.get_submodule(LAYER), torch.Generator().manual_seed(seed)
    down, up = (torch.randn(shape, generator=random) for shape in ((2, layer.in_features), (layer.out_features, 2)))
    file = folder / f"{name}.safetensors"
    save_adapter(file, parts.detector, {LAYER: Change(down, up)}, scale=1.0, weights="tiny")
    return file


@pytest.fixture
def folder(tmp_path: Path, parts: Parts) -> Path:
    for seed, name in enumerate("abcdef"):
        save(tmp_path, name, parts, seed)
    return tmp_path


@pytest.fixture
def segmenter(checkpoint: Path, folder: Path, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> LocalSegmenter:
    monkeypatch.setattr(Sam3, "load", lambda _folder, _device, _dtype, serving: Sam3(parts, serving))
    made = LocalSegmenter(CoreSettings(model=str(checkpoint), device="cpu", adapters=folder))
    made.wait_until_ready(120)
    return made


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the adapters that were read, in order."""
    names: list[str] = []
    read = heads.adapted_detector

    def noting(detector: object, file: Path) -> object:
        names.append(file.stem)
        return read(detector, file)

    monkeypatch.setattr(heads, "adapted_detector", noting)
    return names


def ask(segmenter: LocalSegmenter, adapter: str = "", **options: object) -> ConceptResult:
    low = Rules(threshold=0.01, overlap=True)
    (result,) = segmenter.find(png(), [replace(DOG, adapter=adapter)], FindOptions(rules=low, **options))
    return result


def scores(result: ConceptResult) -> list[float]:
    return [instance.score for instance in result.instances]


def plain(result: ConceptResult) -> list[tuple[float, tuple[int, ...], bytes]]:
    return [(one.score, one.box, one.mask.bits.tobytes()) for one in result.instances]


def test_only_searches_that_name_it_change(segmenter: LocalSegmenter) -> None:
    before = ask(segmenter)
    adapted, other = ask(segmenter, "a"), ask(segmenter, "b")
    assert len({tuple(scores(one)) for one in (before, adapted, other)}) == 3
    after = ask(segmenter)
    assert plain(after) == plain(before)
    assert plain(ask(segmenter, "a")) == plain(adapted)
    assert scores(ask(segmenter, "a", tiles=Tiling.ON)) == scores(adapted)  # too small for tiles


def test_all_that_is_frozen_is_shared(segmenter: LocalSegmenter, parts: Parts) -> None:
    ask(segmenter, "a")
    model = segmenter._ready(None).model
    own, adapted = model._heads.get(""), model._heads.get("a")
    changed = {
        name for name, one in adapted._detector.named_parameters() if one is not parts.detector.get_parameter(name)
    }
    assert changed == {f"{LAYER}.weight"}
    assert adapted._neck is own._neck
    assert adapted._text is own._text
    assert not any(one.requires_grad for one in adapted._detector.parameters())


def test_features_do_not_depend_on_the_adapter(parts: Parts, folder: Path) -> None:
    """They are those of the masks, on maps that are the checkpoint's whoever asks."""
    model = Sam3(parts, Serving(pass_mb=64, adapters=folder))
    view = model.embed([np.full((40, 40, 3), 90, np.uint8)])[0]
    for name in ("", "a"):
        (found,) = model.detect([Question(view, Prompt("dog"), 0.0, 0, features=True, adapter=name)])
        assert found.features is not None
        assert found.features == pytest.approx(
            looks(model._neck((view,)), 0, torch.from_numpy(found.logits)).numpy(), abs=1e-3
        )


def test_a_pass_of_several_adapters_is_as_each_alone(parts: Parts, folder: Path) -> None:
    model = Sam3(parts, Serving(pass_mb=64, adapters=folder))
    views = [model.embed([np.full((40, 40, 3), grey, np.uint8)])[0] for grey in (20, 200)]
    names = ["", "a", "b", "a", "", "b", "a"]
    asked = [
        Question(views[i % 2], Prompt(("dog", "red dog")[i % 3 == 0]), 0.0, 0, features=i % 2 == 0, adapter=name)
        for i, name in enumerate(names)
    ]
    together = detect_each([(model._heads.get(one.adapter), one) for one in asked])
    for question, found in zip(asked, together, strict=True):
        (alone,) = model.detect([question])
        assert found.scores == pytest.approx(alone.scores, abs=1e-5)
        assert found.logits == pytest.approx(alone.logits, abs=1e-3)
        assert (found.features is None) == (alone.features is None) == (not question.features)
    assert len({found.scores.tobytes() for found in together}) >= 6


def test_requests_at_once_get_their_own_answers(segmenter: LocalSegmenter) -> None:
    names = ["", "a", "b"] * 3
    alone = {name: scores(ask(segmenter, name)) for name in set(names)}
    got: dict[int, list[float]] = {}
    threads = [
        threading.Thread(target=lambda i=i, name=name: got.update({i: scores(ask(segmenter, name))}))
        for i, name in enumerate(names)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for i, name in enumerate(names):
        assert got[i] == pytest.approx(alone[name], abs=1e-5)


def test_the_last_four_are_kept(segmenter: LocalSegmenter, reads: list[str]) -> None:
    for name in "abcda":
        ask(segmenter, name)
    assert reads == list("abcd")
    ask(segmenter, "e")  # b, the longest unused, goes
    for name in "acde":
        ask(segmenter, name)
    assert reads == list("abcde")
    ask(segmenter, "b")
    assert reads == list("abcdeb")
    assert len(segmenter._ready(None).model._heads._kept) == 4


def test_a_file_in_the_place_of_another_is_read(
    segmenter: LocalSegmenter, folder: Path, parts: Parts, reads: list[str]
) -> None:
    first = ask(segmenter, "a")
    file = save(folder, "a", parts, 77)
    os.utime(file, (1, 1))
    assert scores(ask(segmenter, "a")) != scores(first)
    assert reads == ["a", "a"]
    file.unlink()
    with pytest.raises(UnknownAdapter, match="there are no fine-tuned weights 'a'"):
        ask(segmenter, "a")


def test_those_who_come_together_read_it_once_and_others_do_not_wait(
    segmenter: LocalSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, begun, go, count = heads.adapted_detector, threading.Event(), threading.Event(), [0]

    def slow(detector: object, file: Path) -> object:
        count[0] += 1
        begun.set()
        assert go.wait(60)
        return read(detector, file)

    monkeypatch.setattr(heads, "adapted_detector", slow)
    threads = [threading.Thread(target=ask, args=(segmenter, "a")) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    assert ask(segmenter).rules.threshold == 0.01
    segmenter.outline(png(), CLICK)  # both while it is read
    go.set()
    for thread in threads:
        thread.join(60)
    assert count == [1]


@pytest.mark.parametrize("name", ["nothing", "a-", "0" * 64])
def test_a_name_that_is_not_there(segmenter: LocalSegmenter, name: str) -> None:
    with pytest.raises(UnknownAdapter, match=f"no fine-tuned weights '{name}'"):
        ask(segmenter, name)


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/../a", "A", "a.safetensors", "a\0", "a" * 65, "é", "a\n"])
def test_a_name_is_never_a_path(segmenter: LocalSegmenter, folder: Path, name: str) -> None:
    with pytest.raises(InvalidPrompt, match="an adapter's name"):
        ask(segmenter, name)
    with pytest.raises(UnknownAdapter):
        segmenter._ready(None).model._heads.get(name)


def test_without_a_folder_there_are_none(parts: Parts) -> None:
    model = Sam3(parts, Serving(pass_mb=64))
    with pytest.raises(UnknownAdapter, match="SAM3_ADAPTERS names the folder"):
        model._heads.get("a")


SPOILS: dict[str, Callable[[Path, Parts], object]] = {
    "empty": lambda file, _: file.write_bytes(b""),
    "cut": lambda file, _: file.write_bytes(file.read_bytes()[:-9]),
    "noise": lambda file, _: file.write_bytes(b"\xff" * 99),
    "a folder": lambda file, _: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("how", SPOILS)
def test_a_broken_file_harms_nobody_else(
    segmenter: LocalSegmenter, folder: Path, parts: Parts, how: str, reads: list[str]
) -> None:
    before, file = ask(segmenter), folder / "a.safetensors"
    SPOILS[how](file, parts)
    for _ in range(2):
        with pytest.raises(UnknownAdapter, match="the fine-tuned weights 'a' cannot be used: "):
            ask(segmenter, "a")
    assert reads == ["a", "a"]
    assert segmenter.info().state is ModelState.READY
    assert plain(ask(segmenter)) == plain(before)
    shutil.rmtree(file) if file.is_dir() else file.unlink()
    save(folder, "a", parts, 0)
    assert scores(ask(segmenter, "a")) != scores(before)


def test_heads_know_the_own_one(parts: Parts) -> None:
    own = object()
    assert Heads(parts.detector, own, None, None).get("") is own  # type: ignore[arg-type]
