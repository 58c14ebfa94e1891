"""What becomes of a mask: post-processing, encoders and polygons, side by side with what one would run otherwise.

    python -m benchmarks.masks

prints one table for each part. docs/benchmarks.md explains them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.clicks import image_sizes, positive_number
from benchmarks.client import BenchmarkFailed
from benchmarks.encoders import measure_encoders
from benchmarks.outlining import measure_polygons
from benchmarks.postprocessing import measure_postprocessing
from benchmarks.table import Row, markdown

SIZES = ((1024, 1024), (4000, 3000))
PARTS = ("post-processing", "encoders", "polygons")


def main() -> int:
    asked = _parse()
    try:
        parts = {part: _measure(part, asked) for part in asked.parts}
    except BenchmarkFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for part, table in parts.items():
        print(f"\n### {part.capitalize()}\n\n{markdown([_shown(row) for row in table])}")
    if asked.json:
        asked.json.write_text(json.dumps(parts, indent=1) + "\n")
    return 0


def _measure(part: str, asked: argparse.Namespace) -> list[Row]:
    if part == "post-processing":
        return measure_postprocessing(asked.sizes[-1], asked.instances, asked.stock_instances, asked.rounds)
    if part == "encoders":
        return measure_encoders(asked.sizes, asked.rounds, asked.turn)
    return measure_polygons(asked.masks, asked.side)


def _shown(row: Row) -> Row:
    """Numbers with the digits that mean something: an IoU needs four, small numbers three."""
    return {name: _digits(name, value) if isinstance(value, float) else value for name, value in row.items()}


def _digits(name: str, value: float) -> str:
    if name.endswith("IoU"):
        return f"{value:.4f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    number = positive_number
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--sizes", type=image_sizes, default=SIZES, help="of the images; the last for post-processing"
    )
    parser.add_argument("--instances", type=number, default=100, help="to post-process")
    parser.add_argument("--stock-instances", type=number, default=20, help="for transformers: 160 MB each at 12 MP")
    parser.add_argument("--rounds", type=number, default=5, help="of the encoders, and processes of each side")
    parser.add_argument("--turn", type=float, default=30, help="milliseconds an encoder runs in each round; 0: once")
    parser.add_argument("--masks", type=number, default=500, help="to make polygons of")
    parser.add_argument("--side", type=number, default=512, help="of those masks, in pixels")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
