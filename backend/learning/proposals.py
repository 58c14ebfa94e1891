"""Proposals: what each cheap step would have a label do differently, from examples alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from backend.labeling import Label
from sam3_core.learning.calibration import fit_calibration
from sam3_core.learning.examples import Example
from sam3_core.learning.lessons import Lesson
from sam3_core.learning.memory import fit_prototypes
from sam3_core.learning.phrases import best_phrases
from sam3_core.learning.thresholds import best_threshold


@dataclass(frozen=True, slots=True)
class Pupil:
    """A label as its author wrote it. offered: wordings that may be tried, besides its own.

    default: the threshold that holds for it without any lesson, 0..1. with_threshold: whether steps that change what
    scores mean may choose another.
    """

    label: str
    asked: tuple[str, ...]
    offered: tuple[str, ...]
    default: float
    with_threshold: bool

    @classmethod
    def of(cls, label: Label, offered: Sequence[str], default: float, *, with_threshold: bool) -> Pupil:
        """default: where the label leaves its threshold open."""
        own = label.concept.rules.threshold
        return cls(
            label.value,
            label.concept.phrases,
            tuple(offered),
            default if own is None else own,
            with_threshold,
        )

    @property
    def untaught(self) -> Lesson:
        """What it does without any lesson."""
        return Lesson(self.asked)


Proposal = Callable[[Pupil, Lesson, Sequence[Example]], tuple[Lesson, dict[str, Any]]]
"""The lesson after a step, the same where it has nothing to say; and what speaks for it, for the report."""


def propose_phrases(pupil: Pupil, lesson: Lesson, examples: Sequence[Example]) -> tuple[Lesson, dict[str, Any]]:
    """The wording and combination that did best."""
    fit = best_phrases(
        examples, pupil.asked, pupil.offered, default=pupil.default, learn_threshold=pupil.with_threshold
    )
    tried = [[list(one.phrases), round(one.f1, 4)] for one in fit.tried]
    if fit.phrases == pupil.asked:
        return lesson, {"tried": tried}
    return replace(lesson, phrases=fit.phrases, threshold=fit.threshold), {"tried": tried}


def propose_threshold(pupil: Pupil, lesson: Lesson, examples: Sequence[Example]) -> tuple[Lesson, dict[str, Any]]:
    """The threshold that gives the best F1."""
    phrases = lesson.phrases or pupil.asked
    fit = best_threshold(examples, phrases, default=pupil.default, prototypes=lesson.prototypes)
    curve = [[round(threshold, 4), round(f1, 4)] for threshold, f1 in fit.curve]
    return replace(lesson, threshold=fit.threshold), {"curve": curve}


def propose_prototypes(pupil: Pupil, lesson: Lesson, examples: Sequence[Example]) -> tuple[Lesson, dict[str, Any]]:
    """What accepted and rejected instances look like."""
    threshold = pupil.default if lesson.threshold is None else lesson.threshold
    fit = fit_prototypes(
        examples, lesson.phrases or pupil.asked, default=threshold, learn_threshold=pupil.with_threshold
    )
    if fit.prototypes is None:
        return lesson, {}
    changed = threshold if fit.threshold is None else fit.threshold
    return replace(lesson, prototypes=fit.prototypes, threshold=changed), {"weight": round(fit.prototypes.weight, 3)}


def propose_calibration(pupil: Pupil, lesson: Lesson, examples: Sequence[Example]) -> tuple[Lesson, dict[str, Any]]:
    """What scores mean: the share of such instances that was accepted."""
    threshold = pupil.default if lesson.threshold is None else lesson.threshold
    fit = fit_calibration(examples, lesson.phrases or pupil.asked, threshold, prototypes=lesson.prototypes)
    return (lesson, {}) if fit is None else (replace(lesson, calibration=fit.calibration), {})


PROPOSALS: dict[str, Proposal] = {
    "phrases": propose_phrases,
    "thresholds": propose_threshold,
    "memory": propose_prototypes,
}
"""The cheap steps that change what is found, in their order."""
