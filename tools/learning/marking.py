"""How right the regions of a prediction are, label by label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from backend.rle import mask_of_rle
from sam3_core.learning.examples import Truth
from sam3_core.learning.measure import Tally, tally
from sam3_core.masks import Mask
from tools.learning.project import LABELS
from tools.learning.world import Sample

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Marks:
    """Of some pictures: one tally a label, in the order of the project's."""

    labels: tuple[tuple[str, Tally], ...]

    @property
    def f1(self) -> float:
        """Mean over the labels, so that one with many wrong regions does not drown the others."""
        return sum(one.f1 for _, one in self.labels) / len(self.labels)

    @property
    def pooled(self) -> float:
        """F1 of all labels' regions together."""
        return sum((one for _, one in self.labels), Tally()).f1

    def of(self, label: str) -> Tally:
        return dict(self.labels)[label]

    def told(self) -> Json:
        """For a file."""
        return {"f1": round(self.f1, 4), "pooled": round(self.pooled, 4)} | {
            name: {"f1": round(one.f1, 4), "hits": one.hits, "false": one.false, "missed": one.missed}
            for name, one in self.labels
        }


def mark(samples: Iterable[Sample], results: Iterable[Iterable[Mapping[str, Any]]]) -> Marks:
    """What a prediction's regions say against the truth, best score first, at a mask IoU of 0.5."""
    sums = {label.value: Tally() for label in LABELS}
    for sample, result in zip(samples, results, strict=True):
        shown = masks_of(result)
        for label in LABELS:
            truth = [Truth(mask) for mask in label.truth(sample)]
            sums[label.value] += tally([mask for _, mask in shown[label.value]], truth)
    return Marks(tuple(sums.items()))


def masks_of(result: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[Mapping[str, Any], Mask]]]:
    """The brush regions by label, each with its mask, best score first."""
    found = defaultdict[str, list[tuple[Mapping[str, Any], Mask]]](list)
    for region in sorted(result, key=lambda one: -float(one.get("score") or 0.0)):
        if region["type"] == "brushlabels":
            (label,) = region["value"]["brushlabels"]
            found[label].append((region, mask_of(region)))
    return found


def mask_of(region: Mapping[str, Any]) -> Mask:
    """What a brush region covers."""
    return mask_of_rle(region["value"]["rle"], (region["original_width"], region["original_height"]))
