"""A labeling config becomes a plan: which controls on which image, which labels, which phrases.

Parsed with label-studio-sdk, which keeps attributes Label Studio does not know; ours on a ``<Label>`` are
``prompt`` (``;`` separates synonyms), ``negative_prompt`` and ``threshold``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from label_studio_sdk.label_interface import LabelInterface

from sam3_core import Concept
from sam3_core.errors import InvalidPrompt

log = logging.getLogger(__name__)

_MAX_CONFIG = 1_000_000  # characters; real configs have a few thousand


class Output(StrEnum):
    """Control tags we fill, by the ``type`` their regions carry."""

    POLYGON = "polygonlabels"
    BRUSH = "brushlabels"
    RECTANGLE = "rectanglelabels"
    BITMASK = "bitmasklabels"


@dataclass(frozen=True, slots=True)
class Label:
    """One label of a control: ``value`` as regions carry it, ``concept`` as the model is asked for it."""

    value: str
    concept: Concept


@dataclass(frozen=True, slots=True)
class Control:
    """A control tag we can fill, on one image tag."""

    name: str
    output: Output
    labels: tuple[Label, ...]

    def label(self, value: str) -> Label | None:
        """The label of this value, or None."""
        return next((label for label in self.labels if label.value == value), None)


@dataclass(frozen=True, slots=True)
class ImageSource:
    """An image tag: its name, the key of the task's data that holds its address, and what fills it."""

    name: str
    key: str
    controls: tuple[Control, ...]

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """What to look for, each once, however many controls show it."""
        return tuple(dict.fromkeys(label.concept for control in self.controls for label in control.labels))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a labeling config asks for. ``problem`` says why there is nothing to predict; empty otherwise."""

    sources: tuple[ImageSource, ...]
    problem: str = ""

    def source(self, name: str) -> ImageSource | None:
        """The image tag of this name, or None."""
        return next((source for source in self.sources if source.name == name), None)


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
    sources = tuple(source for tag in images if (source := _read_source(tag, controls)).controls)
    if not sources:
        return Plan((), "no PolygonLabels, BrushLabels, RectangleLabels or BitmaskLabels with labels on an Image")
    return Plan(sources)


def readable(name: str) -> str:
    """A label's name as a noun phrase in lower case: ``school_bus`` and ``School-Bus_2`` become ``school bus``.

    A number at the end goes only where its punctuation marks it as an id (``_2``, ``#2``, ``(2)``, ``[2]``), so that
    ``formula 1`` and ``T-34`` keep theirs.
    """
    text = re.sub(r"(?<=\w)\s*(?:_\d+|#\d+|\(\d+\)|\[\d+\])\s*$", "", name.strip())
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    text = re.sub(r"[_\s]+|(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})", " ", text)
    return " ".join(text.split()).lower() or name.strip()


def _data_key(value: str | None) -> str:
    """``$image`` -> ``image``; empty for what is no variable."""
    return value[1:] if value and value.startswith("$") else ""


def _read_source(image: Any, controls: list[Any]) -> ImageSource:
    on_image = [tag for tag in controls if image.name in (name.strip() for name in tag.to_name)]
    found = []
    for tag in on_image:
        if tag.tag.lower() not in set(Output):
            continue
        read = (_read_label(value, label.attr) for value, label in (tag.labels_attrs or {}).items())
        labels = tuple(label for label in read if label is not None)
        if labels:
            found.append((tag, Control(tag.name, Output(tag.tag.lower()), labels)))
    filled = [control for tag, control in found if not _is_prompt_tool(tag, control, len(found))]
    return ImageSource(image.name, _data_key(image.value), tuple(filled))


def _is_prompt_tool(tag: Any, control: Control, outputs: int) -> bool:
    """Whether a control is there for drawing prompts, not for results.

    That is every ``smartOnly="true"`` control, and RectangleLabels with an explicit ``smart="true"`` beside another
    output: the way the published SAM configs declare their prompt boxes.
    """
    if str(tag.attr.get("smartOnly", "")).lower() == "true":
        return True
    smart = str(tag.attr.get("smart", "")).lower() == "true"
    return smart and control.output is Output.RECTANGLE and outputs > 1


def _read_label(value: str, attributes: Mapping[str, str]) -> Label | None:
    """A label with its concept; None, with a sentence in the log, when its attributes leave nothing to look for."""
    # The SDK's value is the alias where there is one: so is what Label Studio stores in a region.
    phrases = split_phrases(attributes.get("prompt")) or (readable(value),)
    try:
        concept = Concept(
            phrases=phrases,
            negatives=split_phrases(attributes.get("negative_prompt")),
            threshold=_read_threshold(value, attributes.get("threshold")),
        )
    except InvalidPrompt as error:
        log.warning("label %r is left out: %s", value, error)
        return None
    return Label(value, concept)


def split_phrases(text: str | None) -> tuple[str, ...]:
    """The phrases of a text, between semicolons; empty ones dropped."""
    return tuple(part.strip() for part in (text or "").split(";") if part.strip())


def _read_threshold(label: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1.0
    if 0.0 <= threshold <= 1.0:
        return threshold
    log.warning('label %r: threshold="%s" is not a number between 0 and 1 and is ignored', label, text)
    return None
