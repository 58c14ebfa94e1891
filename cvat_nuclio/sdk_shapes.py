"""Labels searched in a picture, and what is found as the tags and shapes of cvat-sdk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from cvat_sdk import models

from cvat_nuclio.detection import items_of, score_text
from cvat_nuclio.labels import LabelRow, LabelType
from cvat_nuclio.masks import cvat_rle
from sam3_core import ConceptResult, EncodedImage, FindOptions, Instance, Segmenter
from sam3_core.finish import finished

Annotation: TypeAlias = models.LabeledShapeRequest | models.LabeledImageRequest


@dataclass(frozen=True, slots=True)
class Target:
    """A label to fill, by its id. The row's type says what with: ANY is a mask."""

    label_id: int
    row: LabelRow


def search(
    segmenter: Segmenter, image: EncodedImage, rows: Sequence[LabelRow], options: FindOptions
) -> list[ConceptResult]:
    """One result per row, in order. Rows that look for the same share it, as they would take it from each other.

    Raises as ``Segmenter.find``.
    """
    concepts = list(dict.fromkeys(row.concept for row in rows))
    results = dict(zip(concepts, segmenter.find(image, concepts, options), strict=True))
    return [results[row.concept] for row in rows]


def drawn(image: EncodedImage, results: Sequence[ConceptResult], targets: Sequence[Target]) -> list[Annotation]:
    """What was found for each target in one image: frame 0, no id and no source, as functions of cvat-sdk answer.

    Masks are runs, polygons have their holes bridged; coordinates are in pixels of the image. Parts of one object
    that become several polygons share a group, which other images do not have (but by a rare chance). A tag stands
    for all instances of its label. Scores are from 0 to 1.
    """
    first_group = 1 + int(image.key[:6], 16)
    found = [
        (target, instance)
        for target, result in zip(targets, results, strict=True)
        for instance in result.instances[: 1 if target.row.type is LabelType.TAG else None]
    ]
    return [
        annotation
        for number, (target, instance) in enumerate(found)
        for annotation in _of_instance(instance, target, first_group + number)
    ]


def _of_instance(instance: Instance, target: Target, group: int) -> Iterator[Annotation]:
    if target.row.type in (LabelType.ANY, LabelType.MASK):
        # Runs at once: a detector's item has every pixel of the box instead, and an outline.
        runs = [float(number) for number in cvat_rle(finished(instance.mask, target.row.finish))]
        yield _shape(target, "mask", runs, score_text(instance.score))
        return
    for item in items_of(instance, target.row, group=group):
        if item["type"] == "tag":
            yield models.LabeledImageRequest(label_id=target.label_id, frame=0)
        else:
            yield _shape(target, item["type"], item["points"], item["confidence"], item.get("group_id", 0))


def _shape(target: Target, type: str, points: list[float], score: str, group: int = 0) -> models.LabeledShapeRequest:
    return models.LabeledShapeRequest(
        type=models.ShapeType(type), label_id=target.label_id, frame=0, points=points, score=float(score), group=group
    )
