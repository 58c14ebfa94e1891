"""The forward of training: the product's, from cached sights on, with every decoder layer's answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Sam3Model

from sam3_core.engine.concepts import encode_decode
from sam3_core.engine.text import TextFeatures
from sam3_core.engine.tuning.questions import Ask
from sam3_core.engine.tuning.sights import Sights, neck


@dataclass(frozen=True, slots=True)
class Answer:
    """R asks through L decoder layers of Q queries; the numbers in float32.

    logits ``(L, R, Q)``, boxes ``(L, R, Q, 4)`` cxcywh, presence ``(L, R)`` logits. For masks: queries ``(R, Q, D)``
    of the last layer, image ``(R, N, D)``, tokens ``(R, P, D)``, mask ``(R, P)`` bool.
    """

    logits: Tensor
    boxes: Tensor
    presence: Tensor
    queries: Tensor
    image: Tensor
    tokens: Tensor
    mask: Tensor


class Forward:
    """Asks of a detector, whose vision and text encoders are not touched by training."""

    def __init__(self, detector: Sam3Model, text: TextFeatures, sights: Sights) -> None:
        self._detector, self._text, self._sights = detector, text, sights

    def __call__(self, asks: Sequence[Ask]) -> Answer:
        """All asks in one pass."""
        detector = self._detector
        coarse, position, tokens, mask = self._inputs(asks)
        encoded, decoded = encode_decode(detector, coarse, position, tokens, mask)
        states = decoded.intermediate_hidden_states
        logits = detector.dot_product_scoring(
            decoder_hidden_states=states, text_features=encoded.text_features, text_mask=mask
        )
        # Each layer moves the boxes of the one before, and only its own move is its to answer for.
        before = torch.special.logit(decoded.reference_boxes.detach().float().clamp(1e-3, 1 - 1e-3))
        boxes = (detector.detr_decoder.box_head(states).float() + before).sigmoid()
        return Answer(
            logits[..., 0].float(),
            boxes,
            decoded.presence_logits[..., 0].float(),
            states[-1],
            encoded.last_hidden_state,
            tokens,
            mask,
        )

    def masks(self, asks: Sequence[Ask], answer: Answer, rows: Sequence[int], queries: Sequence[int]) -> Tensor:
        """Mask logits ``(K, M, M)`` float32 of K queries: rows[k] is the row of the answer, queries[k] its query."""
        slots: dict[int, list[int]] = {}  # the head draws equally many for each row, padded with query 0
        places = []
        for row, query in zip(rows, queries, strict=True):
            slots.setdefault(row, []).append(query)
            places.append((list(slots).index(row), len(slots[row]) - 1))
        most = max(map(len, slots.values()))
        kept = torch.tensor(list(slots), device=answer.image.device)
        chosen = torch.tensor([own + [0] * (most - len(own)) for own in slots.values()], device=kept.device)
        with torch.no_grad():
            hidden = torch.stack([self._sights.get(asks[row].question.sight).hidden for row in slots])
            maps, _ = neck(self._detector, hidden.to(kept.device))
        drawn = self._detector.mask_decoder(
            decoder_queries=answer.queries[kept[:, None], chosen],
            backbone_features=maps,
            encoder_hidden_states=answer.image[kept],
            prompt_features=answer.tokens[kept],
            prompt_mask=answer.mask[kept],
        )
        place, slot = torch.tensor(places, device=kept.device).unbind(1)
        masks: Tensor = drawn.pred_masks[place, slot].float()
        return masks

    @torch.no_grad()
    def _inputs(self, asks: Sequence[Ask]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Coarsest maps and position code ``(R, D, h, w)``, prompt tokens ``(R, P, D)`` and their mask ``(R, P)``."""
        glance = self._sights.glance
        sights = [self._sights.get(ask.question.sight) for ask in asks]
        device = glance.position.device
        coarse = torch.stack([sight.coarse for sight in sights]).to(device)
        geometry = torch.stack([sight.geometry for sight in sights]).to(device)
        text, text_mask = self._text([ask.phrase for ask in asks])
        tokens = torch.cat([text, geometry], dim=1)
        mask = torch.cat([text_mask, glance.shown.expand(len(asks), -1)], dim=1)
        return coarse, glance.position.expand(len(asks), -1, -1, -1), tokens, mask
