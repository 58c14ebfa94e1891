"""From concepts to the flat list of prompts the model is asked: every different prompt once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sam3_core.engine.embeddings import Embedding
from sam3_core.engine.found import Found, found_in
from sam3_core.errors import InvalidPrompt
from sam3_core.masks import Mask
from sam3_core.prototypes import Prototypes
from sam3_core.rules import DEFAULT_RULES, Rules
from sam3_core.types import Box, Concept, FindOptions
from sam3_core.wording import Worded, Wording, as_written

if TYPE_CHECKING:
    from sam3_core.engine.concepts import Detection

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]

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
    one in any case. features: whether what gets a mask gets its feature too. adapter: as ``Concept.adapter``.
    """

    view: Embedding
    prompt: Prompt
    floor: float
    count: int
    features: bool = False
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """What one concept wants of the plan's prompts.

    phrases: (phrase as the caller wrote it, index of its prompt); the phrase is "" for exemplars alone.
    negatives: indices of the prompts that find look-alikes: negative phrases, and the negative exemplars as if each
        were a positive one.
    rules: the concept's, with the options' and the defaults' where it leaves something open.
    shown, refused: the positive and the negative exemplars' boxes inside the image: what lies in a refused one is no
        answer, whatever the model says; what lies in a shown one is nobody's look-alike.
    drawn, prototypes: the concept's. notes: on its phrases' wording.
    """

    phrases: tuple[tuple[str, int], ...]
    negatives: tuple[int, ...]
    rules: Rules
    shown: tuple[Box, ...] = ()
    refused: tuple[Box, ...] = ()
    drawn: tuple[Mask | Box, ...] = ()
    notes: tuple[str, ...] = ()
    prototypes: Prototypes | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What one concept wants of a prompt's candidates: this score, 0..1, after its prototypes had their say."""

    threshold: float
    prototypes: Prototypes | None = None

    @property
    def floor(self) -> float:
        """Least score of a candidate that can reach it."""
        return self.threshold if self.prototypes is None else self.prototypes.floor(self.threshold)

    def reached(self, scores: Floats, features: Floats | None) -> Bools:
        """Which candidates are worth a mask in pixels, ``(n,)`` bool: that reach it, that did before the prototypes,
        and the best that does not, so that it is told how near it came. scores ``(n,)`` 0..1, features ``(n, D)``."""
        least = np.float32(self.threshold)
        reached = scores >= least
        if self.prototypes is not None and features is not None and len(scores):
            judged = self.prototypes.rescored(scores, features)
            reached |= judged >= least
            reached[np.where(judged < least, judged, -1).argmax()] = True
        return reached


@dataclass(frozen=True, slots=True)
class Plan:
    """All prompts of a request.

    floors: per prompt the least score of a candidate that any concept could still want. counts: so many candidates at
    least, whatever their score. wishes: what each concept that asks it wants. features: whether any concept judges by
    them, or the caller wants them. adapters: the weights that each prompt is asked of.
    """

    prompts: tuple[Prompt, ...]
    floors: tuple[float, ...]
    counts: tuple[int, ...]
    steps: tuple[Step, ...]
    wishes: tuple[tuple[Wish, ...], ...]
    features: bool = False
    adapters: tuple[str, ...] = ()

    def question(self, view: Embedding, place: int, prompt: Prompt) -> Question:
        """The prompt at a place, or what stands for it in this view of the image."""
        return Question(view, prompt, self.floors[place], self.counts[place], self.features, self.adapters[place])

    def found(self, place: int, detection: Detection, size: tuple[int, int]) -> Found:
        """What the prompt at a place found in a view of ``(width, height)``, as far as any concept wants it.

        Prototypes may lift what is far under the threshold: there are many such candidates, of which few are lifted,
        and only these become masks in pixels.
        """
        if all(wish.prototypes is None for wish in self.wishes[place]):
            return found_in(detection, size)
        worth = np.arange(len(detection.scores)) < self.counts[place]
        for wish in self.wishes[place]:
            worth |= wish.reached(detection.scores, detection.features)
        return found_in(detection, size, worth)


def make_plan(
    concepts: Sequence[Concept], size: tuple[int, int], options: FindOptions, wording: Wording = as_written
) -> Plan:
    """Flatten concepts; a phrase that serves several of them (as a negative, say) is asked once.

    size: ``(width, height)`` of the image in pixels. Raises InvalidPrompt for an exemplar outside the image.
    """
    asking = _Asking()
    steps = tuple(_step(concept, size, options, wording, asking) for concept in concepts)
    features = options.features or any(concept.prototypes is not None for concept in concepts)
    wishes = tuple(map(tuple, asking.wishes))
    floors = tuple(min(wish.floor for wish in some) for some in wishes)
    prompts, adapters = tuple(prompt for prompt, _ in asking.places), tuple(name for _, name in asking.places)
    return Plan(prompts, floors, tuple(asking.counts), steps, wishes, features, adapters)


def candidates(top_k: int) -> int:
    """How many candidates are looked at for so many: four times as many and eight more.

    Several queries see the same object, the more so where the model is unsure: with the demo checkpoint, of phrases
    that name nothing in the scene the first eight candidates held three different ones in half of the cases.
    """
    return 4 * top_k + 8 if top_k else 0


class _Asking:
    """The different prompts so far, each with its weights, its place, what is wanted of it, and the count."""

    def __init__(self) -> None:
        self.places: dict[tuple[Prompt, str], int] = {}
        self.wishes: list[list[Wish]] = []
        self.counts: list[int] = []

    def place(self, prompt: Prompt, adapter: str, rules: Rules, prototypes: Prototypes | None = None) -> int:
        """Where the prompt is asked of these weights for what the rules want, and it may be for others."""
        wish, count = Wish(rules.threshold or 0.0, prototypes), candidates(rules.top_k or 0)
        place = self.places.setdefault((prompt, adapter), len(self.places))
        if place == len(self.wishes):
            self.wishes.append([])
            self.counts.append(count)
        if wish not in self.wishes[place]:
            self.wishes[place].append(wish)
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
            place = asking.place(Prompt(asked.lower(), exhibits), concept.adapter, rules, concept.prototypes)
            phrases.setdefault(place, written)
    lookalikes = [Prompt(asked.lower()) for words in unwanted for asked in words.asked]
    lookalikes += [Prompt(EXEMPLARS_ONLY, (_exhibit(box, True, size),)) for box in refused]
    return Step(
        phrases=tuple((written, place) for place, written in phrases.items()),
        negatives=tuple(dict.fromkeys(asking.place(prompt, concept.adapter, rules) for prompt in lookalikes)),
        rules=rules,
        shown=tuple(box for box, positive in boxes if positive),
        refused=refused,
        drawn=concept.drawn,
        notes=tuple(dict.fromkeys(n for words in (*(w for _, w in wanted), *unwanted) for n in words.notes)),
        prototypes=concept.prototypes,
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
