"""Phrases to text features, kept across requests: they depend on nothing but the words."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence

import torch
from transformers import CLIPTokenizer, Sam3Model

logger = logging.getLogger(__name__)

_BATCH = 32


class TextFeatures:
    """The text encoder with a memory of the last `capacity` phrases.

    One phrase of the full model is 32 tokens x 256 channels, 32 KiB in float32, so the default costs 32 MiB.
    For the device's thread alone.
    """

    def __init__(self, detector: Sam3Model, tokenizer: CLIPTokenizer, capacity: int = 1024) -> None:
        self._detector = detector
        self._tokenizer = tokenizer
        self._capacity = capacity
        self._length = int(detector.config.text_config.max_position_embeddings)
        self._kept: OrderedDict[str, tuple[torch.Tensor, torch.Tensor]] = OrderedDict()

    def __call__(self, phrases: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """``(K, T, C)`` features in the model's dtype and ``(K, T)`` bool mask, True at real tokens.

        T is the model's fixed text length (32): phrases are padded to it and cut at it, because the position
        table ends there and a longer row raises inside the encoder. Lower- and upper case are one phrase.
        """
        keys = [phrase.lower() for phrase in phrases]
        rows = {key: self._kept[key] for key in keys if key in self._kept}
        new = [key for key in dict.fromkeys(keys) if key not in rows]
        for start in range(0, len(new), _BATCH):
            batch = new[start : start + _BATCH]
            rows.update(zip(batch, self._encode(batch), strict=True))
        for key in keys:
            self._kept[key] = rows[key]
            self._kept.move_to_end(key)
        while len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return torch.stack([rows[key][0] for key in keys]), torch.stack([rows[key][1] for key in keys])

    def _encode(self, phrases: list[str]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        tokens = self._tokenizer(
            phrases, padding="max_length", truncation=True, max_length=self._length, return_tensors="pt"
        ).to(self._detector.device)
        for phrase, mask in zip(phrases, tokens.attention_mask, strict=True):
            if bool(mask.all()):
                logger.warning(
                    "the phrase %r fills the model's %d tokens; the rest is not read", phrase, self._length
                )
        encoded = self._detector.get_text_features(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        return list(zip(encoded.pooler_output, tokens.attention_mask.bool(), strict=True))
