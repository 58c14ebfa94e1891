"""Draw the pictures of docs/masks.md anew: ``python -m tools.pictures``. The demo checkpoint, a few seconds."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from sam3_core import Concept, ConceptResult, FindOptions, Instance, Rules
from sam3_core.encodings.polygons import polygons
from sam3_core.engine import LocalSegmenter
from sam3_core.finish import DEFAULT_FINISH, Fineness, Finish, Holes, Parts, finished
from sam3_core.rules import Area, Tiling
from sam3_core.settings import CoreSettings, load_settings
from tools.pictures.panels import (
    Box,
    Panel,
    shown_box,
    shown_centre,
    shown_ellipse,
    shown_masks,
    shown_oriented_box,
    shown_polygons,
    strip,
)
from tools.pictures.scene import SIZE, Pixels, paint_scene

FOLDER = Path(__file__).parents[2] / "docs" / "images" / "masks"

_ALL: Box = (0, 0, *SIZE)
_RING: Box = (50, 40, 330, 320)
_STAR: Box = (340, 30, 620, 310)
_SQUARE: Box = (610, 30, 910, 330)
_TRIANGLE: Box = (110, 380, 350, 620)
_COLORS = 128  # of a picture's palette


class Finder:
    """Asks the demo checkpoint about the scene."""

    def __init__(self, scene: Pixels) -> None:
        file = io.BytesIO()
        Image.fromarray(scene).save(file, "PNG")
        self._file = file.getvalue()
        self._segmenter = LocalSegmenter(load_settings(CoreSettings, model="demo"))

    def results(self, *concepts: Concept, tiles: Tiling = Tiling.OFF) -> list[ConceptResult]:
        return self._segmenter.find(self._file, concepts, FindOptions(tiles=tiles))

    def find(
        self, *phrases: str, negatives: Sequence[str] = (), tiles: Tiling = Tiling.OFF, **rules: object
    ) -> list[Instance]:
        """The instances of one concept."""
        concept = Concept(phrases, negatives=tuple(negatives), rules=Rules(**rules))  # type: ignore[arg-type]
        return list(self.results(concept, tiles=tiles)[0].instances)


def main(folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scene = paint_scene()
    finder = Finder(scene)
    for name, part, width, panels in (*_of_shapes(finder), *_of_search(finder)):
        picture = strip(scene, part, list(panels), width=width)
        path = folder / f"{name}.png"
        picture.quantize(_COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


Strip = tuple[str, Box, int, Sequence[Panel]]


def _of_shapes(finder: Finder) -> Iterator[Strip]:
    """What becomes of one mask."""
    star, triangle, square = (
        finder.find(phrase)[:1] for phrase in ("green star", "purple triangle", "orange square")
    )
    ring = [max(finder.find("red circle"), key=lambda instance: instance.mask.area)]
    yield "fineness", _STAR, 300, [_fine(star, fineness) for fineness in Fineness]
    yield "floor", _RING, 230, [_floored(ring, share) for share in (0.90, 0.95, 0.98, 0.995)]
    mask = finished(triangle[0].mask, DEFAULT_FINISH)
    yield "outputs", _TRIANGLE, 200, [
        Panel("polygon, vector", shown_polygons(triangle, DEFAULT_FINISH)),
        Panel("brush, bitmask", shown_masks(triangle)),
        Panel("rectangle", shown_box(mask)),
        Panel('rectangle, oriented="true"', shown_oriented_box(mask)),
        Panel("ellipse", shown_ellipse(mask)),
        Panel("keypoint", shown_centre(mask)),
    ]  # fmt: skip
    yield (
        "holes",
        _RING,
        300,
        [
            Panel("brush, bitmask: holes stay", shown_masks(ring)),
            Panel("holes=bridged", shown_polygons(ring, DEFAULT_FINISH)),
            Panel("holes=filled", shown_polygons(ring, Finish(holes=Holes.FILLED).over(DEFAULT_FINISH))),
        ],
    )
    yield (
        "parts",
        _SQUARE,
        300,
        [
            Panel("brush, bitmask: one region", shown_masks(square)),
            Panel("parts=all: a region each", shown_polygons(square, DEFAULT_FINISH, corners=False)),
            Panel(
                "parts=largest",
                shown_polygons(square, Finish(parts=Parts.LARGEST).over(DEFAULT_FINISH), corners=False),
            ),
        ],
    )


def _fine(instances: Sequence[Instance], fineness: Fineness) -> Panel:
    finish = Finish(fineness=fineness).over(DEFAULT_FINISH)
    drawn = [replace(instance, mask=finished(instance.mask, finish)) for instance in instances]
    return Panel(f"fineness={fineness}\n{_measured(drawn, finish)}", shown_polygons(drawn, finish))


def _floored(instances: Sequence[Instance], share: float) -> Panel:
    finish = Finish(min_iou=share).over(DEFAULT_FINISH)
    return Panel(f"min_iou={share:g}\n{_measured(instances, finish)}", shown_polygons(instances, finish))


def _measured(instances: Sequence[Instance], finish: Finish) -> str:
    made = [polygon for instance in instances for polygon in polygons(instance.mask, finish)]
    return f"{sum(polygon.vertices for polygon in made)} corners, IoU {min(polygon.iou for polygon in made):.3f}"


def _of_search(finder: Finder) -> Iterator[Strip]:
    """What is found."""
    shape, circle = "shape", "circle"
    yield (
        "threshold",
        _ALL,
        440,
        [
            _found("threshold=0.5", finder.find("red circle")),
            _found("threshold=0.9", finder.find("red circle", threshold=0.9)),
            _found("threshold=0.9, top_k=2", finder.find("red circle", threshold=0.9, top_k=2)),
        ],
    )
    yield (
        "areas",
        _ALL,
        440,
        [
            _found("circle", finder.find(circle)),
            _found("min_area=3%", finder.find(circle, min_area=Area(0.03, relative=True))),
            _found("max_area=3%", finder.find(circle, max_area=Area(0.03, relative=True))),
        ],
    )
    yield (
        "negatives",
        _ALL,
        440,
        [
            _found("shape", finder.find(shape)),
            _found('negative: "circle"', finder.find(shape, negatives=["circle"])),
            _found('negative: "red circle; triangle"', finder.find(shape, negatives=["red circle", "triangle"])),
        ],
    )
    yield "overlap", _ALL, 440, [_labels(finder, overlap=False), _labels(finder, overlap=True)]
    tiled = (finder.find("white circle", tiles=tiling) for tiling in (Tiling.OFF, Tiling.ON))
    yield (
        "tiles",
        _ALL,
        440,
        [_found(f'"white circle", tiles={name}', found) for name, found in zip(("off", "on"), tiled, strict=True)],
    )


def _labels(finder: Finder, *, overlap: bool) -> Panel:
    rules = Rules(overlap=overlap)
    both = finder.results(Concept(("green star",), rules=rules), Concept(("star",), rules=rules))
    return _found(
        f"labels green star and star\nallow_overlap={str(overlap).lower()}",
        [i for r in both for i in r.instances],
    )


def _found(caption: str, instances: Sequence[Instance]) -> Panel:
    whole = Finish(parts=Parts.LARGEST).over(DEFAULT_FINISH)  # fragments would make the picture hard to read
    drawn = [replace(instance, mask=finished(instance.mask, whole)) for instance in instances]
    return Panel(caption, shown_masks(drawn, tags=True))


if __name__ == "__main__":
    main()
