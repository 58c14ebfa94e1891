"""Label Studio's JSON exports: ``[{"id": ..., "data": {...}, "annotations": [{"result": [...]}]}, ...]``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import quoteattr

import msgspec
from msgspec import Raw

from backend.labeling import Output, Plan, read_plan
from backend.learning.records import Review
from backend.learning.regions import read_regions
from backend.learning.reviewed import ReviewedImage, reviewed_images
from sam3_core.errors import ImageUnavailable, InvalidInput
from sam3_core.finish import DEFAULT_FINISH
from sam3_prelabel.evaluate_truth import DataSet, Shown, file_below
from sam3_prelabel.prompts import Prompt

Read = Callable[[str, str], bytes]
"""The file behind an address of a task of this id. Raises Sam3Error or OSError."""

_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
_TAGS = {output.value: f"{output.plain.capitalize()}Labels" for output in Output if output is not Output.KEYPOINT}


@dataclass(frozen=True, slots=True)
class _TaskPicture:
    """unread: how many of the task's regions could not be understood."""

    image: ReviewedImage
    read: Read
    unread: int

    @property
    def name(self) -> str:
        page = f", page {self.image.spot.page + 1}" if self.image.spot.page else ""
        return f"task {self.image.spot.task}{page}"

    def data(self) -> bytes:
        if not isinstance(self.image.address, str):
            raise ImageUnavailable("the task names no picture there")
        return self.read(self.image.address, self.image.spot.task)

    def shown(self, size: tuple[int, int]) -> Shown:
        if self.unread:
            raise InvalidInput(f"{self.unread} of its regions cannot be read")
        truth = {label: list(truths) for label, truths in self.image.truth.items()}
        for one in (one for truths in truth.values() for one in truths):
            if one.mask.frame != size:
                raise InvalidInput(f"its regions were drawn on {one.mask.frame} pixels, and it has {size}")
        return Shown(truth)


def read_export(content: object, plan: Plan | None, read: Read) -> DataSet:
    """What a parsed export says. plan: of the project's labeling config; None to tell it from the regions.

    Raises InvalidInput for what is no such export; tasks that are wrong become problems, and those without an
    annotation that was submitted are passed over: nobody said what is on them.
    """
    if not isinstance(content, list) or not any(isinstance(task, dict) and "data" in task for task in content):
        raise InvalidInput(
            "a Label Studio export is a list of tasks with data and annotations: choose the format JSON"
        )
    plan = plan or read_plan(config_of(content))
    if plan.problem:
        raise InvalidInput(plan.problem)
    pictures: list[_TaskPicture] = []
    problems: list[str] = []
    for place, task in enumerate(content):
        try:
            pictures += _pictures(task, plan, read)
        except InvalidInput as error:
            problems.append(f"task {task.get('id', place) if isinstance(task, dict) else place}: {error}")
    # A config of another project must not look like a data set in which nothing is anywhere.
    if any(map(any, map(_regions, content))) and not any(any(one.image.truth.values()) for one in pictures):
        raise InvalidInput("none of the export's regions belongs to a label of the labeling config")
    prompts = {
        label.value: Prompt(label.concept, label.finish.over(DEFAULT_FINISH))
        for source in plan.sources
        for label in source.labels
    }
    return DataSet(prompts, pictures, tuple(problems))


def files_in(folder: Path) -> Read:
    """Reads pictures out of a folder by the path that an address ends with, or the last part of it."""

    def read(address: str, _: str) -> bytes:
        parts = urlsplit(address)
        listed = parse_qs(parts.query).get("d") if parts.path.endswith("/data/local-files/") else None
        path = (listed[0] if listed else unquote(parts.path)).strip("/")
        try:
            return file_below(folder, path).read_bytes()
        except InvalidInput:
            return file_below(folder, path.rpartition("/")[2]).read_bytes()

    return read


def config_of(tasks: Sequence[Any]) -> str:
    """A labeling config that has the controls and labels of the regions in an export, and looks for the labels by
    their names. Raises InvalidInput where the tasks do not tell where their pictures are."""
    controls: dict[tuple[str, str, str], dict[str, None]] = {}
    for task in tasks:
        for region in _regions(task):
            kind, names = region.get("type"), (region.get("from_name"), region.get("to_name"))
            value = region.get("value")
            labels = value.get(kind) if isinstance(value, dict) else None
            if kind in _TAGS and all(isinstance(name, str) for name in names) and isinstance(labels, list):
                found = controls.setdefault((_TAGS[kind], str(names[0]), str(names[1])), {})
                found.update(dict.fromkeys(label for label in labels if isinstance(label, str) and label.strip()))
    images = dict.fromkeys(image for *_, image in controls)
    if len(images) != 1:
        which = "none of its regions has a label" if not images else f"it has {len(images)} image tags"
        raise InvalidInput(f"give --label-config: {which}")
    (image,) = images
    written = "".join(
        f"<{tag} name={quoteattr(name)} toName={quoteattr(image)}>"
        + "".join(f"<Label value={quoteattr(label)}/>" for label in labels)
        + f"</{tag}>"
        for (tag, name, _), labels in controls.items()
    )
    return f"<View><Image name={quoteattr(image)} value={quoteattr('$' + _key_of(tasks))}/>{written}</View>"


def _key_of(tasks: Iterable[Any]) -> str:
    """The key of the tasks' data that holds their pictures' addresses."""
    for task in tasks:
        data = task.get("data") if isinstance(task, dict) else None
        texts = (
            {key: value for key, value in data.items() if isinstance(value, str)} if isinstance(data, dict) else {}
        )
        if "image" in texts or len(texts) == 1:
            return "image" if "image" in texts else str(next(iter(texts)))
        looking = [key for key, value in texts.items() if value.partition("?")[0].lower().endswith(_PICTURES)]
        if len(looking) == 1:
            return str(looking[0])
    raise InvalidInput("give --label-config: the tasks do not tell which of their data is the picture")


def _pictures(task: Any, plan: Plan, read: Read) -> Iterator[_TaskPicture]:
    """Raises InvalidInput for what is no task."""
    if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
        raise InvalidInput("it is no object with data")
    annotation = _final(task.get("annotations"))
    if annotation is None:
        return
    regions = annotation.get("result")
    raws = [Raw(msgspec.json.encode(region)) for region in regions] if isinstance(regions, list) else []
    reading = read_regions(raws, plan)
    data = task["data"]
    images = {source.name: data[source.key] for source in plan.sources if source.key in data}
    if not images:
        raise InvalidInput(f"its data has no {' or '.join(source.key for source in plan.sources)}")
    review = Review("", str(task.get("id", "")), "", "", images, reading.drawn)
    for image in reviewed_images([review], plan):
        yield _TaskPicture(image, read, reading.unread)


def _final(annotations: object) -> Mapping[str, Any] | None:
    """The annotation that counts: ground truth before others, then the newest. None where none was submitted."""
    listed = annotations if isinstance(annotations, list) else []
    left = [one for one in listed if isinstance(one, dict) and not one.get("was_cancelled")]
    return max(left, key=lambda one: (bool(one.get("ground_truth")), str(one.get("updated_at"))), default=None)


def _regions(task: Any) -> Iterator[Mapping[str, Any]]:
    annotation = _final(task.get("annotations")) if isinstance(task, dict) else None
    regions = annotation.get("result") if annotation else None
    return (one for one in regions if isinstance(one, dict)) if isinstance(regions, list) else iter(())
