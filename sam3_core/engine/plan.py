"""From concepts to the flat list of prompts the model is asked: every different prompt once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sam3_core.engine.embeddings import Embedding
from sam3_core.errors import InvalidPrompt
from sam3_core.masks import Mask
from sam3_core.rules import DEFAULT_RULES, Rules
from sam3_core.types import Box, Concept, FindOptions
from sam3_core.wording import Worded, Wording, as_written

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


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One prompt for one image.

    view: the image's ``vision`` embedding. floor: least score for a query to get a mask. count: so many best ones get
    one in any case.
    """

    view: Embedding
    prompt: Prompt
    floor: float
    count: int


@dataclass(frozen=True, slots=True)
class Step:
    """What one concept wants of the plan's prompts.

    phrases: (phrase as the caller wrote it, index of its prompt); the phrase is "" for exemplars alone.
    negatives: indices of the prompts that find look-alikes: negative phrases, and the negative exemplars as if each
        were a positive one.
    rules: the concept's, with the options' and the defaults' where it leaves something open.
    shown, refused: the positive and the negative exemplars' boxes inside the image: what lies in a refused one is no
        answer, whatever the model says; what lies in a shown one is nobody's look-alike.
    drawn: the concept's. notes: on its phrases' wording.
    """

    phrases: tuple[tuple[str, int], ...]
    negatives: tuple[int, ...]
    rules: Rules
    shown: tuple[Box, ...] = ()
    refused: tuple[Box, ...] = ()
    drawn: tuple[Mask | Box, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All prompts of a request.

    floors: per prompt the least score that any concept still wants. counts: how many candidates at least, whatever
    their score.
    """

    prompts: tuple[Prompt, ...]
    floors: tuple[float, ...]
    counts: tuple[int, ...]
    steps: tuple[Step, ...]


def make_plan(
    concepts: Sequence[Concept], size: tuple[int, int], options: FindOptions, wording: Wording = as_written
) -> Plan:
    """Flatten concepts; a phrase that serves several of them (as a negative, say) is asked once.

    size: ``(width, height)`` of the image in pixels. Raises InvalidPrompt for an exemplar outside the image.
    """
    asking = _Asking()
    steps = tuple(_step(concept, size, options, wording, asking) for concept in concepts)
    return Plan(tuple(asking.places), tuple(asking.floors), tuple(asking.counts), steps)


def candidates(top_k: int) -> int:
    """How many candidates are looked at for so many: four times as many and eight more.

    Several queries see the same object, the more so where the model is unsure: with the demo checkpoint, of phrases
    that name nothing in the scene the first eight candidates held three different ones in half of the cases.
    """
    return 4 * top_k + 8 if top_k else 0


class _Asking:
    """The different prompts so far, each with its place, floor and count."""

    def __init__(self) -> None:
        self.places: dict[Prompt, int] = {}
        self.floors: list[float] = []
        self.counts: list[int] = []

    def place(self, prompt: Prompt, rules: Rules) -> int:
        """Where the prompt is asked for what the rules want, and it may be for others."""
        floor, count = rules.threshold or 0.0, candidates(rules.top_k or 0)
        place = self.places.setdefault(prompt, len(self.places))
        if place == len(self.floors):
            self.floors.append(floor)
            self.counts.append(count)
        self.floors[place] = min(self.floors[place], floor)
        self.counts[place] = max(self.counts[place], count)
        return place


def _step(concept: Concept, size: tuple[int, int], options: FindOptions, wording: Wording, asking: _Asking) -> Step:
    """One concept's step, and its prompts among those asked."""
    rules = concept.rules.over(options.rules).over(DEFAULT_RULES)
    for frame in (one.frame for one in concept.drawn if isinstance(one, Mask)):
        if frame != size:
            raise InvalidPrompt(f"the outlined mask is for an image of {frame} pixels, this one has {size}")
    boxes = [(clip_box(exemplar.box, size), exemplar.positive) for exemplar in concept.exemplars]
    exhibits = tuple(_exhibit(box, positive, size) for box, positive in boxes)
    refused = tuple(box for box, positive in boxes if not positive)
    wanted = [(phrase, wording(phrase)) for phrase in concept.phrases] or [("", Worded((EXEMPLARS_ONLY,)))]
    unwanted = [wording(phrase) for phrase in concept.negatives]
    phrases: dict[int, str] = {}  # two phrases may be worded alike: the first is it
    for written, words in wanted:
        for asked in words.asked:
            phrases.setdefault(asking.place(Prompt(asked.lower(), exhibits), rules), written)
    lookalikes = [Prompt(asked.lower()) for words in unwanted for asked in words.asked]
    lookalikes += [Prompt(EXEMPLARS_ONLY, (_exhibit(box, True, size),)) for box in refused]
    return Step(
        phrases=tuple((written, place) for place, written in phrases.items()),
        negatives=tuple(dict.fromkeys(asking.place(prompt, rules) for prompt in lookalikes)),
        rules=rules,
        shown=tuple(box for box, positive in boxes if positive),
        refused=refused,
        drawn=concept.drawn,
        notes=tuple(dict.fromkeys(n for words in (*(w for _, w in wanted), *unwanted) for n in words.notes)),
    )


def clip_box(box: Box, size: tuple[int, int]) -> Box:
    """The part of a box inside the image. Raises InvalidPrompt when there is none."""
    width, height = size
    x0, y0, x1, y1 = max(box.x0, 0.0), max(box.y0, 0.0), min(box.x1, float(width)), min(box.y1, float(height))
    if x0 >= x1 or y0 >= y1:
        raise InvalidPrompt(f"the box {box.xyxy} lies outside the image of {width}x{height} pixels")
    return Box(x0, y0, x1, y1)


def _exhibit(box: Box, positive: bool, size: tuple[int, int]) -> Exhibit:
    width, height = size
    x0, y0, x1, y1 = box.xyxy
    return Exhibit((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height, positive)
