"""How well questions are answered: losses to learn from, and the product's own measure on images kept out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sam3_core.engine.losses import Matches, mask_iou, mask_loss, query_losses
from sam3_core.engine.tuning.forward import Answer, Forward
from sam3_core.engine.tuning.questions import Ask

_THRESHOLD = 0.5  # least score of an instance
_SAME = 0.5  # least IoU of an instance with the object that it is
_DUPLICATE = 0.7  # IoU from which two instances are one


@dataclass(frozen=True, slots=True)
class Score:
    """loss: per object, presence's part of it per question. f1: 0..1, of instances at threshold 0.5 against
    objects, matched at mask IoU 0.5; 1 where there is neither."""

    loss: float
    f1: float


def losses(forward: Forward, asks: Sequence[Ask], *, drawn: int, rng: random.Random) -> dict[str, Tensor]:
    """Class, box, presence and mask; masks, the dearest, of so many of the asks that have an outlined object."""
    answer = forward(asks)
    sums, pairs = _query_losses(asks, answer)
    outlined = [row for row, ask in enumerate(asks) if bool(ask.question.outlined.any())]
    sums["mask"] = _mask_loss(forward, asks, answer, pairs, set(rng.sample(outlined, min(drawn, len(outlined)))))
    return sums


@torch.no_grad()
def score(forward: Forward, asks: Sequence[Ask], batch: int, check: Callable[[], None]) -> Score:
    """Over all asks, so many in a pass; the loss does not depend on which are in a pass together.

    check: called before each pass; what it raises ends the work.
    """
    there = sum(ask.count for ask in asks)
    total, right, found = 0.0, 0, 0
    for start in range(0, len(asks), batch):
        check()
        some = asks[start : start + batch]
        answer = forward(some)
        sums, pairs = _query_losses(some, answer)
        sums["mask"] = _mask_loss(forward, some, answer, pairs, set(range(len(some))))
        # What the losses were divided by in this pass, over what it is for all.
        objects = max(sum(ask.count for ask in some), 1) / max(there, 1)
        for name, value in sums.items():
            total += float(value) * (len(some) / len(asks) if name == "presence" else objects)
        hits, instances = _hits(forward, some, answer)
        right, found = right + hits, found + instances
    return Score(total, 2 * right / (found + there) if found + there else 1.0)


def _query_losses(asks: Sequence[Ask], answer: Answer) -> tuple[dict[str, Tensor], Matches]:
    targets = torch.nn.utils.rnn.pad_sequence([ask.question.boxes for ask in asks], batch_first=True)
    device = answer.logits.device
    return query_losses(answer.logits, answer.boxes, answer.presence, targets.to(device), [ask.count for ask in asks])


def _mask_loss(forward: Forward, asks: Sequence[Ask], answer: Answer, pairs: Matches, rows: set[int]) -> Tensor:
    """Of the matched queries of some rows, those whose object has an outline."""
    matched = zip(pairs.row.tolist(), pairs.query.tolist(), pairs.target.tolist(), strict=True)
    kept = [(r, q, t) for r, q, t in matched if r in rows and bool(asks[r].question.outlined[t])]
    if not kept:
        return answer.logits.sum() * 0
    device = answer.logits.device
    masks = forward.masks(asks, answer, [r for r, _, _ in kept], [q for _, q, _ in kept])
    covers = torch.stack([asks[r].question.covers[t] for r, _, t in kept]).to(device).float() / 255
    boxes = torch.stack([asks[r].question.boxes[t] for r, _, t in kept]).to(device)
    return mask_loss(masks, covers, boxes).mean()


def _hits(forward: Forward, asks: Sequence[Ask], answer: Answer) -> tuple[int, int]:
    """How many instances are right, and how many there are."""
    scores = answer.logits[-1].sigmoid() * answer.presence[-1].sigmoid()[:, None]
    ranked, order = scores.sort(dim=1, descending=True, stable=True)
    places = (ranked >= _THRESHOLD).nonzero().tolist()
    if not places:
        return 0, 0
    masks = forward.masks(asks, answer, [r for r, _ in places], [int(order[r, place]) for r, place in places]).cpu()
    right = found = 0
    for row in dict.fromkeys(r for r, _ in places):
        mine = masks[[k for k, (r, _) in enumerate(places) if r == row]]
        hits, instances = _hits_of_one(mine, asks[row].question.covers.float() / 255)
        right, found = right + hits, found + instances
    return right, found


def _hits_of_one(masks: Tensor, covers: Tensor) -> tuple[int, int]:
    """masks ``(K, M, M)`` logits, best first; covers ``(T, M, M)``. Copies of better ones do not count."""
    kept: list[int] = []
    for k in range(len(masks)):
        copies = mask_iou(masks[kept], (masks[k] > 0).float())
        if not bool((copies > _DUPLICATE).any()):
            kept.append(k)
    free, right = set(range(len(covers))), 0
    for k in kept:
        overlaps = mask_iou(masks[k], covers).tolist()
        best = max(free, key=lambda t: overlaps[t], default=None)
        if best is not None and overlaps[best] >= _SAME:
            free.remove(best)
            right += 1
    return right, len(kept)
