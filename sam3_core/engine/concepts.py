"""Concept prompts through the detector, split open: vision once, prompts batched, masks only for what is kept.

The stock ``Sam3Model.forward`` runs every part for every prompt. This is the same arithmetic in the same order
(a test holds it to the stock forward), cut where work can be shared or skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Sam3Config, Sam3Model

from sam3_core.engine.looks import looks
from sam3_core.engine.maps import Maps, Neck
from sam3_core.engine.plan import Prompt, Question
from sam3_core.engine.text import TextFeatures

Floats = NDArray[np.float32]

PAD_BOX, PAD_LABEL = (-10.0, -10.0, 0.0, 0.0), -10


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """What the detector says to one prompt.

    presence: probability that the concept is in the image at all, 0..1.
    scores: ``(k,)`` float32, those that got a mask, best first; query probability times presence, 0..1.
    logits: ``(k, h, w)`` float32 mask logits of the same queries, over the whole image; above 0 is inside.
    rejected: all other scores, ``(queries - k,)`` float32, best first.
    features: ``(k, D)`` float32, see ``looks``, of those that got a mask; None where the question did not want them.
    """

    presence: float
    scores: Floats
    logits: Floats
    rejected: Floats
    features: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Decoded:
    """One batch after the DETR decoder, before any mask: K prompts, Q queries, P prompt tokens, N image tokens."""

    queries: torch.Tensor  # (K, Q, C)
    scores: torch.Tensor  # (K, Q) float32, 0..1
    presence: torch.Tensor  # (K,) float32, 0..1
    image: torch.Tensor  # (K, N, C)
    tokens: torch.Tensor  # (K, P, C)
    mask: torch.Tensor  # (K, P) bool


class ConceptHead:
    """The detector's prompt side. For the device's thread alone."""

    def __init__(self, detector: Sam3Model, text: TextFeatures, neck: Neck) -> None:
        self._detector, self._text, self._neck = detector, text, neck

    def adapted(self, detector: Sam3Model) -> ConceptHead:
        """The same with other weights, those of text encoder and neck excepted: the maps of images are shared."""
        return ConceptHead(detector, self._text, self._neck)

    def detect(self, questions: Sequence[Question]) -> list[Detection]:
        """One Detection per question, in order; all in one pass."""
        views = tuple(dict.fromkeys(question.view for question in questions))
        images = torch.tensor([views.index(question.view) for question in questions])
        maps = self._neck(views)
        images = images.to(maps.position.device)
        decoded = self._decode(maps, images, [question.prompt for question in questions])
        return self._judge(maps, images, decoded, questions)

    def _decode(self, maps: Maps, images: torch.Tensor, prompts: Sequence[Prompt]) -> _Decoded:
        coarsest = Maps(maps.features[-1:], maps.position).of(images)
        coarse, position = coarsest.features[0], coarsest.position
        tokens, mask = self._prompt_tokens(coarse, position, prompts)
        detector = self._detector
        encoded, decoded = encode_decode(detector, coarse, position, tokens, mask)
        last = decoded.intermediate_hidden_states[-1:]
        logits = detector.dot_product_scoring(
            decoder_hidden_states=last, text_features=encoded.text_features, text_mask=mask
        )
        presence = decoded.presence_logits[-1].float().sigmoid()
        scores = logits[-1, :, :, 0].float().sigmoid() * presence
        return _Decoded(last[-1], scores, presence[:, 0], encoded.last_hidden_state, tokens, mask)

    def _prompt_tokens(
        self, coarse: torch.Tensor, position: torch.Tensor, prompts: Sequence[Prompt]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Text tokens followed by geometry tokens: ``(K, P, C)`` and their ``(K, P)`` bool mask.

        Every row has at least one box, a padding one if need be. The stock forward gives a text-only row the
        geometry encoder's CLS token only when some other row of the batch has a box, so that its result would
        depend on its neighbours; SAM 3 was trained with the token always there.
        """
        text, text_mask = self._text([prompt.text for prompt in prompts])
        boxes, labels = _padded_boxes(prompts)
        boxes, labels = boxes.to(coarse.device, coarse.dtype), labels.to(coarse.device)
        geometry = self._detector.geometry_encoder(
            box_embeddings=boxes,
            box_mask=labels != PAD_LABEL,
            box_labels=labels.clamp(min=0),
            img_feats=(coarse,),
            img_pos_embeds=(position,),
        )
        tokens = torch.cat([text, geometry.last_hidden_state], dim=1)
        return tokens, torch.cat([text_mask, geometry.attention_mask], dim=1)

    def _judge(
        self, maps: Maps, images: torch.Tensor, decoded: _Decoded, questions: Sequence[Question]
    ) -> list[Detection]:
        scores, order = decoded.scores.sort(dim=1, descending=True, stable=True)
        ranked = scores.cpu().numpy()
        kept = [
            min(max(int(np.count_nonzero(row >= np.float32(question.floor))), question.count), row.size)
            for row, question in zip(ranked, questions, strict=True)
        ]
        masks = self._masks(maps, images, decoded, order, kept)
        presence, looked = decoded.presence.tolist(), images.tolist()
        return [
            Detection(
                presence[row],
                ranked[row, :count],
                masks[row].float().cpu().numpy(),
                ranked[row, count:],
                looks(maps, looked[row], masks[row]).cpu().numpy() if questions[row].features else None,
            )
            for row, count in enumerate(kept)
        ]

    def _masks(
        self, maps: Maps, images: torch.Tensor, decoded: _Decoded, order: torch.Tensor, counts: Sequence[int]
    ) -> list[torch.Tensor]:
        """Mask logits ``(count, h, w)`` of each row's best queries; the mask head sees only rows that have any."""
        masks = [maps.features[0].new_zeros((0, *maps.features[0].shape[-2:])) for _ in counts]
        rows = [row for row, count in enumerate(counts) if count]
        if not rows:
            return masks
        kept = torch.tensor(rows, device=order.device)
        best = order[kept, : max(counts)]
        queries = decoded.queries[kept[:, None], best]
        output = self._detector.mask_decoder(
            decoder_queries=queries,
            backbone_features=list(maps.of(images[kept]).features),
            encoder_hidden_states=decoded.image[kept],
            prompt_features=decoded.tokens[kept],
            prompt_mask=decoded.mask[kept],
        )
        for place, row in enumerate(rows):
            masks[row] = output.pred_masks[place, : counts[row]]
        return masks


