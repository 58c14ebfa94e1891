"""The plan of a labeling config, told: what each label looks for, every option, and where its value comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backend.labeling import Control, ImageSource, Label, Plan, read_plan
from sam3_core.choices import OPTIONS, Choices
from sam3_core.errors import InvalidInput
from sam3_core.finish import DEFAULT_FINISH, Finish
from sam3_core.rules import DEFAULT_RULES, Rules, Tiling
from sam3_core.settings import PREFIX, CoreSettings

Layers = Sequence[tuple[str, Choices]]
"""Origins and what they chose, the most special one first."""

_DEFAULT = Choices(DEFAULT_RULES, DEFAULT_FINISH, Tiling.OFF)
_OPEN = "no limit"


@dataclass(frozen=True, slots=True)
class Held:
    """The value of an option, None for no limit, and its origin."""

    value: Any
    origin: str

    def as_json(self) -> dict[str, Any]:
        value = self.value
        return {
            "value": value if value is None or isinstance(value, int | float) else str(value),
            "from": self.origin,
        }


@dataclass(frozen=True, slots=True)
class ToldLabel:
    """A label of a filled tag, and its options by name."""

    control: Control
    label: Label
    options: dict[str, Held]

    def as_json(self) -> dict[str, Any]:
        return {
            "label": self.label.value,
            "tag": self.control.name,
            "type": self.control.output.value,
            "phrases": list(self.label.concept.phrases),
            "negatives": list(self.label.concept.negatives),
            "remembers": self.label.remember,
            "options": {name: held.as_json() for name, held in self.options.items()},
        }


@dataclass(frozen=True, slots=True)
class ToldImage:
    """An image tag with its labels, tag by tag, and the options of its images by name."""

    source: ImageSource
    options: dict[str, Held]
    labels: tuple[ToldLabel, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "image": self.source.name,
            "data": self.source.key,
            "options": {name: held.as_json() for name, held in self.options.items()},
            "labels": [label.as_json() for label in self.labels],
        }


def read_config(path: Path) -> Plan:
    """The plan of a labeling config (XML, UTF-8). Raises InvalidInput where it fills nothing, and OSError."""
    try:
        plan = read_plan(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not text in UTF-8") from None
    if plan.problem:
        raise InvalidInput(f"{path}: {plan.problem}")
    return plan


def tell(plan: Plan, request: Choices, project: Choices, settings: CoreSettings) -> list[ToldImage]:
    """Every image and label of a plan with its options, under what a request and a connection chose."""
    special = ("request", request)
    told = []
    for source in plan.sources:
        general = (("image tag", source.choices), ("extra parameters", project), *_given(settings))
        labels = tuple(
            ToldLabel(
                control, label, _of_label((special, ("label", label.choices), ("tag", control.choices), *general))
            )
            for control in source.controls
            for label in control.labels
        )
        told.append(ToldImage(source, _held((special, *general), of_image=True), labels))
    return told


def show(console: Console, told: Sequence[ToldImage]) -> None:
    """Tables for a person: labels that share all options share one."""
    for image in told:
        for name, held in image.options.items():
            where = f"image [bold]{escape(image.source.name)}[/] (task data {escape(repr(image.source.key))})"
            console.print(f"{where}: {name} {held.value} [dim]({held.origin})[/]")
        for group in _grouped(image.labels):
            console.print()
            console.print(_labels_table(group))
            console.print(_options_table(group[0].options))


def _given(settings: CoreSettings) -> Iterator[tuple[str, Choices]]:
    """What the server's settings chose, where they were set; then the defaults."""
    if "threshold" in settings.model_fields_set:
        yield PREFIX + "THRESHOLD", Choices(Rules(threshold=settings.threshold))
    if "tiles" in settings.model_fields_set:
        yield PREFIX + "TILES", Choices(tiles=settings.tiles)
    yield "default", _DEFAULT


def _held(layers: Layers, *, of_image: bool) -> dict[str, Held]:
    """Of each option for images, or of each for labels, the value in the most special layer that has one."""
    made = [(origin, choices.chosen) for origin, choices in layers]
    return {
        name: next((Held(chosen[name], origin) for origin, chosen in made if name in chosen), Held(None, "default"))
        for name, option in OPTIONS.items()
        if option.of_image is of_image
    }


def _of_label(layers: Layers) -> dict[str, Held]:
    """The options of a label; where nobody chose ``min_iou``, it follows from the fineness."""
    held = _held(layers, of_image=False)
    if held["min_iou"].value is None:
        held["min_iou"] = Held(Finish(fineness=held["fineness"].value).floor, "fineness")
    return held


def _grouped(labels: Sequence[ToldLabel]) -> list[list[ToldLabel]]:
    """Labels with equal options and origins together, in the order of the config."""
    groups: list[list[ToldLabel]] = []
    for label in labels:
        known = next((group for group in groups if group[0].options == label.options), None)
        if known is None:
            groups.append([label])
        else:
            known.append(label)
    return groups


def _labels_table(labels: Sequence[ToldLabel]) -> Table:
    table = Table("label", "tag", "looks for", "not", box=None, header_style="bold", pad_edge=False)
    for told in labels:
        concept = told.label.concept
        words = ("; ".join(concept.phrases), "; ".join(concept.negatives))
        table.add_row(*map(escape, (told.label.value, f"{told.control.name} ({told.control.output})", *words)))
    return table


def _options_table(options: dict[str, Held]) -> Table:
    table = Table("option", "value", "from", box=None, header_style="bold", pad_edge=False)
    for name, held in options.items():
        table.add_row(name, _text(held.value), held.origin)
    return table


def _text(value: object) -> str:
    if value is None:
        return _OPEN
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
