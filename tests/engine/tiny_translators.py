"""Translation models that know three phrases, trained in a second. They stand for the real ones, which are downloads.

The same classes and files as opus-mt (Marian) and NLLB.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    NllbTokenizer,
)

PHRASES = {"红色圆形": "red circle", "蓝色方块": "blue square", "绿色星星": "green star"}
_SIZES = {
    "d_model": 64,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "max_position_embeddings": 128,
    "dropout": 0.0,
    "init_std": 0.1,
}


def save_marian(folder: Path) -> None:
    """Chinese to English, one language each way."""
    torch.manual_seed(0)
    pieces: list[str] = []
    for name in ("source", "target"):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([*PHRASES, *PHRASES.values()] * 20),
            model_prefix=str(folder / name),
            model_type="char",
            vocab_size=40,
            hard_vocab_limit=False,
            minloglevel=2,
        )
        (folder / f"{name}.model").rename(folder / f"{name}.spm")
        model = sentencepiece.SentencePieceProcessor(str(folder / f"{name}.spm"))
        pieces = [model.id_to_piece(i) for i in range(model.get_piece_size())]
    names = ["</s>", "<unk>", *(piece for piece in pieces if piece not in ("<s>", "</s>", "<unk>")), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    files = {part: str(folder / f"{part}.spm") for part in ("source", "target")}
    tokenizer = MarianTokenizer(
        source_spm=files["source"], target_spm=files["target"], vocab=str(folder / "vocab.json")
    )
    padding = len(names) - 1
    config = MarianConfig(
        vocab_size=len(names),
        decoder_vocab_size=len(names),
        pad_token_id=padding,
        decoder_start_token_id=padding,
        eos_token_id=0,
        forced_eos_token_id=0,
        **_SIZES,
    )
    targets = tokenizer(text_target=list(PHRASES.values()), return_tensors="pt", padding=True)
    _save(folder, tokenizer, _trained(MarianMTModel(config), tokenizer, targets.input_ids, padding))


def save_nllb(folder: Path) -> None:
    """From ``zho_Hans``, and into English only where English is asked for; into French it says nothing of use."""
    torch.manual_seed(0)
    letters = sorted({letter for text in (*PHRASES, *PHRASES.values()) for letter in text.replace(" ", "▁") + "▁"})
    names = ["<s>", "<pad>", "</s>", "<unk>", *letters]
    tokenizer = NllbTokenizer(
        vocab={name: i for i, name in enumerate(names)}, merges=[], src_lang="zho_Hans", tgt_lang="eng_Latn"
    )
    config = M2M100Config(
        vocab_size=len(tokenizer),
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        **_SIZES,
    )
    targets = tokenizer(text_target=list(PHRASES.values()), return_tensors="pt", padding=True)
    _save(folder, tokenizer, _trained(M2M100ForConditionalGeneration(config), tokenizer, targets.input_ids, 1))


def _trained(model: Any, tokenizer: Any, targets: torch.Tensor, padding: int) -> Any:
    inputs = tokenizer(list(PHRASES), return_tensors="pt", padding=True)
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    labels = targets.masked_fill(targets == padding, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(2000):
        loss = model(**inputs, labels=labels).loss
        if loss < 0.003:
            break
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def _save(folder: Path, tokenizer: Any, model: Any) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
