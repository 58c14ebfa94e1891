"""Lessons: what was learned about labels, as it is stored, compared and served."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam3_core.errors import InvalidInput, Sam3Error
from sam3_core.prototypes import Prototypes, expit, logit
from sam3_core.rules import check_share


@dataclass(frozen=True, slots=True)
class Calibration:
    """P(accepted) = sigmoid(slope * logit(score) + offset), after Platt (1999). slope: above 0: order is kept."""

    slope: float
    offset: float

    def __call__(self, score: float) -> float:
        """Of a score 0..1: a probability 0..1."""
        return float(
            expit(np.float32(self.slope) * logit(np.array([score], np.float32)) + np.float32(self.offset))[0]
        )


@dataclass(frozen=True, slots=True)
class Lesson:
    """What was learned about one label; None is nothing.

    asked: the phrases that its author wants looked for, as they were when it was learned: a lesson does not outlive
    them. phrases: to look for instead, out of them and their variants. threshold: least score, 0..1, after the
    prototypes had their say. calibration: of the score that comes out. adapter: names the fine-tuned weights that are
    asked, and that all the rest goes with; empty for the checkpoint's own.
    """

    asked: tuple[str, ...]
    phrases: tuple[str, ...] | None = None
    threshold: float | None = None
    calibration: Calibration | None = None
    prototypes: Prototypes | None = None
    adapter: str = ""

    def __post_init__(self) -> None:
        check_share("threshold", self.threshold)

    @property
    def empty(self) -> bool:
        """Whether nothing was learned."""
        return not self.adapter and (self.phrases, self.threshold, self.calibration, self.prototypes) == (None,) * 4


@dataclass(frozen=True, slots=True)
class Lessons:
    """What was learned about a set of labels."""

    labels: tuple[tuple[str, Lesson], ...] = ()

    @classmethod
    def of(cls, labels: Mapping[str, Lesson]) -> Lessons:
        """Of the labels about which something was learned, sorted by name."""
        taught = ((name, one) for name, one in labels.items() if not one.empty)
        return cls(tuple(sorted(taught, key=lambda pair: pair[0])))

    @property
    def adapters(self) -> frozenset[str]:
        """The names of all fine-tuned weights that are asked."""
        return frozenset(one.adapter for _, one in self.labels if one.adapter)

    def of_label(self, label: str) -> Lesson | None:
        """What was learned about a label, or None."""
        return dict(self.labels).get(label)

    @property
    def empty(self) -> bool:
        """Whether they change nothing."""
        return not self.labels

    def to_json(self) -> str:
        """As ``from_json`` reads it: equal lessons are equal text."""
        labels = {name: _lesson_json(lesson) for name, lesson in self.labels}
        return json.dumps({"labels": labels}, sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Lessons:
        """Raises InvalidInput for anything that ``to_json`` does not write."""
        try:
            read = json.loads(text)
            return cls.of({name: _lesson(one) for name, one in read["labels"].items()})
        except (ValueError, KeyError, TypeError, AttributeError, Sam3Error) as error:
            raise InvalidInput(f"these are no lessons: {error}") from None


NOTHING_LEARNED = Lessons()


def _lesson_json(lesson: Lesson) -> dict[str, Any]:
    calibration, prototypes = lesson.calibration, lesson.prototypes
    every: dict[str, Any] = {
        "asked": list(lesson.asked),
        "adapter": lesson.adapter,
        "phrases": None if lesson.phrases is None else list(lesson.phrases),
        "threshold": lesson.threshold,
        "calibration": calibration and {"slope": calibration.slope, "offset": calibration.offset},
        "prototypes": prototypes
        and {
            "width": prototypes.width,
            "accepted": base64.b64encode(prototypes.accepted).decode("ascii"),
            "rejected": base64.b64encode(prototypes.rejected).decode("ascii"),
            "weight": prototypes.weight,
            "bias": prototypes.bias,
        },
    }
    return {name: value for name, value in every.items() if value not in (None, "")}


def _lesson(read: Mapping[str, Any]) -> Lesson:
    calibration, prototypes = read.get("calibration"), read.get("prototypes")
    return Lesson(
        asked=tuple(map(str, read["asked"])),
        phrases=tuple(map(str, read["phrases"])) if "phrases" in read else None,
        threshold=float(read["threshold"]) if "threshold" in read else None,
        calibration=Calibration(float(calibration["slope"]), float(calibration["offset"])) if calibration else None,
        prototypes=prototypes
        and Prototypes(
            int(prototypes["width"]),
            base64.b64decode(prototypes["accepted"], validate=True),
            base64.b64decode(prototypes["rejected"], validate=True),
            float(prototypes["weight"]),
            float(prototypes["bias"]),
        ),
        adapter=str(read.get("adapter", "")),
    )
