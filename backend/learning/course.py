"""One course: what a project's reviews teach, and what of it is better than what serves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.labeling import Plan
from backend.learning.calibrating import calibrated
from backend.learning.curriculum import Curriculum, Draft, Standing, compared, label_evidence
from backend.learning.evidence import Evidence
from backend.learning.gathering import Examples, Gatherer
from backend.learning.judging import Judge, pooled
from backend.learning.proposals import PROPOSALS, Pupil
from backend.learning.reviewed import Album, ReviewedImage
from sam3_core import Segmenter
from sam3_core.learning.bootstrap import difference
from sam3_core.learning.lessons import Lesson, Lessons
from sam3_core.learning.phrases import variants

log = logging.getLogger(__name__)

_LIKELY = 0.8  # of the bootstrap's rounds; equal lessons have a half

Told = Callable[[str, float], None]
"""Hears the step at work and its share that is done; what it raises ends the course."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """lessons: to serve from now on; None where nothing is better than what serves. evidence: see docs/learning.md.

    sentence: for a person.
    """

    lessons: Lessons | None
    evidence: dict[str, Any]
    sentence: str


@dataclass(frozen=True, slots=True)
class Course:
    """What does not change while a project is taught. For one thread.

    version: of the weights. default: the threshold of labels that leave it open. steps: those that are switched on.
    propose: whether wordings that nobody wrote are tried.
    """

    segmenter: Segmenter
    evidence: Evidence
    album: Album
    plan: Plan
    version: str
    default: float
    steps: frozenset[str]
    propose: bool
    told: Told

    def run(self, images: Sequence[ReviewedImage], serving: Lessons, start: Lessons) -> Outcome:
        """Learn from the images, from ``start`` on, and compare with what serves.

        start: what is taken over as it is: adapters, and the wordings that they were made with. None of its parts may
        have been learned from these images. Raises what keeps the model from working, and what ``told`` raises.
        """
        pupils = self._pupils()
        start = still_meant(start, pupils)
        examples = self._examples(images, pupils, start)
        judge = Judge(self.segmenter, self.album, lambda done: self.told("judging", done))
        steps = [step for step in PROPOSALS if step in self.steps]
        work = Curriculum(
            self.plan, images, judge, pupils, examples, steps, lambda step: self.told(f"learning {step}", 0.0)
        )
        self.told("judging what serves", 0.0)
        before = work.judged(Draft.alike(serving))
        begun = before if start == serving else work.judged(Draft.alike(start))
        after = work.run(begun)
        after = self._merged(work, before, after, pupils)
        learned_by = {pupil.label: _adapter(start, pupil.label) for pupil in pupils}
        return self._outcome(work, before, after, pupils, examples, learned_by)

    def _merged(self, work: Curriculum, before: Standing, after: Standing, pupils: Sequence[Pupil]) -> Standing:
        """Each label with the new lesson where that is likely to beat the one that serves, else with that one.

        Likely, and not sure: of one label there may be few objects. Whether all of it together is surely better is
        what decides in the end.
        """
        kept: dict[str, tuple[Lesson, tuple[Lesson, ...]]] = {}
        for pupil in pupils:
            old, new = before.draft.lesson(pupil.label), after.draft.lesson(pupil.label)
            gain = difference(before.tallies.get(pupil.label, {}), after.tallies.get(pupil.label, {}))
            whole, parts = new if gain.share_better >= _LIKELY else old
            kept[pupil.label] = (
                whole or pupil.untaught,
                tuple(part or pupil.untaught for part in parts),
            )
        draft = Draft.alike(Lessons()).with_labels(kept)
        if draft == after.draft:
            return after
        return before if draft == before.draft else work.judged(draft)

    def _outcome(
        self,
        work: Curriculum,
        before: Standing,
        after: Standing,
        pupils: Sequence[Pupil],
        examples: Examples,
        learned_by: Mapping[str, str],
    ) -> Outcome:
        """learned_by: by label, the adapter that was asked for the examples."""
        gain = difference(pooled(before.tallies), pooled(after.tallies))
        better = gain.low > 0
        winner = after if better else before
        draft, steps = winner.draft, list(work.evidence)
        meaningful = False
        if "thresholds" in self.steps:
            # Examples of other weights say nothing about the scores of those that serve.
            same = [one for one in pupils if _adapter(draft.whole, one.label) == learned_by[one.label]]
            draft, said = calibrated(winner.draft, same, examples)
            meaningful = draft.whole != winner.draft.whole
            steps.append(said)
        total = compared(before.tallies, after.tallies, gain)
        labels = {
            pupil.label: label_evidence(
                before,
                after,
                pupil.label,
                pupil,
                difference(before.tallies.get(pupil.label, {}), after.tallies.get(pupil.label, {})),
            )
            for pupil in pupils
        }
        evidence: dict[str, Any] = {
            "tasks": len({image.group for image in work.images}),
            "steps": steps,
            "total": total | {"promoted": better},
            "labels": labels,
        }
        hurt = [label for label, one in labels.items() if one["high"] < 0]
        if better and hurt:
            return Outcome(None, evidence, f"not promoted: it is surely worse for {', '.join(hurt)}")
        if not better and not meaningful:
            change = f"F1 {gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
            return Outcome(None, evidence, f"nothing is surely better than what serves: {change}")
        sentence = (
            f"better on reviewed tasks: F1 {total['before']:.3f} to {total['after']:.3f}"
            if better
            else "scores foretell acceptance better"
        )
        return Outcome(draft.whole, evidence, sentence)

    def _pupils(self) -> list[Pupil]:
        """One for each label value, as the first control that has it looks for it."""
        found: dict[str, Pupil] = {}
        for source in self.plan.sources:
            for label in source.labels:
                offered = variants(label.shown or label.value, label.concept.phrases) if self.propose else ()
                found.setdefault(
                    label.value,
                    Pupil.of(label, offered, self.default, with_threshold="thresholds" in self.steps),
                )
        return list(found.values())

    def _examples(self, images: Sequence[ReviewedImage], pupils: Sequence[Pupil], start: Lessons) -> Examples:
        if not self.steps & set(PROPOSALS):
            return {}
        gatherer = Gatherer(
            self.segmenter, self.evidence, self.album, self.version, lambda done: self.told("gathering", done)
        )
        offered = {pupil.label: pupil.offered for pupil in pupils}
        return gatherer.examples(images, self.plan, offered, {name: one.adapter for name, one in start.labels})


def still_meant(lessons: Lessons, pupils: Sequence[Pupil]) -> Lessons:
    """Without those of labels whose author asks for something else by now: nothing can be built on them."""
    asked = {pupil.label: pupil.asked for pupil in pupils}
    return Lessons.of({name: one for name, one in lessons.labels if one.asked == asked.get(name)})


def takes_over(lessons: Lessons) -> Lessons:
    """What a new course begins with: adapters, and the wordings they were trained with; all else is learned anew.

    Without an adapter that is nothing: wordings are cheap to choose again.
    """
    tuned = {name: one for name, one in lessons.labels if one.adapter}
    return Lessons.of({name: Lesson(one.asked, one.phrases, adapter=one.adapter) for name, one in tuned.items()})


def _adapter(lessons: Lessons, label: str) -> str:
    lesson = lessons.of_label(label)
    return lesson.adapter if lesson else ""
