"""What the command line says about a run: progress, tables, and the same as JSON."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from backend.settings import BackendSettings
from sam3_prelabel import __version__
from sam3_prelabel.predict import Outcome


class Tally:
    """Counts outcomes of one run over the prompts called `names`."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.images = 0
        self.failed: list[tuple[str, str]] = []
        self.nothing: list[tuple[str, str, str]] = []
        self.instances: Counter[str] = Counter()
        self.images_with: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        self.images += 1
        if outcome.problem:
            self.failed.append((outcome.image.name, outcome.problem))
            return
        for name, result in zip(self.names, outcome.results, strict=True):
            self.instances[name] += len(result.instances)
            self.images_with[name] += bool(result.instances)
            if result.reason:
                self.nothing.append((outcome.image.name, name, result.reason))

    def as_json(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "instances": self.instances.total(),
            "prompts": {n: {"instances": self.instances[n], "images": self.images_with[n]} for n in self.names},
            "nothing_found": [{"image": i, "prompt": p, "reason": r} for i, p, r in self.nothing],
            "failed": [{"image": i, "reason": r} for i, r in self.failed],
        }


def show_start(console: Console, settings: BackendSettings, *, host: str, port: int) -> None:
    """What a person needs to connect Label Studio to the server that is about to start."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    address = f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
    asks = f"basic auth, user {settings.basic_auth_user}" if settings.basic_auth_user else "nobody for a password"
    reads = (
        f"with a token from {settings.label_studio_url}"
        if settings.label_studio_api_key
        else ("without a token; uploads need SAM3_LABEL_STUDIO_URL and SAM3_LABEL_STUDIO_API_KEY")
    )
    rows = {
        "model": "demo: knows coloured shapes, cannot segment photos" if settings.model == "demo" else settings.model,
        "device": f"{settings.device}, dtype {settings.dtype}",
        "asks": asks,
        "images": reads,
        "connect": f"Label Studio, project Settings > Model > Connect Model, Backend URL {address}",
        "": "on this machine or network Label Studio needs ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false",
    }
    say(console, f"[bold]sam3-prelabel {__version__}[/] at [bold]{address}[/]")
    for label, text in rows.items():
        say(console, f"  {label:8}{escape(text)}")


def progress_bar(console: Console) -> Progress:
    """A bar that stays after the run and shows the image at work."""
    return Progress(
        SpinnerColumn(),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.description}"),
        console=console,
    )


def show_reasons(console: Console, outcome: Outcome, names: Sequence[str]) -> None:
    """A line per prompt that found nothing in the image."""
    for name, result in zip(names, outcome.results, strict=not outcome.problem):
        if result.reason:
            say(console, f"[dim]{escape(_printable(outcome.image.name))}: {escape(name)}: {escape(result.reason)}[/]")


def show_tally(console: Console, tally: Tally) -> None:
    """A table of what each prompt found, then every image that failed with its reason."""
    table = Table("prompt", "instances", "in images", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    done = tally.images - len(tally.failed)
    for name in tally.names:
        table.add_row(escape(name), str(tally.instances[name]), f"{tally.images_with[name]} of {done}")
    console.print(table)
    if tally.failed:
        say(console, f"[red]{len(tally.failed)} of {tally.images} images failed:[/]")
        for name, reason in tally.failed:
            say(console, f"  {escape(_printable(name))}: {escape(reason)}")


def say(console: Console, markup: str) -> None:
    """One line, never wrapped: what wraps cannot be searched for or cut out."""
    console.print(markup, highlight=False, soft_wrap=True)


def _printable(name: str) -> str:
    """File names may hold bytes that are no text."""
    return name.encode(errors="replace").decode()
