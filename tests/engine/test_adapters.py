"""Adapters as files: merged they answer as they did in training, and nothing broken or foreign gets in."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Sam3Model

from sam3_core.demo.scenes import Scene
from sam3_core.engine.adapters import FORMAT, adapted_detector, save_adapter
from sam3_core.engine.concepts import ConceptHead
from sam3_core.engine.embeddings import Embedding
from sam3_core.engine.loading import Parts, load_parts
from sam3_core.engine.maps import Neck
from sam3_core.engine.plan import Prompt, Question
from sam3_core.engine.text import TextFeatures
from sam3_core.engine.tuning.forward import Answer, Forward
from sam3_core.engine.tuning.questions import Ask, make_questions
from sam3_core.engine.tuning.sights import Sights
from sam3_core.engine.tuning.training import SCALE, changes_of, put_adapters
from sam3_core.engine.weights import DEMO_FOLDER
from sam3_core.errors import ModelUnavailable
from sam3_core.tuning import Asked

_LAYER = "detr_decoder.layers.0.mlp.fc1"


@pytest.fixture(scope="module")
def demo() -> Parts:
    return load_parts(DEMO_FOLDER, "cpu", "float32")


@pytest.fixture(scope="module")
def trained(demo: Parts) -> Sam3Model:
    """With adapters in place, as peft runs them, that change something."""
    detector = copy.deepcopy(demo.detector)
    torch.manual_seed(4)
    for one in put_adapters(detector, 4).values():
        torch.nn.init.normal_(one.lora_B["default"].weight, std=0.05)
    return detector.eval()


@pytest.fixture
def file(tmp_path: Path, trained: Sam3Model) -> Path:
    from peft.tuners.lora import Linear

    adapters = {name: module for name, module in trained.named_modules() if isinstance(module, Linear)}
    save_adapter(tmp_path / "a.safetensors", trained, changes_of(adapters), scale=SCALE, weights="demo")
    return tmp_path / "a.safetensors"


@pytest.fixture(scope="module")
def ask(demo: Parts, scene: Callable[..., Scene], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Answer]:
    sights = Sights(demo, tmp_path_factory.mktemp("sights"), 10**9)
    number = sights.add(scene(7, objects=(2, 4), size=(160, 120)).image)
    asks = [Ask(make_questions(number, [Asked((p,), ())], sights.glance.cells)[0], p) for p in ("star", "red circle")]

    def answer(detector: Sam3Model) -> Answer:
        with torch.no_grad():
            return Forward(detector, TextFeatures(detector, demo.tokenizer), sights)(asks)

    return answer


def test_merged_it_answers_as_in_training(
    demo: Parts, trained: Sam3Model, file: Path, ask: Callable[..., Answer]
) -> None:
    adapted = adapted_detector(demo.detector, file)
    before, wanted, got = ask(demo.detector), ask(trained), ask(adapted)
    for name in ("logits", "boxes", "presence", "queries", "image"):
        torch.testing.assert_close(getattr(got, name), getattr(wanted, name), atol=1e-5, rtol=1e-4)
    assert float((got.logits - before.logits).abs().max()) > 0.05
    assert not adapted.training
    assert not any(parameter.requires_grad for parameter in adapted.parameters())


def test_only_what_changed_is_copied_and_the_original_stays_as_it_was(
    demo: Parts, file: Path, ask: Callable[..., Answer]
) -> None:
    before = {name: p.clone() for name, p in demo.detector.named_parameters()}
    adapted = adapted_detector(demo.detector, file)
    changed = {name.removesuffix(".A") + ".weight" for name in load_file(file) if name.endswith(".A")}
    originals = dict(demo.detector.named_parameters())
    for name, parameter in adapted.named_parameters():
        assert (parameter is originals[name]) is (name not in changed), name
    assert all(torch.equal(before[name], p) for name, p in originals.items())
    assert adapted.vision_encoder is demo.detector.vision_encoder
    assert len(changed) > 40


def test_the_product_takes_an_adapted_detector(demo: Parts, file: Path, ask: Callable[..., Answer]) -> None:
    """Through the head that serves concepts, not only through training's forward."""
    adapted = adapted_detector(demo.detector, file)
    side = demo.images.size["height"]
    pixels = torch.zeros(1, 3, side, side)
    with torch.inference_mode():
        hidden = demo.detector.vision_encoder.backbone(pixels).last_hidden_state
        question = Question(Embedding((hidden,), (side, side)), Prompt("star"), 0.0, 3)
        head = ConceptHead(demo.detector, TextFeatures(demo.detector, demo.tokenizer), Neck(demo.detector))
        plain, tuned = (one.detect([question])[0] for one in (head, head.adapted(adapted)))
    assert tuned.presence != pytest.approx(plain.presence, rel=0.05)


def test_in_another_dtype_it_is_the_same_adapter(file: Path) -> None:
    half = load_parts(DEMO_FOLDER, "cpu", "bfloat16")
    adapted = adapted_detector(half.detector, file)
    assert adapted.get_submodule(_LAYER).weight.dtype is torch.bfloat16
    assert not torch.equal(adapted.get_submodule(_LAYER).weight, half.detector.get_submodule(_LAYER).weight)


def test_it_is_refused_on_other_weights(parts: Parts, demo: Parts, file: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"another shape|do not have"):
        adapted_detector(parts.detector, file)
    other = copy.deepcopy(demo.detector)
    torch.nn.init.normal_(other.get_submodule(_LAYER).weight, std=0.1)
    with pytest.raises(ModelUnavailable, match="made for other weights"):
        adapted_detector(other, file)


def test_a_broken_file_is_refused_with_a_sentence(demo: Parts, file: Path, tmp_path: Path) -> None:
    whole, bad = file.read_bytes(), tmp_path / "bad.safetensors"
    for content in (b"", b"{}", whole[:100], whole[: len(whole) // 2], whole[:-1], b"\xff" * 4096):
        bad.write_bytes(content)
        with pytest.raises(ModelUnavailable):
            adapted_detector(demo.detector, bad)
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        adapted_detector(demo.detector, tmp_path / "missing.safetensors")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda t, m: m.pop("format"), "no adapter"),
        (lambda t, m: m.update(format="sam3-prelabel-adapter-99"), "another release"),
        (lambda t, m: m.update(scale="much"), "not whole"),
        (lambda t, m: m.update(scale="nan"), "not whole"),
        (lambda t, m: t.pop(f"{_LAYER}.B"), "not whole"),
        (lambda t, m: t.pop(f"{_LAYER}.base"), "not whole"),
        (lambda t, m: t[f"{_LAYER}.A"].fill_(float("nan")), "not whole"),
        (lambda t, m: t.update({f"{_LAYER}.A": torch.zeros(3, 64)}), "not whole"),
        (lambda t, m: t.update({"surprise": torch.zeros(1)}), "not whole"),
        (lambda t, m: t.clear(), "not whole"),
        (lambda t, m: [t.update({f"vision.{k}": t.pop(f"{_LAYER}.{k}")}) for k in ("A", "B", "base")], "do not have"),
    ],
)
def test_an_adapter_that_is_not_one_is_refused(
    demo: Parts, file: Path, tmp_path: Path, spoil: Callable[..., object], says: str
) -> None:
    tensors, metadata = load_file(file), {"format": FORMAT, "scale": "2.0", "weights": "demo"}
    spoil(tensors, metadata)
    save_file(tensors, tmp_path / "b.safetensors", metadata=metadata)
    with pytest.raises(ModelUnavailable, match=says):
        adapted_detector(demo.detector, tmp_path / "b.safetensors")
