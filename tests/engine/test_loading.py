"""Which folders load, which do not, and what their sentences say."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_sam3 import IMAGE, edit_json, picture, save_state
from transformers import Sam3Model, Sam3VideoModel

from sam3_core.engine.loading import choose_device, choose_dtype, load_parts
from sam3_core.engine.model import Sam3
from sam3_core.engine.plan import Prompt, Question
from sam3_core.errors import BadSettings, ModelUnavailable
from sam3_core.types import Point, VisualPrompt

State = dict[str, torch.Tensor]


@pytest.fixture
def copied(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


@pytest.fixture
def edited(copied: Path) -> Callable[[Callable[[State], State]], Path]:
    """The checkpoint with changed tensors."""

    def edit(change: Callable[[State], State]) -> Path:
        save_state(change(load_file(copied / "model.safetensors")), copied)
        return copied

    return edit


def without(state: State, *prefixes: str) -> State:
    return {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}


@pytest.mark.parametrize(
    "name",
    [
        "detector_model.dot_product_scoring.query_proj.weight",
        "detector_model.vision_encoder.backbone.layers.1.mlp.fc1.bias",
        "tracker_model.no_memory_embedding",
        "tracker_neck.fpn_layers.0.proj1.weight",
        "tracker_model.shared_image_embedding.positional_embedding",
    ],
)
def test_a_missing_tensor_is_an_error(edited: Callable[[Callable[[State], State]], Path], name: str) -> None:
    folder = edited(lambda state: {k: v for k, v in state.items() if k != name})
    with pytest.raises(ModelUnavailable, match=f"lack {name}"):
        load_parts(folder, "cpu")


def test_layers_that_the_config_does_not_count_are_an_error(
    edited: Callable[[Callable[[State], State]], Path],
) -> None:
    """The loader of transformers says nothing: the ViT would run without its last layer."""
    last = "detector_model.vision_encoder.backbone.layers.1."

    def one_more(state: State) -> State:
        return {**state, **{k.replace(last, last[:-2] + "2."): v for k, v in state.items() if k.startswith(last)}}

    with pytest.raises(ModelUnavailable, match=r"backbone\.layers\.2\..* does not count"):
        load_parts(edited(one_more), "cpu")


def test_unused_extras_are_said(
    edited: Callable[[Callable[[State], State]], Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = edited(lambda state: {**state, "detector_model.extra.weight": torch.zeros(3)})
    with caplog.at_level(logging.WARNING, logger="sam3_core.engine.loading"):
        load_parts(folder, "cpu")
    assert "1 tensors that SAM 3 does not use, such as detector_model.extra.weight" in caplog.text


def test_tables_saved_by_other_releases_do_no_harm(edited: Callable[[Callable[[State], State]], Path]) -> None:
    name = "detector_model.text_encoder.text_model.embeddings.position_ids"
    load_parts(edited(lambda state: {**state, name: torch.arange(32)[None]}), "cpu")


def test_a_tensor_of_another_shape_is_an_error(edited: Callable[[Callable[[State], State]], Path]) -> None:
    name = "detector_model.text_projection.bias"
    with pytest.raises(ModelUnavailable, match="the weights do not fit"):
        load_parts(edited(lambda state: {**state, name: torch.zeros(7)}), "cpu")


def test_metas_own_names_are_an_error(edited: Callable[[Callable[[State], State]], Path]) -> None:
    renamed = {"detector_model.": "detector.", "tracker_model.": "tracker.model.", "tracker_neck.": "tracker.neck."}

    def rename(state: State) -> State:
        return {
            next(n + k.removeprefix(o) for o, n in renamed.items() if k.startswith(o)): v for k, v in state.items()
        }

    with pytest.raises(ModelUnavailable, match="layout of facebook/sam3"):
        load_parts(edited(rename), "cpu")


def test_half_the_tracker_is_an_error_and_not_a_detector(edited: Callable[[Callable[[State], State]], Path]) -> None:
    with pytest.raises(ModelUnavailable, match=r"lack tracker_neck.*tensors; get the checkpoint"):
        load_parts(edited(lambda state: without(state, "tracker_neck.")), "cpu")


@pytest.mark.parametrize("layout", ["no tracker tensors", "save_pretrained", "prefixed", "bare"])
def test_detector_only_folders_load(layout: str, copied: Path) -> None:
    """As people cut or convert them: the whole model's config or the detector's, names with and without prefix."""
    full = load_parts(copied, "cpu", "float32")
    state = without(load_file(copied / "model.safetensors"), "tracker_")
    if layout == "save_pretrained":
        full.detector.save_pretrained(copied)
    elif layout != "no tracker tensors":
        full.detector.config.save_pretrained(copied)
        bare = {name.removeprefix("detector_model."): tensor for name, tensor in state.items()}
        save_state(bare if layout == "bare" else state, copied)
    else:
        save_state(state, copied)
    assert json.loads((copied / "config.json").read_text())["model_type"] == (
        "sam3_video" if layout == "no tracker tensors" else "sam3"
    )
    parts = load_parts(copied, "cpu", "float32")
    assert parts.video is None
    assert isinstance(parts.detector, Sam3Model)
    assert same_weights(parts.detector, full.detector)


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_shards_load(copied: Path) -> None:
    state = load_file(copied / "model.safetensors")
    whole = load_parts(copied, "cpu")
    (copied / "model.safetensors").unlink()
    halves = {"model-1.safetensors": list(state)[::2], "model-2.safetensors": list(state)[1::2]}
    for file, names in halves.items():
        save_file({name: state[name] for name in names}, copied / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, names in halves.items() for name in names}}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    parts = load_parts(copied, "cpu")
    assert isinstance(parts.video, Sam3VideoModel)
    assert same_weights(parts.video, whole.video)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_half_precision_files_run_in_float32_on_the_cpu(copied: Path, stored: torch.dtype) -> None:
    save_state(load_file(copied / "model.safetensors"), copied, stored)
    parts = load_parts(copied)
    floats = {t.dtype for t in parts.detector.state_dict().values() if t.is_floating_point()}
    assert floats == {torch.float32}
    assert parts.dtype == torch.float32


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_computes_about_the_same(checkpoint: Path, sam3: Sam3, dtype: str) -> None:
    half = Sam3.load(checkpoint, "cpu", dtype)
    assert half.dtype == dtype
    rows = [Prompt("dog"), Prompt("red dog")]
    click = VisualPrompt(points=(Point(20, 20), Point(3, 40, positive=False)))
    answers = []
    for model in (sam3, half):
        vision = model.embed([picture()])[0]
        found = model.detect([Question(vision, row, 0.0, 0) for row in rows])
        readings = model.trace(model.click_maps(vision), click, several=False)
        answers.append((found, readings.logits, readings.scores))
    (exact, exact_logits, exact_iou), (found, logits, iou) = answers
    for mine, theirs in zip(found, exact, strict=True):
        assert mine.logits.dtype == mine.scores.dtype == np.float32
        np.testing.assert_allclose(mine.scores, theirs.scores, atol=0.1)
    assert np.mean((logits > 0) == (exact_logits > 0)) > 0.9
    np.testing.assert_allclose(iou, exact_iou, atol=0.1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: edit_json(f / "config.json", model_type="sam2_video"), "'sam2_video'; this product runs SAM 3"),
        (lambda f: edit_json(f / "config.json", model_type=None), "of type None"),
        (lambda f: (f / "config.json").write_text("{"), "not a model's configuration"),
        (lambda f: (f / "config.json").write_text("[]"), "not a model's configuration"),
        (lambda f: (f / "model.safetensors").write_bytes(b"PK\x03\x04"), "not a whole safetensors file"),
        (lambda f: truncate(f / "model.safetensors"), "not a whole safetensors file"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer"),
        (lambda f: (f / "processor_config.json").write_text("{"), "image processor"),
    ],
)  # fmt: skip
def test_broken_files_are_one_sentence(copied: Path, change: Callable[[Path], None], sentence: str) -> None:
    change(copied)
    with pytest.raises(ModelUnavailable, match=sentence) as caught:
        load_parts(copied, "cpu")
    assert str(copied) in str(caught.value)
    assert "\n" not in str(caught.value)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def test_a_processor_for_another_size_is_an_error(copied: Path) -> None:
    config = json.loads((copied / "processor_config.json").read_text())
    config["image_processor"]["size"] = {"height": 2 * IMAGE, "width": 2 * IMAGE}
    (copied / "processor_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelUnavailable, match="makes 128x128 pixels, the model wants 64x64"):
        load_parts(copied, "cpu")


def test_a_tokenizer_with_more_words_than_the_model_is_an_error(copied: Path) -> None:
    """Its ids would index past the embedding table, on some phrases only."""
    tokenizer = load_parts(copied, "cpu").tokenizer
    tokenizer.add_tokens(["onemoreword"])
    tokenizer.save_pretrained(copied)
    with pytest.raises(ModelUnavailable, match=r"has 519 tokens, the model knows 518"):
        load_parts(copied, "cpu")


def test_the_older_processor_file_will_do(copied: Path) -> None:
    nested = json.loads((copied / "processor_config.json").read_text())["image_processor"]
    (copied / "processor_config.json").unlink()
    (copied / "preprocessor_config.json").write_text(json.dumps(nested))
    assert load_parts(copied, "cpu").images.image_mean == (0.4, 0.5, 0.6)


def test_nothing_is_trained_or_dropped(checkpoint: Path) -> None:
    parts = load_parts(checkpoint, "cpu")
    assert parts.video is not None
    assert not parts.video.training
    assert not any(p.requires_grad for p in parts.video.parameters())
    assert parts.detector is parts.video.detector_model  # one set of weights


def test_device_settings() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in {"cpu", "cuda", "mps"}
    with pytest.raises(BadSettings, match="SAM3_DEVICE=gpu cannot be used here"):
        choose_device("gpu")
    with pytest.raises(BadSettings, match="SAM3_DEVICE=cuda:99 cannot be used here"):
        choose_device("cuda:99")


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_dtype(native: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert choose_dtype("auto", torch.device("cuda")) == expected
    assert choose_dtype("auto", torch.device("cpu")) == torch.float32
    assert choose_dtype("auto", torch.device("mps")) == torch.float32
    assert choose_dtype("float16", torch.device("cuda")) == torch.float16
