"""From concepts to the flat list of prompts the model is asked: every different prompt once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sam3_core.errors import InvalidPrompt
from sam3_core.types import Box, Concept, FindOptions

EXEMPLARS_ONLY = "visual"
"""The text that stands for "what the boxes show"; the stock processor's literal."""


@dataclass(frozen=True, slots=True)
class Exhibit:
    """An exemplar box as the model takes it: centre and size as shares (0..1) of the image's width and height."""

    cx: float
    cy: float
    width: float
    height: float
    positive: bool


@dataclass(frozen=True, slots=True)
class Prompt:
    """One row of the model's batch: lower-cased text (the tokenizer's own reading) with its exemplar boxes."""

    text: str
    exhibits: tuple[Exhibit, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """What one concept wants of the plan's prompts.

    phrases: (phrase as the caller wrote it, index of its prompt); the phrase is "" for exemplars alone.
    negatives: indices of the prompts that describe look-alikes.
    refused: the negative exemplars' boxes inside the image: what lies there is no answer, whatever the model says.
    """

    phrases: tuple[tuple[str, int], ...]
    negatives: tuple[int, ...]
    threshold: float
    refused: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All prompts of a request, and per prompt the least score that any concept still wants."""

    prompts: tuple[Prompt, ...]
    floors: tuple[float, ...]
    steps: tuple[Step, ...]


def make_plan(concepts: Sequence[Concept], size: tuple[int, int], options: FindOptions) -> Plan:
    """Flatten concepts; a phrase that serves several of them (as a negative, say) is asked once.

    size: ``(width, height)`` of the image in pixels. Raises InvalidPrompt for an exemplar outside the image.
    """
    floors: dict[Prompt, float] = {}
    order: dict[Prompt, int] = {}

    def ask(prompt: Prompt, threshold: float) -> int:
        floors[prompt] = min(floors.get(prompt, 1.0), threshold)
        return order.setdefault(prompt, len(order))

    steps = []
    for concept in concepts:
        threshold = options.threshold if concept.threshold is None else concept.threshold
        exhibits = tuple(_exhibit(e.box, e.positive, size) for e in concept.exemplars)
        phrases = concept.phrases or ("",)
        steps.append(
            Step(
                tuple((p, ask(Prompt(p.lower() or EXEMPLARS_ONLY, exhibits), threshold)) for p in phrases),
                tuple(ask(Prompt(n.lower()), threshold) for n in concept.negatives),
                threshold,
                tuple(clip_box(e.box, size) for e in concept.exemplars if not e.positive),
            )
        )
    return Plan(tuple(order), tuple(floors[p] for p in order), tuple(steps))


def clip_box(box: Box, size: tuple[int, int]) -> Box:
    """The part of a box inside the image. Raises InvalidPrompt when there is none."""
    width, height = size
    x0, y0, x1, y1 = max(box.x0, 0.0), max(box.y0, 0.0), min(box.x1, float(width)), min(box.y1, float(height))
    if x0 >= x1 or y0 >= y1:
        raise InvalidPrompt(f"the box {box.xyxy} lies outside the image of {width}x{height} pixels")
    return Box(x0, y0, x1, y1)


def _exhibit(box: Box, positive: bool, size: tuple[int, int]) -> Exhibit:
    width, height = size
    x0, y0, x1, y1 = clip_box(box, size).xyxy
    return Exhibit((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height, positive)
