"""What sharing one model among many clients is worth: images a second, and clicks while bulk runs.

    python -m benchmarks.serving

Starts our server and the same with the sharing taken out (benchmarks/serving_backend.py), each in a process of its
own, and prints two tables. docs/benchmarks.md explains them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.cases import Size
from benchmarks.clicks import SCENES, image_sizes, positive_number
from benchmarks.client import BenchmarkFailed
from benchmarks.photos import PhotoServer, render_photo
from benchmarks.servers import our_backend
from benchmarks.serving_backend import ONE_AT_A_TIME, ONE_LANE, other_backend
from benchmarks.serving_load import BATCH, Load, Reading, Send, going_on, send_all
from benchmarks.table import Row, markdown
from sam3_core.errors import Sam3Error

OURS = "ours"
# In the form of a legacy token, which is sent as it is; the images' server does not look at it.
_TOKEN = "0123456789abcdef" * 2 + "01234567"
# All clients find a place: a refusal that comes at once would look like a fast answer.
_PLACES = {"SAM3_MAX_CLICKS": "16", "SAM3_MAX_BULK": "40"}
_BULK_CLIENTS = 4


@dataclass
class Throughput:
    """One kind of request from so many clients to one server. rates: images a second, by round."""

    send: Send
    clients: int
    server: str
    url: str
    rates: list[float] = field(default_factory=list)
    images: int = 0
    cpu: float = 0.0
    passes: int = 0
    items: int = 0

    def run(self, images: int) -> None:
        """One round."""
        before = Reading.of(self.url)
        done, seconds = send_all(self.send, self.url, self.clients, images)
        after = Reading.of(self.url)
        self.rates.append(done / seconds)
        self.images += done
        self.cpu += after.cpu - before.cpu
        self.passes += after.passes - before.passes
        self.items += after.items - before.items


@dataclass
class Clicks:
    """One annotator's clicks, while nothing else happens (bulk 0) or so many clients send batches. bulk_rates: their
    images a second, by round."""

    server: str
    url: str
    bulk: int
    load: Load
    taken: list[float] = field(default_factory=list)
    bulk_rates: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._click = self.load.clicker(self.url)
        self._click(3)

    def run(self, clicks: int) -> None:
        """One round."""
        if not self.bulk:
            self.taken += self._click(clicks)
            return
        with going_on(self.load.batch, self.url, self.bulk) as rate:
            self._click(2)  # the first batches are on their way
            self.taken += self._click(clicks)
        self.bulk_rates.append(rate.images_a_second)


def measure(options: argparse.Namespace, console: Console) -> tuple[list[Row], list[Row]]:
    """The rows of both tables. Raises Sam3Error with a sentence."""
    photos = [render_photo(seed, options.size) for seed in range(SCENES)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sam3-serving-")))
        if options.full_size:
            os.environ["SAM3_MODEL"] = str(_random_weights(folder / "checkpoint", options.device))
        photo_server = stack.enter_context(PhotoServer())
        servers = {OURS: stack.enter_context(our_backend(photo_server.url, folder))}
        for way in (ONE_AT_A_TIME, ONE_LANE):
            servers[way] = stack.enter_context(other_backend(way, photo_server.url, _TOKEN, folder))
        load = Load(photo_server, photos, sound=not options.full_size)
        rates = [
            Throughput(send, clients, server, servers[server])
            for send in (load.find, load.batch)
            for clients in options.clients
            for server in (OURS, ONE_AT_A_TIME)
        ]
        waits = [Clicks(server, url, bulk, load) for server, url in servers.items() for bulk in (0, _BULK_CLIENTS)]
        progress = stack.enter_context(Progress(console=console, transient=True))
        _run(rates, waits, options, progress)
    return throughput_rows(rates), click_rows(waits)


def _run(
    rates: Sequence[Throughput], waits: Sequence[Clicks], options: argparse.Namespace, progress: Progress
) -> None:
    """All cases in turn, again and again: what else the machine does meanwhile hits them alike."""
    task = progress.add_task("warming up", total=options.rounds * (len(rates) + len(waits)))
    for case in {case.url: case for case in rates}.values():
        send_all(case.send, case.url, 2, BATCH)
    for _ in range(options.rounds):
        for rate in rates:
            progress.update(task, description=f"{rate.send.name}, {rate.clients} clients, {rate.server}")
            rate.run(max(options.images, 2 * rate.clients))
            progress.advance(task)
        for wait in waits:
            progress.update(task, description=f"clicks, {wait.bulk} batches beside, {wait.server}")
            wait.run(-(-options.clicks // options.rounds))
            progress.advance(task)


def throughput_rows(cases: Sequence[Throughput]) -> list[Row]:
    """A row for each kind of request and number of clients. Rates are medians over the rounds, ratios the median of
    the rounds' ratios; cpu: milliseconds of the server's process for an image; vision: images in an encoder pass."""
    rows = []
    for ours, other in zip(cases[::2], cases[1::2], strict=True):
        pairs = zip(ours.rates, other.rates, strict=True)
        rows.append(
            {
                "request": ours.send.name,
                "clients": str(ours.clients),
                "images": ours.images,
                "images_a_second": float(np.median(ours.rates)),
                "one_at_a_time": float(np.median(other.rates)),
                "ratio": float(np.median([mine / theirs for mine, theirs in pairs])),
                "cpu_ms": 1e3 * ours.cpu / ours.images,
                "cpu_ms_one_at_a_time": 1e3 * other.cpu / other.images,
                "images_in_a_vision_pass": ours.items / ours.passes,
            }
        )
    return rows


def click_rows(cases: Sequence[Clicks]) -> list[Row]:
    """A row for each server, alone and beside bulk: milliseconds of clicks, ratios to the same server's idle ones,
    and bulk's images a second meanwhile."""
    idle = {case.server: case for case in cases if not case.bulk}
    rows = []
    for case in cases:
        p50, p90, p99 = (float(np.percentile(case.taken, share)) for share in (50, 90, 99))
        base = idle[case.server].taken
        rows.append(
            {
                "server": case.server,
                "beside": f"{case.bulk} clients with batches" if case.bulk else "nothing",
                "clicks": len(case.taken),
                "p50": p50,
                "p90": p90,
                "p99": p99,
                "p50_to_idle": p50 / float(np.percentile(base, 50)),
                "p99_to_idle": p99 / float(np.percentile(base, 99)),
                "bulk_images_a_second": float(np.median(case.bulk_rates)) if case.bulk else None,
            }
        )
    return rows


