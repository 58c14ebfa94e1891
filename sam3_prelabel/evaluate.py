"""Measure a checkpoint on pictures whose objects are known; what is wrong with one picture does not stop the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sam3_core import Concept, EncodedImage, Mask
from sam3_core.errors import InvalidPrompt, ModelUnavailable, Sam3Error
from sam3_core.finish import finished
from sam3_core.learning.measure import PRESENT, Tally, match, tally
from sam3_core.results import ConceptResult
from sam3_core.segmenter import Segmenter
from sam3_core.types import FindOptions
from sam3_prelabel.evaluate_truth import DataSet, Picture, Shown
from sam3_prelabel.prompts import Prompt
from sam3_prelabel.quality import tally_json

_IN_CROWD = 0.5
"""Share of an instance inside a crowd from which on it counts neither way: COCO's own evaluation says the same."""


@dataclass(slots=True)
class Evaluation:
    """by_label: in the order of the data set. measured: pictures. failed: those that could not be, or entries that
    could not be read, with the reason."""

    by_label: dict[str, Tally]
    measured: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def overall(self) -> Tally:
        """All labels together."""
        return sum(self.by_label.values(), Tally())

    def as_json(self) -> dict[str, Any]:
        """Described in docs/evaluate.md."""
        return {
            "images": self.measured,
            "overall": tally_json(self.overall),
            "labels": {label: tally_json(one) for label, one in self.by_label.items()},
            "failed": [{"image": name, "reason": reason} for name, reason in self.failed],
        }


def evaluate(
    segmenter: Segmenter, data: DataSet, *, max_megapixels: float, told: Callable[[], None] = lambda: None
) -> Evaluation:
    """told: is called after each picture. Raises ModelUnavailable or InvalidPrompt, which no other picture mends."""
    evaluation = Evaluation({label: Tally() for label in data.prompts})
    evaluation.failed += [("", problem) for problem in data.problems]
    for picture in data.pictures:
        try:
            _measure(segmenter, picture, data.prompts, evaluation, max_megapixels)
        except (ModelUnavailable, InvalidPrompt):
            raise
        except OSError as error:
            evaluation.failed.append((picture.name, f"cannot be read: {error.strerror or error}"))
        except Sam3Error as error:
            evaluation.failed.append((picture.name, str(error)))
        told()
    return evaluation


def _measure(
    segmenter: Segmenter,
    picture: Picture,
    prompts: Mapping[str, Prompt],
    evaluation: Evaluation,
    max_megapixels: float,
) -> None:
    image = EncodedImage(picture.data())
    shown = picture.shown(image.displayed_size(max_megapixels=max_megapixels))
    evaluation.failed += [(picture.name, problem) for problem in shown.problems]
    results = segmenter.find(image, [prompt.concept for prompt in prompts.values()], FindOptions())
    for (label, prompt), result in zip(prompts.items(), results, strict=True):
        if label not in shown.unclear:
            evaluation.by_label[label] += _tally(label, prompt, result, shown)
    evaluation.measured += 1


def _tally(label: str, prompt: Prompt, result: ConceptResult, shown: Shown) -> Tally:
    masks = [finished(instance.mask, prompt.finish) for instance in result.instances]
    truth, crowds = shown.truth.get(label, []), shown.crowds.get(label, [])
    counts = tally(masks, truth, result.presence)
    if not crowds:
        return counts
    alone = [index for index in match(masks, truth).false if not _crowded(masks[index], crowds)]
    return replace(counts, false=len(alone), right=int(result.presence >= PRESENT))


def _crowded(mask: Mask, crowds: list[Mask]) -> bool:
    return any(mask.intersection(crowd) >= _IN_CROWD * mask.area for crowd in crowds)


def with_phrases(prompts: Mapping[str, Prompt], phrases: Mapping[str, tuple[str, ...]]) -> dict[str, Prompt]:
    """The prompts with other phrases for some labels. Raises InvalidPrompt for a label that is not there."""
    unknown = next((label for label in phrases if label not in prompts), None)
    if unknown is not None:
        raise InvalidPrompt(f"there is no label {unknown!r}; there are {', '.join(prompts)}")
    return {
        label: replace(prompt, concept=replace(prompt.concept, phrases=Concept(phrases[label]).phrases))
        if label in phrases
        else prompt
        for label, prompt in prompts.items()
    }
