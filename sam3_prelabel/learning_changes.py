"""What a version changes, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from backend.learning.versions import Version
from sam3_core.learning.lessons import NOTHING_LEARNED, Lesson


def changes(version: Version, parent: Version | None) -> Iterator[str]:
    """What is other in a version than in the one before it. parent: None for the weights as they came."""
    before = parent.lessons if parent is not None else NOTHING_LEARNED
    names = dict.fromkeys(label for lessons in (before, version.lessons) for label, _ in lessons.labels)
    for label in sorted(names):
        old, new = before.of_label(label), version.lessons.of_label(label)
        empty = Lesson((old or new or Lesson(())).asked)
        for change in _changes_of_label(old or empty, new or empty):
            yield f"{label}: {change}"


def _changes_of_label(old: Lesson, new: Lesson) -> Iterator[str]:
    if old.adapter != new.adapter:
        tuned = new.adapter
        yield f"searched with the fine-tuned weights {tuned}" if tuned else "searched without fine-tuned weights"
    looked, looks = old.phrases or old.asked, new.phrases or new.asked
    if looked != looks:
        yield f"looks for {_phrases(looks)} instead of {_phrases(looked)}"
    if old.threshold != new.threshold:
        yield f"threshold {_threshold(old)} → {_threshold(new)}"
    if old.prototypes != new.prototypes:
        yield "compares with how earlier instances looked" if new.prototypes else "compares with no earlier instances"
    if old.calibration != new.calibration:
        yield "scores say how likely an instance is accepted" if new.calibration else "scores are the model's own"


def _phrases(phrases: tuple[str, ...]) -> str:
    return "; ".join(phrases) or "nothing"


def _threshold(lesson: Lesson) -> str:
    return "as set" if lesson.threshold is None else f"{lesson.threshold:.2f}"


def gain(evidence: Mapping[str, Any]) -> str:
    """What a version brought on reviewed tasks, in all, as a person reads it; empty where that is not told."""
    total = evidence.get("total")
    told = total if isinstance(total, dict) else {}
    before, after = told.get("before"), told.get("after")
    if not isinstance(before, int | float) or not isinstance(after, int | float):
        return ""
    return f"{before:.3f} → {after:.3f}"
