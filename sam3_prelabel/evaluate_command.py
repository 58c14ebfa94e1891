"""The command ``sam3-prelabel evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape

from backend.settings import BackendSettings
from sam3_core.errors import InvalidInput, InvalidPrompt
from sam3_core.settings import load_settings
from sam3_prelabel import report
from sam3_prelabel.evaluate_truth import DataSet, read_json
from sam3_prelabel.loading import load_segmenter, not_installed
from sam3_prelabel.quality import quality_table


def evaluate(
    truth: Annotated[
        Path, typer.Argument(metavar="FILE", help="instances.json of COCO, or an export of Label Studio as JSON.")
    ],
    images: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder with the images; else beside FILE, or where the tasks say."),
    ] = None,
    label_config: Annotated[
        Path | None, typer.Option(dir_okay=False, help="The labeling config of a Label Studio project.")
    ] = None,
    prompt: Annotated[
        list[str],
        typer.Option("--prompt", "-p", metavar="LABEL=PHRASES", help="What a label looks for. May be repeated."),
    ] = [],  # noqa: B006 - typer makes a list of its own
    phrases: Annotated[
        Path | None, typer.Option(dir_okay=False, help="A YAML file with the same: label: phrase; synonym.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Least score. [SAM3_THRESHOLD]")] = None,
    model: Annotated[str | None, typer.Option(help="demo, a hub id or a folder. [SAM3_MODEL]")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps. [SAM3_DEVICE]")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16, float16. [SAM3_DTYPE]")] = None,
    out: Annotated[Path | None, typer.Option("--json", dir_okay=False, help="File for the same as JSON.")] = None,
) -> None:
    """Measure a checkpoint on images whose objects are known. Exit code 1: some images or entries failed."""
    from sam3_prelabel.evaluate import evaluate as run
    from sam3_prelabel.evaluate import with_phrases

    settings = load_settings(BackendSettings, model=model, device=device, dtype=dtype, threshold=threshold)
    data = _read(truth, images, label_config, settings)
    asked = {**_of_file(phrases), **dict(map(_of_option, prompt))}
    data = DataSet(with_phrases(data.prompts, asked), data.pictures, data.problems)
    if not data.pictures:
        raise InvalidInput(f"{truth} holds no image that could be measured{_first(data)}")
    console = Console()
    segmenter = load_segmenter(settings, console)
    with report.progress_bar(console) as bar:
        job = bar.add_task("", total=len(data.pictures))
        found = run(segmenter, data, max_megapixels=settings.max_megapixels, told=lambda: bar.advance(job))
    console.print(quality_table(found.by_label.items()))
    report.say(console, f"[dim]{found.measured} of {len(data.pictures)} images; right: mask IoU 0.5 or more[/]")
    if out is not None:
        version = segmenter.info().version
        told = {"model": version, "phrases": {k: list(p.concept.phrases) for k, p in data.prompts.items()}}
        out.write_text(json.dumps(told | found.as_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, reason in found.failed:
        report.say(console, escape(f"{name}: {reason}" if name else reason))
    if found.failed:
        raise typer.Exit(1)


def _read(truth: Path, images: Path | None, label_config: Path | None, settings: BackendSettings) -> DataSet:
    """Which of the formats it is, its content says."""
    content = read_json(truth)
    if isinstance(content, dict):
        from sam3_prelabel.evaluate_coco import read_coco

        return read_coco(content, images or truth.parent, max_megapixels=settings.max_megapixels)
    try:
        from backend.images import ImageReader
        from sam3_prelabel.evaluate_label_studio import files_in, read_export
        from sam3_prelabel.plan import read_config
    except ModuleNotFoundError as error:
        raise not_installed(error, "label-studio") from None
    reader = ImageReader(settings)
    site = reader.site()
    read = files_in(images) if images else lambda address, task: reader.read(address, site, task)
    return read_export(content, read_config(label_config) if label_config else None, read)


def _of_option(given: str) -> tuple[str, tuple[str, ...]]:
    label, mark, phrases = given.partition("=")
    if not mark or not phrases.strip():
        raise InvalidPrompt(f"--prompt {given!r} is not LABEL=PHRASES")
    return label.strip(), tuple(phrases.split(";"))


def _of_file(path: Path | None) -> dict[str, tuple[str, ...]]:
    """``label: phrase; synonym`` or ``label: [phrase, synonym]``. Raises InvalidPrompt for anything else."""
    if path is None:
        return {}
    try:
        read: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeError) as error:
        raise InvalidPrompt(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(read, dict):
        raise InvalidPrompt(f"{path} is to say `label: phrase; synonym`, a line for each label")
    listed = {
        str(label): value if isinstance(value, list) else str(value).split(";") for label, value in read.items()
    }
    return {label: tuple(map(str, phrases)) for label, phrases in listed.items()}


def _first(data: DataSet) -> str:
    return f": {data.problems[0]}" if data.problems else ""
