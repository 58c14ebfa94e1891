"""Batches: scenes as tensors with the questions asked of each."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sam3_core.demo.scenes import COLORS, SHAPES
from tools.demo.data import SceneSet, augment
from tools.demo.questions import Question, exemplar_question, text_question

TEXTS, EXEMPLARS = 3, 1  # questions of each kind per image
EXEMPLAR_BOXES = 2
NOISE_SHIFT, NOISE_SCALE = 0.4, 0.5


@dataclass
class Batch:
    """pixels ``(B, 3, S, S)``, masks ``(B, O, M, M)`` 0..1, boxes ``(B, O, 4)``; questions per image in order."""

    pixels: Tensor
    masks: Tensor
    boxes: Tensor
    kinds: list[list[tuple[str, str]]]
    questions: list[list[Question]]


def make_batch(scenes: SceneSet, indices: list[int], rng: random.Random) -> Batch:
    pixels, masks, boxes, kinds, questions = [], [], [], [], []
    for i in indices:
        named = [(COLORS[c], SHAPES[s]) for c, s in scenes.kinds[i] if c >= 0]
        image, shares, places = augment(scenes.images[i], scenes.masks[i], scenes.boxes[i], rng)
        pixels.append(torch.from_numpy(image).permute(2, 0, 1))
        masks.append(torch.from_numpy(np.ascontiguousarray(shares)))
        boxes.append(torch.from_numpy(np.ascontiguousarray(places, dtype=np.float32)))
        kinds.append(named)
        questions.append(
            [text_question(named, rng) for _ in range(TEXTS)]
            + [exemplar_question(named, rng) for _ in range(EXEMPLARS)]
        )
    return Batch(
        torch.stack(pixels).float().div_(127.5).sub_(1),
        torch.stack(masks).float().div_(255),
        torch.stack(boxes),
        kinds,
        questions,
    )


def exemplars(questions: list[Question], rows: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """``(R, EXEMPLAR_BOXES, 4)`` cxcywh, hand-drawn sloppily, and labels; -10 pads as the product pads."""
    boxes = torch.tensor([-10.0, -10.0, 0.0, 0.0]).expand(len(questions), EXEMPLAR_BOXES, 4).clone()
    labels = torch.full((len(questions), EXEMPLAR_BOXES), -10)
    for r, question in enumerate(questions):
        shown = [(i, 1) for i in question.positive] + [(i, 0) for i in question.negative]
        for place, (thing, label) in enumerate(shown[:EXEMPLAR_BOXES]):
            box = batch.boxes[int(rows[r]), thing]
            jitter = (torch.rand(4) - 0.5) * 0.16
            boxes[r, place] = torch.cat([box[:2] + box[2:] * jitter[:2], box[2:] * (1 + jitter[2:])])
            labels[r, place] = label
    return boxes, labels


def noise(boxes: Tensor) -> Tensor:
    """Copies of ``(R, O, 4)`` cxcywh boxes, shifted and scaled by up to the given shares of their size."""
    shift = (torch.rand_like(boxes[..., :2]) * 2 - 1) * NOISE_SHIFT * boxes[..., 2:]
    scale = 1 + (torch.rand_like(boxes[..., 2:]) * 2 - 1) * NOISE_SCALE
    return torch.cat([boxes[..., :2] + shift, boxes[..., 2:] * scale], dim=-1).clamp(0.01, 0.99)
