"""What the frozen half of the model makes of images and phrases: worked out once, then read in every epoch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Sam3Model

from sam3_core.engine.concepts import PAD_BOX
from sam3_core.engine.loading import Parts
from sam3_core.images import Pixels


@dataclass(frozen=True, slots=True)
class Sight:
    """One image. hidden: the encoder's last state, ``(N, C)``. coarse: the neck's map that phrases are put to,
    ``(D, h, w)``. geometry: the tokens that stand for "no exemplars", ``(G, D)``."""

    hidden: Tensor
    coarse: Tensor
    geometry: Tensor

    @property
    def nbytes(self) -> int:
        return int(self.hidden.nbytes + self.coarse.nbytes + self.geometry.nbytes)


@dataclass(frozen=True, slots=True)
class Glance:
    """What is the same for every image. position: of the coarsest map, ``(1, D, h, w)``. shown: which geometry tokens
    count, ``(G,)`` bool. cells: a side of the finest map, on which masks are drawn."""

    position: Tensor
    shown: Tensor
    cells: int


class Sights:
    """Sights of numbered images, in main memory while there is room, else in files of a folder."""

    def __init__(self, parts: Parts, folder: Path, budget: int) -> None:
        """budget: bytes of memory for them."""
        self._parts, self._folder, self._left = parts, folder, budget
        self._kept: list[Sight | Path] = []
        self._glance: Glance | None = None

    @property
    def glance(self) -> Glance:
        """What all have in common; there must be one."""
        assert self._glance is not None
        return self._glance

    @torch.no_grad()
    def add(self, pixels: Pixels) -> int:
        """Encode an image ``(H, W, 3)`` uint8 RGB; returns its number."""
        parts, detector = self._parts, self._parts.detector
        seen = parts.images(pixels, input_data_format="channels_last", return_tensors="pt").pixel_values
        hidden = detector.vision_encoder.backbone(seen.to(parts.device, parts.dtype)).last_hidden_state
        maps, positions = neck(detector, hidden)
        coarse, position = maps[-1], positions[-1]
        geometry = detector.geometry_encoder(
            box_embeddings=torch.tensor([[PAD_BOX]], device=coarse.device, dtype=coarse.dtype),
            box_mask=torch.zeros(1, 1, dtype=torch.bool, device=coarse.device),
            box_labels=torch.zeros(1, 1, dtype=torch.long, device=coarse.device),
            img_feats=(coarse,),
            img_pos_embeds=(position,),
        )
        if self._glance is None:
            self._glance = Glance(position.clone(), geometry.attention_mask[0].bool(), int(maps[0].shape[-1]))
        sight = Sight(*(t[0].to("cpu", copy=True) for t in (hidden, coarse, geometry.last_hidden_state)))
        self._kept.append(self._keep(sight))
        return len(self._kept) - 1

    def get(self, number: int) -> Sight:
        """In main memory."""
        kept = self._kept[number]
        return Sight(**load_file(kept)) if isinstance(kept, Path) else kept

    def _keep(self, sight: Sight) -> Sight | Path:
        if sight.nbytes <= self._left:
            self._left -= sight.nbytes
            return sight
        file = self._folder / f"sight-{len(self._kept)}.safetensors"
        self._folder.mkdir(exist_ok=True)
        tensors = {"hidden": sight.hidden, "coarse": sight.coarse, "geometry": sight.geometry}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
        return file


def neck(detector: Sam3Model, hidden: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """hidden ``(B, N, C)`` -> the maps ``(B, D, h, w)`` that the detector uses, fine to coarse, and their position
    codes."""
    side = int(hidden.shape[1] ** 0.5)
    features, positions = detector.vision_encoder.neck(hidden.view(len(hidden), side, side, -1).permute(0, 3, 1, 2))
    # The fourth, coarser level is the tracker's.
    return list(features[:-1]), list(positions[:-1])
