"""Losses of the detector half: cells, queries, boxes, presence."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from sam3_core.demo.scenes import COLORS, SHAPES
from sam3_core.engine.losses import box_loss, layer_weight, query_losses
from tools.demo.batches import Batch
from tools.demo.data import MAX_OBJECTS
from tools.demo.forward import Decoded
from tools.demo.model import QUERIES
from tools.demo.questions import Question


def dense_loss(maps: Tensor, batch: Batch) -> Tensor:
    """Cell by cell on the finest map: colour, shape or nothing, and the box of the object that covers the cell."""
    cover, owner = batch.masks.max(1)
    inside = cover >= 0.5
    colors, shapes = kind_indices(batch)
    flat = owner.flatten(1)
    color = torch.where(inside, colors.gather(1, flat).view_as(owner), -1)
    shape = torch.where(inside, shapes.gather(1, flat).view_as(owner), -1)
    named, shaped, thing, box = torch.split(maps, [len(COLORS), len(SHAPES), 1, 4], dim=1)
    loss = F.cross_entropy(named, color, ignore_index=-1) + F.cross_entropy(shaped, shape, ignore_index=-1)
    loss = loss + F.binary_cross_entropy_with_logits(thing.squeeze(1), cover)
    side = maps.shape[-1]
    places = (torch.arange(side) + 0.5) / side
    grid = torch.stack(torch.meshgrid(places, places, indexing="xy"), dim=-1)
    boxes = batch.boxes.gather(1, flat[..., None].expand(-1, -1, 4)).view(*owner.shape, 4)
    wanted = torch.cat([(boxes[..., :2] - grid), boxes[..., 2:]], dim=-1)[inside]
    return loss + 5 * F.l1_loss(box.permute(0, 2, 3, 1)[inside], wanted)


class ObjectHead(torch.nn.Module):
    """For training only: colour and shape of each object from its mean over the map that the decoder looks at.

    Colour is in every cell, but what makes a star a star is in a few of them. The mean over the object lets those
    speak at once; without it shapes were hardly better than chance after thousands of steps.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(width, 128), torch.nn.GELU(), torch.nn.Linear(128, len(COLORS) + len(SHAPES))
        )

    def loss(self, coarsest: Tensor, batch: Batch) -> Tensor:
        """coarsest ``(B, D, h, w)``; cross-entropy of colour and, doubled, of shape."""
        side = coarsest.shape[-1]
        cover = F.adaptive_avg_pool2d(batch.masks, side).flatten(2)
        cover = cover / (cover.sum(-1, keepdim=True) + 1e-6)
        means = torch.einsum("bon,bcn->boc", cover, coarsest.flatten(2))
        colors, shapes = kind_indices(batch)
        named, shaped = torch.split(self.layers(means[colors >= 0]), [len(COLORS), len(SHAPES)], dim=-1)
        return F.cross_entropy(named, colors[colors >= 0]) + 2 * F.cross_entropy(shaped, shapes[shapes >= 0])


def kind_indices(batch: Batch) -> tuple[Tensor, Tensor]:
    """``(B, MAX_OBJECTS)`` indices into COLORS and into SHAPES; -1 where there is no object."""
    colors = torch.full((len(batch.kinds), MAX_OBJECTS), -1)
    shapes = torch.full((len(batch.kinds), MAX_OBJECTS), -1)
    for i, kinds in enumerate(batch.kinds):
        colors[i, : len(kinds)] = torch.tensor([COLORS.index(c) for c, _ in kinds])
        shapes[i, : len(kinds)] = torch.tensor([SHAPES.index(s) for _, s in kinds])
    return colors, shapes


def detection_losses(
    decoded: Decoded, questions: list[Question], answers: Tensor, real: Tensor, boxes: Tensor
) -> dict[str, Tensor]:
    """answers, real ``(R, O)`` bool; boxes ``(R, O, 4)``. The learned queries' losses, and the noised copies'."""
    order = torch.argsort((~answers).to(torch.uint8), dim=1, stable=True)
    targets = boxes.gather(1, order[..., None].expand(-1, -1, 4))
    own, copies = decoded.logits[..., :QUERIES], decoded.logits[..., QUERIES:]
    counts = [len(q.answer) for q in questions]
    losses, _ = query_losses(own, decoded.boxes[:, :, :QUERIES], decoded.presence, targets, counts)
    noised = decoded.logits.sum() * 0
    for layer in range(len(copies)):
        named = F.binary_cross_entropy_with_logits(copies[layer], answers.to(copies.dtype), reduction="none")
        moved = box_loss(decoded.boxes[layer][:, QUERIES:][real], boxes[real]).mean()
        noised = noised + layer_weight(layer, len(copies)) * (named[real].mean() * 2 + 0.5 * moved)
    return losses | {"noised": noised}
