"""Set losses of both heads: who answers for which object, and how wrong the answer is. For fine-tuning, and for the
trainer of the demo checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from scipy.optimize import linear_sum_assignment
from torch import Tensor

_ABSENT = 0.3  # see query_losses


def xyxy(boxes: Tensor) -> Tensor:
    """``(..., 4)`` cxcywh to xyxy."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """GIoU (Rezatofighi et al. 2019) of xyxy boxes that broadcast against each other, -1..1."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area_a, area_b = (a[..., 2:] - a[..., :2]).prod(-1), (b[..., 2:] - b[..., :2]).prod(-1)
    union = area_a + area_b - shared
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return shared / (union + 1e-7) - (hull - union) / (hull + 1e-7)


@torch.no_grad()
def assign(
    logits: Tensor, boxes: Tensor, targets: Tensor, counts: Sequence[int]
) -> list[tuple[list[int], list[int]]]:
    """Hungarian matching per row: query indices and the target indices they answer for.

    logits ``(R, Q)``, boxes ``(R, Q, 4)`` cxcywh, targets ``(R, T, 4)`` cxcywh of which the first counts[r] are real.
    """
    cost = 5 * (boxes[:, :, None] - targets[:, None]).abs().sum(-1)
    cost -= 2 * generalised_iou(xyxy(boxes)[:, :, None], xyxy(targets)[:, None])
    cost -= 2 * logits.sigmoid()[:, :, None]
    table = cost.float().cpu().numpy()
    pairs = []
    for row, count in enumerate(counts):
        queries, chosen = linear_sum_assignment(table[row, :, :count])
        pairs.append((queries.tolist(), chosen.tolist()))
    return pairs


@dataclass(frozen=True, slots=True)
class Matches:
    """Which query answers for which target: ``(K,)`` int64 each. row: of the batch. target: among the row's own."""

    row: Tensor
    query: Tensor
    target: Tensor


def match(logits: Tensor, boxes: Tensor, targets: Tensor, counts: Sequence[int]) -> Matches:
    """``assign`` as indices, on the device of the logits."""
    pairs = assign(logits.detach(), boxes.detach(), targets, counts)
    flat = [(row, q, t) for row, (own, chosen) in enumerate(pairs) for q, t in zip(own, chosen, strict=True)]
    columns = torch.tensor(flat, dtype=torch.long, device=logits.device).reshape(-1, 3).unbind(1)
    return Matches(*columns)


def layer_weight(layer: int, layers: int) -> float:
    """How much a layer of the decoder counts: early ones half."""
    return 1.0 if layer == layers - 1 else 0.5


def query_losses(
    logits: Tensor, boxes: Tensor, presence: Tensor, targets: Tensor, counts: Sequence[int]
) -> tuple[dict[str, Tensor], Matches]:
    """Class, box and presence of L decoder layers; every layer has its own matching, early ones half say.

    logits ``(L, R, Q)``; boxes ``(L, R, Q, 4)`` cxcywh; presence ``(L, R)`` logits; targets ``(R, T, 4)`` cxcywh of
    which the first counts[r] are real. Returns three scalars, and the last layer's matches.
    """
    wanted = torch.tensor([count > 0 for count in counts], device=logits.device)
    # Absent concepts are presence's business; scores hear of them at a fraction, or they would grow timid.
    share = torch.where(wanted, 1.0, _ABSENT)
    norm = max(sum(counts), 1)
    sums = dict.fromkeys(("class", "box", "presence"), logits.sum() * 0)
    for layer in range(len(logits)):
        weight = layer_weight(layer, len(logits))
        own, places = logits[layer], boxes[layer]
        pairs = match(own, places, targets, counts)
        truth = torch.zeros_like(own)
        truth[pairs.row, pairs.query] = 1
        missed = F.binary_cross_entropy_with_logits(own, truth, reduction="none")
        sure = (own.sigmoid() - truth).abs().detach()
        named = (missed * sure * share[:, None] * (1 + truth)).sum() / norm
        placed = box_loss(places[pairs.row, pairs.query], targets[pairs.row, pairs.target]).sum() / norm
        asked = F.binary_cross_entropy_with_logits(presence[layer], wanted.to(presence.dtype))
        sums["class"] = sums["class"] + weight * 2 * named
        sums["box"] = sums["box"] + weight * placed
        sums["presence"] = sums["presence"] + weight * asked
    return sums, pairs


def box_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """``(N, 4)`` cxcywh each: ``(N,)``, L1 and GIoU in DETR's proportion."""
    overlap = generalised_iou(xyxy(predicted), xyxy(target))
    return 5 * (predicted - target).abs().sum(-1) + 2 * (1 - overlap)


def mask_loss(logits: Tensor, target: Tensor, boxes: Tensor | None = None) -> Tensor:
    """Cross-entropy and dice of ``(N, H, W)`` logits against shares 0..1: ``(N,)``.

    With boxes ``(N, 4)`` cxcywh the cross-entropy counts cells in and near the box ten times: the rest of the frame
    is soon right and would drown what the outline has to say.
    """
    pixel = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    if boxes is not None:
        height, width = logits.shape[-2:]
        x = (torch.arange(width, device=logits.device) + 0.5) / width
        y = (torch.arange(height, device=logits.device) + 0.5) / height
        reach = boxes[:, 2:] / 2 * 1.3 + 0.04
        in_x = (x[None] - boxes[:, :1]).abs() < reach[:, :1]
        in_y = (y[None] - boxes[:, 1:2]).abs() < reach[:, 1:]
        weight = 0.1 + 0.9 * (in_y[:, :, None] & in_x[:, None]).to(pixel.dtype)
        cross = (pixel * weight).sum((-2, -1)) / weight.sum((-2, -1))
    else:
        cross = pixel.mean((-2, -1))
    share = logits.sigmoid()
    overlap = (share * target).sum((-2, -1))
    dice = 1 - (2 * overlap + 1) / (share.sum((-2, -1)) + target.sum((-2, -1)) + 1)
    return 3 * cross + 2 * dice


@torch.no_grad()
def mask_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of thresholded ``(..., H, W)`` logits (> 0) and shares (>= 0.5), 0..1; two empty masks have 0."""
    inside, truth = logits > 0, target >= 0.5
    union = (inside | truth).sum((-2, -1))
    return (inside & truth).sum((-2, -1)) / union.clamp(min=1)
