"""The whole way with real weights: a scene's file goes in, regions on its objects come out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from editor import Editor, bare, bounds, brush, spot
from label_studio_sdk.converter.brush import decode_rle
from request_bodies import data_url, predict_body

from backend.app import create_app
from backend.settings import BackendSettings
from sam3_core import Mask
from sam3_core.demo.scenes import COLORS, Scene, SceneObject
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


# ---- the interactive loop ----------------------------------------------------------------------------------------


@pytest.fixture
def editors(segmenter: LocalSegmenter, scene: Callable[..., Scene]) -> list[tuple[Editor, Scene]]:
    """An annotator on each of some pictures, all of one backend."""
    client = create_app(BackendSettings(), segmenter).test_client()
    scenes = [scene(seed, objects=(2, 4), long_side=(300, 500)) for seed in SEEDS[:4]]
    images = [data_url(one.encode(), "image/jpeg") for one in scenes]
    return [(Editor(client, image, task=i), one) for i, (image, one) in enumerate(zip(images, scenes, strict=True))]


def test_first_click_second_click_and_alt_click_on_what_was_accepted(editors: list[tuple[Editor, Scene]]) -> None:
    """The first click is on the object; a negative one beside it keeps its id and does not make it worse."""
    first, second, edited, total = 0, 0, 0, 0
    for editor, scene in editors:
        for item in scene.objects:
            truth = Mask.from_full(item.mask)
            found = editor.click(*spot(item, scene))
            first += found != [] and brush(found[0]).iou(truth) > 0.7
            again = editor.click(*bare(scene), positive=False)
            second += again != [] and brush(again[0]).iou(truth) > 0.7
            assert {region["id"] for region in again} <= {region["id"] for region in found}
            editor.accept()
            total += 1
        known = {region["id"] for region in editor.accepted}
        for region in list(editor.accepted):
            mask = brush(region)
            x, y = mask.x + np.flatnonzero(mask.bits[0])[0], mask.y
            found = editor.click((x + 0.5) * 100 / scene.width, (y + 0.5) * 100 / scene.height, positive=False)
            edited += found != [] and found[0]["id"] in known
            editor.reject()
    assert first >= 0.8 * total
    assert second >= 0.8 * total
    assert edited >= 0.8 * total


def test_boxes_and_typed_text(editors: list[tuple[Editor, Scene]]) -> None:
    """What was boxed and accepted is not among what text finds."""
    boxed, typed, again, total = 0, 0, 0, 0

    def is_found(editor: Editor, item: SceneObject) -> bool:
        regions = editor.type(f"{item.color} {item.shape}")
        editor.reject()
        return any(brush(region).iou(Mask.from_full(item.mask)) > 0.7 for region in regions)

    for editor, scene in editors:
        for item in scene.objects:
            typed += is_found(editor, item)
            found = editor.box(*bounds(item, scene))
            boxed += found != [] and brush(found[0]).iou(Mask.from_full(item.mask)) > 0.7
            editor.accept()
            again += is_found(editor, item)
            total += 1
    assert boxed >= 0.8 * total
    assert typed >= 0.7 * total
    assert not again


def test_an_opened_task_leaves_nothing_to_encode(editors: list[tuple[Editor, Scene]]) -> None:
    """After the request that opening a task sends, the first click meets neither the decoder nor the encoder."""
    editor, scene = editors[0]
    editor.client.post("/predict", json=predict_body([editor.task], editor.config))
    assert editor.click(*spot(scene.objects[0], scene))
    assert editor.timing.keys().isdisjoint({"decode", "vision"})
    assert {"parse", "fetch", "model", "masks", "encode"} <= editor.timing.keys()
