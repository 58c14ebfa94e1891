"""Visual prompts through the tracker half: points, one box, an earlier mask -> candidate masks of one object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Sam3VideoModel

from sam3_core.engine.plan import clip_box
from sam3_core.errors import InvalidPrompt
from sam3_core.logits import cell_cover
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


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """What the tracker makes of one visual prompt.

    logits: ``(c, h, w)`` float32 mask logits over the whole image; above 0 is inside.
    scores: ``(c,)`` float32, predicted IoU of each, 0..1.
    presence: probability that there is an object at the prompt at all, 0..1.
    """

    logits: NDArray[np.float32]
    scores: NDArray[np.float32]
    presence: float


class ClickHead:
    """The tracker's prompt encoder and mask decoder. For the device's thread alone."""

    def __init__(self, video: Sam3VideoModel) -> None:
        self._video = video
        self._tracker = video.tracker_model
        self.image_side = int(self._tracker.prompt_encoder.input_image_size)
        self.mask_side = int(self._tracker.prompt_encoder.mask_input_size[0])

    def embeddings(self, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Three maps ``(1, c, h, w)``, fine to coarse, from the ``(1, N, C)`` hidden state of the vision encoder.

        Not ``Sam3TrackerModel(pixel_values=...)``: in transformers 5.23 it adds ``no_memory_embedding`` to a level
        that is then dropped, so the learned vector never reaches the decoder. ``Sam3TrackerVideoModel`` and the
        original code add it to the coarsest map that is used, and so does this.
        """
        vision = SimpleNamespace(last_hidden_state=hidden)
        maps, _ = self._video.get_vision_features_for_tracker(vision)
        maps[-1] = maps[-1] + self._tracker.no_memory_embedding
        sizes = self._tracker.backbone_feature_sizes
        return tuple(level.permute(1, 2, 0).reshape(1, -1, *size) for level, size in zip(maps, sizes, strict=True))

    def trace(self, maps: Sequence[torch.Tensor], click: Click, *, several: bool) -> Readings:
        """The readings of one prompt, in the decoder's order.

        maps: as ``embeddings`` gives them, in the model's dtype. several: three readings; else the one that the stock
        path gives (the single-mask token, or the best of three when that one is unstable).
        """
        tracker = self._tracker
        dtype = maps[-1].dtype
        # Places keep their precision up to here; the modules that read them are float32 whatever the model is.
        sparse, dense = tracker.prompt_encoder(**self._inputs(click, maps[-1].device))
        masks, iou, _, presence = tracker.mask_decoder(
            image_embeddings=maps[-1],
            image_positional_embeddings=tracker.get_image_wide_positional_embeddings().to(dtype),
            sparse_prompt_embeddings=sparse.to(dtype),
            dense_prompt_embeddings=dense.to(dtype),
            multimask_output=several,
            high_resolution_features=list(maps[:-1]),
        )
        return Readings(
            masks[0, 0].float().cpu().numpy(),
            iou[0, 0].float().clamp(0, 1).cpu().numpy(),
            float(presence.float().sigmoid()),
        )

    def _inputs(self, click: Click, device: torch.device) -> dict[str, torch.Tensor | None]:
        """The prompt encoder's four arguments, one image, one object."""
        some = len(click.points) > 0
        arrays = {
            "input_points": click.points if some else None,
            "input_labels": click.labels if some else None,
            "input_boxes": click.box,
            "input_masks": click.logits,
        }
        return {
            name: None if array is None else torch.from_numpy(array)[None, None].to(device)
            for name, array in arrays.items()
        }


def make_click(prompt: VisualPrompt, size: tuple[int, int], image_side: int, mask_side: int) -> Click:
    """Image pixels to the model's square, whose sides are squashed independently.

    size: ``(width, height)`` of the image in pixels. A point a little outside the image (1 pixel, or 1 % of the
    side, as rounded percentages give) is moved to the border; one farther out, a box without any part inside,
    and a mask of another image's size or without a pixel raise InvalidPrompt.

    A mask without box and without a positive point on it, such as a finished outline with one corrective click, gets
    the point that it lacks (see ``_stand_in``).
    """
    width, height = size
    scale = np.array([image_side / width, image_side / height], dtype=np.float32)
    points = np.array([_inside(point, size) for point in prompt.points], dtype=np.float32).reshape(-1, 2) * scale
    labels = np.array([int(point.positive) for point in prompt.points], dtype=np.int64)
    box = None if prompt.box is None else _scaled_box(clip_box(prompt.box, size), scale)
    if prompt.mask is None:
        return Click(points, labels, box, None)
    logits = mask_logits(prompt.mask, size, mask_side)
    if box is None and not _any_on(logits, points[labels == 1] * (mask_side / image_side)):
        place = _stand_in(logits, points[labels == 0] * (mask_side / image_side)) * (image_side / mask_side)
        points, labels = np.vstack([place.astype(np.float32), points]), np.append(1, labels)
    return Click(points, labels, box, logits)


def mask_logits(mask: Mask, size: tuple[int, int], side: int) -> NDArray[np.float32]:
    """An earlier mask as ``(side, side)`` float32 logits: the share of each cell that it covers, 0..1 -> -6..6."""
    if mask.frame != size:
        raise InvalidPrompt(f"the mask to refine is for an image of {mask.frame} pixels, this one has {size}")
    if mask.area == 0:
        raise InvalidPrompt("the mask to refine is empty")
    return (cell_cover(mask, side) - np.float32(0.5)) * np.float32(2 * MASK_LOGIT)


def _any_on(logits: NDArray[np.float32], points: NDArray[np.float32]) -> bool:
    """Whether one of the points, ``(P, 2)`` xy in cells of the map, lies on the mask."""
    columns, rows = np.minimum(points.astype(np.intp), len(logits) - 1).T
    return bool((logits[rows, columns] > 0).any())


def _stand_in(logits: NDArray[np.float32], negatives: NDArray[np.float32]) -> NDArray[np.float64]:
    """``(2,)`` xy in cells: deep inside the mask and far from the negative points, for the clicks that made the mask.

    The tracker was trained on masks that come with the clicks behind them; a mask without any is no object to it.
    Measured with the demo checkpoint, mean IoU after one correction, first without this point, then with it: a
    negative click 0.00 and 0.90, a positive one beside the mask 0.78 and 0.87, a mask alone 0.00 and 0.85.
    """
    inside = logits > min(0.0, float(logits.max()) - 1e-3)  # a mask smaller than a cell lies in its fullest cell
    depth = cv2.distanceTransform(np.pad(inside, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    rows, columns = np.indices(logits.shape) + 0.5
    for x, y in negatives:
        depth = np.where(inside, np.minimum(depth, np.hypot(columns - x, rows - y)), 0)
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return np.array([column + 0.5, row + 0.5])


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
