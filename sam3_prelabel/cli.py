"""The command ``sam3-prelabel``."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backend.settings import BackendSettings
from sam3_core.errors import BadSettings, Sam3Error
from sam3_core.settings import load_settings
from sam3_core.types import FindOptions
from sam3_prelabel import __version__, report
from sam3_prelabel.cvat import cvat_app
from sam3_prelabel.evaluate_command import evaluate
from sam3_prelabel.fleet_serve import check_not_self, chosen_devices, serve_fleet
from sam3_prelabel.inputs import find_images
from sam3_prelabel.label_studio import label_studio_app
from sam3_prelabel.loading import load_segmenter, not_installed
from sam3_prelabel.outputs import Results, folders_in
from sam3_prelabel.predict import predict
from sam3_prelabel.prompts import read_options, read_prompts
from sam3_prelabel.settings import markdown_table, settings_of

app = typer.Typer(
    help="SAM 3 pre-annotations: a Label Studio backend, and the same for folders of images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cvat_app, name="cvat")
app.add_typer(label_studio_app, name="label-studio")
app.command("evaluate")(evaluate)

Model = Annotated[str | None, typer.Option(help="demo, a hub id such as facebook/sam3, or a folder. [SAM3_MODEL]")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps. [SAM3_DEVICE]")]
_OPTIONS_HELP = (
    "Choose an option, for all prompts or one: threshold, presence, min_area, max_area, max_instances, top_k, "
    "allow_overlap, fineness, min_iou, max_vertices, holes, parts; for all: tiles. May be repeated; docs/masks.md."
)
Dtype = Annotated[str | None, typer.Option(help="auto, float32, bfloat16, float16. [SAM3_DTYPE]")]


def main() -> None:
    """Run the command line. Exit code 0: all went well, 1: some images failed, 2: nothing could be done."""
    try:
        app(prog_name="sam3-prelabel")
    except (Sam3Error, OSError) as error:
        report.say(Console(stderr=True), f"[red]error:[/] {escape(_sentence(error))}")
        sys.exit(2)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def version() -> None:
    """Show the version."""
    typer.echo(__version__)


@app.command("settings")
def list_settings(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the Markdown table of the README.")] = False,
) -> None:
    """List every setting: variable, default, meaning."""
    known = settings_of(BackendSettings)
    if markdown:
        typer.echo(markdown_table(known))
        return
    table = Table("variable", "default", "meaning", box=None, header_style="bold")
    for setting in known:
        table.add_row(setting.variable, escape(setting.default), escape(setting.meaning.replace("`", "")))
    Console().print(table)


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines and containers.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 9090,
    threads: Annotated[int, typer.Option(min=1, help="Requests answered at the same time.")] = 64,
    model: Model = None,
    device: Device = None,
    devices: Annotated[
        str | None,
        typer.Option(help="A process with weights of its own for each of these: auto (all GPUs), or cuda:0,cuda:1."),
    ] = None,
    dtype: Dtype = None,
    basic_auth_user: Annotated[str | None, typer.Option(help="Ask for this user. [SAM3_BASIC_AUTH_USER]")] = None,
    basic_auth_password: Annotated[
        str | None,
        typer.Option(
            help="And this password; the variable keeps it out of the process list. [SAM3_BASIC_AUTH_PASSWORD]"
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No report at the start.")] = False,
) -> None:
    """Run the Label Studio backend. Everything else is set by variables: see `sam3-prelabel settings`."""
    chosen = load_settings(
        BackendSettings,
        model=model,
        device=device,
        dtype=dtype,
        basic_auth_user=basic_auth_user,
        basic_auth_password=basic_auth_password,
    )
    _check_address(host, port)
    check_not_self(chosen, port)
    try:
        from backend.database import Database
        from backend.server import run
    except ModuleNotFoundError as error:
        raise not_installed(error, "local,label-studio") from None
    Database(chosen.store).close()  # one that cannot be used is a sentence here, not a worker that dies
    several = [] if devices is None else chosen_devices(devices, device, chosen)
    if len(several) > 1:
        serve_fleet(several, chosen, host=host, port=port, threads=threads, quiet=quiet)
        return
    if several:
        chosen = chosen.model_copy(update={"device": several[0].name})
    if not quiet:
        report.show_start(Console(), chosen, host=host, port=port, threads=threads)
    run(chosen, host=host, port=port, threads=threads)


@app.command("predict")
def predict_images(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Files or folders.")],
    prompt: Annotated[
        list[str], typer.Option("--prompt", "-p", help="What to find; may be repeated. ';' separates synonyms.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", file_okay=False, help="Folder for the results; made if missing.")
    ],
    negative: Annotated[
        list[str], typer.Option("--negative", "-n", help="What is not meant: PHRASES, or PROMPT=PHRASES for one.")
    ] = [],  # noqa: B006 - typer makes a list of its own
    chosen: Annotated[list[str], typer.Option("--set", metavar="[PROMPT:]OPTION=VALUE", help=_OPTIONS_HELP)] = [],  # noqa: B006
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look in subfolders too.")] = False,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Least score. [SAM3_THRESHOLD]")] = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Annotated[bool, typer.Option("--json", help="A summary as JSON on stdout; all else on stderr.")] = False,
) -> None:
    """Segment images: JSON, COCO, mask PNGs and an overlay for each. Exit code 1: some images failed."""
    prompts, general = read_prompts(prompt, negative, chosen)
    files = find_images(images, recursive=recursive, skip=folders_in(out))
    settings = load_settings(BackendSettings, model=model, device=device, dtype=dtype, threshold=threshold)
    console = Console(stderr=as_json)
    segmenter = load_segmenter(settings, console)
    tally = report.Tally(list(prompts))
    with (
        Results(out, prompts, model=segmenter.info().version, max_megapixels=settings.max_megapixels) as results,
        report.progress_bar(console) as bar,
    ):
        job = bar.add_task("", total=len(files))
        for outcome in predict(segmenter, files, prompts, FindOptions(tiles=general.tiles)):
            if not outcome.problem:
                results.add(outcome)
            tally.add(outcome)
            report.show_reasons(console, outcome, tally.names)
            bar.advance(job)
    report.show_tally(console, tally)
    report.say(console, f"results in {escape(str(out))}")
    if as_json:
        typer.echo(json.dumps({"model": segmenter.info().version, "out": str(out), **tally.as_json()}))
    if tally.failed:
        raise typer.Exit(1)


@app.command()
def plan(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.xml", dir_okay=False, help="A labeling config.")],
    chosen: Annotated[
        list[str], typer.Option("--set", metavar="OPTION=VALUE", help="As in a request's params. May be repeated.")
    ] = [],  # noqa: B006 - typer makes a list of its own
    extra_params: Annotated[str, typer.Option(metavar="JSON", help="The connection's extra parameters.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what a labeling config asks for: each label's phrases and options, and where each value comes from."""
    try:
        from backend.extra_params import read_extra
        from sam3_prelabel.plan import read_config, show, tell
    except ModuleNotFoundError as error:
        raise not_installed(error, "label-studio") from None
    request, _ = read_options(chosen)
    settings = load_settings(BackendSettings)
    told = tell(read_config(config), request, read_extra("--extra-params", extra_params), settings)
    if as_json:
        typer.echo(json.dumps([image.as_json() for image in told], ensure_ascii=False, indent=2))
    else:
        show(Console(), told)


@app.command()
def demo(
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder for pictures, data and logs.")] = Path(
        "demo-output"
    ),
    once: Annotated[bool, typer.Option(envvar="DEMO_ONCE", help="End when done, do not stay up.")] = False,
    images: Annotated[int, typer.Option(min=1, max=100, help="How many scenes to import.")] = 8,
    label_studio_port: Annotated[int | None, typer.Option(min=1, max=65535, help="8080, or a free one.")] = None,
    backend_port: Annotated[int | None, typer.Option(min=1, max=65535, help="9090, or a free one.")] = None,
) -> None:
    """Start a real Label Studio and the backend, and pre-annotate a project of rendered scenes."""
    try:
        from sam3_prelabel.demo.run import run_demo
    except ModuleNotFoundError as error:
        raise not_installed(error, "local,label-studio") from None
    code = run_demo(output, once=once, images=images, label_studio_port=label_studio_port, backend_port=backend_port)
    raise typer.Exit(code)


def _check_address(host: str, port: int) -> None:
    """Raises BadSettings when nothing can listen there: said before the report, not after it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise BadSettings(f"cannot listen on {host}, port {port}: {error.strerror or error}") from None


def _sentence(error: Sam3Error | OSError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
