"""Losses of the tracker half: clicks, boxes and corrections."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import Sam3VideoModel

from sam3_core.engine.losses import mask_iou, mask_loss
from tools.demo.batches import Batch
from tools.demo.forward import Seen, click
from tools.demo.model import IMAGE_SIZE, MASK_SIZE


def click_losses(model: Sam3VideoModel, seen: Seen, batch: Batch, rng: random.Random) -> dict[str, Tensor]:
    """Two objects of each image, asked for by a click or a box; then, half the time, again with a correction."""
    images = torch.arange(len(batch.kinds)).repeat_interleave(2)
    things = torch.tensor([rng.randrange(len(batch.kinds[int(i)])) for i in images])
    truth, boxes = batch.masks[images, things], batch.boxes[images, things]
    embeddings = [level[images] for level in seen.clicks]
    by_box = rng.random() < 0.4
    points = labels = corners = None
    if by_box:
        corners = corner_boxes(boxes)
    else:
        points, labels = first_clicks(truth, batch, images, things, rng)
        off = labels[:, 0, 0] == 2  # a click on nothing
        labels = labels.clamp(max=1)
        truth = torch.where(off[:, None, None], torch.zeros_like(truth), truth)
    single = not by_box and points is not None and points.shape[2] == 1
    answer = click(model, embeddings, points=points, labels=labels, boxes=corners, masks=None, several=single)
    losses = reading_losses(answer, truth, boxes)
    if rng.random() < 0.5:
        best = (
            answer[0].gather(1, answer[1].argmax(1)[:, None, None, None].expand(-1, 1, MASK_SIZE, MASK_SIZE)).detach()
        )
        more, marks = corrections(best[:, 0], truth)
        if points is not None and labels is not None:
            more, marks = torch.cat([points, more], dim=2), torch.cat([labels, marks], dim=2)
        earlier = best if rng.random() < 0.5 else torch.where(best > 0, 6.0, -6.0)
        again = click(model, embeddings, points=more, labels=marks, boxes=corners, masks=earlier, several=False)
        for name, value in reading_losses(again, truth, boxes).items():
            losses[name] = 0.5 * (losses[name] + value)
    return losses


def corner_boxes(boxes: Tensor) -> Tensor:
    """cxcywh 0..1 to ``(N, 1, 4)`` xyxy in model pixels, each side off by up to a twelfth of the box."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    corners = torch.cat([centre - half, centre + half], dim=1)
    jitter = (torch.rand_like(corners) - 0.5) * boxes[:, 2:].repeat(1, 2) / 6
    return ((corners + jitter).clamp(0, 1) * IMAGE_SIZE)[:, None]


def first_clicks(
    truth: Tensor, batch: Batch, images: Tensor, things: Tensor, rng: random.Random
) -> tuple[Tensor, Tensor]:
    """``(N, 1, P, 2)`` model pixels and labels: one click inside the object; for some batches a second, negative
    one beside it; label 2 marks a click on the background, whose answer is "no object"."""
    weights = (truth > 0.85).float().flatten(1) + 1e-6 * truth.flatten(1) + 1e-9
    free = (batch.masks[images].amax(1) < 0.05).float().flatten(1) + 1e-9
    background = torch.tensor([rng.random() < 0.08 for _ in images])
    cells = torch.multinomial(torch.where(background[:, None], free, weights), 1)
    points, labels = cell_points(cells), torch.where(background, 2, 1)[:, None]
    if rng.random() < 0.3:
        others = (truth < 0.1).float().flatten(1)
        near = (batch.masks[images].sum(1).flatten(1) - truth.flatten(1)).clamp(min=0) + 0.02
        wrong = torch.multinomial(others * near + 1e-9, 1)
        points = torch.cat([points, cell_points(wrong)], dim=1)
        labels = torch.cat([labels, torch.zeros_like(labels)], dim=1)
    return points[:, None], labels[:, None]


def corrections(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """One click per row inside what is wrong: positive where the object was missed, else negative."""
    missed, extra = (logits <= 0) & (truth > 0.5), (logits > 0) & (truth < 0.5)
    wrong = (missed | extra).float().flatten(1)
    settled = wrong.sum(1, keepdim=True) == 0
    cells = torch.multinomial(torch.where(settled, truth.flatten(1) + 1e-6, wrong), 1)
    positive = (truth.flatten(1).gather(1, cells) > 0.5).long()
    return cell_points(cells)[:, None], positive[:, None]


def cell_points(cells: Tensor) -> Tensor:
    """``(N, P)`` indices of mask cells to ``(N, P, 2)`` points in model pixels, anywhere in the cell."""
    x, y = cells % MASK_SIZE, cells // MASK_SIZE
    place = torch.stack([x, y], dim=-1).float() + torch.rand(*cells.shape, 2)
    return place * (IMAGE_SIZE / MASK_SIZE)


def reading_losses(answer: tuple[Tensor, Tensor, Tensor], truth: Tensor, boxes: Tensor) -> dict[str, Tensor]:
    """The best reading is taught the outline, every reading how good it is, the object token whether there is one."""
    logits, quality, score = answer
    count, readings = logits.shape[:2]
    wrong = mask_loss(
        logits.flatten(0, 1), truth.repeat_interleave(readings, 0), boxes.repeat_interleave(readings, 0)
    ).view(count, readings)
    there = truth.amax((-2, -1)) > 0.5
    iou = mask_iou(logits, truth[:, None])
    exists = F.binary_cross_entropy_with_logits(score, there.to(score.dtype))
    best = (wrong.min(1).values * there).sum() / there.sum().clamp(min=1)
    return {"click": best + 0.05 * wrong.mean(), "quality": 2 * F.mse_loss(quality, iou) + 0.3 * exists}
