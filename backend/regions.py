"""Instances become regions that Label Studio's editor, exporters and validators accept, to the last field.

What a mask becomes is told in ``backend.values``. Where it becomes several regions, the further ones have the first
as their ``parentID``: the editor lists them under it, and keeps them when it is deleted.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.prompts import Target
from backend.values import draw
from sam3_core import ConceptResult, Instance, Mask
from sam3_core.finish import DEFAULT_FINISH

Region = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Picture:
    """What region ids are made of besides the region: the image's content and the weights' version."""

    key: str
    version: str


class RegionWriter:
    """Writes the regions of one task. Holds the ids given: equal input gives equal ids, none twice in a task."""

    def __init__(self) -> None:
        self._ids: set[str] = set()

    def write(
        self,
        instance: Instance,
        target: Target,
        picture: Picture,
        *,
        region_id: str | None = None,
        remarks: Sequence[str] = (),
    ) -> list[Region]:
        """The regions of one instance: one, or for polygons one per part; none for an empty mask.

        region_id: the id of the region it takes the place of; further parts get it with ``-2``, ``-3`` behind.
        remarks: to be shown with it, besides the phrase, what the shape could not keep, and the model version.
        Where the labels are a tag of their own, each region is two results of one id, as the editor stores them.
        """
        mask = instance.mask
        if mask.area == 0:
            return []
        width, height = mask.frame
        common: Region = {
            "to_name": target.source.name,
            "original_width": width,
            "original_height": height,
            "image_rotation": target.rotation,
            "score": share(instance.score),
        }
        if target.page is not None:
            common["item_index"] = target.page
        results: list[Region] = []
        for part, drawn in enumerate(draw(mask, target.control, target.finish.over(DEFAULT_FINISH))):
            name = self._next_id(region_id) if region_id else self._new_id(target, picture, mask, part)
            texts = (instance.phrase, *drawn.remarks, *remarks, picture.version)
            own = {"id": name, **common, "meta": {"text": [text for text in texts if text]}}
            if results:
                own["parentID"] = results[0]["id"]
            results += (own | rest for rest in _labelled(drawn.value, target))
        return results

    def _next_id(self, region_id: str) -> str:
        """The id, with the first number behind it that makes it new."""
        names = itertools.chain((region_id,), (f"{region_id}-{number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in self._ids)
        self._ids.add(name)
        return name

    def _new_id(self, target: Target, picture: Picture, mask: Mask, part: int) -> str:
        """16 letters and digits from everything that makes the region what it is."""
        place = (picture.key, target.source.name, target.page, target.control.name, target.label, mask.box, part)
        content = repr(place).encode() + np.packbits(mask.bits).tobytes()
        for repeat in range(len(self._ids) + 1):
            digest = hashlib.blake2b(content, digest_size=10, salt=repeat.to_bytes(8, "big")).digest()
            region_id = base64.b32encode(digest).decode().lower()
            if region_id not in self._ids:
                break
        self._ids.add(region_id)
        return region_id


def share(score: float) -> float:
    """A score as Label Studio stores it: 0..1, finite, six decimals."""
    return round(min(1.0, max(0.0, float(score))), 6) if math.isfinite(score) else 0.0


def remarks_on(instance: Instance, result: ConceptResult) -> tuple[str, ...]:
    """What a person should know about an instance of a result."""
    if instance.score >= result.threshold:
        return result.notes
    return f"candidate: score below the threshold {result.threshold:.2f}", *result.notes


def mean_score(regions: Sequence[Region]) -> float:
    """The mean of the regions' scores, 0..1: what Label Studio orders tasks by. 0 without regions."""
    return share(math.fsum(region["score"] for region in regions) / len(regions)) if regions else 0.0


def _labelled(value: Region, target: Target) -> Iterator[Region]:
    """What tells the results of one region apart: tag, type and value, with the label where it belongs."""
    control, labels = target.control, [target.label]
    if not control.labeler:
        yield {"from_name": control.name, "type": control.output.value, "value": value | {control.output: labels}}
        return
    yield {"from_name": control.name, "type": control.output.plain, "value": value}
    yield {"from_name": control.labeler, "type": "labels", "value": value | {"labels": labels}}
