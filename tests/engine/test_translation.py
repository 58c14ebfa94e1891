"""Phrases through a translation model, and through it to the demo checkpoint."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny_translators import PHRASES, save_marian, save_nllb

from sam3_core import Concept
from sam3_core.demo.scenes import render_scene
from sam3_core.engine import LocalSegmenter
from sam3_core.engine.translation import Translator
from sam3_core.errors import InvalidPrompt, ModelUnavailable
from sam3_core.settings import CoreSettings


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marian")
    save_marian(folder)
    return folder


@pytest.fixture(scope="module")
def nllb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nllb")
    save_nllb(folder)
    return folder


def test_marian_translates(marian: Path) -> None:
    translate = Translator(str(marian), "cpu")
    assert {phrase: translate(phrase) for phrase in PHRASES} == PHRASES


def test_nllb_is_told_both_languages(nllb: Path) -> None:
    translate = Translator(str(nllb), "cpu", language="zho_Hans")
    assert {phrase: translate(phrase) for phrase in PHRASES} == PHRASES


@pytest.mark.parametrize("language", ["", "zh", "chinese"])
def test_nllb_without_its_word_for_the_language_does_not_start(nllb: Path, language: str) -> None:
    with pytest.raises(ModelUnavailable, match="SAM3_TRANSLATION_LANGUAGE"):
        Translator(str(nllb), "cpu", language=language)


def test_threads_may_translate_at_the_same_time(marian: Path) -> None:
    translate, answers = Translator(str(marian), "cpu"), dict[str, str]()
    threads = [threading.Thread(target=lambda p=phrase: answers.update({p: translate(p)})) for phrase in PHRASES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == PHRASES


def test_a_text_that_is_no_phrase_is_refused(marian: Path) -> None:
    with pytest.raises(InvalidPrompt, match="64 tokens"):
        Translator(str(marian), "cpu")("红" * 100)


def test_what_cannot_be_loaded_is_a_sentence(marian: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="SAM3_TRANSLATION_MODEL="):
        Translator(str(tmp_path), "cpu")
    for file in marian.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    lost = next(name for name in weights if "fc1" in name)
    save_file({n: w for n, w in weights.items() if n != lost}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelUnavailable, match="lacks 1 weight"):
        Translator(str(tmp_path), "cpu")


def test_a_broken_translation_model_is_no_silent_english(tmp_path: Path) -> None:
    segmenter = LocalSegmenter(CoreSettings(translation_model=str(tmp_path)))
    with pytest.raises(ModelUnavailable, match="SAM3_TRANSLATION_MODEL="):
        segmenter.wait_until_ready(60)
    assert "SAM3_TRANSLATION_MODEL" in segmenter.info().problem


def test_a_foreign_phrase_finds_what_the_english_one_finds(marian: Path, tmp_path: Path) -> None:
    glossary = tmp_path / "glossary.txt"
    glossary.write_text("圆: circle; disc\n", encoding="utf-8")
    segmenter = LocalSegmenter(CoreSettings(translation_model=str(marian), glossary=glossary))
    scene = next(s for s in map(render_scene, range(100)) if s.matching("red circle"))
    concepts = [Concept((p,)) for p in ("红色圆形", "red circle", "圆", "circle", "круг")]
    # One by one: asked together, concepts that mean one object would share it out.
    found = [segmenter.find(scene.encode("PNG"), [concept])[0] for concept in concepts]
    translated, english, looked_up, circle, unknown = found

    assert [i.box for i in translated.instances] == [i.box for i in english.instances] != []
    assert {i.phrase for i in translated.instances} == {"红色圆形"}
    assert "'红色圆形' was translated: 'red circle'" in translated.notes
    assert {i.box for i in looked_up.instances} >= {i.box for i in circle.instances} != set()
    assert looked_up.notes == ()
    assert any("not in Latin letters" in note for note in unknown.notes) or unknown.notes[0].startswith("'круг' was")