def _random_weights(folder: Path, device: str | None) -> Path:
    """A checkpoint of the real model's size. Raises BenchmarkFailed without a GPU, unless the CPU was asked for."""
    from transformers import Sam3ImageProcessor, Sam3VideoConfig

    from benchmarks.full_size import write_random_checkpoint
    from sam3_core.engine.loading import choose_device

    if device is None and choose_device("auto").type == "cpu":
        raise BenchmarkFailed(
            "--full-size is meant for a GPU and there is none here; --device cpu runs it all the same"
        )
    folder.mkdir()
    write_random_checkpoint(folder, Sam3VideoConfig(), Sam3ImageProcessor())
    return folder


@contextmanager
def _environment(**variables: str | None) -> Iterator[None]:
    """The servers take the environment over; what is set here is taken back."""
    before = dict(os.environ)
    os.environ.update({name: value for name, value in variables.items() if value is not None})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def main() -> int:
    options = _parse()
    console = Console(stderr=True)
    try:
        with _environment(SAM3_MODEL=options.model, SAM3_DEVICE=options.device, **_PLACES):
            tables = measure(options, console)
    except Sam3Error as error:
        console.print(f"[red]error:[/] {error}", soft_wrap=True, highlight=False)
        return 2
    print("\n\n".join(map(markdown, tables)))
    if options.json:
        options.json.write_text(json.dumps(dict(zip(("throughput", "clicks"), tables, strict=True)), indent=1) + "\n")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=_numbers, default=(1, 8, 32), help="that ask at once, such as 1,8,32")
    parser.add_argument("--images", type=positive_number, default=64, help="of each throughput case, in each round")
    parser.add_argument("--clicks", type=positive_number, default=200, help="of each latency case, in all rounds")
    parser.add_argument("--rounds", type=positive_number, default=5, help="in which all cases take turns")
    parser.add_argument("--size", type=_size, default=(1920, 1080), help="of the images, such as 1920x1080")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    parser.add_argument("--model", help="demo (default), a hub id or a folder, for all servers")
    parser.add_argument("--device", help="auto (default), cpu, cuda, ...")
    parser.add_argument("--full-size", action="store_true", help="random weights of the real model's size instead")
    return parser.parse_args()


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(positive_number(part) for part in text.split(","))
    if max(numbers) > int(_PLACES["SAM3_MAX_BULK"]):
        raise argparse.ArgumentTypeError(f"at most {_PLACES['SAM3_MAX_BULK']} clients find a place")
    return numbers


def _size(text: str) -> Size:
    (size,) = image_sizes(text)
    return size


if __name__ == "__main__":
    sys.exit(main())
