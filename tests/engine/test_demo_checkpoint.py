"""The bundled demo checkpoint on scenes it has not seen: what a person would check by eye.

The floors of its quality are measured by the evaluation in tools/ on hundreds of scenes; these are the few
things that must never be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from sam3_core.demo.scenes import Scene, SceneObject, render_scene
from sam3_core.engine import LocalSegmenter
from sam3_core.engine.weights import DEMO_FOLDER
from sam3_core.masks import Mask
from sam3_core.settings import CoreSettings
from sam3_core.types import (
    Box,
    Concept,
    Exemplar,
    FindOptions,
    Instance,
    ModelState,
    OutlineOptions,
    Point,
    VisualPrompt,
)

SCENES = range(900_000, 900_012)


@pytest.fixture(scope="module")
def demo() -> LocalSegmenter:
    made = LocalSegmenter(CoreSettings(model="demo", device="cpu"))
    made.wait_until_ready(120)
    return made


@pytest.fixture(scope="module")
def scenes() -> list[tuple[Scene, bytes]]:
    rendered = [render_scene(seed, objects=(1, 4), long_side=(300, 500)) for seed in SCENES]
    return [(scene, scene.encode()) for scene in rendered]


@dataclass
class Tally:
    """Objects and instances over many scenes, matched at IoU 0.5."""

    objects: int = 0
    instances: int = 0
    matched: int = 0

    def add(self, objects: list[SceneObject], instances: list[Instance]) -> None:
        masks = [Mask.from_full(item.mask) for item in objects]
        self.objects += len(masks)
        self.instances += len(instances)
        self.matched += sum(any(i.mask.iou(mask) > 0.5 for i in instances) for mask in masks)

    @property
    def f1(self) -> float:
        return 2 * self.matched / max(1, self.objects + self.instances)


def middle(item: SceneObject) -> Point:
    """A pixel of the object that is well inside it: the last to go when its mask is eroded row- and columnwise."""
    mask = item.mask
    while True:
        padded = np.pad(mask, 1)
        eroded = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        if not eroded.any():
            row, column = np.argwhere(mask)[0]
            return Point(float(column) + 0.5, float(row) + 0.5)
        mask = eroded


def test_it_says_what_it_is(demo: LocalSegmenter) -> None:
    info = demo.info()
    assert info.state is ModelState.READY
    assert info.version.startswith("sam3-demo-")
    assert info.can_outline
    assert sum(file.stat().st_size for file in DEMO_FOLDER.iterdir()) <= 24 * 1024 * 1024


def test_text_finds_what_it_names(demo: LocalSegmenter, scenes: list[tuple[Scene, bytes]]) -> None:
    tally = Tally()
    for scene, data in scenes:
        names = sorted({item.name for item in scene.objects})
        for name, result in zip(names, demo.find(data, [Concept(phrases=(n,)) for n in names]), strict=True):
            tally.add(scene.matching(name), list(result.instances))
    assert tally.f1 >= 0.8


def test_what_is_not_there_is_not_found(demo: LocalSegmenter, scenes: list[tuple[Scene, bytes]]) -> None:
    absent = [Concept(phrases=(phrase,)) for phrase in ("dog", "yellow school bus", "xyzzy")]
    results = [result for _, data in scenes for result in demo.find(data, absent)]
    assert np.mean([len(result.instances) == 0 for result in results]) >= 0.9
    assert np.median([result.presence for result in results]) < 0.2


def test_an_exemplar_finds_its_likes(demo: LocalSegmenter, scenes: list[tuple[Scene, bytes]]) -> None:
    tally = Tally()
    for scene, data in scenes:
        shown = scene.objects[-1]
        (result,) = demo.find(data, [Concept(exemplars=(Exemplar(Box(*shown.box)),))])
        tally.add(scene.matching(shown.name), list(result.instances))
    assert tally.f1 >= 0.6


def test_one_click_outlines_the_object(demo: LocalSegmenter, scenes: list[tuple[Scene, bytes]]) -> None:
    overlaps = []
    for scene, data in scenes:
        item = scene.objects[-1]
        candidates = demo.outline(data, VisualPrompt(points=(middle(item),)), OutlineOptions(candidates=3))
        truth = Mask.from_full(item.mask)
        overlaps.append(candidates[0].mask.iou(truth) if candidates else 0.0)
    assert np.mean(overlaps) >= 0.7


def test_a_box_outlines_the_object(demo: LocalSegmenter, scenes: list[tuple[Scene, bytes]]) -> None:
    overlaps = []
    for scene, data in scenes:
        item = scene.objects[-1]
        found = demo.outline(data, VisualPrompt(box=Box(*item.box)))
        overlaps.append(found[0].mask.iou(Mask.from_full(item.mask)) if found else 0.0)
    assert np.mean(overlaps) >= 0.75


def test_any_text_is_taken(demo: LocalSegmenter, scenes: list[tuple[Scene, bytes]]) -> None:
    concepts = [Concept(phrases=(phrase,)) for phrase in ("猫", "😀", "a" * 3000, "Straßenbahn")]
    assert len(demo.find(scenes[0][1], concepts, FindOptions())) == 4
