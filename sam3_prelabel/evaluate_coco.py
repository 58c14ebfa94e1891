"""Data sets in COCO's format for object detection: an object with ``images``, ``annotations`` and ``categories``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as pycoco

from sam3_core import Concept, Mask
from sam3_core.encodings import coco
from sam3_core.errors import InvalidInput, Sam3Error
from sam3_core.learning.examples import Truth
from sam3_core.wording import readable
from sam3_prelabel.evaluate_truth import DataSet, Shown, file_below
from sam3_prelabel.prompts import Prompt

_Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _CocoPicture:
    """entries: its annotations. labels: names of categories by id."""

    name: str
    folder: Path
    said: object
    entries: Sequence[_Entry]
    labels: Mapping[Any, str]
    max_megapixels: float

    def data(self) -> bytes:
        return file_below(self.folder, self.name).read_bytes()

    def shown(self, size: tuple[int, int]) -> Shown:
        if self.said not in (size, (None, None)):
            raise InvalidInput(f"the file says that it is {_size(self.said)} pixels, and it is {_size(size)}")
        shown = Shown()
        for entry in self.entries:
            label = self.labels[entry["category_id"]]
            try:
                self._add(shown, label, entry, size)
            except Sam3Error as error:
                shown.unclear.add(label)
                shown.problems.append(f"annotation {entry.get('id')!r} ({label}): {error}")
        return shown

    def _add(self, shown: Shown, label: str, entry: _Entry, size: tuple[int, int]) -> None:
        segmentation = entry.get("segmentation")
        if not segmentation:
            shown.truth.setdefault(label, []).append(Truth(_boxed(entry.get("bbox"), size), around=True))
            return
        mask = read_segmentation(segmentation, size, max_megapixels=self.max_megapixels)
        if entry.get("iscrowd"):
            shown.crowds.setdefault(label, []).append(mask)
        else:
            shown.truth.setdefault(label, []).append(Truth(mask))


def read_coco(content: object, folder: Path, *, max_megapixels: float = 100.0) -> DataSet:
    """What a parsed file says. folder: that the images' ``file_name`` start from.

    Raises InvalidInput for what is no such file; entries that are wrong become problems.
    """
    if not isinstance(content, dict) or not all(
        isinstance(content.get(name), list) for name in ("images", "annotations", "categories")
    ):
        raise InvalidInput("a COCO file is an object with lists of images, annotations and categories")
    labels = _labels(content["categories"])
    images, problems = _images(content["images"])
    entries: dict[Any, list[_Entry]] = {key: [] for key in images}
    for place, entry in enumerate(content["annotations"]):
        if problem := _misplaced(entry, images, labels):
            problems.append(f"annotation {place}: {problem}")
        else:
            entries[entry["image_id"]].append(entry)
    pictures = [
        _CocoPicture(
            image["file_name"],
            folder,
            (image.get("width"), image.get("height")),
            entries[key],
            labels,
            max_megapixels,
        )
        for key, image in images.items()
    ]
    prompts = {name: Prompt(Concept((readable(name),))) for name in labels.values()}
    return DataSet(prompts, pictures, tuple(problems))


def read_segmentation(segmentation: object, size: tuple[int, int], *, max_megapixels: float = 100.0) -> Mask:
    """The pixels of polygons or of a run-length encoding, as pycocotools has them. size: ``(width, height)``.

    Raises InvalidInput or TooLarge for what is neither, or holds no pixel.
    """
    if isinstance(segmentation, dict):
        mask = coco.decode(segmentation, max_megapixels=max_megapixels)
        if mask.frame != size:
            raise InvalidInput(f"its mask is {_size(mask.frame)} pixels, and the image {_size(size)}")
    elif isinstance(segmentation, list):
        rings = [_ring(ring, size) for ring in segmentation]
        runs = pycoco.merge(pycoco.frPyObjects(rings, size[1], size[0]))
        mask = coco.decode(runs, max_megapixels=max_megapixels)
    else:
        raise InvalidInput("a segmentation is a list of polygons, or an object with size and counts")
    if mask.area == 0:
        raise InvalidInput("its mask holds no pixel")
    return mask


def _ring(ring: object, size: tuple[int, int]) -> list[float]:
    """``[x, y, x, y, ...]``. What lies far outside is refused: pycocotools needs memory for each pixel of the way."""
    if not isinstance(ring, list) or len(ring) < 6 or len(ring) % 2:
        raise InvalidInput("a polygon is a list of at least three pairs of numbers")
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in ring):
        raise InvalidInput("a polygon's coordinates must be finite numbers")
    points = np.array(ring, dtype=np.float64).reshape(-1, 2)
    if (points < -np.array(size)).any() or (points > 2 * np.array(size)).any():
        raise InvalidInput("a polygon lies far outside the image")
    return [float(value) for value in ring]


def _boxed(box: object, size: tuple[int, int]) -> Mask:
    """The pixels that ``[x, y, width, height]`` touches inside the image."""
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        raise InvalidInput("there is neither a segmentation nor a bbox [x, y, width, height]")
    x, y, width, height = box
    x0, y0 = max(0, math.floor(x)), max(0, math.floor(y))
    x1, y1 = min(size[0], math.ceil(x + width)), min(size[1], math.ceil(y + height))
    if x0 >= x1 or y0 >= y1:
        raise InvalidInput("its bbox holds no pixel of the image")
    return Mask(np.ones((y1 - y0, x1 - x0), dtype=np.bool_), x0, y0, size)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _labels(categories: Sequence[Any]) -> dict[Any, str]:
    labels: dict[Any, str] = {}
    for category in categories:
        key, name = (category.get("id"), category.get("name")) if isinstance(category, dict) else (None, None)
        if not isinstance(key, int | str) or not isinstance(name, str) or not name.strip():
            raise InvalidInput(f"a category needs an id and a name, not {category!r:.80}")
        if key in labels or name in labels.values():
            raise InvalidInput(f"category {name!r} is there twice")
        labels[key] = name
    if not labels:
        raise InvalidInput("there are no categories: nothing to look for")
    return labels


def _images(images: Sequence[Any]) -> tuple[dict[Any, _Entry], list[str]]:
    """Those that can be told apart, by id, and sentences on the others."""
    found: dict[Any, _Entry] = {}
    problems = []
    for place, image in enumerate(images):
        key, name = (image.get("id"), image.get("file_name")) if isinstance(image, dict) else (None, None)
        if not isinstance(key, int | str) or not isinstance(name, str) or not name:
            problems.append(f"image {place}: it has no id or no file_name")
        elif key in found:
            problems.append(f"image {place}: the id {key!r} is there twice")
        else:
            found[key] = image
    return found, problems


def _misplaced(entry: object, images: Mapping[Any, _Entry], labels: Mapping[Any, str]) -> str:
    """Why an annotation belongs to no picture or no category; empty where it does."""
    if not isinstance(entry, dict):
        return "it is no object"
    for name, known in (("image_id", images), ("category_id", labels)):
        key = entry.get(name)
        if not isinstance(key, int | str) or key not in known:
            return f"there is no {name} {key!r:.40}"
    return ""


def _size(size: object) -> str:
    return " x ".join(map(str, size)) if isinstance(size, tuple) else str(size)
