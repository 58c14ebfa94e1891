"""Fill a CVAT task from the command line: what is asked of it, and what is said about the run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import typer
from cvat_sdk.core.auth import ClientAuthParameters, get_auth_factory, make_client_from_cli
from cvat_sdk.core.exceptions import CvatSdkException
from cvat_sdk.exceptions import ApiException
from rich.console import Console
from rich.markup import escape
from urllib3.exceptions import HTTPError

from cvat_nuclio.cvat_task import CvatTask, Frame
from cvat_nuclio.labels import LabelType, read_row
from cvat_nuclio.pictures import as_shown
from cvat_nuclio.resume import alone
from cvat_nuclio.runner import Outcome, Work, begin, fill
from cvat_nuclio.sdk_shapes import Target
from cvat_nuclio.segmenter import make_segmenter
from cvat_nuclio.settings import CvatSettings
from sam3_core import EncodedImage, ModelState
from sam3_core.errors import InvalidInput, ModelUnavailable, ServerUnavailable
from sam3_prelabel import predict, report
from sam3_prelabel.cvat_spec import known_types, make_rows, read_label
from sam3_prelabel.inputs import ImageFile


@dataclass(frozen=True, slots=True)
class Login:
    """Where the server is and who asks, as cvat-cli takes it; what is None comes from its variables and profiles."""

    server_host: str | None = None
    server_port: int | None = None
    auth: str | None = None
    organization: str | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be filled, and how: the options of ``sam3-prelabel cvat annotate``."""

    task: int
    job: int | None = None
    frames: str = ""
    labels: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()
    any_type: LabelType = LabelType.MASK
    in_flight: int = 4
    slice_frames: int = 20
    clear_existing: bool = False
    restart: bool = False
    resume_file: Path | None = None


def annotate(wish: Wish, login: Login, settings: CvatSettings, *, as_json: bool = False) -> None:
    """Run and report. Raises typer.Exit(1) where frames failed or the user stopped it, Sam3Error for the rest."""
    if wish.clear_existing and wish.frames:
        raise InvalidInput("--clear-existing removes the annotations of all frames; leave it out, or --frames")
    console = Console(stderr=as_json)
    with connect(login) as client:
        task = CvatTask(client, wish.task, wish.job)
        frames = chosen_frames(wish.frames, task.frames())
        targets, left_out = targets_of(task.labels(), wish)
        for sentence in left_out:
            report.say(console, f"[yellow]{escape(sentence)}[/]")
        work = Work(task, make_segmenter(settings), targets, picture=_as_shown(settings))
        _greet(console, work)
        path = wish.resume_file or default_resume_file(task)
        with alone(path):
            tally = _run(console, work, frames, path, wish)
    if as_json:
        told = {"model": work.segmenter.info().version, "server": task.server, "task": task.id, "skipped": left_out}
        typer.echo(json.dumps(told | tally.as_json()))
    if tally.failed:
        raise typer.Exit(1)


def connect(login: Login) -> Any:
    """A client of cvat-sdk, logged in, for a ``with``. Raises InvalidInput and ServerUnavailable."""
    try:
        return make_client_from_cli(
            ClientAuthParameters(
                auth=get_auth_factory(login.auth) if login.auth else None,
                server_host=login.server_host,
                server_port=login.server_port,
                organization=login.organization,
                insecure=login.insecure,
            )
        )
    except EOFError:
        raise InvalidInput("nobody can type a password here: set CVAT_ACCESS_TOKEN or --auth USER:PASSWORD") from None
    except (CvatSdkException, ValueError) as error:
        raise InvalidInput(f"CVAT's address or login cannot be used: {error}") from None
    except (ApiException, HTTPError) as error:
        said = f"{error.status} {error.reason}" if isinstance(error, ApiException) else str(error)
        raise ServerUnavailable(f"CVAT cannot be logged in to: {said}") from None


