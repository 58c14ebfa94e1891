"""What an annotator drew or typed becomes a prompt for the model and the control its answer goes to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from backend.bodies import ContextRegion
from backend.labeling import Control, ImageSource, Output, Plan, readable, split_phrases
from sam3_core import Box, Concept, Point, VisualPrompt
from sam3_core.errors import InvalidPrompt

_POINTS = ("keypointlabels", "keypoint")
_BOXES = ("rectanglelabels", "rectangle")


@dataclass(frozen=True, slots=True)
class Target:
    """Where an answer goes: an image (and its page), a control on it and one of its labels."""

    source: ImageSource
    page: int | None
    control: Control
    label: str


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing to ask the model, and where the answer goes."""

    prompt: VisualPrompt | Concept
    target: Target


def read_context(regions: Sequence[ContextRegion], plan: Plan) -> list[Ask]:
    """The asks of an interactive request, all about one image; none when there is no prompt in it.

    Typed text (the last one) asks for every instance, each phrase under the label it names. Clicks and a box ask for
    one object under the clicked label. Raises InvalidPrompt, a sentence for the log, when a prompt cannot be used.
    """
    typed = [region for region in regions if region.type == "textarea"]
    if typed:
        return _read_text(typed[-1], plan)
    drawn = [region for region in regions if region.type in _POINTS + _BOXES]
    return [_read_drawing(drawn, plan)] if drawn else []


def _read_text(region: ContextRegion, plan: Plan) -> list[Ask]:
    source = _source_of(region, plan)
    text = region.value.get("text")
    lines = text if isinstance(text, list) else [text]
    phrases = [phrase for line in lines if isinstance(line, str) for phrase in split_phrases(line)]
    asks = []
    for phrase in phrases:
        label = _label_for(phrase, source)
        asks.append(Ask(Concept((phrase,)), Target(source, region.item_index, _control_for(label, source), label)))
    return asks


def _label_for(phrase: str, source: ImageSource) -> str:
    """The label a typed phrase names: by its value or one of its phrases, else the only one there is."""
    labels = {label.value: label for control in source.controls for label in control.labels}
    wanted = readable(phrase)
    for label in labels.values():
        names = (readable(label.value), *(known.lower() for known in label.concept.phrases))
        if wanted in names or phrase.lower() in names:
            return label.value
    if len(labels) == 1:
        return next(iter(labels))
    raise InvalidPrompt(f"the text {phrase!r} names none of the labels {', '.join(labels)}")


def _read_drawing(regions: Sequence[ContextRegion], plan: Plan) -> Ask:
    first = regions[0]
    source = _source_of(first, plan)
    label = _label_of(first)
    points = tuple(_point(region) for region in regions if region.type in _POINTS)
    boxes = [_box(region) for region in regions if region.type in _BOXES]
    prompt = VisualPrompt(points, boxes[-1] if boxes else None)
    return Ask(prompt, Target(source, first.item_index, _control_for(label, source), label))


def _source_of(region: ContextRegion, plan: Plan) -> ImageSource:
    source = plan.source(region.to_name)
    if source is None:
        raise InvalidPrompt(f"the prompt is on {region.to_name!r}, which is no image with an output control")
    return source


def _label_of(region: ContextRegion) -> str:
    for key in (region.type, "labels"):
        values = region.value.get(key)
        if isinstance(values, list) and values and isinstance(values[0], str):
            return values[0]
    raise InvalidPrompt("the prompt carries no label: choose one before clicking")


def _control_for(label: str, source: ImageSource) -> Control:
    """The control that has the label; one that holds the outline before one that holds a box."""
    having = [control for control in source.controls if control.label(label)]
    if not having:
        raise InvalidPrompt(f"no output control on {source.name!r} has the label {label!r}")
    return min(having, key=lambda control: control.output is Output.RECTANGLE)


def _point(region: ContextRegion) -> Point:
    width, height = _size(region)
    x, y = _numbers(region, "x", "y")
    return Point(x * width / 100, y * height / 100, positive=region.is_positive is not False)


def _box(region: ContextRegion) -> Box:
    """A rectangle, turned or not, as the upright box around it. It turns about its top left corner, clockwise."""
    width, height = _size(region)
    x, y, w, h = _numbers(region, "x", "y", "width", "height")
    rotation = region.value.get("rotation")
    angle = math.radians(rotation if isinstance(rotation, int | float) else 0.0)
    left, top, across, down = x * width / 100, y * height / 100, w * width / 100, h * height / 100
    cos, sin = math.cos(angle), math.sin(angle)
    xs = [left + across * a * cos - down * b * sin for a in (0, 1) for b in (0, 1)]
    ys = [top + across * a * sin + down * b * cos for a in (0, 1) for b in (0, 1)]
    return Box(min(xs), min(ys), max(xs), max(ys))


def _size(region: ContextRegion) -> tuple[int, int]:
    if region.original_width is None or region.original_height is None:
        raise InvalidPrompt("the prompt carries no original_width and original_height")
    return region.original_width, region.original_height


def _numbers(region: ContextRegion, *keys: str) -> list[float]:
    values = [region.value.get(key) for key in keys]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise InvalidPrompt(f"a {region.type} prompt needs the numbers {', '.join(keys)}")
    return [float(value) for value in values if value is not None]
