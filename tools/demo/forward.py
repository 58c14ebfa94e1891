"""The training forward: the product's split forward, plus what only training needs (denoising queries)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import Sam3Model, Sam3VideoModel


@dataclass
class Seen:
    """One batch through the vision encoder: detector maps (fine to coarse) with positions, tracker embeddings."""

    maps: list[Tensor]
    positions: list[Tensor]
    clicks: list[Tensor]


def see(model: Sam3VideoModel, pixels: Tensor) -> Seen:
    """pixels ``(B, 3, S, S)``; the embeddings for clicks carry the no-memory vector on the coarsest map."""
    detector, tracker = model.detector_model, model.tracker_model
    hidden = detector.vision_encoder.backbone(pixels).last_hidden_state
    side = int(hidden.shape[1] ** 0.5)
    square = hidden.view(len(pixels), side, side, -1).permute(0, 3, 1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        maps, positions = detector.vision_encoder.neck(square)
        finest, finer, coarsest, _ = model.tracker_neck(square)[0]
        finest, finer = tracker.mask_decoder.conv_s0(finest), tracker.mask_decoder.conv_s1(finer)
    coarsest = coarsest.float() + tracker.no_memory_embedding.view(1, -1, 1, 1)
    return Seen(
        [m.float() for m in maps[:3]],
        [p.float() for p in positions[:3]],
        [finest.float(), finer.float(), coarsest],
    )


@dataclass
class Prompted:
    """R (image, prompt) pairs after the DETR encoder. rows ``(R,)``: which image of the batch."""

    rows: Tensor
    memory: Tensor
    positions: Tensor
    shape: Tensor
    prompt: Tensor
    mask: Tensor


def ask(
    model: Sam3Model, seen: Seen, rows: Tensor, ids: Tensor, attention: Tensor, boxes: Tensor, labels: Tensor
) -> Prompted:
    """ids, attention ``(R, T)``; boxes ``(R, K, 4)`` cxcywh, labels ``(R, K)`` 1, 0 or -10 (padding)."""
    text = model.get_text_features(input_ids=ids, attention_mask=attention).pooler_output
    coarsest, position = seen.maps[-1][rows], seen.positions[-1][rows]
    shown = model.geometry_encoder(
        box_embeddings=boxes,
        box_mask=labels != -10,
        box_labels=labels.clamp(min=0),
        img_feats=(coarsest,),
        img_pos_embeds=(position,),
    )
    prompt = torch.cat([text, shown.last_hidden_state], dim=1)
    mask = torch.cat([attention.bool(), shown.attention_mask.bool()], dim=1)
    encoded = model.detr_encoder(
        vision_features=[coarsest], text_features=prompt, vision_pos_embeds=[position], text_mask=mask
    )
    return Prompted(
        rows, encoded.last_hidden_state, encoded.pos_embeds_flattened, encoded.spatial_shapes, prompt, mask
    )


@dataclass
class Decoded:
    """Per decoder layer: hidden ``(L, R, N, D)``, logits ``(L, R, N)``, boxes ``(L, R, N, 4)`` cxcywh, presence
    ``(L, R)``. The first QUERIES of N are the model's own, the rest the noised copies.
    """

    hidden: Tensor
    logits: Tensor
    boxes: Tensor
    presence: Tensor


def decode(model: Sam3Model, asked: Prompted, noised: Tensor, real: Tensor) -> Decoded:
    """The stock decoder loop with denoising queries (Li et al. 2022) beside the learned ones.

    noised ``(R, K, 4)`` cxcywh boxes near true objects, real ``(R, K)`` bool where there is one. They start from the
    content of the learned query whose place is nearest, see each other and the presence token, and nobody else sees
    them: the learned queries work exactly as in the stock forward.
    """
    decoder = model.detr_decoder
    pairs, own = len(asked.memory), decoder.query_embed.num_embeddings
    references = decoder.reference_points.weight.sigmoid()
    nearest = torch.cdist(noised[..., :2], references[None, :, :2].expand(pairs, -1, -1)).argmin(-1)
    content = decoder.query_embed.weight
    hidden = torch.cat(
        [
            decoder.presence_token.weight[None].expand(pairs, -1, -1),
            content[None].expand(pairs, -1, -1),
            content[nearest],
        ],
        dim=1,
    )
    boxes = torch.cat([references[None].expand(pairs, -1, -1), noised], dim=1)
    sight = _sight(own, real)
    text_mask = asked.mask[:, None, None, :]
    keys = asked.memory + asked.positions
    states, places, presences = [], [], []
    for layer in decoder.layers:
        query_pos = decoder.ref_point_head(decoder.position_encoding.encode_boxes(boxes))
        bias = decoder._get_rpb_matrix(boxes, (asked.shape[0, 0], asked.shape[0, 1]))
        hidden = _layer(layer, hidden, query_pos, asked, keys, text_mask, F.pad(bias, (0, 0, 1, 0)), sight)
        out = decoder.output_layer_norm(hidden[:, 1:])
        moved = (decoder.box_head(out) + torch.special.logit(boxes.clamp(1e-3, 1 - 1e-3))).sigmoid()
        boxes = moved.detach()
        states.append(out)
        places.append(moved)
        presences.append(decoder.presence_head(decoder.presence_layer_norm(hidden[:, :1])).flatten())
    stacked = torch.stack(states)
    logits = model.dot_product_scoring(stacked, asked.prompt, asked.mask).squeeze(-1)
    return Decoded(stacked, logits, torch.stack(places), torch.stack(presences))


def _sight(own: int, real: Tensor) -> Tensor:
    """Who may look at whom, ``(R, 1, N, N)`` bool: own queries and presence at each other, copies at copies too."""
    pairs, extra = real.shape
    total = 1 + own + extra
    sight = torch.zeros(pairs, total, total, dtype=torch.bool, device=real.device)
    sight[:, : 1 + own, : 1 + own] = True
    sight[:, 1 + own :, 0] = True
    sight[:, 1 + own :, 1 + own :] = real[:, None, :]
    return sight[:, None]


def _layer(
    layer: Any,
    hidden: Tensor,
    query_pos: Tensor,
    asked: Prompted,
    keys: Tensor,
    text_mask: Tensor,
    bias: Tensor,
    sight: Tensor,
) -> Tensor:
    """`Sam3DetrDecoderLayer.forward` with a mask on self-attention, which the stock one does not take."""
    query_pos = F.pad(query_pos, (0, 0, 1, 0))
    with_pos = hidden + query_pos
    hidden = layer.self_attn_layer_norm(hidden + layer.self_attn(with_pos, with_pos, hidden, sight)[0])
    told = layer.text_cross_attn(hidden + query_pos, asked.prompt, asked.prompt, text_mask)[0]
    hidden = layer.text_cross_attn_layer_norm(hidden + told)
    looked = layer.vision_cross_attn(hidden + query_pos, keys, asked.memory, bias)[0]
    hidden = layer.vision_cross_attn_layer_norm(hidden + looked)
    settled: Tensor = layer.mlp_layer_norm(hidden + layer.mlp(hidden))
    return settled


def draw(model: Sam3Model, seen: Seen, asked: Prompted, chosen: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    """Mask logits ``(C, K, M, M)`` of queries ``(C, K, D)`` of the chosen ``(C,)`` pairs, and of their union."""
    rows = asked.rows[chosen]
    with torch.autocast("cpu", torch.bfloat16):
        out = model.mask_decoder(
            decoder_queries=queries,
            backbone_features=[m[rows] for m in seen.maps],
            encoder_hidden_states=asked.memory[chosen],
            prompt_features=asked.prompt[chosen],
            prompt_mask=asked.mask[chosen],
        )
    return out.pred_masks.float(), out.semantic_seg.float().squeeze(1)


def click(
    model: Sam3VideoModel,
    embeddings: list[Tensor],
    *,
    points: Tensor | None,
    labels: Tensor | None,
    boxes: Tensor | None,
    masks: Tensor | None,
    several: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The tracker head, one prompt per row: points ``(N, 1, P, 2)`` and boxes ``(N, 1, 4)`` in model pixels,
    masks ``(N, 1, M, M)`` earlier logits. Returns logits ``(N, C, M, M)``, predicted IoU ``(N, C)``, object
    logit ``(N,)``."""
    tracker = model.tracker_model
    sparse, dense = tracker.prompt_encoder(
        input_points=points, input_labels=labels, input_boxes=boxes, input_masks=masks
    )
    count = len(embeddings[0])
    logits, quality, _, score = tracker.mask_decoder(
        image_embeddings=embeddings[-1],
        image_positional_embeddings=tracker.get_image_wide_positional_embeddings().expand(count, -1, -1, -1),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=several,
        high_resolution_features=embeddings[:-1],
    )
    return logits[:, 0].float(), quality[:, 0], score[:, 0, 0]
