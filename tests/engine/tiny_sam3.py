"""A SAM 3 of a few hundred thousand random weights, on disk in the layout of the real one."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTokenizer, Sam3ImageProcessor, Sam3Processor, Sam3VideoConfig, Sam3VideoModel

IMAGE, PATCH, DIM, QUERIES, TEXT = 64, 8, 32, 12, 32
SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def tiny_config(vocabulary: int) -> Sam3VideoConfig:
    """The smallest that has every part: two windows in the ViT, two DETR layers, one memory layer."""
    grid = IMAGE // PATCH
    vision = {
        "model_type": "sam3_vision_model",
        "fpn_hidden_size": DIM,
        "backbone_feature_sizes": [[4 * grid, 4 * grid], [2 * grid, 2 * grid], [grid, grid]],
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": IMAGE,
            "pretrain_image_size": IMAGE,
            "patch_size": PATCH,
            "window_size": grid // 2,
            "global_attn_indexes": [1],
        },
    }
    text = {
        "model_type": "clip_text_model",
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": TEXT,
        "projection_dim": 32,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }
    layers = {"hidden_size": DIM, "num_attention_heads": 2, "intermediate_size": 48, "dropout": 0.0, "num_layers": 2}
    detector = {
        "model_type": "sam3",
        "vision_config": vision,
        "text_config": text,
        "geometry_encoder_config": {**layers, "num_layers": 1, "roi_size": 3},
        "detr_encoder_config": layers,
        "detr_decoder_config": {**layers, "num_queries": QUERIES},
        "mask_decoder_config": {"hidden_size": DIM, "num_attention_heads": 2, "num_upsampling_stages": 3},
    }
    tracker = {
        "model_type": "sam3_tracker_video",
        "vision_config": vision,
        "image_size": IMAGE,
        "prompt_encoder_config": {
            "hidden_size": DIM, "image_size": IMAGE, "patch_size": PATCH, "mask_input_channels": 8,
        },
        "mask_decoder_config": {
            "hidden_size": DIM, "mlp_dim": 48, "num_attention_heads": 2, "iou_head_hidden_dim": DIM,
        },
        "memory_attention_hidden_size": DIM,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 48,
        "memory_encoder_hidden_size": DIM,
        "memory_encoder_output_channels": 8,
        "mask_downsampler_embed_dim": DIM,
        "memory_fuser_embed_dim": DIM,
        "memory_fuser_intermediate_dim": 48,
        "memory_fuser_num_layers": 1,
    }  # fmt: skip
    return Sam3VideoConfig(detector_config=detector, tracker_config=tracker, low_res_mask_size=4 * grid)


def tiny_model(vocabulary: int, seed: int = 0) -> Sam3VideoModel:
    """Random weights large enough that every input moves the output; the stock start values hardly do."""
    model = Sam3VideoModel(tiny_config(vocabulary)).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            fan = max(1, math.prod(parameter.shape[1:])) if parameter.ndim > 1 else 16
            parameter.add_(torch.randn_like(parameter) / math.sqrt(fan))
    return model


def save_state(state: dict[str, torch.Tensor], folder: Path, dtype: torch.dtype = torch.float32) -> None:
    tensors = {k: (v.to(dtype) if v.is_floating_point() else v).contiguous().clone() for k, v in state.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def byte_letters() -> list[str]:
    """The 256 symbols of byte-level BPE: printable Latin-1 stands for itself, the rest for 256 and up."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(b) for b in plain] + [chr(256 + n) for n in range(256 - len(plain))]


def save_checkpoint(folder: Path) -> None:
    """Not ``save_pretrained`` for the model: it writes tracker names that only one of the classes reads back."""
    letters = byte_letters()
    merges = [("r", "e"), ("re", "d</w>"), ("d", "o"), ("do", "g</w>")]
    words = [*letters, *(f"{c}</w>" for c in letters), *("".join(pair) for pair in merges), *SPECIAL]
    tokenizer = CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=merges, model_max_length=TEXT)
    images = Sam3ImageProcessor(
        size={"height": IMAGE, "width": IMAGE}, image_mean=[0.4, 0.5, 0.6], image_std=[0.5, 0.4, 0.3]
    )
    folder.mkdir(parents=True)
    Sam3Processor(images, tokenizer).save_pretrained(folder)
    model = tiny_model(len(words))
    model.config.save_pretrained(folder)
    save_state(model.state_dict(), folder)


def edit_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def picture(seed: int = 0, size: tuple[int, int] = (60, 44)) -> np.ndarray:
    """``(H, W, 3)`` uint8 noise with some structure; size is (width, height)."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
    return np.array(coarse.resize(size, Image.Resampling.BICUBIC))


def png(seed: int = 0, size: tuple[int, int] = (60, 44)) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture(seed, size)).save(stream, "PNG")
    return stream.getvalue()
