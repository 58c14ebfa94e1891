"""The step that changes what scores mean, and nothing that is found: kept where they foretell acceptance better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.learning.curriculum import FOLDS, Draft
from backend.learning.gathering import Examples
from backend.learning.proposals import Pupil, propose_calibration
from sam3_core.learning.combine import combined
from sam3_core.learning.examples import Example
from sam3_core.learning.folds import folds
from sam3_core.learning.lessons import Calibration, Lesson

_FEWEST = 20  # instances that were shown; less says nothing about shares
_ROUNDS, _LOW = 2000, 0.05
_SURE = 1e-4  # probabilities are taken for this far from 0 and 1

Floats = NDArray[np.float64]


def calibrated(draft: Draft, pupils: Sequence[Pupil], examples: Examples) -> tuple[Draft, dict[str, Any]]:
    """The draft with the calibrations that are surely better (log loss on groups that they were learned without), and
    the evidence."""
    better: dict[str, tuple[Lesson, tuple[Lesson, ...]]] = {}
    labels: dict[str, Any] = {}
    for pupil in pupils:
        whole, parts = draft.lesson(pupil.label)
        known = examples.get(pupil.label, ())
        lesson, _ = propose_calibration(pupil, whole or pupil.untaught, known)
        several, losses = [], list[Floats]()
        for fold, part in enumerate(parts):
            mine = [one for one in known if folds([one.group], FOLDS)[one.group] == fold]
            others = [one for one in known if folds([one.group], FOLDS)[one.group] != fold]
            one, _ = propose_calibration(pupil, part or pupil.untaught, others)
            several.append(one)
            losses.append(_losses(pupil, part or pupil.untaught, one, mine))
        rows = np.concatenate(losses)
        if lesson == (whole or pupil.untaught) or len(rows) < _FEWEST:
            continue
        gained = _surely_gained(rows)
        labels[pupil.label] = {
            "log_loss": [round(float(rows[:, column].mean()), 4) for column in (0, 1)],
            "shown": len(rows),
            "promoted": gained,
        }
        if gained:
            better[pupil.label] = (lesson, tuple(several))
    evidence = {
        "step": "calibration",
        "promoted": bool(better),
        "why": f"scores foretell acceptance better for {', '.join(sorted(better))}"
        if better
        else "not surely better",
        "labels": labels,
    }
    return draft.with_labels(better), evidence


def _losses(pupil: Pupil, before: Lesson, after: Lesson, examples: Sequence[Example]) -> Floats:
    """Log losses of what would be shown, by the scores as they were and as they would be shown: ``(n, 2)``.

    The two lessons differ in their calibration alone.
    """
    threshold = pupil.default if after.threshold is None else after.threshold
    rows = []
    for example in examples:
        shown = combined(example, after.phrases or pupil.asked, after.prototypes)
        for score, true in zip(shown.scores.tolist(), shown.true.tolist(), strict=True):
            if score >= threshold:
                meant = [_meaning(lesson.calibration, score) for lesson in (before, after)]
                rows.append([_loss(probability, true) for probability in meant])
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def _meaning(calibration: Calibration | None, score: float) -> float:
    return score if calibration is None else calibration(score)


def _loss(probability: float, true: bool) -> float:
    sure = min(max(probability, _SURE), 1 - _SURE)
    return float(-np.log(sure if true else 1 - sure))


def _surely_gained(rows: Floats) -> bool:
    """Whether the mean loss falls, by the bootstrap over instances. rows: ``(n, 2)`` before and after."""
    gains = rows[:, 0] - rows[:, 1]
    drawn = np.random.default_rng(0).integers(0, len(gains), (_ROUNDS, len(gains)))
    return bool(np.quantile(gains[drawn].mean(axis=1), _LOW) > 0)
