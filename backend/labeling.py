"""A labeling config becomes a plan: what is filled on which image, what prompts are drawn with, which phrases.

Parsed with label-studio-sdk, which keeps attributes Label Studio does not know. Ours on a ``<Label>`` are ``prompt``
(``;`` separates synonyms), ``negative_prompt``, ``exemplar`` and ``remember_prompt``; on a control of rectangles
``oriented``; on both and on ``<Image>`` those of ``sam3_core.choices``. ``predicted_values`` is label-studio-ml's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any

from label_studio_sdk.label_interface import LabelInterface

from backend.attributes import is_true, read_options, split_phrases, split_words, tell, told
from backend.tools import Tool, read_tool
from sam3_core import Concept
from sam3_core.choices import OPEN, Choices
from sam3_core.errors import InvalidPrompt
from sam3_core.finish import OPEN_FINISH, Finish
from sam3_core.learning.lessons import Calibration
from sam3_core.rules import Tiling
from sam3_core.wording import readable

log = logging.getLogger(__name__)

_MAX_CONFIG = 1_000_000  # characters; real configs have a few thousand
_MOST_TOLD = 50  # labels in a line of the log


class Output(StrEnum):
    """Control tags we fill, by the ``type`` their regions carry."""

    POLYGON = "polygonlabels"
    BRUSH = "brushlabels"
    RECTANGLE = "rectanglelabels"
    BITMASK = "bitmasklabels"
    ELLIPSE = "ellipselabels"
    VECTOR = "vectorlabels"
    KEYPOINT = "keypointlabels"

    @property
    def plain(self) -> str:
        """The ``type`` of the same shape from a tag without labels, such as ``<Polygon>`` beside ``<Labels>``."""
        return self.value.removesuffix("labels")


@dataclass(frozen=True, slots=True)
class Label:
    """One label of a control: ``value`` as regions carry it, ``concept`` as the model is asked for it.

    finish: how its instances are drawn; what that leaves open is the core's default.
    shown: what the annotator reads, where it is not ``value``. predicted: other words that mean this label.
    remember: what annotators type for it is looked for in later batches.
    choices: of its own attributes; ``finish`` and the concept's rules are what comes of all layers.
    calibration: what its instances' scores are shown as, where it was learned.
    """

    value: str
    concept: Concept
    finish: Finish = OPEN_FINISH
    shown: str = ""
    predicted: tuple[str, ...] = ()
    remember: bool = False
    choices: Choices = OPEN
    calibration: Calibration | None = None


@dataclass(frozen=True, slots=True)
class Control:
    """A control tag we can fill, on one image tag.

    labeler: for tags without labels of their own, the name of the ``<Labels>`` tag that has them; empty otherwise.
    oriented: its rectangles may be turned, to lie closer around what they hold.
    choices: of its own attributes, and those of the labeler's that it leaves open.
    """

    name: str
    output: Output
    labels: tuple[Label, ...]
    labeler: str = ""
    oriented: bool = False
    choices: Choices = OPEN

    def label(self, value: str) -> Label | None:
        """The label of this value, or None."""
        return next((label for label in self.labels if label.value == value), None)


@dataclass(frozen=True, slots=True)
class ImageSource:
    """An image tag: its name, the key of the task's data that holds its address, what fills it, what prompts on it.

    Controls are in the order of the config. notes: names of the ``TextArea`` tags whose text is no prompt.
    tiles: whether to search its images in tiles; None leaves it to the core. choices: of its own attributes.
    """

    name: str
    key: str
    controls: tuple[Control, ...]
    tools: tuple[Tool, ...] = ()
    notes: frozenset[str] = frozenset()
    tiles: Tiling | None = None
    choices: Choices = OPEN

    @property
    def labels(self) -> tuple[Label, ...]:
        """Its labels in the config's order, one of each value."""
        first: dict[str, Label] = {}
        for control in self.controls:
            for label in control.labels:
                first.setdefault(label.value, label)
        return tuple(first.values())

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """What to look for, each once, however many controls show it."""
        return tuple(dict.fromkeys(label.concept for control in self.controls for label in control.labels))

    def under(self, request: Choices, project: Choices) -> ImageSource:
        """The same with ``tiles`` and every label's rules and finish from all layers.

        The more special over the more general: the request, the label, the control tag, the image tag, the project.
        """

        def settled(label: Label, control: Control) -> Label:
            choices = request.over(label.choices).over(control.choices).over(self.choices).over(project)
            return replace(label, concept=replace(label.concept, rules=choices.rules), finish=choices.finish)

        controls = tuple(
            replace(control, labels=tuple(settled(label, control) for label in control.labels))
            for control in self.controls
        )
        return replace(self, controls=controls, tiles=request.over(self.choices).over(project).tiles)

    def tool(self, name: str) -> Tool:
        """The tag that prompts are drawn with, or one of that name that says nothing about them."""
        return next((tool for tool in self.tools if tool.name == name), Tool(name))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a labeling config asks for. ``problem`` says why there is nothing to predict; empty otherwise.

    remarks: what in it is not as its author meant it, and was ignored.
    version: what its predictions are stamped with.
    """

    sources: tuple[ImageSource, ...]
    problem: str = ""
    remarks: tuple[str, ...] = ()
    version: str = ""

    @property
    def interactive(self) -> bool:
        """Whether annotators can click or draw prompts: the first one should be answered like a later one."""
        return any(tool.smart for source in self.sources for tool in source.tools)

    def under(self, request: Choices = OPEN, project: Choices = OPEN) -> Plan:
        """The same plan where a request and a connection's extra parameters chose something too."""
        return replace(self, sources=tuple(source.under(request, project) for source in self.sources))

    def source(self, name: str) -> ImageSource | None:
        """The image tag of this name, or None."""
        return next((source for source in self.sources if source.name == name), None)


