"""What a reply to CVAT weighs, and what writing it costs: our forms beside a dense mask, for the same objects.

    python -m benchmarks.cvat_replies

prints one table. docs/benchmarks.md explains it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clicks import image_sizes, positive_number
from benchmarks.encoders import SHAPES
from benchmarks.shapes import Size, random_answer
from benchmarks.table import Row, markdown
from cvat_nuclio.detection import items_of
from cvat_nuclio.interaction import mask_reply, shapes_reply
from cvat_nuclio.labels import LabelRow, LabelType
from sam3_core import Concept, Instance, Mask
from sam3_core.logits import mask_from_logits

_SEED = 1
_ROW = LabelRow("object", LabelType.MASK, Concept(("object",)), scored=True)
_DENSE = "dense mask (legacy)"

Write = Callable[[Sequence[Instance]], Any]


@dataclass(frozen=True)
class Subject:
    """Objects of one image, and what they are called in the table."""

    name: str
    objects: tuple[Instance, ...]


def measure(size: Size, counts: Sequence[int], rounds: int) -> list[Row]:
    """A row for each kind of reply and each set of objects, in an image of this size.

    kB: of the JSON text. write_ms: from masks to that text, as the functions do it; read_ms: what ``json.loads`` of
    the server takes. Medians of CPU time over the rounds; the ratios are the dense reply's by this one's.
    """
    replies: dict[str, Write] = {
        "interactor: RLE shapes": shapes_reply,
        "detector: flat crops, polygons": _items,
        _DENSE: lambda objects: mask_reply(objects, size),
    }
    rows = []
    for subject in _subjects(size, counts):
        rows += _rows(subject, replies, rounds)
    return rows


def _rows(subject: Subject, replies: dict[str, Write], rounds: int) -> list[Row]:
    texts = {name: _text(write(subject.objects)) for name, write in replies.items()}  # warms up, too
    milliseconds: dict[str, list[tuple[float, float]]] = {name: [] for name in replies}
    for _ in range(rounds):
        for name, write in replies.items():
            wrote = _clock(lambda write=write: _text(write(subject.objects)))  # type: ignore[misc]
            milliseconds[name].append((wrote, _clock(lambda name=name: json.loads(texts[name]))))  # type: ignore[misc]
    times = {name: np.median(np.array(pairs), axis=0) for name, pairs in milliseconds.items()}
    return [
        {
            "reply": name,
            "objects": subject.name,
            "kB": len(text) / 1e3,
            "smaller": len(texts[_DENSE]) / len(text),
            "write_ms": float(times[name][0]),
            "faster": float(times[_DENSE][0] / times[name][0]),
            "read_ms": float(times[name][1]),
        }
        for name, text in texts.items()
    ]


def _subjects(size: Size, counts: Sequence[int]) -> list[Subject]:
    """So many objects of usual size; one over half of the image; and the same with a border of noise."""
    masks = random_answer(_SEED, max(counts), max(counts)).masks
    usual = [Instance(mask_from_logits(logits, size), 0.9) for logits in masks]
    large = [
        Subject(f"1, large and {name}", (Instance(Mask.from_full(draw(np.random.default_rng(_SEED), size)), 0.9),))
        for name, draw in SHAPES.items()
    ]
    return [*(Subject(f"{count}, usual", tuple(usual[:count])) for count in counts), *large]


def _items(objects: Sequence[Instance]) -> list[dict[str, Any]]:
    return [item for each, instance in enumerate(objects) for item in items_of(instance, _ROW, group=each + 1)]


def _text(reply: Any) -> str:
    """As the handlers write it."""
    return json.dumps(reply, allow_nan=False, separators=(",", ":"))


def _clock(work: Callable[[], object]) -> float:
    """Milliseconds of CPU time."""
    started = time.process_time()
    work()
    return 1000 * (time.process_time() - started)


def main() -> int:
    asked = _parse()
    table = [row for size in asked.sizes for row in measure(size, asked.objects, asked.rounds)]
    print(markdown(table))
    if asked.json:
        asked.json.write_text(json.dumps(table, indent=1) + "\n")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=image_sizes, default=((4000, 3000),), help="of the images")
    parser.add_argument("--objects", type=positive_number, nargs="+", default=[1, 10], help="of usual size")
    parser.add_argument("--rounds", type=positive_number, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
