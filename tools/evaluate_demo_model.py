"""How good a checkpoint is on held-out rendered scenes, through the product's own pipeline.

    python -m tools.evaluate_demo_model --model demo --scenes 300

Prints a Markdown table: the demo world's own scenes of one to six and of seven to twelve objects, and scenes drawn by
other code. The seeds are far from the training seeds.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from rich.progress import track

from sam3_core import Box, Concept, ConceptResult, Exemplar, FindOptions, Mask, Point, Segmenter, VisualPrompt
from sam3_core.demo.scenes import Scene, SceneObject, render_scene
from sam3_core.engine import LocalSegmenter
from sam3_core.learning.examples import Truth
from sam3_core.learning.measure import Tally, tally
from sam3_core.rules import Rules
from sam3_core.settings import CoreSettings, load_settings
from tools.demo.foreign import draw_scene
from tools.demo.questions import text_question

FIRST_SEED = 9_000_000
PHRASES_PER_SCENE = 4


@dataclass
class Report:
    """One column of the table."""

    text: Tally = field(default_factory=Tally)
    exemplar: Tally = field(default_factory=Tally)
    clicks: list[float] = field(default_factory=list)
    boxes: list[float] = field(default_factory=list)

    def rows(self) -> dict[str, float]:
        return {
            "text: F1 at IoU 0.5": self.text.f1,
            "text: precision": self.text.precision,
            "text: recall": self.text.recall,
            "text: mean IoU of matched masks": self.text.mean_iou,
            "text: presence accuracy": self.text.presence,
            "one click: mean IoU": float(np.mean(self.clicks or [0.0])),
            "one box: mean IoU": float(np.mean(self.boxes or [0.0])),
            "one exemplar box: F1 at IoU 0.5": self.exemplar.f1,
        }


def evaluate(segmenter: Segmenter, scenes: Sequence[int], make: Callable[[int], Scene], title: str) -> Report:
    """Ask every scene some phrases (a quarter of them absent), one exemplar, and a click and a box for one object."""
    report = Report()
    for seed in track(scenes, description=title):
        scene, rng = make(seed), random.Random(seed)
        image = scene.encode("JPEG", quality=rng.randint(75, 95)) if rng.random() < 0.5 else scene.encode("PNG")
        _ask_concepts(segmenter, image, scene, rng, report)
        _ask_outlines(segmenter, image, scene, rng, report)
    return report


def _ask_concepts(segmenter: Segmenter, image: bytes, scene: Scene, rng: random.Random, report: Report) -> None:
    kinds = [(thing.color, thing.shape) for thing in scene.objects]
    questions = [text_question(kinds, rng) for _ in range(PHRASES_PER_SCENE)]
    first = rng.randrange(len(kinds))
    shown = Concept(exemplars=(Exemplar(Box(*scene.objects[first].box)),))
    alike = [thing for thing in scene.objects if thing.name == scene.objects[first].name]
    concepts = [*(Concept((question.phrase,)) for question in questions), shown]
    *told, similar = segmenter.find(image, concepts, FindOptions(rules=Rules(overlap=True)))
    for question, result in zip(questions, told, strict=True):
        report.text += _tally(result, [scene.objects[i] for i in question.answer])
    report.exemplar += _tally(similar, alike)


def _tally(result: ConceptResult, things: Sequence[SceneObject]) -> Tally:
    truth = [Truth(Mask.from_full(thing.mask)) for thing in things]
    return tally([instance.mask for instance in result.instances], truth, result.presence)


def _ask_outlines(segmenter: Segmenter, image: bytes, scene: Scene, rng: random.Random, report: Report) -> None:
    thing = rng.choice(scene.objects)
    truth = Mask.from_full(thing.mask)
    x, y = inner_point(thing)
    for prompt, ious in (
        (VisualPrompt((Point(x, y),)), report.clicks),
        (VisualPrompt(box=Box(*thing.box)), report.boxes),
    ):
        found = segmenter.outline(image, prompt)
        ious.append(found[0].mask.iou(truth) if found else 0.0)


def inner_point(thing: SceneObject) -> tuple[float, float]:
    """The centre of the pixel deepest inside the visible mask: where a person would click."""
    depth = cv2.distanceTransform(np.pad(thing.mask, 1).astype(np.uint8), cv2.DIST_L2, 5)
    row, column = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return float(column) - 0.5, float(row) - 0.5


def table(reports: dict[str, Report]) -> str:
    """Markdown, one row per measure and one column per kind of scene."""
    lines = ["| measure | " + " | ".join(reports) + " |", "|---" * (len(reports) + 1) + "|"]
    columns = [report.rows() for report in reports.values()]
    lines += [f"| {name} | " + " | ".join(f"{column[name]:.3f}" for column in columns) + " |" for name in columns[0]]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="as SAM3_MODEL; default: the environment's, else demo")
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    segmenter = LocalSegmenter(load_settings(CoreSettings, model=options.model))
    seeds = range(options.first_seed, options.first_seed + options.scenes)
    print(f"{segmenter.info().version}, {options.scenes} scenes a column, seeds from {options.first_seed}\n")
    reports = {
        "1-6 objects": evaluate(segmenter, seeds, lambda s: render_scene(s, long_side=(300, 2000)), "few"),
        "7-12 objects": evaluate(
            segmenter, seeds, lambda s: render_scene(s, objects=(7, 12), long_side=(300, 2000)), "many"
        ),
        "drawn by other code": evaluate(segmenter, seeds, draw_scene, "foreign"),
    }
    print(table(reports))


if __name__ == "__main__":
    main()
