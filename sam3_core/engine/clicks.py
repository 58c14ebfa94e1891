"""Visual prompts through the tracker half: points, one box, an earlier mask -> candidate masks of one object."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Sam3VideoModel

from sam3_core.engine.plan import clip_box
from sam3_core.errors import InvalidPrompt
from sam3_core.masks import Mask
from sam3_core.types import Box, Point, VisualPrompt

MASK_LOGIT = 6.0
"""An earlier mask goes in as logits of this size: sigmoid 0.9975, the order of the tracker's own output."""

_SLACK = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Click:
    """A visual prompt as the tracker takes it.

    points: ``(P, 2)`` float32 xy in pixels of the model's square; labels: ``(P,)`` 1 positive, 0 negative.
    box: ``(4,)`` float32 xyxy in the same pixels, or None.
    logits: ``(s, s)`` float32 mask logits over the whole image, or None.
    """

    points: NDArray[np.float32]
    labels: NDArray[np.int64]
    box: NDArray[np.float32] | None
    logits: NDArray[np.float32] | None

    @property
    def ambiguous(self) -> bool:
        """One point alone: is it the part or the whole? SAM answers with three readings."""
        return len(self.points) == 1 and self.box is None and self.logits is None


class ClickHead:
    """The tracker's prompt encoder and mask decoder. Not for concurrent use: the caller holds the model's lock."""

    def __init__(self, video: Sam3VideoModel) -> None:
        self._video = video
        self._tracker = video.tracker_model
        self.image_side = int(self._tracker.prompt_encoder.input_image_size)
        self.mask_side = int(self._tracker.prompt_encoder.mask_input_size[0])

    def embeddings(self, hidden: torch.Tensor) -> list[torch.Tensor]:
        """Three maps ``(1, c, h, w)``, fine to coarse, from the ``(1, N, C)`` hidden state of the vision encoder.

        Not ``Sam3TrackerModel(pixel_values=...)``: in transformers 5.23 it adds ``no_memory_embedding`` to a level
        that is then dropped, so the learned vector never reaches the decoder. ``Sam3TrackerVideoModel`` and the
        original code add it to the coarsest map that is used, and so does this.
        """
        vision = SimpleNamespace(last_hidden_state=hidden)
        maps, _ = self._video.get_vision_features_for_tracker(vision)
        maps[-1] = maps[-1] + self._tracker.no_memory_embedding
        sizes = self._tracker.backbone_feature_sizes
        return [level.permute(1, 2, 0).reshape(1, -1, *size) for level, size in zip(maps, sizes, strict=True)]

    def trace(
        self, hidden: torch.Tensor, click: Click, *, several: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mask logits ``(c, h, w)`` over the whole image and their predicted IoU ``(c,)``, 0..1, both float32.

        several: three readings; else the one that the stock path gives (the single-mask token, or the best of
        three when that one is unstable).
        """
        maps = self.embeddings(hidden)
        tracker = self._tracker
        sparse, dense = tracker.prompt_encoder(**self._inputs(click, maps[-1]))
        masks, iou, _, _ = tracker.mask_decoder(
            image_embeddings=maps[-1],
            image_positional_embeddings=tracker.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=several,
            high_resolution_features=maps[:-1],
        )
        return masks[0, 0].float().cpu().numpy(), iou[0, 0].float().clamp(0, 1).cpu().numpy()

    def _inputs(self, click: Click, like: torch.Tensor) -> dict[str, torch.Tensor | None]:
        """The prompt encoder's four arguments, one image, one object. Coordinates stay float32: it normalises them
        before it casts. With neither point nor box it wants the point that is none, label -1."""
        points, labels = click.points, click.labels
        if not len(points) and click.box is None:
            points, labels = np.zeros((1, 2), dtype=np.float32), np.array([-1])
        boxes = None if click.box is None else torch.from_numpy(click.box)[None, None].to(like.device)
        masks = (
            None if click.logits is None else torch.from_numpy(click.logits)[None, None].to(like.device, like.dtype)
        )
        has_points = len(points) > 0
        return {
            "input_points": torch.from_numpy(points)[None, None].to(like.device) if has_points else None,
            "input_labels": torch.from_numpy(labels)[None, None].to(like.device) if has_points else None,
            "input_boxes": boxes,
            "input_masks": masks,
        }


def make_click(prompt: VisualPrompt, size: tuple[int, int], image_side: int, mask_side: int) -> Click:
    """Image pixels to the model's square, whose sides are squashed independently.

    size: ``(width, height)`` of the image in pixels. A point a little outside the image (1 pixel, or 1 % of the
    side, as rounded percentages give) is moved to the border; one farther out, a box without any part inside,
    and a mask of another image's size or without a pixel raise InvalidPrompt.
    """
    width, height = size
    scale = np.array([image_side / width, image_side / height], dtype=np.float32)
    points = np.array([_inside(point, size) for point in prompt.points], dtype=np.float32).reshape(-1, 2) * scale
    labels = np.array([int(point.positive) for point in prompt.points], dtype=np.int64)
    box = None if prompt.box is None else _scaled_box(clip_box(prompt.box, size), scale)
    logits = None if prompt.mask is None else mask_logits(prompt.mask, size, mask_side)
    return Click(points, labels, box, logits)


def mask_logits(mask: Mask, size: tuple[int, int], side: int) -> NDArray[np.float32]:
    """An earlier mask as ``(side, side)`` float32 logits: the share of each cell that it covers, 0..1 -> -6..6."""
    if mask.frame != size:
        raise InvalidPrompt(f"the mask to refine is for an image of {mask.frame} pixels, this one has {size}")
    if mask.area == 0:
        raise InvalidPrompt("the mask to refine is empty")
    full = mask.full().astype(np.uint8) * 255  # bytes: floats of a 100-megapixel picture would take 400 MB
    cover = cv2.resize(full, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return np.asarray((cover - 0.5) * (2 * MASK_LOGIT), dtype=np.float32)


def _scaled_box(box: Box, scale: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.array(box.xyxy, dtype=np.float32) * np.tile(scale, 2)


def _inside(point: Point, size: tuple[int, int]) -> tuple[float, float]:
    place = []
    for value, side in zip((point.x, point.y), size, strict=True):
        slack = max(1.0, _SLACK * side)
        if not -slack <= value <= side + slack:
            raise InvalidPrompt(
                f"the point ({point.x:g}, {point.y:g}) lies outside the image of {size[0]}x{size[1]} pixels"
            )
        place.append(min(max(value, 0.0), float(side)))
    return place[0], place[1]