def encode_decode(
    detector: Sam3Model, coarse: torch.Tensor, position: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor
) -> tuple[Any, Any]:
    """What the DETR encoder and decoder say to K prompts, as the library's output objects.

    coarse, position: ``(K, C, h, w)``, the coarsest map and its position code. tokens: ``(K, P, C)``, the prompts,
    with their ``(K, P)`` bool mask.
    """
    encoded = detector.detr_encoder(
        vision_features=[coarse], text_features=tokens, vision_pos_embeds=[position], text_mask=mask
    )
    decoded = detector.detr_decoder(
        vision_features=encoded.last_hidden_state,
        text_features=encoded.text_features,
        vision_pos_encoding=encoded.pos_embeds_flattened,
        text_mask=mask,
        spatial_shapes=encoded.spatial_shapes,
    )
    return encoded, decoded


def elements_per_prompt(config: Sam3Config) -> int:
    """Tensor elements that one more prompt in a batch needs at the worst moment.

    With N image tokens (coarsest map, 72 x 72), L = 16 N pixels of the finest map, C channels, F channels inside
    the encoder's MLP, Q queries and H heads, the three stages need, beside the encoder's output and the position
    code (2 N C) that live through all of them:

    - encoder layer: input, residual, q, k, v and attention output (6 N C) or, later, the MLP's two inner rows (2 N F)
      beside input and residual (2 N C);
    - decoder layer: the box bias Q N H three times (sum, contiguous copy, the padded one);
    - mask head: a copy of the feature maps (1 + 1/4 + 1/16 of L C) with a convolution's input and output (2 L C),
      later pixel embedding, its projection (2 L C) and at most Q masks (Q L).

    For facebook/sam3 the mask head decides: 73 million elements, 0.27 GiB in float32; the growth measured there from
    1 to 8 prompts was 0.24 to 0.27 GiB each. On a quarter of its image area, full channels and queries, a profile of
    all allocations gave 0.77 of the formula.
    """
    backbone = config.vision_config.backbone_config
    tokens = (backbone.image_size // backbone.patch_size) ** 2
    pixels = 16 * tokens
    channels = config.detr_encoder_config.hidden_size
    inner = config.detr_encoder_config.intermediate_size
    queries, heads = config.detr_decoder_config.num_queries, config.detr_decoder_config.num_attention_heads
    encoder = tokens * max(6 * channels, 2 * channels + 2 * inner)
    decoder = 3 * queries * tokens * heads
    masks = pixels * max(21 * channels // 16 + 2 * channels, 2 * channels + queries)
    return int(2 * tokens * channels + max(encoder, decoder, masks))


def elements_per_image(config: Sam3Config) -> int:
    """Tensor elements that one more image in a vision pass needs at the worst moment, about: in a layer of the
    backbone, with N tokens of C channels and F inside its MLP, the residual and the layer's input (2 N C) beside
    query, key, value and attention output (4 N C) or the MLP's inner rows before and after the activation (2 N F)."""
    backbone = config.vision_config.backbone_config
    tokens = (backbone.image_size // backbone.patch_size) ** 2
    channels, inner = backbone.hidden_size, backbone.intermediate_size
    return int(tokens * (2 * channels + max(4 * channels, 2 * inner)))


def _padded_boxes(prompts: Sequence[Prompt]) -> tuple[torch.Tensor, torch.Tensor]:
    """``(K, B, 4)`` float32 cxcywh shares and ``(K, B)`` int64 labels: 1 positive, 0 negative, -10 padding."""
    length = max(1, *(len(prompt.exhibits) for prompt in prompts))
    boxes, labels = [], []
    for prompt in prompts:
        padding = length - len(prompt.exhibits)
        boxes.append([(e.cx, e.cy, e.width, e.height) for e in prompt.exhibits] + [PAD_BOX] * padding)
        labels.append([int(e.positive) for e in prompt.exhibits] + [PAD_LABEL] * padding)
    return torch.tensor(boxes, dtype=torch.float32), torch.tensor(labels)
