"""Stands for the model where the model is not the point: answers from rendered scenes' ground truth."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sam3_core import (
    Concept,
    ConceptResult,
    FindOptions,
    Instance,
    Mask,
    ModelInfo,
    ModelState,
    OutlineOptions,
    VisualPrompt,
)
from sam3_core.demo.scenes import Scene, SceneObject
from sam3_core.errors import BrokenImage

VERSION = "sam3-scenes-test"


class SceneSegmenter:
    """A ``Segmenter`` that knows some scenes by the bytes of their files. Other bytes are a BrokenImage.

    A scene's phrase grammar stands for the text encoder; an object's size gives it its score, so that scores differ.
    ``error`` is raised by every prompt while it is set; ``calls`` counts them.
    """

    def __init__(self) -> None:
        self.scenes: dict[str, Scene] = {}
        self.state = ModelState.READY
        self.error: Exception | None = None
        self.calls = 0

    def add(self, scene: Scene, format: str = "PNG") -> bytes:
        """Learn a scene; its file."""
        data = scene.encode(format)
        self.scenes[hashlib.sha256(data).hexdigest()] = scene
        return data

    def info(self) -> ModelInfo:
        return ModelInfo(VERSION, self.state, "cpu", "float32")

    def find(
        self, image: bytes, concepts: Sequence[Concept], options: FindOptions | None = None
    ) -> list[ConceptResult]:
        scene = self._look(image)
        return [self._find(scene, concept, options or FindOptions()) for concept in concepts]

    def outline(self, image: bytes, prompt: VisualPrompt, options: OutlineOptions | None = None) -> list[Instance]:
        scene = self._look(image)
        hits = [item for item in reversed(scene.objects) if _fits(item, prompt)]
        return [Instance(Mask.from_full(item.mask), 0.9) for item in hits]

    def _look(self, image: bytes) -> Scene:
        self.calls += 1
        if self.error is not None:
            raise self.error
        scene = self.scenes.get(hashlib.sha256(image).hexdigest())
        if scene is None:
            raise BrokenImage("the bytes are no picture")
        return scene

    def _find(self, scene: Scene, concept: Concept, options: FindOptions) -> ConceptResult:
        threshold = options.threshold if concept.threshold is None else concept.threshold
        hits = {
            item.name + str(item.box): (item, phrase) for phrase in concept.phrases for item in scene.matching(phrase)
        }
        found = [Instance(Mask.from_full(item.mask), score_of(item), phrase) for item, phrase in hits.values()]
        kept = tuple(sorted((i for i in found if i.score >= threshold), key=lambda i: -i.score))
        rejected = [i.score for i in found if i.score < threshold]
        presence = 1.0 if found else 0.02
        return ConceptResult(kept, presence, max(rejected, default=None), threshold, (scene.width, scene.height))


def score_of(item: SceneObject) -> float:
    """0.6..0.95, larger for larger objects."""
    share = float(item.mask.mean())
    return 0.6 + min(0.35, share)


def _fits(item: SceneObject, prompt: VisualPrompt) -> bool:
    if prompt.box is not None:
        return Mask.from_full(item.mask).iou(_filled(item, prompt)) > 0.3
    return all(bool(item.mask[int(p.y), int(p.x)]) == p.positive for p in prompt.points)


def _filled(item: SceneObject, prompt: VisualPrompt) -> Mask:
    assert prompt.box is not None
    x0, y0, x1, y1 = (round(v) for v in prompt.box.xyxy)
    box = item.mask & False
    box[y0:y1, x0:x1] = True
    return Mask.from_full(box)
