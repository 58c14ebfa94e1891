"""Scores that mean what they say: the probability that a reviewer accepts what is shown, after Platt (1999)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam3_core.learning.combine import Bools, Floats, Sheet
from sam3_core.learning.examples import Example
from sam3_core.learning.folds import folds
from sam3_core.learning.lessons import Calibration
from sam3_core.learning.logistic import regressed
from sam3_core.prototypes import Prototypes, expit, logit

LEAST_OF_EACH = 3
"""So many shown candidates must have been right, and as many wrong."""

_PRIOR = np.array([4.0, 0.5])  # precisions of the normal priors of slope (around 1) and offset (around 0)
_LEAST_SLOPE = 0.05  # order is kept
_BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Of the probabilities from ``low`` to under ``high`` (1 belongs to the last bin). mean: of the probabilities.
    share: of outcomes that came true. count: how many; bins of none have the mean of their ends and a share of 0."""

    low: float
    high: float
    mean: float
    share: float
    count: int


@dataclass(frozen=True, slots=True)
class Quality:
    """How well probabilities told outcomes. log_loss: mean, in nats, at least 0. brier: mean squared error, 0..1.
    ece: mean distance of a bin's probabilities from its share, weighted by its count, 0..1."""

    log_loss: float
    brier: float
    ece: float


@dataclass(frozen=True, slots=True)
class CalibrationFit:
    """before: of the scores as probabilities. after: of calibrated ones, each by a calibration of the other folds, or
    by the one of all where everything is in one fold. count: shown candidates."""

    calibration: Calibration
    before: Quality
    after: Quality
    count: int


def fit_calibration(
    examples: Sequence[Example], phrases: Sequence[str], threshold: float, prototypes: Prototypes | None = None
) -> CalibrationFit | None:
    """From the candidates that reach the threshold (0..1), as nobody accepts or rejects others.

    None where they are too few, all right or all wrong, or where calibrated scores do not tell better than they did.
    """
    sheet = Sheet.of(examples, phrases, prototypes)
    shown = sheet.scores >= threshold
    scores, true = sheet.scores[shown], sheet.true[shown]
    if min(np.count_nonzero(true), np.count_nonzero(~true)) < LEAST_OF_EACH:
        return None
    fold_of = folds(sorted({example.group for example in examples}))
    places = np.array(list(fold_of.values()), dtype=np.intp)[sheet.groups[shown]]
    before, after = quality(scores, true), quality(_held_out(scores, true, places), true)
    if after.log_loss >= before.log_loss:
        return None
    return CalibrationFit(platt(scores, true), before, after, len(scores))


def platt(scores: Floats, true: Bools) -> Calibration:
    """The most probable slope and offset (Newton's method) for ``(n,)`` scores 0..1 and outcomes.

    Before anything is seen, the slope is around 1 and the offset around 0, so that few candidates change little. The
    slope is above 0.
    """
    values = logit(scores.astype(np.float32)).astype(np.float64)
    ones = np.ones_like(values)
    slope, offset = regressed(np.stack([values, ones], axis=1), true, np.array([1.0, 0.0]), _PRIOR).tolist()
    if slope < _LEAST_SLOPE:
        slope, found = _LEAST_SLOPE, regressed(ones[:, None], true, np.zeros(1), _PRIOR[1:], _LEAST_SLOPE * values)
        offset = float(found[0])
    return Calibration(slope, offset)


def quality(probabilities: Floats, outcomes: Bools) -> Quality:
    """Of ``(n,)`` probabilities 0..1; of none, all 0."""
    if not len(probabilities):
        return Quality(0.0, 0.0, 0.0)
    sure = np.clip(probabilities, 1e-6, 1 - 1e-6)
    loss = -np.mean(np.where(outcomes, np.log(sure), np.log1p(-sure)))
    bins = reliability(probabilities, outcomes)
    ece = sum(one.count * abs(one.mean - one.share) for one in bins) / len(probabilities)
    return Quality(float(loss), float(np.mean((probabilities - outcomes) ** 2)), float(ece))


def reliability(probabilities: Floats, outcomes: Bools, bins: int = _BINS) -> tuple[Bin, ...]:
    """Bins of equal width over 0..1 for ``(n,)`` probabilities and whether each came true."""
    places = np.minimum((np.asarray(probabilities) * bins).astype(np.intp), bins - 1)
    counts = np.bincount(places, minlength=bins)
    sums = np.bincount(places, weights=probabilities, minlength=bins)
    came = np.bincount(places, weights=np.asarray(outcomes, dtype=np.float64), minlength=bins)
    return tuple(
        Bin(
            low=place / bins,
            high=(place + 1) / bins,
            mean=float(sums[place] / counts[place]) if counts[place] else (place + 0.5) / bins,
            share=float(came[place] / counts[place]) if counts[place] else 0.0,
            count=int(counts[place]),
        )
        for place in range(bins)
    )


def _held_out(scores: Floats, true: Bools, fold: NDArray[np.intp]) -> Floats:
    """Each score calibrated without its fold, ``(n,)``."""
    out = np.zeros(len(scores))
    for number in np.unique(fold).tolist():
        mine = fold == number
        rest = ~mine if not mine.all() else mine
        told = platt(scores[rest], true[rest])
        values = logit(scores[mine].astype(np.float32))
        out[mine] = expit(np.float32(told.slope) * values + np.float32(told.offset))
    return out
