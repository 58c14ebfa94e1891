"""Whether the backend gets better by being corrected: a real Label Studio, a real backend, a simulated reviewer.

    python -m tools.learning --label-studio .venv-label-studio --json learning.json --picture learning.png

Prints the learning curve as Markdown. Exit code 0: every floor is reached, 1: one is not, 2: nothing could be tried.
docs/learning.md explains the tables.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from sam3_core.engine import LocalSegmenter
from sam3_core.errors import Sam3Error
from sam3_core.settings import CoreSettings, load_settings
from sam3_prelabel.demo.client import LabelStudioClient
from sam3_prelabel.demo.label_studio import LabelStudioServer
from tools.learning import project, world
from tools.learning.best import best_settings
from tools.learning.course import CHEAP, NOTHING, VARIANTS, Run, Variant, measure_config, run
from tools.learning.floors import Proof, missed
from tools.learning.project import Wanted
from tools.learning.report import as_json, as_markdown, as_picture

_SHORT = (NOTHING, CHEAP)


def prove(options: argparse.Namespace, folder: Path, console: Console) -> tuple[Proof, dict[str, Wanted]]:
    """Run the variants one after the other against one Label Studio. Raises Sam3Error with a sentence."""

    def tell(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False)

    best = best_settings(LocalSegmenter(load_settings(CoreSettings, model="demo")), world.unseen(options.unseen))
    for label in best.values():
        tell(f"best fixed setting of {label.value}: {', '.join(label.phrases)} from {label.threshold}")
    runs: dict[str, Run] = {}
    with ExitStack() as stack:
        server = stack.enter_context(LabelStudioServer(folder / "label-studio", venv=options.label_studio))
        token = server.personal_access_token()
        client = LabelStudioClient(server.url, token)
        fixed = measure_config(client, token, folder / "best", project.config(best), options.unseen)
        tell(f"best fixed setting: F1 {fixed.f1:.3f}")
        for variant in options.variants:
            place = folder / variant.learn.replace(",", "-")
            runs[variant.name] = run(
                variant, client, token, place, stages=options.reviews, unseen=options.unseen, tell=tell
            )
    return Proof(runs, fixed), best


def main() -> int:
    options = _parse()
    console = Console(stderr=True)
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="sam3-learning-") as scratch:
            proof, best = prove(options, options.keep or Path(scratch), console)
    except Sam3Error as error:
        console.print(f"[red]error:[/] {error}", soft_wrap=True, highlight=False)
        return 2
    wrong = missed(proof)
    print(as_markdown(proof))
    if options.json:
        told = as_json(proof, best, wrong, time.monotonic() - started)
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    if options.picture:
        as_picture(proof).save(options.picture, optimize=True)
    for sentence in wrong:
        console.print(f"[red]missed:[/] {sentence}", soft_wrap=True, highlight=False)
    return 1 if wrong else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label-studio", type=Path, metavar="VENV", help="its virtual environment")
    parser.add_argument("--reviews", type=_numbers, default=(10, 30, 100), help="tasks reviewed by each stage")
    parser.add_argument("--unseen", type=int, default=100, help="pictures to measure on")
    parser.add_argument("--variants", type=_variants, default=VARIANTS, help="such as 'no learning,all together'")
    parser.add_argument("--short", action="store_true", help="no learning, and thresholds + phrases, by 30 tasks")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the curve there, as PNG")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep stores and logs there")
    options = parser.parse_args()
    if options.short:
        options.variants, options.reviews, options.unseen = _SHORT, (10, 30), 40
    return options


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(sorted(int(part) for part in text.split(",")))
    if not numbers or numbers[0] < 1:
        raise argparse.ArgumentTypeError("numbers of tasks, such as 10,30,100")
    return numbers


def _variants(text: str) -> Sequence[Variant]:
    known = {variant.name: variant for variant in VARIANTS}
    unknown = [name for name in text.split(",") if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
    return tuple(known[name] for name in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
