"""The whole way with real weights: a scene's file goes in, regions on its objects come out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from label_studio_sdk.converter.brush import decode_rle
from request_bodies import data_url, predict_body

from backend.app import create_app
from backend.settings import BackendSettings
from sam3_core import Mask
from sam3_core.demo.scenes import COLORS, Scene
from sam3_core.engine import LocalSegmenter

SEEDS = range(500, 506)


def config(tag: str) -> str:
    labels = "".join(f'<Label value="{color}" prompt="{color} shape"/>' for color in COLORS)
    return f'<View><Image name="image" value="$image"/><{tag} name="out" toName="image">{labels}</{tag}></View>'


def mask_of(region: dict[str, Any]) -> Mask:
    width, height = region["original_width"], region["original_height"]
    if region["type"] == "brushlabels":
        return Mask.from_full(decode_rle(region["value"]["rle"]).reshape(height, width, 4)[..., 3])
    corners = np.array(region["value"]["points"]) * (width, height) / 100
    canvas = np.zeros((height, width), np.uint8)
    return Mask.from_full(cv2.fillPoly(canvas, [np.rint((corners - 0.5) * 16).astype(np.int32)], 1, shift=4))


@pytest.mark.parametrize("tag", ["PolygonLabels", "BrushLabels"])
def test_regions_stand_on_the_objects(segmenter: LocalSegmenter, scene: Callable[..., Scene], tag: str) -> None:
    """Most objects have a region of their colour on them, and most regions stand on such an object."""
    client = create_app(BackendSettings(), segmenter).test_client()
    scenes = [scene(seed, objects=(1, 4), long_side=(300, 500)) for seed in SEEDS]
    tasks = [{"id": i, "data": {"image": data_url(one.encode(), "image/jpeg")}} for i, one in enumerate(scenes)]
    results = client.post("/predict", json=predict_body(tasks, config(tag))).json["results"]
    hits = total = found = 0
    for one, prediction in zip(scenes, results, strict=True):
        assert prediction["model_version"] == segmenter.info().version
        found += len(prediction["result"])
        for item in one.objects:
            truth = Mask.from_full(item.mask)
            same = [r for r in prediction["result"] if r["value"][tag.lower()] == [item.color]]
            hits += any(mask_of(region).iou(truth) > 0.7 for region in same)
            total += 1
    assert hits >= 0.8 * total
    assert hits >= 0.7 * found
