"""What ``predict`` writes: per image a JSON file, mask PNGs and an overlay; one COCO file for all.

    OUT/coco.json                      every finished image, segmentation as RLE
    OUT/results/photo.jpg.json         sizes, scores, presence, boxes, polygons
    OUT/masks/photo.jpg/000-car.png    one per instance, size of the image, 255 inside and 0 outside
    OUT/overlays/photo.jpg.png         the picture to look at

docs/predict.md documents every field. Names keep the image's suffix and its path below the folder that all
images share, so that no two images write to the same file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam3_core.encodings import coco, png
from sam3_core.encodings.polygons import polygons
from sam3_core.finish import Finish
from sam3_core.images import decode
from sam3_core.results import ConceptResult, Instance
from sam3_prelabel.inputs import ImageFile
from sam3_prelabel.overlay import Labelled, draw, palette
from sam3_prelabel.predict import Outcome
from sam3_prelabel.prompts import Prompt

_RESULTS, _MASKS, _OVERLAYS = "results", "masks", "overlays"
_MASK_NAMES = "[0-9][0-9][0-9]*-*.png"


def folders_in(out: Path) -> list[Path]:
    """Folders of `out` with pictures of ours, which are no images to segment."""
    return [out / _MASKS, out / _OVERLAYS]


class Results:
    """Writes results below the folder `out`, as a context manager; leaving it, however, writes ``coco.json``.

    prompts: by name; the names are the COCO categories, in this order, with ids from 1.
    model: the version that found the instances. max_megapixels: as for `sam3_core.images.decode`.
    Raises OSError when the folder cannot be written to.
    """

    def __init__(self, out: Path, prompts: Mapping[str, Prompt], *, model: str, max_megapixels: float) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._out = out
        self._prompts = dict(prompts)
        self._model = model
        self._max_megapixels = max_megapixels
        self._colors = palette(prompts)
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        categories = [{"id": i, "name": name} for i, name in enumerate(self._prompts, start=1)]
        _write_json(
            self._out / "coco.json",
            {
                "info": {"description": f"pre-annotations by {self._model}, not reviewed"},
                "images": self._images,
                "categories": categories,
                "annotations": self._annotations,
            },
        )

    def add(self, outcome: Outcome) -> None:
        """Write the files of one image that did not fail."""
        image, pairs = outcome.image, list(zip(self._prompts, outcome.results, strict=True))
        found = [(name, instance) for name, result in pairs for instance in result.instances]
        width, height = outcome.results[0].size
        masks = iter(self._write_masks(image, found))
        prompts = [_prompt_record(name, self._prompts[name], result, masks) for name, result in pairs]
        record = {"image": image.name, "width": width, "height": height, "model": self._model, "prompts": prompts}
        _write_json(self._path(_RESULTS, image, ".json"), record)
        self._write_overlay(image, outcome.data, found)
        self._add_to_coco(image, (width, height), found)

    def _path(self, folder: str, image: ImageFile, suffix: str) -> Path:
        path = self._out / folder / (image.name + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _write_masks(self, image: ImageFile, found: Sequence[Labelled]) -> list[str]:
        """One PNG per instance; their paths below the output folder. Those of an earlier run go."""
        folder = self._out / _MASKS / image.name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(_MASK_NAMES):
            old.unlink()
        paths = [folder / f"{i:03d}-{_slug(name)}.png" for i, (name, _) in enumerate(found)]
        for path, (_, instance) in zip(paths, found, strict=True):
            path.write_bytes(png.encode(instance.mask))
        return [path.relative_to(self._out).as_posix() for path in paths]

    def _write_overlay(self, image: ImageFile, data: bytes, found: Sequence[Labelled]) -> None:
        pixels = decode(data, max_megapixels=self._max_megapixels)
        Image.fromarray(draw(pixels, found, self._colors)).save(self._path(_OVERLAYS, image, ".png"))

    def _add_to_coco(self, image: ImageFile, size: tuple[int, int], found: Sequence[Labelled]) -> None:
        ids = {name: i for i, name in enumerate(self._prompts, start=1)}
        number = len(self._images) + 1
        self._images.append({"id": number, "file_name": image.name, "width": size[0], "height": size[1]})
        for name, instance in found:
            x0, y0, x1, y1 = instance.box
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": number,
                    "category_id": ids[name],
                    "segmentation": coco.encode(instance.mask),
                    "area": instance.mask.area,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "iscrowd": 0,
                    "score": instance.score,
                }
            )


def _prompt_record(name: str, prompt: Prompt, result: ConceptResult, masks: Iterator[str]) -> dict[str, Any]:
    return {
        "prompt": name,
        "phrases": list(prompt.concept.phrases),
        "negatives": list(prompt.concept.negatives),
        "presence": result.presence,
        "threshold": result.threshold,
        "best_rejected": result.best_rejected,
        "tiles": result.tiles,
        "removed": {reason.name.lower(): count for reason, count in result.removed},
        "notes": list(result.notes),
        "reason": result.reason,
        "instances": [_instance_record(instance, next(masks), prompt.finish) for instance in result.instances],
    }


def _instance_record(instance: Instance, mask: str, finish: Finish) -> dict[str, Any]:
    return {
        "score": instance.score,
        "phrase": instance.phrase,
        "box": list(instance.box),
        "area": instance.mask.area,
        "polygons": [
            {
                "outer": _points(polygon.outer),
                "holes": [_points(hole) for hole in polygon.holes],
                "iou": polygon.iou,
            }
            for polygon in polygons(instance.mask, finish)
        ],
        "mask": mask,
    }


def _points(ring: NDArray[np.float64]) -> list[list[float]]:
    points: list[list[float]] = np.round(ring, 2).tolist()
    return points


def _slug(name: str) -> str:
    """A piece of a file name that every system takes; the number before it tells equal ones apart."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "instance"


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