@lru_cache(maxsize=64)
def resolve_plan(config: str, request: Choices = OPEN, project: Choices = OPEN) -> Plan:
    """The plan of a labeling config under what a request and a connection's extra parameters chose. Never raises."""
    plan = read_plan(config).under(request, project)
    for source in plan.sources:
        log.info("image %r: %s", source.name, "; ".join(_told(label) for label in source.labels[:_MOST_TOLD]))
    return plan


@lru_cache(maxsize=64)
def read_plan(config: str) -> Plan:
    """The plan of a labeling config (XML). Never raises: what cannot be used is an empty plan with a reason."""
    if len(config) > _MAX_CONFIG:
        return Plan((), f"the labeling config has {len(config)} characters, more than {_MAX_CONFIG}")
    # Entities are the way to bombs and to files of this machine; no labeling config needs them.
    if "<!DOCTYPE" in config or "<!ENTITY" in config:
        return Plan((), "the labeling config declares a DOCTYPE or entities, which are not accepted")
    try:
        interface = LabelInterface(config)
        controls, objects = list(interface.controls), list(interface.objects)
    except Exception as error:  # noqa: BLE001 - the SDK's parser raises whatever the XML provokes
        return Plan((), f"the labeling config cannot be read: {error}")
    images = [tag for tag in objects if tag.tag.lower() == "image" and _data_key(tag.value)]
    if not images:
        return Plan((), "the labeling config has no Image tag with a value such as $image")
    with told() as remarks:
        sources = tuple(source for tag in images if (source := _read_source(tag, controls)).controls)
    if not sources:
        return Plan(
            (),
            "no PolygonLabels, BrushLabels, RectangleLabels, BitmaskLabels, EllipseLabels or VectorLabels "
            "with labels on an Image, and no such tag without labels, as Polygon or Brush, beside Labels",
        )
    return Plan(sources, remarks=tuple(dict.fromkeys(remarks))).under()


def _told(label: Label) -> str:
    """What is looked for under a label and what was chosen for it, for a line in the log."""
    chosen = Choices(label.concept.rules, label.finish).chosen
    return f"{label.value!r}: " + ", ".join([*label.concept.phrases, *(f"{n}={v}" for n, v in chosen.items())])


