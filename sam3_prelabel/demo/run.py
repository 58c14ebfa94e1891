"""`make demo`: Label Studio and our backend, a project, its pre-annotation, a table and pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import requests
from label_studio_sdk.core.api_error import ApiError
from rich.console import Console
from rich.markup import escape

from sam3_core.errors import Sam3Error
from sam3_prelabel.demo.backend import BackendServer
from sam3_prelabel.demo.client import LabelStudioClient
from sam3_prelabel.demo.label_studio import LabelStudioServer
from sam3_prelabel.demo.process import ServerFailed, free_port
from sam3_prelabel.demo.regions import read_regions
from sam3_prelabel.demo.report import BACKEND_LOG, OVERLAYS, Annotated, results_table, save_overlays, what_to_click
from sam3_prelabel.demo.signals import Ended, signals_end
from sam3_prelabel.demo.steps import step
from sam3_prelabel.demo.world import LABEL_CONFIG, Sample, samples

_LABEL_STUDIO_PORT, _BACKEND_PORT = 8080, 9090


@dataclass(frozen=True, slots=True)
class _Servers:
    label_studio: LabelStudioServer
    backend: BackendServer
    client: LabelStudioClient


def run_demo(
    output: Path,
    *,
    once: bool = False,
    images: int = 8,
    label_studio_port: int | None = None,
    backend_port: int | None = None,
) -> int:
    """Run the demo; returns an exit code: 0 when every task got its prediction and regions were stored.

    output: gets `overlays/` and `label-studio/` with data and logs; those of an earlier demo are replaced.
    once: end when done, rather than stay up until Ctrl-C. images: how many scenes to import.
    Ports are 8080 and 9090, or free ones where those are taken; a port that is asked for must be free.
    """
    console = Console()
    try:
        with signals_end() as stay, ExitStack() as stack:
            servers = _start(stack, output, label_studio_port, backend_port, console)
            project, done = _annotate(servers, samples(images), console)
            save_overlays(done, output / OVERLAYS)
            console.print(results_table(done))
            where = what_to_click(servers.label_studio, servers.backend, project, output)
            console.print(where, soft_wrap=True, highlight=False)
            _check(done, servers)
            if not once:
                console.print("It all stays up until you press [bold]Ctrl-C[/].")
                stay(lambda: _watch(servers))
    except (Sam3Error, ApiError, requests.RequestException, httpx.HTTPError) as error:
        console.print(f"[red]The demo failed:[/] {escape(_sentence(error))}", soft_wrap=True, highlight=False)
        return 1
    except Ended as ended:
        return ended.exit_code
    return 0


def _start(
    stack: ExitStack, output: Path, label_studio_port: int | None, backend_port: int | None, console: Console
) -> _Servers:
    with step(console, "Starting Label Studio (the first time, it prepares its database for a minute)") as tick:
        label_studio = stack.enter_context(
            LabelStudioServer(
                output / "label-studio", port=label_studio_port or free_port(_LABEL_STUDIO_PORT), tick=tick
            )
        )
        token = label_studio.personal_access_token()
    with step(console, "Starting the SAM 3 backend") as tick:
        backend = stack.enter_context(
            BackendServer(
                label_studio.url,
                token,
                log=output / BACKEND_LOG,
                port=backend_port or free_port(_BACKEND_PORT),
                tick=tick,
            )
        )
    return _Servers(label_studio, backend, LabelStudioClient(label_studio.url, token))


def _annotate(servers: _Servers, chosen: Sequence[Sample], console: Console) -> tuple[int, list[Annotated]]:
    """Project id, and each task with what Label Studio has stored for it."""
    client = servers.client
    with step(console, f"Creating a project with {len(chosen)} images and connecting the backend"):
        project = client.create_project("SAM 3 pre-annotation demo", LABEL_CONFIG)
        tasks = client.upload(project, {sample.name: sample.scene.encode() for sample in chosen})
        version = client.connect(project, servers.backend.url)["model_version"]
    console.print(f"  model: [bold]{version}[/]", highlight=False)
    seconds: list[float] = []
    for task, sample in zip(tasks, chosen, strict=True):
        with step(console, f"Pre-annotating {sample.name}"):
            started = time.monotonic()
            # One by one, so that progress shows; the Data Manager would send all in one request.
            client.retrieve_predictions(project, [task])
            seconds.append(time.monotonic() - started)
    stored = client.predictions(project)
    regions = [
        read_regions(prediction["result"]) if (prediction := next(iter(stored.get(task, [])), None)) else None
        for task in tasks
    ]
    return project, [Annotated(*row) for row in zip(tasks, chosen, regions, seconds, strict=True)]


def _check(done: Sequence[Annotated], servers: _Servers) -> None:
    """Raises ServerFailed when the pre-annotation did not do what it is for."""
    missing = [item.sample.name for item in done if item.regions is None]
    if missing:
        raise ServerFailed(f"no prediction was stored for {', '.join(missing)}; see {servers.backend.log}")
    if not any(item.regions for item in done):
        raise ServerFailed(f"the model found nothing in any image; see {servers.backend.log}")


def _watch(servers: _Servers) -> None:
    servers.label_studio.check()
    servers.backend.check()


def _sentence(error: Exception) -> str:
    if isinstance(error, ApiError):
        return f"Label Studio answered {error.status_code}: {error.body}"
    return str(error) or type(error).__name__
