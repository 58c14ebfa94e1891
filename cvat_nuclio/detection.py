"""A detector's answer: every label's concept is searched in a picture, and what is found becomes CVAT's items.

An item of a label for masks carries both forms, as the function cannot know which is wanted: ``mask``, every part of
the object, and ``points``, the outline of its largest part, which CVAT stores instead where masks are converted. A
label for polygons gives every part: one item each, all of one group. Holes hang on a bridge of no width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cvat_nuclio.labels import SCORE, LabelRow, LabelType
from cvat_nuclio.masks import flat_crop
from sam3_core import Caller, EncodedImage, FindOptions, Instance, Mask, Rules, Segmenter
from sam3_core.caller import BULK
from sam3_core.encodings.outlines import ring_area
from sam3_core.encodings.polygons import Polygon, bridged, polygons
from sam3_core.finish import finished

Item = dict[str, Any]

_DECIMALS = 2  # of a pixel


@dataclass(frozen=True, slots=True)
class Detection:
    """items: as CVAT takes them, best first. remarks: why labels found nothing, and notes on phrases, for the log."""

    items: list[Item]
    remarks: list[str]


def detect(
    segmenter: Segmenter,
    image: EncodedImage,
    rows: Sequence[LabelRow],
    options: FindOptions,
    *,
    threshold: float | None = None,
    caller: Caller = BULK,
) -> Detection:
    """Search every row's concept, each once, and write what is found.

    threshold: the request's own, 0..1, over the rows' thresholds. Raises as ``Segmenter.find``, and InvalidPrompt
    for a threshold out of range.
    """
    special = Rules(threshold=threshold)
    asked = {row.name: replace(row.concept, rules=special.over(row.concept.rules)) for row in rows}
    concepts = list(dict.fromkeys(asked.values()))
    results = dict(zip(concepts, segmenter.find(image, concepts, options, caller=caller), strict=True))
    found: list[tuple[LabelRow, Instance]] = []
    remarks: list[str] = []
    for row in rows:
        result = results[asked[row.name]]
        instances = [instance for instance in result.instances if instance.mask.area]
        found += ((row, instance) for instance in instances[: 1 if row.type is LabelType.TAG else None])
        remarks += [f"{row.name}: {said}" for said in ([result.reason] if result.reason else result.notes)]
    found.sort(key=lambda one: -one[1].score)
    first_group = 1 + int(image.key[:6], 16)
    items = [
        item
        for number, (row, instance) in enumerate(found)
        for item in items_of(instance, row, group=first_group + number)
    ]
    return Detection(items, remarks)


def items_of(instance: Instance, row: LabelRow, *, group: int) -> list[Item]:
    """The items of one object: one, or for polygons one per part.

    group: of the parts, where there are several. Different pictures should have different ones, as CVAT's groups
    reach over all frames of a task.
    """
    shapes = list(_shapes(instance.mask, row))
    confidence = score_text(instance.score)
    common: Item = {"label": row.name, "confidence": confidence}
    if row.scored:
        common["attributes"] = [{"name": SCORE, "value": confidence}]
    if len(shapes) > 1:
        common["group_id"] = group
    return [common | shape for shape in shapes]


def score_text(score: float) -> str:
    """A score, 0..1, as CVAT wants it: text, finite."""
    return str(round(min(1.0, max(0.0, float(score))), 4)) if math.isfinite(score) else "0.0"


def _shapes(mask: Mask, row: LabelRow) -> Iterator[Item]:
    """The type and the geometry of each item. Degenerate ones never leave: one would end a whole batch in CVAT."""
    if row.type is LabelType.TAG:
        yield {"type": "tag"}
    elif row.type is LabelType.RECTANGLE:
        whole = finished(mask, row.finish.without_fragments(mask)).tight()
        yield {"type": "rectangle", "points": [float(edge) for edge in whole.box]}
    elif row.type is LabelType.POLYGON:
        finish = row.finish.without_fragments(mask)
        for polygon in polygons(finished(mask, finish), finish):
            if points := _points(polygon):
                yield {"type": "polygon", "points": points}
    else:
        whole = finished(mask, row.finish)
        item: Item = {"type": "mask", "mask": flat_crop(whole)}
        if points := _points(polygons(whole, row.finish)[0]):
            item["points"] = points
        yield item


def _points(polygon: Polygon) -> list[float]:
    """A flat list of at least three corners in pixels, or an empty one for what is no area."""
    ring = np.round(bridged(polygon), _DECIMALS)
    if len(ring) < 3 or not np.isfinite(ring).all() or ring_area(ring) == 0:
        return []
    return [float(value) for value in ring.ravel()]
