"""How long an annotator waits for a click, through HTTP, and where the time goes.

    python -m benchmarks.clicks

Starts our backend and one that encodes the image on every click, each in a process of its own, sends both what Label
Studio 1.23 sends, and prints one table. docs/benchmarks.md explains it. With --full-size: the real model's size, with
random weights, inside this process.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from benchmarks.cases import Bench, Case, Size
from benchmarks.photos import PhotoServer, render_photo
from benchmarks.servers import our_backend, reencoding_backend
from benchmarks.table import Row, markdown, rows
from sam3_core.errors import Sam3Error

SIZES = ((1920, 1080), (4000, 3000))
SCENES = 4  # different ones of each size
_ROUNDS = 8
_WARM_UP = 3  # clicks of each case that do not count


def measure(sizes: Sequence[Size], annotators: Sequence[int], clicks: int, console: Console) -> list[Row]:
    """The table's rows. The settings of the environment hold for both backends. Raises Sam3Error with a sentence."""
    photos = [render_photo(seed, size) for size in sizes for seed in range(SCENES)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sam3-benchmark-")))
        server = stack.enter_context(PhotoServer())
        ours = stack.enter_context(our_backend(server.url, folder))
        theirs = stack.enter_context(reencoding_backend(server.url, folder))
        progress = stack.enter_context(Progress(console=console, transient=True))
        cases = list(Bench(server, photos, ours, theirs).cases(annotators))
        _run(cases, clicks, progress)
    return rows(cases)


def _run(cases: Sequence[Case], clicks: int, progress: Progress) -> None:
    """All cases in turn, some clicks each, again and again: what else the machine does meanwhile hits them alike."""
    for case in cases:
        case.run(_WARM_UP)
        case.forget()
    rounds = min(_ROUNDS, clicks)
    task = progress.add_task("clicking", total=rounds * len(cases))
    for _ in range(rounds):
        for case in cases:
            progress.update(task, description=f"{case.name}, {case.size[0]}x{case.size[1]}")
            case.run(-(-clicks // rounds))
            progress.advance(task)


def main() -> int:
    options = _parse()
    for name in ("model", "device"):
        if getattr(options, name):
            os.environ[f"SAM3_{name.upper()}"] = getattr(options, name)
    console = Console(stderr=True)
    try:
        if options.full_size:
            from benchmarks.full_size import measure_full_size

            table = measure_full_size(options.sizes, options.clicks, options.device)
        else:
            table = measure(options.sizes, options.annotators, options.clicks, console)
    except Sam3Error as error:
        console.print(f"[red]error:[/] {error}", soft_wrap=True, highlight=False)
        return 2
    print(markdown(table))
    if options.json:
        options.json.write_text(json.dumps(table, indent=1) + "\n")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--clicks", type=positive_number, default=200, help="of each quick case; slow ones take a quarter"
    )
    parser.add_argument("--sizes", type=image_sizes, default=SIZES, help="of the images, such as 1920x1080,4000x3000")
    parser.add_argument("--annotators", type=_numbers, default=(1, 4, 8), help="that click at once, such as 1,4,8")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    parser.add_argument("--model", help="demo (default), a hub id or a folder, for both backends")
    parser.add_argument("--device", help="auto (default), cpu, cuda, ...")
    parser.add_argument("--full-size", action="store_true", help="random weights of the real model's size instead")
    return parser.parse_args()


def positive_number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(positive_number(part) for part in text.split(","))


def image_sizes(text: str) -> tuple[Size, ...]:
    sizes = tuple(tuple(positive_number(side) for side in size.split("x")) for size in text.split(","))
    if any(len(size) != 2 for size in sizes):
        raise argparse.ArgumentTypeError("a size is WIDTHxHEIGHT")
    return tuple((size[0], size[1]) for size in sizes)


if __name__ == "__main__":
    sys.exit(main())
