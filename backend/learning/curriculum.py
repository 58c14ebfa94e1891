"""The cheap steps, one after the other: proposed from examples, judged by searching, kept where they are better.

Every group of images is judged with what was learned without it: a proposal is made once from all examples, to be
served, and once more for each fold, without that fold's, to be judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backend.labeling import Plan
from backend.learning.gathering import Examples
from backend.learning.judging import Judge, Tallies, pooled
from backend.learning.proposals import PROPOSALS, Proposal, Pupil
from backend.learning.reviewed import ReviewedImage
from sam3_core.learning.bootstrap import Interval, difference
from sam3_core.learning.folds import folds
from sam3_core.learning.lessons import Lesson, Lessons
from sam3_core.learning.measure import Tally

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Draft:
    """Lessons that are not served yet. whole: from all examples. parts: for each fold, without that fold's."""

    whole: Lessons
    parts: tuple[Lessons, ...]

    @classmethod
    def alike(cls, lessons: Lessons) -> Draft:
        """The same for every fold: what was learned elsewhere."""
        return cls(lessons, (lessons,) * FOLDS)

    def without(self, group: str) -> Lessons:
        """What was learned without this group."""
        return self.parts[folds([group], FOLDS)[group]]

    def with_labels(self, labels: Mapping[str, tuple[Lesson, tuple[Lesson, ...]]]) -> Draft:
        """With other lessons for some labels: the whole's and each fold's."""
        whole = {name: one for name, (one, _) in labels.items()}
        parts = [{name: several[fold] for name, (_, several) in labels.items()} for fold in range(FOLDS)]
        return Draft(
            _with(self.whole, whole), tuple(_with(old, new) for old, new in zip(self.parts, parts, strict=True))
        )

    def lesson(self, label: str) -> tuple[Lesson | None, tuple[Lesson | None, ...]]:
        """One label's, the whole's and each fold's."""
        return self.whole.of_label(label), tuple(part.of_label(label) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Standing:
    """A draft and what the judge says to it."""

    draft: Draft
    tallies: Tallies


@dataclass(slots=True)
class Curriculum:
    """Takes the labels of a plan through the steps. For one thread.

    told: hears of the step at work.
    """

    plan: Plan
    images: Sequence[ReviewedImage]
    judge: Judge
    pupils: Sequence[Pupil]
    examples: Examples
    steps: Sequence[str]
    told: Callable[[str], None]
    evidence: list[dict[str, Any]] = field(default_factory=list)

    def judged(self, draft: Draft) -> Standing:
        """What a draft is worth."""
        return Standing(draft, self.judge.tallies(self.images, self.plan, draft.without))

    def run(self, start: Standing) -> Standing:
        """All steps; what each of them brought is in ``evidence``."""
        standing = start
        for step in self.steps:
            self.told(step)
            standing = self._step(step, PROPOSALS[step], standing)
        return standing

    def _step(self, step: str, proposal: Proposal, before: Standing) -> Standing:
        made = {pupil.label: self._proposed(pupil, proposal, before.draft) for pupil in self.pupils}
        changed = {label: lessons for label, (lessons, _) in made.items() if lessons is not None}
        details = {label: detail for label, (_, detail) in made.items()}
        if not changed:
            self.evidence.append(
                {"step": step, "promoted": False, "why": "the examples say nothing new", "labels": {}}
            )
            return before
        after = self.judged(before.draft.with_labels(changed))
        gains = {label: difference(before.tallies[label], after.tallies[label]) for label in changed}
        better = {label for label, gain in gains.items() if gain.low > 0}
        if better and better != set(changed):
            after = self.judged(before.draft.with_labels({label: changed[label] for label in better}))
        gain = difference(pooled(before.tallies), pooled(after.tallies))
        kept = bool(better) and gain.low > 0
        self.evidence.append(
            {"step": step, "promoted": kept, "why": _why(kept, better, changed, gain)}
            | compared(before.tallies, after.tallies, gain)
            | {
                "labels": {
                    label: label_evidence(before, after, label, pupil_of(self.pupils, label), gains[label])
                    | details[label]
                    | {"promoted": kept and label in better}
                    for label in changed
                }
            }
        )
        return after if kept else before

    def _proposed(
        self, pupil: Pupil, proposal: Proposal, draft: Draft
    ) -> tuple[tuple[Lesson, tuple[Lesson, ...]] | None, dict[str, Any]]:
        """The whole's and each fold's lesson for a label; None where nothing would change."""
        examples = self.examples.get(pupil.label, ())
        whole, parts = draft.lesson(pupil.label)
        lesson, detail = proposal(pupil, whole or pupil.untaught, examples)
        several = []
        for fold, part in enumerate(parts):
            others = [one for one in examples if folds([one.group], FOLDS)[one.group] != fold]
            several.append(proposal(pupil, part or pupil.untaught, others)[0])
        if lesson == (whole or pupil.untaught):
            return None, detail
        return (lesson, tuple(several)), detail


def compared(before: Tallies, after: Tallies, gain: Interval) -> dict[str, Any]:
    """F1 of all labels together, and the interval of its difference, as evidence."""
    f1 = [sum(pooled(tallies).values(), Tally()).f1 for tallies in (before, after)]
    return {
        "before": round(f1[0], 4),
        "after": round(f1[1], 4),
        "low": round(gain.low, 4),
        "mean": round(gain.mean, 4),
        "high": round(gain.high, 4),
    }


def label_evidence(before: Standing, after: Standing, label: str, pupil: Pupil, gain: Interval) -> dict[str, Any]:
    """What changes for one label, and what it brings, as evidence."""
    lessons = [one.draft.whole.of_label(label) or pupil.untaught for one in (before, after)]
    thresholds = [pupil.default if one.threshold is None else one.threshold for one in lessons]
    return {
        "before": _measures(before.tallies, label),
        "after": _measures(after.tallies, label),
        "low": round(gain.low, 4),
        "mean": round(gain.mean, 4),
        "high": round(gain.high, 4),
        "threshold": [round(one, 4) for one in thresholds],
        "phrases": [list(one.phrases or pupil.asked) for one in lessons],
    }


def pupil_of(pupils: Sequence[Pupil], label: str) -> Pupil:
    """The one of this label."""
    return next(pupil for pupil in pupils if pupil.label == label)


def _measures(tallies: Tallies, label: str) -> dict[str, float]:
    total = sum(tallies.get(label, {}).values(), Tally())
    names = ("f1", "precision", "recall", "mean_iou")
    return {name: round(getattr(total, name), 4) for name in names} | {"objects": total.hits + total.missed}


def _why(kept: bool, better: set[str], changed: Mapping[str, object], gain: Interval) -> str:
    if kept:
        return f"better for {', '.join(sorted(better))}"
    if better:
        return f"not surely better for all labels together: {gain.low:+.3f} to {gain.high:+.3f}"
    return f"not surely better for {', '.join(sorted(changed))}"


def _with(lessons: Lessons, labels: Mapping[str, Lesson]) -> Lessons:
    return Lessons.of({**dict(lessons.labels), **labels})