def _data_key(value: str | None) -> str:
    """``$image`` -> ``image``; empty for what is no variable."""
    return value[1:] if value and value.startswith("$") else ""


def _read_source(image: Any, controls: Sequence[Any]) -> ImageSource:
    on_image = [tag for tag in controls if image.name in (name.strip() for name in tag.to_name)]
    labelers = [tag for tag in on_image if tag.tag.lower() == "labels"]
    tools = {tag.name: tool for tag in on_image if (tool := read_tool(tag, labelers)) is not None}
    texts = [tag for tag in on_image if tag.tag.lower() == "textarea"]
    notes = (tag.name for tag in texts if is_true(tag.attr, "perRegion") or not is_true(tag.attr, "smart", True))
    remember = any(is_true(tag.attr, "remember_prompt") for tag in texts)
    found = [(tag, control) for tag in on_image for control in _read_controls(tag, labelers, remember)]
    filled = [control for tag, control in found if not _is_prompt_tool(tag, tools.get(tag.name))]
    # Where boxes for prompting are all there is, the answers go to one of them.
    filled = filled or [control for tag, control in found if _may_hold_answers(tag, tools.get(tag.name))]
    return ImageSource(
        image.name,
        _data_key(image.value),
        tuple(filled),
        tuple(tools.values()),
        frozenset(notes),
        choices=read_options(image.name, image.attr, of_image=True),
    )


def _read_controls(tag: Any, labelers: Sequence[Any], remember: bool) -> Iterator[Control]:
    """A tag as controls: one with its own labels, or one for each ``<Labels>`` tag beside it; none without labels."""
    kind = tag.tag.lower()
    output = next((output for output in Output if kind in (output.value, output.plain)), None)
    if output is None:
        return
    oriented = output is Output.RECTANGLE and is_true(tag.attr, "oriented")
    for owner in (tag,) if kind == output.value else labelers:
        if labels := _read_labels(owner, remember):
            choices = read_options(tag.name, tag.attr)
            if owner is tag:
                yield Control(tag.name, output, labels, oriented=oriented, choices=choices)
            else:
                shared = read_options(owner.name, owner.attr)
                yield Control(tag.name, output, labels, owner.name, oriented, choices.over(shared))


def _is_prompt_tool(tag: Any, tool: Tool | None) -> bool:
    """Whether a control is there for drawing prompts, not for results.

    That is every ``smartOnly="true"`` control, keypoints that do not say ``smart="false"``, and rectangles with an
    explicit ``smart="true"``, the way the published SAM configs declare their prompt boxes, or with ``exemplar``.
    """
    return is_true(tag.attr, "smartOnly") or (tool is not None and tool.smart)


def _may_hold_answers(tag: Any, tool: Tool | None) -> bool:
    negative = tool is not None and any(label.exemplar is False for label in tool.labels.values())
    point = tag.tag.lower() in (Output.KEYPOINT, Output.KEYPOINT.plain)  # the answer to a click is no other point
    return not is_true(tag.attr, "smartOnly") and not negative and not point


def _read_labels(tag: Any, remember: bool) -> tuple[Label, ...]:
    read = (_read_label(value, label.attr, remember) for value, label in (tag.labels_attrs or {}).items())
    return tuple(label for label in read if label is not None)


def _read_label(value: str, attributes: Mapping[str, str], remember: bool) -> Label | None:
    """A label with its concept; None, with a sentence in the log, when its attributes leave nothing to look for."""
    # The SDK's value is the alias where there is one: so is what Label Studio stores in a region.
    phrases = split_phrases(attributes.get("prompt")) or (readable(value),)
    try:
        concept = Concept(phrases=phrases, negatives=split_phrases(attributes.get("negative_prompt")))
    except InvalidPrompt as error:
        tell(f"label {value!r} is left out: {error}")
        return None
    shown = attributes.get("value") or ""
    return Label(
        value,
        concept,
        shown="" if shown == value else shown,
        predicted=split_words(attributes.get("predicted_values")),
        remember=is_true(attributes, "remember_prompt", default=remember),
        choices=read_options(f"label {value!r}", attributes),
    )
