"""Small objects in large images: how many are found in the whole image, and how many in tiles of it besides.

    python -m benchmarks.small_objects

prints one table. docs/benchmarks.md explains it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.clicks import image_sizes, positive_number
from benchmarks.table import Row, markdown
from sam3_core.demo.scenes import Scene, render_scene
from sam3_core.engine import LocalSegmenter
from sam3_core.engine.tiles import tiles_of
from sam3_core.errors import Sam3Error
from sam3_core.masks import Mask
from sam3_core.results import Instance
from sam3_core.rules import Tiling
from sam3_core.settings import CoreSettings, load_settings
from sam3_core.types import Concept

GROUPS = {"under_24": (10, 24), "24_to_48": (24, 48), "48_to_96": (48, 96), "larger": (96, 192)}
"""Objects by their longer side in pixels, and the diameters of those that are drawn; scenes have larger ones too."""

_EACH = 12  # of every group in a scene
_PHRASES = 6  # names of objects that are there
_FOUND = 0.5  # mask IoU
_SEED = 7_000_000  # training used 1 000 000 to 1 024 000


@dataclass
class Score:
    """By group. objects: mask IoU with the instance that found each, 0 where none did. instances: which are right."""

    objects: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in GROUPS})
    instances: dict[str, list[bool]] = field(default_factory=lambda: {name: [] for name in GROUPS})

    def add(self, instances: Sequence[Instance], truth: Sequence[Mask]) -> None:
        """Pairs of one instance and one object, the most similar first, that overlap by IoU 0.5 or more."""
        overlaps = [(one.mask.iou(mask), i, t) for i, one in enumerate(instances) for t, mask in enumerate(truth)]
        pairs: dict[int, tuple[int, float]] = {}
        for overlap, i, t in sorted(overlaps, reverse=True):
            if overlap >= _FOUND and t not in pairs and all(i != taken for taken, _ in pairs.values()):
                pairs[t] = (i, overlap)
        right = {i for i, _ in pairs.values()}
        for t, mask in enumerate(truth):
            self.objects[group_of(mask)].append(pairs[t][1] if t in pairs else 0.0)
        for i, one in enumerate(instances):
            self.instances[group_of(one.mask)].append(i in right)

    def row(self) -> Row:
        """Shares, 0..1, and the mean IoU of what was found; None of nothing."""
        recall = {f"recall_{name}": _mean([o > 0 for o in overlaps]) for name, overlaps in self.objects.items()}
        precision = {f"precision_{name}": _mean(right) for name, right in self.instances.items()}
        return recall | precision | {"IoU": _mean([o for group in self.objects.values() for o in group if o])}


def group_of(mask: Mask) -> str:
    """The group of an object's or an instance's size."""
    longer = max(mask.bits.shape)
    return next((name for name, (_, limit) in GROUPS.items() if longer < limit), "larger")


def draw_scene(seed: int, size: tuple[int, int]) -> Scene:
    """One to three large shapes, and small ones of every size, as many of each."""
    rng = np.random.default_rng(seed)
    ranges = [np.log(diameters) for diameters in GROUPS.values()]
    small = [float(np.exp(rng.uniform(low, high))) for low, high in ranges for _ in range(_EACH)]
    return render_scene(seed, size=size, objects=(1, 3), small=small)


def measure(segmenter: LocalSegmenter, settings: CoreSettings, size: tuple[int, int], scenes: int) -> Row:
    """What a segmenter with these settings finds in so many scenes, and the seconds that an image takes."""
    score, seconds, views = Score(), [], []
    for seed in range(_SEED, _SEED + scenes):
        scene = draw_scene(seed, size)
        names = sorted({item.name for item in scene.objects})
        names = [str(name) for name in np.random.default_rng(seed).permutation(names)[:_PHRASES]]
        image = scene.encode("PNG", compress_level=1)
        started = time.perf_counter()
        results = segmenter.find(image, [Concept((name,)) for name in names])
        seconds.append(time.perf_counter() - started)
        views = tiles_of(size, results[0].resolution, settings.tiles, settings.max_tiles)
        for name, result in zip(names, results, strict=True):
            score.add(result.instances, [Mask.from_full(item.mask) for item in scene.matching(name)])
    width, height = views[0].size if views else size
    return {
        "searched": f"whole and {len(views)} tiles" if views else "whole",
        "view": f"{width}x{height}",
        "objects": sum(map(len, score.objects.values())),
        "seconds": float(np.median(seconds)),
        **score.row(),
    }


def main() -> int:
    asked = _parse()
    try:
        table = [_measure(asked, most) for most in (None, *asked.most)]
    except Sam3Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(markdown([_shown(row) for row in table]))
    if asked.json:
        asked.json.write_text(json.dumps(table, indent=1) + "\n")
    return 0


def _measure(asked: argparse.Namespace, most: int | None) -> Row:
    """One row; without tiles where ``most`` is None."""
    tiling = Tiling.ON if most else Tiling.OFF
    settings = load_settings(CoreSettings, model=asked.model, device=asked.device, tiles=tiling, max_tiles=most)
    segmenter = LocalSegmenter(settings)
    segmenter.wait_until_ready()
    try:
        return measure(segmenter, settings, asked.size, asked.scenes)
    finally:
        segmenter.close()


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _shown(row: Row) -> Row:
    return {name: f"{value:.2f}" if isinstance(value, float) else value for name, value in row.items()}


def _size(text: str) -> tuple[int, int]:
    (size,) = image_sizes(text)
    return size


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(positive_number(part) for part in text.split(","))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=positive_number, default=12)
    parser.add_argument("--size", type=_size, default=(3840, 2160), help="of the images, WIDTHxHEIGHT")
    parser.add_argument(
        "--most", type=_numbers, default=(30, 120, 480), help="tiles that an image may take, each a row"
    )
    parser.add_argument("--model", help="otherwise SAM3_MODEL, or the demo checkpoint")
    parser.add_argument("--device")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
