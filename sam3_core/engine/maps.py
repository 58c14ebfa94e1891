"""The neck's maps of images: what the detector sees of them, whatever it is asked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import Sam3Model

from sam3_core.engine.embeddings import Embedding


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """Neck outputs of I images that the detector uses: ``(I, C, h, w)`` each, fine to coarse, and the coarsest's
    position code."""

    features: tuple[torch.Tensor, ...]
    position: torch.Tensor

    def of(self, images: torch.Tensor) -> Maps:
        """Those of so many rows, by the ``(K,)`` number of each row's image; without a copy where there is one image
        alone."""
        if len(self.position) == 1:
            rows = len(images)
            expanded = tuple(level.expand(rows, -1, -1, -1) for level in self.features)
            return Maps(expanded, self.position.expand(rows, -1, -1, -1))
        return Maps(tuple(level[images] for level in self.features), self.position[images])


class Neck:
    """The detector's neck, with a memory of the latest images: what does not fit into one pass asks about the same
    ones again. For the device's thread alone."""

    def __init__(self, detector: Sam3Model) -> None:
        self._neck = detector.vision_encoder.neck
        config = detector.config.vision_config.backbone_config
        self._side = int(config.image_size) // int(config.patch_size)
        self._latest: tuple[tuple[Embedding, ...], Maps] | None = None

    def __call__(self, views: tuple[Embedding, ...]) -> Maps:
        """Of the images' ``vision`` embeddings."""
        if self._latest is not None and self._latest[0] == views:
            return self._latest[1]
        self._latest = None
        hidden = torch.cat([view.tensors[0] for view in views]) if len(views) > 1 else views[0].tensors[0]
        spatial = hidden.view(len(views), self._side, self._side, -1).permute(0, 3, 1, 2)
        features, positions = self._neck(spatial)
        # The neck has a fourth, coarser level that the detector leaves out; with it the masks come out empty.
        maps = Maps(features[:-1], positions[-2])
        self._latest = (views, maps)
        return maps

    def forget(self) -> None:
        """Give back the memory of the latest images' maps."""
        self._latest = None
