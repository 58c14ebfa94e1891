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
from sam3_prelabel.fleet_plan import Device
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


def show_start(
    console: Console,
    settings: BackendSettings,
    *,
    host: str,
    port: int,
    threads: int,
    devices: Sequence[Device] = (),
) -> None:
    """What a person needs to know about the server that is about to start, and to connect Label Studio to it.

    devices: those of its engines, where there are several.
    """
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    address = f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
    rows = [("model", _model(settings)), *_where(settings, devices), ("asks", _asks(settings, host))]
    rows += [("images", _images(settings)), ("limits", _limits(settings, threads))]
    rows += [
        ("connect", f"Label Studio, project Settings > Model > Connect Model, Backend URL {address}"),
        (
            "",
            "on this machine or network Label Studio needs ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false",
        ),
    ]
    say(console, f"[bold]sam3-prelabel {__version__}[/] at [bold]{address}[/]")
    for label, text in rows:
        say(console, f"  {label:8}{escape(text)}")


def _model(settings: BackendSettings) -> str:
    if settings.core_url:
        return "that of the servers below"
    return "demo: knows coloured shapes, cannot segment photos" if settings.model == "demo" else settings.model


def _where(settings: BackendSettings, devices: Sequence[Device]) -> list[tuple[str, str]]:
    if settings.core_url:
        return [("servers" if not row else "", _without_login(url)) for row, url in enumerate(settings.core_urls)]
    if not devices:
        return [("device", f"{settings.device}, dtype {settings.dtype}")]
    rows = [f"{device.name}{f', {device.what}' if device.what else ''}, dtype {settings.dtype}" for device in devices]
    return [("devices" if not row else "", text) for row, text in enumerate(rows)]


def _asks(settings: BackendSettings, host: str) -> str:
    ways = [f"basic auth, user {settings.basic_auth_user}"] if settings.basic_auth_user else []
    ways += ["a bearer token"] if settings.api_token else []
    if ways:
        return " or ".join(ways)
    here = "" if host in ("127.0.0.1", "localhost", "::1") else ", and other machines reach it: SAM3_BASIC_AUTH_USER"
    return f"nobody for a password{here}"


def _images(settings: BackendSettings) -> str:
    if settings.label_studio_api_key:
        return f"with a token from {settings.label_studio_url}"
    return "without a token; uploads need SAM3_LABEL_STUDIO_URL and SAM3_LABEL_STUDIO_API_KEY"


def _limits(settings: BackendSettings, threads: int) -> str:
    work = f"{threads} requests at once, {settings.request_seconds:g} s each"
    bodies = f"bodies of {settings.max_request_mb:g} MiB"
    if threads <= settings.max_clicks + settings.max_bulk:
        work += ", too few: give --threads more than SAM3_MAX_CLICKS and SAM3_MAX_BULK together"
    return f"{work}; {bodies}, images of {settings.max_image_mb:g} MiB and {settings.max_megapixels:g} megapixels"


def _without_login(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


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
