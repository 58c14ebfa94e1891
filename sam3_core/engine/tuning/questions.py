"""What is asked in training: phrases about images, with the objects that answer them as the model would say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sam3_core.learning.examples import Truth
from sam3_core.logits import cell_cover
from sam3_core.tuning import Asked


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One concept asked of one image: any of the phrases, and all of its T objects there; none is an answer too.

    sight: the image's number. boxes: ``(T, 4)`` float32 cxcywh, 0..1. covers: ``(T, M, M)`` uint8, share of each cell
    that is the object, 0..255. outlined: ``(T,)`` bool, whether the cover is its outline.
    """

    sight: int
    phrases: tuple[str, ...]
    boxes: Tensor
    covers: Tensor
    outlined: Tensor


Views = Sequence[Question]
"""The same question about several views of one image."""


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """A question with the phrase that it is asked by."""

    question: Question
    phrase: str

    @property
    def count(self) -> int:
        return len(self.question.boxes)


def make_questions(sight: int, asked: Sequence[Asked], cells: int) -> list[Question]:
    """The questions about one image that have a phrase; objects without a pixel are left out.

    cells: a side of the map on which masks are drawn.
    """
    return [_question(sight, one, cells) for one in asked if one.phrases]


def mirrored(question: Question, sight: int) -> Question:
    """The same of the image's mirror image, left for right, whose number is given."""
    boxes = question.boxes * torch.tensor([-1.0, 1.0, 1.0, 1.0]) + torch.tensor([1.0, 0.0, 0.0, 0.0])
    return replace(question, sight=sight, boxes=boxes, covers=question.covers.flip(-1))


def _question(sight: int, asked: Asked, cells: int) -> Question:
    seen = [truth for truth in asked.truth if truth.mask.area]
    covers = [np.rint(cell_cover(truth.mask, cells) * 255).astype(np.uint8) for truth in seen]
    return Question(
        sight,
        asked.phrases,
        torch.tensor([_box(truth) for truth in seen], dtype=torch.float32).reshape(-1, 4),
        torch.from_numpy(np.stack(covers)) if covers else torch.zeros(0, cells, cells, dtype=torch.uint8),
        torch.tensor([not truth.around for truth in seen], dtype=torch.bool),
    )


def _box(truth: Truth) -> tuple[float, float, float, float]:
    """cxcywh as shares of the frame."""
    (x0, y0, x1, y1), (width, height) = truth.mask.tight().box, truth.mask.frame
    return (x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height
