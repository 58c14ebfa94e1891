"""Comparing stored regions with the scene they were found in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sam3_core.demo.scenes import Scene, SceneObject, render_scene
from sam3_core.masks import Mask
from sam3_prelabel.demo.regions import StoredRegion

LABELS = {"Round thing": "circle", "Star": "star", "Square": "square", "Triangle": "triangle"}
"""Names with their phrases: every object of a scene has exactly one."""

SEEDS = tuple(1_900_000_000 + n for n in (7, 15, 16, 31, 38, 45))
"""Scenes on which the demo checkpoint is right by a margin: what fails here is the way through Label Studio. How
often it is right at all is measured by tools/evaluate_demo_model.py."""


def scene_of(seed: int) -> Scene:
    """A scene that the checkpoint was not trained on."""
    return render_scene(seed, objects=(2, 5), long_side=(450, 900))


@dataclass
class Tally:
    """Regions matched one to one with objects of the same label, best overlap first, from IoU 0.5 on."""

    objects: int = 0
    regions: int = 0
    ious: tuple[float, ...] = ()

    def add(self, scene: Scene, regions: Sequence[StoredRegion], labels: Mapping[str, str] = LABELS) -> None:
        wanted = [(label, item) for label, phrase in labels.items() for item in scene.matching(phrase)]
        pairs = sorted(
            (
                (region.instance.mask.iou(_truth(item, region.kind)), r, w)
                for r, region in enumerate(regions)
                for w, (label, item) in enumerate(wanted)
                if region.label == label
            ),
            reverse=True,
        )
        used_regions, used_objects = set[int](), set[int]()
        for iou, r, w in pairs:
            if iou >= 0.5 and r not in used_regions and w not in used_objects:
                used_regions.add(r)
                used_objects.add(w)
                self.ious += (iou,)
        self.objects += len(wanted)
        self.regions += len(regions)

    @property
    def recall(self) -> float:
        return len(self.ious) / self.objects

    @property
    def precision(self) -> float:
        return len(self.ious) / self.regions if self.regions else 0.0

    @property
    def mean_iou(self) -> float:
        return float(np.mean(self.ious)) if self.ious else 0.0

    def check(self, share: float = 0.75) -> None:
        """Most objects were found, little else, and all of it in its place. Of few objects ask for a lower share."""
        assert self.recall >= share, self
        assert self.precision >= share, self
        assert self.mean_iou >= 0.8, self


def _truth(item: SceneObject, kind: str) -> Mask:
    if kind != "rectanglelabels":
        return Mask.from_full(item.mask)
    x0, y0, x1, y1 = (round(edge) for edge in item.box)
    box = np.zeros_like(item.mask)
    box[y0:y1, x0:x1] = True
    return Mask.from_full(box)
