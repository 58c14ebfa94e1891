"""What was learned, put into a plan: what the labels of a project are looked for by, and how their scores read."""

from __future__ import annotations

from dataclasses import replace

from backend.labeling import Label, Plan
from sam3_core.choices import OPEN, Choices
from sam3_core.learning.lessons import Lesson, Lessons


def under_lessons(plan: Plan, lessons: Lessons, request: Choices = OPEN) -> Plan:
    """The plan with each label's lesson in place of what its author chose.

    A lesson holds as long as its author asks for the same phrases as when it was learned. request: what the request
    itself chose, which wins over what was learned.
    """
    if lessons.empty:
        return plan
    known = dict(lessons.labels)

    def learned(label: Label) -> Label:
        lesson = known.get(label.value)
        return label if lesson is None else _under_lesson(label, lesson, request)

    sources = []
    for source in plan.sources:
        controls = (replace(c, labels=tuple(learned(label) for label in c.labels)) for c in source.controls)
        sources.append(replace(source, controls=tuple(controls)))
    return replace(plan, sources=tuple(sources))


def _under_lesson(label: Label, lesson: Lesson, request: Choices) -> Label:
    concept = label.concept
    if lesson.asked != concept.phrases:
        return label
    rules = concept.rules
    if lesson.threshold is not None and request.rules.threshold is None:
        rules = replace(rules, threshold=lesson.threshold)
    concept = replace(
        concept,
        phrases=lesson.phrases or concept.phrases,
        rules=rules,
        prototypes=lesson.prototypes,
        adapter=lesson.adapter,
    )
    return replace(label, concept=concept, calibration=lesson.calibration)
