"""The demo checkpoint: a tiny SAM 3 in the classes and on-disk layout of `facebook/sam3`."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    CLIPTokenizer,
    Sam3ImageProcessor,
    Sam3Processor,
    Sam3VideoConfig,
    Sam3VideoModel,
)

from sam3_core.demo.scenes import known_words
from tools.demo.words import OTHER_NOUNS

IMAGE_SIZE = 112
PATCH_SIZE = 8
GRID = IMAGE_SIZE // PATCH_SIZE
MASK_SIZE = 4 * GRID  # both heads answer at four cells per patch
QUERIES = 36
START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-level BPE with a vocabulary of our own: each word of the demo world is one token.

    All 256 bytes are in the vocabulary, inside a word and at its end, so any text tokenises.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=1500, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    learner.train_from_iterator([*known_words()] * 50 + [*OTHER_NOUNS], trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    pieces = [*alphabet, *(letter + "</w>" for letter in alphabet), *(a + b for a, b in merges), START, END]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=32)
    split = [word for word in known_words() if len(tokenizer(word).input_ids) != 3]
    if split:
        raise AssertionError(f"words of the demo world that are not one token: {split}")
    return tokenizer


def build_config(tokenizer: CLIPTokenizer) -> Sam3VideoConfig:
    """A quarter to an eighth of the real model's width and depth; see `Sam3VideoConfig` for the fields."""
    width, vit = 64, 128
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": vit,
        "intermediate_size": 3 * vit,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH_SIZE,
        # Two by two windows in the first layer keep the windowed code path in every test.
        "window_size": GRID // 2,
        "global_attn_indexes": [1, 2, 3],
        "pretrain_image_size": IMAGE_SIZE,
    }
    vision = {
        "model_type": "sam3_vision_model",
        "backbone_config": backbone,
        "fpn_hidden_size": width,
        "backbone_feature_sizes": [[4 * GRID, 4 * GRID], [2 * GRID, 2 * GRID], [GRID, GRID]],
    }
    text = {
        "model_type": "clip_text_model",
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "projection_dim": width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
        "hidden_act": "gelu",
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    common = {"hidden_size": width, "num_attention_heads": 4, "intermediate_size": 3 * width, "dropout": 0.0}
    detector = {
        "model_type": "sam3",
        "vision_config": vision,
        "text_config": text,
        "geometry_encoder_config": {**common, "num_layers": 1},
        "detr_encoder_config": {**common, "num_layers": 2},
        "detr_decoder_config": {**common, "num_layers": 3, "num_queries": QUERIES},
        "mask_decoder_config": {"hidden_size": width, "num_attention_heads": 4},
    }
    tracker = {
        "model_type": "sam3_tracker_video",
        "vision_config": vision,
        "image_size": IMAGE_SIZE,
        "prompt_encoder_config": {"hidden_size": width, "image_size": IMAGE_SIZE, "patch_size": PATCH_SIZE},
        "mask_decoder_config": {
            "hidden_size": width,
            "mlp_dim": 2 * width,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": width,
        },
        "memory_attention_hidden_size": width,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 2 * width,
        "memory_encoder_hidden_size": width,
        "memory_encoder_output_channels": 16,
        "mask_downsampler_embed_dim": width,
        "memory_fuser_embed_dim": width,
        "memory_fuser_intermediate_dim": 2 * width,
        "memory_fuser_num_layers": 1,
    }
    return Sam3VideoConfig(detector_config=detector, tracker_config=tracker, low_res_mask_size=MASK_SIZE)


def build_model(config: Sam3VideoConfig) -> Sam3VideoModel:
    """Random weights, with the three starts that training from scratch needs."""
    model = Sam3VideoModel(config)
    with torch.no_grad():
        # Queries begin on a grid over the image; random ones first have to find out where they are.
        side = int(QUERIES**0.5)
        centres = (torch.arange(side) + 0.5) / side
        grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1).reshape(-1, 2)
        boxes = torch.cat([grid, torch.full_like(grid, 0.25)], dim=-1)
        model.detector_model.detr_decoder.reference_points.weight.copy_(torch.logit(boxes))
        # Box deltas begin at nothing.
        model.detector_model.detr_decoder.box_head.layer3.weight.zero_()
        model.detector_model.detr_decoder.box_head.layer3.bias.zero_()
        # Clicks and the image grid speak of places in the same code; the classes draw one each.
        tracker = model.tracker_model
        tracker.prompt_encoder.shared_embedding.positional_embedding.copy_(
            tracker.shared_image_embedding.positional_embedding
        )
    return model


def save_checkpoint(model: Sam3VideoModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Config, processor, tokenizer and float16 weights as `facebook/sam3` has them.

    The weights are written from `state_dict()`: `Sam3VideoModel.save_pretrained` of transformers 5.23 writes
    `tracker_model.tracker_model.*`, which `Sam3TrackerModel` then leaves random.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = type(model.config).from_dict(model.config.to_dict())
    config.architectures = ["Sam3VideoModel"]
    config.dtype = "float16"
    config.save_pretrained(folder)
    images = Sam3ImageProcessor(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}, mask_size={"height": MASK_SIZE, "width": MASK_SIZE}
    )
    Sam3Processor(image_processor=images, tokenizer=tokenizer, target_size=IMAGE_SIZE).save_pretrained(folder)
    weights = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
