"""Phrases into English with a translation model of transformers: Marian (opus-mt), NLLB, M2M100, mBART."""

from __future__ import annotations

import logging
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from sam3_core.errors import InvalidPrompt, ModelUnavailable

logger = logging.getLogger(__name__)

_ENGLISH = ("eng_Latn", "__en__", "en_XX")
"""What the target language is called among the tokens of NLLB, M2M100 and mBART; Marian's to-English models know no
other."""

_LONGEST = 64  # tokens, in and out: phrases are a few words
_STOPS = " .。!?！？"


class Translator:
    """One model, loaded once, one phrase at a time: for the device's thread alone."""

    def __init__(self, model: str, device: str, *, language: str = "", token: str | None = None) -> None:
        """model: a folder or a hub id. language: what phrases are written in, in the model's own words, such as
        ``zho_Hans`` (NLLB) or ``zh`` (M2M100); empty for models that know one.

        Raises ModelUnavailable with a sentence.
        """
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(model, token=token)
            loaded, report = AutoModelForSeq2SeqLM.from_pretrained(model, token=token, output_loading_info=True)
        except Exception as error:  # the libraries raise whatever a file or the network provokes
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelUnavailable(f"SAM3_TRANSLATION_MODEL={model} cannot be loaded: {first}") from error
        if report["missing_keys"]:
            raise ModelUnavailable(f"SAM3_TRANSLATION_MODEL={model} lacks {len(report['missing_keys'])} weights")
        self._model = loaded.to(device).eval()
        self._target = self._target_token()
        self._choose(model, language)
        logger.info("translating phrases with %s", model)

    def __call__(self, phrase: str) -> str:
        """The phrase in English. Raises InvalidPrompt when it is too long."""
        with torch.inference_mode():
            tokens = self._tokenizer(phrase, return_tensors="pt").to(self._model.device)
            if tokens.input_ids.shape[1] > _LONGEST:
                raise InvalidPrompt(f"it has more than {_LONGEST} tokens")
            options = {} if self._target is None else {"forced_bos_token_id": self._target}
            out = self._model.generate(
                input_ids=tokens.input_ids,
                attention_mask=tokens.attention_mask,
                max_new_tokens=_LONGEST,
                num_beams=4,
                do_sample=False,
                **options,
            )
            return str(self._tokenizer.decode(out[0], skip_special_tokens=True)).strip(_STOPS)

    def _target_token(self) -> int | None:
        """The token that makes the answer English, for models with several target languages."""
        known = self._tokenizer.get_vocab()
        return next((known[name] for name in _ENGLISH if name in known), None)

    def _choose(self, model: str, language: str) -> None:
        """Tell the tokenizer the source language. Raises ModelUnavailable where it is missing or unknown."""
        if self._target is None:
            return
        known = self._tokenizer.get_vocab()
        if not language or not ({language, f"__{language}__"} & set(known)):
            raise ModelUnavailable(
                f"SAM3_TRANSLATION_MODEL={model} knows several languages: set SAM3_TRANSLATION_LANGUAGE to the one "
                f"that phrases are written in, in the model's words (zho_Hans, zh, zh_CN, ...), not {language!r}"
            )
        self._tokenizer.src_lang = language
