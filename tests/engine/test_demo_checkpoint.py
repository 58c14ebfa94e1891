"""The bundled demo checkpoint on scenes it has not seen: what a person would check by eye.

The floors of its quality are measured by the evaluation in tools/ on hundreds of scenes; these are the few
things that must never be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from sam3_core.demo.scenes import Scene, SceneObject, render_scene
from sam3_core.engine import LocalSegmenter
from sam3_core.engine.weights import DEMO_FOLDER
from sam3_core.masks import Mask
from sam3_core.results import ConceptResult, Instance
from sam3_core.rules import Rules
from sam3_core.settings import CoreSettings
from sam3_core.types import Box, Concept, Exemplar, FindOptions, ModelState, OutlineOptions, Point, VisualPrompt

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


def test_a_click_on_nothing_gets_nothing(demo: LocalSegmenter, scenes: list[tuple[Scene, bytes]]) -> None:
    answers = []
    for scene, data in scenes:
        empty = np.pad(~np.any([item.mask for item in scene.objects], axis=0), 1)
        row, column = np.unravel_index(
            cv2.distanceTransform(empty.astype(np.uint8), cv2.DIST_L2, 5).argmax(), empty.shape
        )
        answers.append(demo.outline(data, VisualPrompt(points=(Point(float(column) - 0.5, float(row) - 0.5),))))
        assert demo.outline(data, VisualPrompt(points=(middle(scene.objects[-1]),)))
    assert np.mean([answer == [] for answer in answers]) >= 0.8


def test_three_readings_differ_and_the_best_comes_first(
    demo: LocalSegmenter, scenes: list[tuple[Scene, bytes]]
) -> None:
    for scene, data in scenes:
        prompt = VisualPrompt(points=(middle(scene.objects[-1]),))
        readings = demo.outline(data, prompt, OutlineOptions(candidates=3))
        scores = [reading.score for reading in readings]
        assert scores == sorted(scores, reverse=True)
        assert len(readings) >= 2
        assert max(a.mask.iou(b.mask) for i, a in enumerate(readings) for b in readings[:i]) <= 0.98
        (best,) = demo.outline(data, prompt)
        assert np.array_equal(best.mask.bits, readings[0].mask.bits)


def test_a_finished_mask_is_mended_by_one_click(demo: LocalSegmenter, scenes: list[tuple[Scene, bytes]]) -> None:
    """Half of the object is missing, then a disc beside it is too much; the clicks that made the mask are unknown."""
    added, removed = [], []
    for scene, data in scenes:
        item = scene.objects[-1]
        truth = Mask.from_full(item.mask)
        x0, _, x1, _ = truth.box
        columns = np.arange(item.mask.shape[1])[None, :]
        half = Mask.from_full(item.mask & (columns < (x0 + x1) / 2))
        rest = middle(SceneObject(item.color, item.shape, item.mask & (columns >= (x0 + x1) / 2), item.box))
        answer = demo.outline(data, VisualPrompt(points=(rest,), mask=half))
        added.append(answer[0].mask.iou(truth) if answer else 0.0)
        frame = item.mask.shape
        radius = (x1 - x0) / 3
        spot = Point(x1 + radius, rest.y) if x1 + radius < frame[1] else Point(x0 - radius, rest.y)
        rows = np.arange(frame[0])[:, None]
        wrong = item.mask | (np.hypot(columns + 0.5 - spot.x, rows + 0.5 - spot.y) < radius)
        negative = Point(spot.x, spot.y, positive=False)
        answer = demo.outline(data, VisualPrompt(points=(negative,), mask=Mask.from_full(wrong)))
        removed.append(answer[0].mask.iou(truth) if answer else 0.0)
    assert np.mean(added) >= 0.7
    assert np.mean(removed) >= 0.7


def test_exemplars_with_and_without_a_phrase(demo: LocalSegmenter) -> None:
    """Two red circles and two blue ones. What a negative exemplar shows is gone, whatever else the prompt says."""
    scene, reds, blues = two_and_two()
    shown, unwanted = Exemplar(Box(*reds[0].box)), Exemplar(Box(*blues[0].box), positive=False)
    word, likes, named, unnamed, only = demo.find(
        scene.encode("PNG"),
        [
            Concept(phrases=("circle",)),
            Concept(exemplars=(shown,)),
            Concept(phrases=("circle",), exemplars=(shown, unwanted)),
            Concept(exemplars=(shown, unwanted)),
            Concept(phrases=("circle",), exemplars=(unwanted,)),
        ],
        FindOptions(rules=Rules(overlap=True)),
    )
    assert (hit(word, reds), hit(word, blues)) == (2, 2)
    assert (hit(likes, reds), hit(likes, blues)) == (2, 0)
    for result in (named, unnamed):
        assert hit(result, reds) == 2
    for result in (named, unnamed, only):
        assert hit(result, blues[:1]) == 0


def two_and_two() -> tuple[Scene, list[SceneObject], list[SceneObject]]:
    image = np.full((400, 600, 3), 190, dtype=np.uint8)
    objects = []
    for place, (color, rgb) in enumerate((("red", (225, 20, 20)), ("blue", (20, 60, 225))) * 2):
        centre = (90 + 140 * place, 120 + 150 * (place // 2))
        cv2.circle(image, centre, 55, rgb, -1, cv2.LINE_AA)
        mask = cv2.circle(np.zeros(image.shape[:2], dtype=np.uint8), centre, 55, 1, -1) > 0
        x, y = (float(value) for value in centre)
        objects.append(SceneObject(color, "circle", mask, (x - 55, y - 55, x + 56, y + 56)))
    return Scene(image, tuple(objects), 0), objects[::2], objects[1::2]


def hit(result: ConceptResult, objects: list[SceneObject]) -> int:
    """How many of the objects an instance covers."""
    return sum(any(i.mask.iou(Mask.from_full(item.mask)) > 0.5 for i in result.instances) for item in objects)


def test_any_text_is_taken(demo: LocalSegmenter, scenes: list[tuple[Scene, bytes]]) -> None:
    concepts = [Concept(phrases=(phrase,)) for phrase in ("猫", "😀", "a" * 3000, "Straßenbahn")]
    assert len(demo.find(scenes[0][1], concepts, FindOptions())) == 4
