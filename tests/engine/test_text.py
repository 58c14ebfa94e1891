from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from tiny_sam3 import TEXT
from transformers import Sam3Processor

from sam3_core.engine.loading import Parts
from sam3_core.engine.text import TextFeatures


class Counted:
    """Text features, and how many phrases went through the encoder."""

    def __init__(self, parts: Parts, capacity: int = 1024) -> None:
        self.features = TextFeatures(parts.detector, parts.tokenizer, capacity)
        self.encoded = 0
        self.hook = parts.detector.text_encoder.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _: object, __: object, kwargs: dict[str, torch.Tensor]) -> None:
        self.encoded += len(kwargs["input_ids"])

    def __call__(self, *phrases: str) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            return self.features(phrases)


def test_equals_the_stock_features(checkpoint: Path, parts: Parts) -> None:
    phrases = ["red dog", "dog", "Straßenbahn 猫"]
    inputs = Sam3Processor.from_pretrained(checkpoint)(text=phrases, return_tensors="pt")
    with torch.inference_mode():
        expected = parts.detector.get_text_features(**inputs).pooler_output
    features, mask = Counted(parts)(*phrases)
    torch.testing.assert_close(features, expected, atol=1e-6, rtol=0)
    assert torch.equal(mask, inputs.attention_mask.bool())
    assert mask.sum(dim=1).tolist()[:2] == [4, 3]


def test_a_phrase_is_encoded_once_whatever_its_case(parts: Parts) -> None:
    text = Counted(parts)
    first, _ = text("red dog", "dog")
    again, _ = text("DOG", "Red Dog", "dog")
    assert text.encoded == 2
    assert torch.equal(again, first[[1, 0, 1]])


def test_the_memory_is_bounded_and_forgets_the_oldest(parts: Parts) -> None:
    text = Counted(parts, capacity=2)
    text("a")
    text("b")
    text("a", "c")  # b goes
    text("a")
    assert text.encoded == 3
    text("b")
    assert text.encoded == 4
    many, _ = text(*"abcdefgh")  # more than it may keep, in one request
    assert len(many) == 8


def test_many_phrases_are_the_same_as_one_by_one(parts: Parts) -> None:
    phrases = [f"dog {n}" for n in range(40)]
    together, _ = Counted(parts)(*phrases)
    apart = Counted(parts)
    single = torch.cat([apart(phrase)[0] for phrase in phrases])
    torch.testing.assert_close(together, single, atol=1e-5, rtol=0)


def test_a_long_phrase_is_cut_and_said(parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="sam3_core.engine.text"):
        features, mask = Counted(parts)("red dog " * 40)
    assert features.shape[1] == TEXT
    assert bool(mask.all())
    assert "the rest is not read" in caplog.text
