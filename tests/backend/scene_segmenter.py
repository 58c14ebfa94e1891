"""Stands for the model where the model is not the point: answers from rendered scenes' ground truth."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from sam3_core import (
    Box,
    Caller,
    Concept,
    ConceptResult,
    EncodedImage,
    FindOptions,
    Instance,
    Mask,
    ModelInfo,
    ModelState,
    OutlineOptions,
    Point,
    VisualPrompt,
)
from sam3_core.caller import BULK, CLICK
from sam3_core.demo.scenes import Scene, SceneObject
from sam3_core.errors import BrokenImage, InvalidPrompt
from sam3_core.load import Load
from sam3_core.results import Removal
from sam3_core.rules import DEFAULT_RULES
from sam3_core.types import CacheInfo

VERSION = "sam3-scenes-test"


class SceneSegmenter:
    """A ``Segmenter`` that knows some scenes by the bytes of their files. Other bytes are a BrokenImage.

    A scene's phrase grammar stands for the text encoder; an object's size gives it its score, so that scores differ.
    A visual prompt with a mask gets the objects that the mask is mostly on, with those clicked and without those
    clicked away, as one outline.
    error: is raised by every prompt while it is set. device: whoever holds it keeps it from all others. queued: how
    many came to it so far. calls: how many it worked for. prompts: the visual ones of them, in order. asked: the
    concepts, and options: how they were searched, of each search. notes: what every result of one says. warmed: keys
    of the images, in order. callers: who asked, in order. load: how busy it says it is.
    """

    def __init__(self) -> None:
        self.scenes: dict[str, Scene] = {}
        self.state = ModelState.READY
        self.error: Exception | None = None
        self.calls = 0
        self.device = threading.Lock()
        self.queued = 0
        self.cache = CacheInfo()
        self.prompts: list[VisualPrompt] = []
        self.asked: list[tuple[Concept, ...]] = []
        self.options: list[FindOptions] = []
        self.notes: tuple[str, ...] = ()
        self.warmed: list[str] = []
        self.callers: list[Caller] = []
        self.load = Load()

    def add(self, scene: Scene, format: str = "PNG") -> bytes:
        """Learn a scene; its file."""
        data = scene.encode(format)
        self.scenes[EncodedImage(data).key] = scene
        return data

    def info(self) -> ModelInfo:
        return ModelInfo(VERSION, self.state, "cpu", "float32", cache=self.cache, load=self.load)

    def find(
        self,
        image: bytes | EncodedImage,
        concepts: Sequence[Concept],
        options: FindOptions | None = None,
        *,
        caller: Caller = BULK,
    ) -> list[ConceptResult]:
        scene = self._look(image, caller)
        self.asked.append(tuple(concepts))
        self.options.append(options or FindOptions())
        return [self._find(scene, concept, options or FindOptions()) for concept in concepts]

    def outline(
        self,
        image: bytes | EncodedImage,
        prompt: VisualPrompt,
        options: OutlineOptions | None = None,
        *,
        caller: Caller = CLICK,
    ) -> list[Instance]:
        scene = self._look(image, caller)
        self.prompts.append(prompt)
        if prompt.mask is not None and prompt.mask.frame != scene.image.shape[1::-1]:
            raise InvalidPrompt("the mask to refine is for another image")
        whole = [Mask.from_full(mask) for mask in _meant(scene, prompt)]
        thinner = [mask for one in whole for mask in (_worn(one, 1), _worn(one, 2))]
        readings = (mask for mask in whole + thinner if mask.area)
        return [Instance(mask, 0.9 - 0.1 * i) for i, mask in enumerate(readings)][
            : (options or OutlineOptions()).candidates
        ]

    def warm(self, image: bytes | EncodedImage, *, caller: Caller = BULK) -> None:
        self._look(image, caller)
        self.warmed.append(EncodedImage.of(image).key)

    def _look(self, image: bytes | EncodedImage, caller: Caller) -> Scene:
        self.queued += 1
        self.callers.append(caller)
        with self.device:
            caller.check()
            self.calls += 1
        if self.error is not None:
            raise self.error
        scene = self.scenes.get(EncodedImage.of(image).key)
        if scene is None:
            raise BrokenImage("the bytes are no picture")
        return scene

    def _find(self, scene: Scene, concept: Concept, options: FindOptions) -> ConceptResult:
        rules = concept.rules.over(options.rules).over(DEFAULT_RULES)
        if any(isinstance(one, Mask) and one.frame != (scene.width, scene.height) for one in concept.drawn):
            raise InvalidPrompt("the outlined mask is for another image")
        threshold = rules.threshold or 0.0
        hits = {
            item.name + str(item.box): (item, phrase) for phrase in concept.phrases for item in scene.matching(phrase)
        }
        found = [Instance(Mask.from_full(item.mask), score_of(item), phrase) for item, phrase in hits.values()]
        found.sort(key=lambda i: -i.score)
        new = [i for i in found if not any(_same(i.mask, outline) for outline in concept.drawn)]
        kept = [i for i in new if i.score >= threshold]
        kept += [i for i in new if i.score < threshold][: max(0, (rules.top_k or 0) - len(kept))]
        rejected = [i.score for i in found if i.score < threshold]
        drawn = sum(i.score >= threshold for i in found) - sum(i.score >= threshold for i in new)
        return ConceptResult(
            instances=tuple(kept),
            presence=1.0 if found else 0.02,
            best_rejected=max(rejected, default=None),
            rules=rules,
            size=(scene.width, scene.height),
            removed=((Removal.DRAWN, drawn),) if drawn else (),
            notes=self.notes,
        )


def score_of(item: SceneObject) -> float:
    """0.6..0.95, larger for larger objects."""
    share = float(item.mask.mean())
    return 0.6 + min(0.35, share)


def _same(mask: Mask, outline: Mask | Box) -> bool:
    if isinstance(outline, Mask):
        return mask.iou(outline) > 0.5
    x0, y0, x1, y1 = (round(v) for v in outline.xyxy)
    around = Mask(np.ones((y1 - y0, x1 - x0), dtype=np.bool_), x0, y0, mask.frame)
    left, top, right, bottom = mask.box
    return Mask(np.ones((bottom - top, right - left), dtype=np.bool_), left, top, mask.frame).iou(around) > 0.5


def _meant(scene: Scene, prompt: VisualPrompt) -> list[np.ndarray]:
    """The outlines that a prompt means, ``(H, W)`` bool, top object first."""
    if prompt.mask is None:
        return [item.mask for item in reversed(scene.objects) if _fits(item, prompt)]
    before = prompt.mask.full()
    stays = [item for item in scene.objects if (item.mask & before).sum() > item.mask.sum() / 2]
    more = [item for item in scene.objects if any(p.positive and _under(item, p) for p in prompt.points)]
    less = [item for item in scene.objects if any(not p.positive and _under(item, p) for p in prompt.points)]
    kept = [item.mask for item in [*stays, *more] if not any(item is other for other in less)]
    return [np.logical_or.reduce(kept)] if kept else []


def _fits(item: SceneObject, prompt: VisualPrompt) -> bool:
    if prompt.box is not None:
        return Mask.from_full(item.mask).iou(_filled(item, prompt)) > 0.3
    return all(_under(item, point) == point.positive for point in prompt.points)


def _under(item: SceneObject, point: Point) -> bool:
    height, width = item.mask.shape
    inside = 0 <= point.x < width and 0 <= point.y < height
    return inside and bool(item.mask[int(point.y), int(point.x)])


def _worn(mask: Mask, pixels: int) -> Mask:
    """The mask without its outermost pixels."""
    full = np.pad(mask.full(), pixels)
    for _ in range(pixels):
        inner = np.zeros_like(full)
        inner[1:-1, 1:-1] = full[1:-1, 1:-1] & full[:-2, 1:-1] & full[2:, 1:-1] & full[1:-1, :-2] & full[1:-1, 2:]
        full = inner
    return Mask.from_full(full[pixels:-pixels, pixels:-pixels])


def _filled(item: SceneObject, prompt: VisualPrompt) -> Mask:
    assert prompt.box is not None
    x0, y0, x1, y1 = (round(v) for v in prompt.box.xyxy)
    box = item.mask & False
    box[y0:y1, x0:x1] = True
    return Mask.from_full(box)
