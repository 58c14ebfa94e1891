"""The commands ``sam3-prelabel label-studio ...``: what a project's reviewers taught, and the say over it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from sam3_core.errors import BadSettings, InvalidInput
from sam3_prelabel import report as lines
from sam3_prelabel.label_studio_store import opened, show_versions

label_studio_app = typer.Typer(
    help="Label Studio: what reviewers taught, its versions, and the way back.", no_args_is_help=True
)

Project = Annotated[int, typer.Argument(metavar="PROJECT", min=1, help="The project's number, as in its address.")]
Store = Annotated[Path | None, typer.Option(dir_okay=False, help="The server's file. [SAM3_STORE]")]


@label_studio_app.command()
def report(
    project: Project,
    out: Annotated[Path, typer.Option("--out", "-o", dir_okay=False, help="The HTML file.")] = Path("report.html"),
    as_json: Annotated[Path | None, typer.Option("--json", dir_okay=False, help="File for the same as JSON.")] = None,
    store: Store = None,
) -> None:
    """Write what reviewers taught as one HTML file: quality, versions, evidence, time, and the worst tasks."""
    console = Console()
    with opened(store, project) as (settings, found):
        from backend.images import ImageReader
        from sam3_prelabel.learning_report_page import page
        from sam3_prelabel.learning_report_pictures import Gallery

        told = found.report()
        reader = ImageReader(settings)
        gallery = Gallery(reader, reader.site(), settings.max_megapixels)
        with lines.progress_bar(console) as bar:
            job = bar.add_task("pictures of the worst tasks", total=len(told.worst))
            shots = gallery.shots(told.worst, lambda: bar.advance(job))
    out.write_text(page(told, shots), encoding="utf-8")
    if as_json is not None:
        as_json.write_text(json.dumps(told.as_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    lines.say(console, f"{told.reviewed} reviewed tasks, {told.shown} of them pre-annotated: {escape(str(out))}")


@label_studio_app.command()
def learn(
    project: Project,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="First read all reviews anew from Label Studio, through its API.")
    ] = False,
    train: Annotated[bool, typer.Option("--train/--no-train", help="Ask the running server to learn now.")] = True,
    store: Store = None,
) -> None:
    """Learn from a project's reviews now, fine-tuning included, as Start Training in Label Studio does."""
    console = Console()
    with opened(store, project, unknown_too=rebuild) as (settings, found):
        if rebuild:
            if not settings.label_studio_url or not settings.label_studio_api_key:
                raise BadSettings("--rebuild needs SAM3_LABEL_STUDIO_URL and SAM3_LABEL_STUDIO_API_KEY")
            with console.status("reading reviews ...") as status:
                count = found.rebuild(settings.label_studio_url, settings.label_studio_api_key, status.update)
            lines.say(console, f"{count} reviewed tasks")
        if train:
            found.ask_training()
            lines.say(console, "asked: the running server takes it up, and /status shows how far it is")


@label_studio_app.command()
def versions(project: Project, store: Store = None) -> None:
    """List what was promoted: when, what it changes, what it brought, and which version serves."""
    with opened(store, project) as (_, found):
        show_versions(Console(), found)


@label_studio_app.command()
def use(
    project: Project,
    version: Annotated[
        str,
        typer.Argument(
            metavar="VERSION", help="A version's name or number, `previous`, `base`, or `latest`: learning goes on."
        ),
    ],
    store: Store = None,
) -> None:
    """Let a version serve from the next request on. Nothing else is promoted then, until you use `latest`."""
    with opened(store, project) as (_, found):
        name = found.use(version)
    lines.say(Console(), f"{escape(name or 'the weights as they came')} serves project {project}")


@label_studio_app.command()
def cancel(project: Project, store: Store = None) -> None:
    """End the learning that is at work; what serves stays."""
    with opened(store, project) as (_, found):
        at_work = found.cancel()
    lines.say(Console(), "asked: it ends at its next step" if at_work else f"project {project} is not being taught")


@label_studio_app.command()
def forget(
    project: Project,
    yes: Annotated[bool, typer.Option("--yes", help="Really: there is no way back.")] = False,
    store: Store = None,
) -> None:
    """Delete all that is kept of a project: reviews, predictions, phrases, versions. Label Studio keeps its own."""
    with opened(store, project) as (settings, found):
        if not yes:
            raise InvalidInput(f"{found.sentence()}; give --yes to delete all of it")
        rows = found.forget(settings.adapters_folder)
    lines.say(Console(), f"project {project} is forgotten: {rows} rows deleted")