def chosen_frames(text: str, frames: Sequence[Frame]) -> list[Frame]:
    """Those of ``0-99,120``, or all for an empty text. Raises InvalidInput where none is there."""
    if not text:
        return list(frames)
    wanted: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise InvalidInput(f"--frames {text!r} is not like 0-99,120")
        wanted.update(range(int(match[1]), min(int(match[2] or match[1]), frames[-1].number) + 1))
    found = [frame for frame in frames if frame.number in wanted]
    if not found:
        raise InvalidInput(f"none of --frames {text} is there; frames are {frames[0].number} to {frames[-1].number}")
    return found


def targets_of(labels: Sequence[tuple[int, str, str]], wish: Wish) -> tuple[tuple[Target, ...], list[str]]:
    """A target for each label that is wished for, or for all that can be filled; a sentence on each of the others.

    labels: id, name and type. Raises InvalidInput for a wish that cannot be had.
    """
    types = {name: str(wish.any_type) if type == "any" else type for _, name, type in labels}
    known, unknown = known_types(types)
    left_out = [f"label {name!r} is left out: nothing fills labels of type {types[name]}" for name in unknown]
    chosen = [read_label(label)[0] for label in wish.labels]
    if missing := next((name for name in chosen if name not in types), None):
        raise InvalidInput(f"the task has no label {missing!r}, only {', '.join(map(repr, types)) or 'none at all'}")
    there = {name: type for name, type in known.items() if not chosen or name in chosen}
    if not there:
        raise InvalidInput("; ".join(left_out) or "the task has no labels")
    made = make_rows(wish.labels, wish.negatives, wish.chosen, there=there)
    rows = {row["name"]: read_row(row, "--label") for row in made}
    return tuple(Target(number, rows[name]) for number, name, _ in labels if name in rows), left_out


def default_resume_file(task: CvatTask) -> Path:
    """Where a run over this task keeps its notes for the next one: the user's folder for such things."""
    place = re.sub(r"[^\w.-]+", "_", task.server.partition("://")[2])
    return platformdirs.user_state_path("sam3-prelabel") / f"cvat-{place}-task-{task.id}.json"


def _as_shown(settings: CvatSettings) -> Callable[[bytes], EncodedImage]:
    return lambda data: EncodedImage(as_shown(data, max_megapixels=settings.max_megapixels))


def _greet(console: Console, work: Work) -> None:
    info = work.segmenter.info()
    if info.state is ModelState.FAILED:
        raise ModelUnavailable(info.problem)
    report.say(console, escape(f"{info.version} on {info.device}, {info.dtype}"))
    for target in work.targets:
        row = target.row
        report.say(console, f"[dim]{escape(f'{row.name} ({row.type}): ' + '; '.join(row.concept.phrases))}[/]")


def _run(console: Console, work: Work, frames: Sequence[Frame], path: Path, wish: Wish) -> report.Tally:
    tally = report.Tally([target.row.name for target in work.targets])
    book, left = begin(
        work,
        frames,
        path,
        clear=wish.clear_existing,
        restart=wish.restart,
        waits=lambda seconds: report.say(
            console, f"an earlier run was cut off; its last slice may still arrive: waiting {seconds:.0f} s at most"
        ),
    )
    if len(left) < len(frames):
        noted = f"{len(frames) - len(left)} of {len(frames)} frames were filled by an earlier run ({path})"
        report.say(console, escape(noted) + ("" if left else "; --restart fills them once more"))
    try:
        with report.progress_bar(console) as bar:
            job = bar.add_task("", total=len(left))
            for outcome in fill(
                work,
                left,
                book,
                in_flight=wish.in_flight,
                slice_frames=wish.slice_frames,
                seen=lambda _: bar.advance(job),
            ):
                shown = _shown(outcome)
                tally.add(shown)
                report.show_reasons(console, shown, tally.names)
    except KeyboardInterrupt:
        same = "the same command" + (" without --restart" if wish.restart else "")
        report.say(console, f"stopped; {same} goes on from here ({escape(str(path))})")
        raise typer.Exit(1) from None
    finally:
        if tally.images:
            report.show_tally(console, tally)
    return tally


def _shown(outcome: Outcome) -> predict.Outcome:
    """As the reports of ``predict`` take it."""
    name = f"frame {outcome.frame.number}, {outcome.frame.name}"
    return predict.Outcome(
        ImageFile(Path(outcome.frame.name), name), results=outcome.results, problem=outcome.problem
    )
