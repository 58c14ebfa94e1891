"""The commands ``sam3-prelabel cvat ...``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cvat_nuclio.labels import LabelType
from cvat_nuclio.settings import CvatSettings
from sam3_core.errors import InvalidPrompt, ModelUnavailable
from sam3_core.settings import load_settings

cvat_app = typer.Typer(help="CVAT: annotate tasks, and write Nuclio functions.", no_args_is_help=True)


@cvat_app.command()
def annotate(
    task: Annotated[int, typer.Argument(metavar="TASK", help="The task's number, as in its address.")],
    label: Annotated[
        list[str],
        typer.Option(
            metavar="NAME[=PHRASES]",
            help="Fill only this label; may be repeated. ';' separates synonyms.",
        ),
    ] = [],  # noqa: B006 - typer makes a list of its own
    negative: Annotated[
        list[str], typer.Option(help="What is not meant: PHRASES, or LABEL=PHRASES for one. May be repeated.")
    ] = [],  # noqa: B006
    chosen: Annotated[
        list[str],
        typer.Option("--set", metavar="[LABEL:]OPTION=VALUE", help="As threshold=0.4; docs/masks.md. Repeatable."),
    ] = [],  # noqa: B006
    kind: Annotated[
        LabelType, typer.Option("--type", help="What labels of type any get; other labels say it themselves.")
    ] = LabelType.MASK,
    job: Annotated[int | None, typer.Option(help="Only this job of the task.")] = None,
    frames: Annotated[str, typer.Option(metavar="0-99,120", help="Only these frames.")] = "",
    clear_existing: Annotated[
        bool, typer.Option("--clear-existing", help="Remove what the task (or job) holds, when the run begins.")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Fill frames again that an earlier run filled.")] = False,
    in_flight: Annotated[int, typer.Option(min=1, max=64, help="Frames worked on at the same time.")] = 4,
    slice_frames: Annotated[int, typer.Option("--slice", min=1, help="Frames in one upload.")] = 20,
    resume_file: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Where the run notes what it uploaded; else in your home.")
    ] = None,
    server_host: Annotated[str | None, typer.Option(help="CVAT's address, as cvat-cli takes it.")] = None,
    server_port: Annotated[int | None, typer.Option(min=1, max=65535)] = None,
    auth: Annotated[
        str | None, typer.Option(metavar="USER[:PASSWORD]", help="Else CVAT_ACCESS_TOKEN, or a profile of cvat-cli.")
    ] = None,
    organization: Annotated[str | None, typer.Option("--organization", "--org", metavar="SLUG")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Do not check CVAT's certificate.")] = False,
    core_url: Annotated[
        str | None, typer.Option(help="Our server that holds the weights; else they are loaded here. [SAM3_CORE_URL]")
    ] = None,
    model: Annotated[str | None, typer.Option(help="demo, a hub id or a folder. [SAM3_MODEL]")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps. [SAM3_DEVICE]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A summary as JSON on stdout; all else on stderr.")] = False,
) -> None:
    """Fill a task with what its labels name; run again, it goes on where it stopped. Exit code 1: frames failed."""
    try:
        from sam3_prelabel import cvat_annotate
    except ModuleNotFoundError as error:
        raise ModelUnavailable(
            f"{error.name} is not installed; pip install 'sam3-prelabel[local,cvat]' brings it"
        ) from None
    wish = cvat_annotate.Wish(
        task,
        job,
        frames,
        tuple(label),
        tuple(negative),
        tuple(chosen),
        kind,
        in_flight,
        slice_frames,
        clear_existing,
        restart,
        resume_file,
    )
    login = cvat_annotate.Login(server_host, server_port, auth, organization, insecure)
    settings = load_settings(CvatSettings, core_url=core_url, model=model, device=device)
    cvat_annotate.annotate(wish, login, settings, as_json=as_json)


@cvat_app.command()
def spec(
    label: Annotated[
        list[str],
        typer.Option(metavar="NAME[=PHRASES]", help="A label; may be repeated. ';' separates synonyms."),
    ] = [],  # noqa: B006 - typer makes a list of its own
    negative: Annotated[
        list[str], typer.Option(help="What is not meant: PHRASES, or LABEL=PHRASES for one. May be repeated.")
    ] = [],  # noqa: B006
    chosen: Annotated[
        list[str],
        typer.Option("--set", metavar="[LABEL:]OPTION=VALUE", help="As threshold=0.4; docs/masks.md. Repeatable."),
    ] = [],  # noqa: B006
    kind: Annotated[
        LabelType | None, typer.Option("--type", help="Of all labels; else as in CVAT, or masks.")
    ] = None,
    from_task: Annotated[int | None, typer.Option(metavar="TASK", help="The labels of this task of CVAT.")] = None,
    from_project: Annotated[int | None, typer.Option(metavar="PROJECT", help="Of this project.")] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="The function with torch and the weights inside.")] = False,
    core_url: Annotated[
        str | None, typer.Option(help="Our server that holds the weights, as the function's container reaches it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", dir_okay=False, help="File to write, as function.yaml; else stdout.")
    ] = None,
    server_host: Annotated[str | None, typer.Option(help="CVAT's address, as cvat-cli takes it.")] = None,
    server_port: Annotated[int | None, typer.Option(min=1, max=65535)] = None,
    auth: Annotated[
        str | None, typer.Option(metavar="USER[:PASSWORD]", help="Else CVAT_ACCESS_TOKEN, or a profile of cvat-cli.")
    ] = None,
    organization: Annotated[str | None, typer.Option("--organization", "--org", metavar="SLUG")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Do not check CVAT's certificate.")] = False,
) -> None:
    """Write the yaml of a Nuclio detector that finds these labels."""
    from sam3_prelabel import cvat_spec

    if from_task is not None and from_project is not None:
        raise InvalidPrompt("--from-task or --from-project, not both")
    if gpu and core_url:
        raise InvalidPrompt("--gpu puts the weights into the function, --core-url leaves them elsewhere: choose one")
    there: dict[str, str] | None = None
    if from_task is not None or from_project is not None:
        try:
            from sam3_prelabel.cvat_annotate import Login, connect
        except ModuleNotFoundError as error:
            raise ModelUnavailable(
                f"{error.name} is not installed; pip install 'sam3-prelabel[cvat]' brings it"
            ) from None
        with connect(Login(server_host, server_port, auth, organization, insecure)) as client:
            there, others = cvat_spec.known_types(cvat_spec.labels_in(client, task=from_task, project=from_project))
        for name in others:
            typer.echo(f"label {name!r} is left out: a detector cannot fill its type", err=True)
    rows = cvat_spec.make_rows(label, negative, chosen, kind=kind, there=there)
    file = out.name if out else ("function-gpu.yaml" if gpu else "function.yaml")
    text = cvat_spec.write_yaml(rows, file=file, gpu=gpu, core_url=core_url)
    if out is None:
        typer.echo(text, nl=False)
        return
    added = " and main.py beside it" if cvat_spec.save(text, out) else ""
    typer.echo(f"wrote {out}{added}: {', '.join(row['name'] for row in rows)}", err=True)
