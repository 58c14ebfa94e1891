"""The decision threshold that gives the best F1, as far as the reviewed images tell.

The threshold of the highest F1 on few images is mostly luck. So it is the mean, on the scale of logits, of the best
ones of many resamples of the images (bagging: Breiman, 1996), and is drawn towards the default:

    logit(threshold) = logit(default) + n / (n + k) * (logit(best) - logit(default))

n: objects that were found at any score; k: ``THIN``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sam3_core.learning.combine import Floats, Sheet
from sam3_core.learning.examples import Example
from sam3_core.prototypes import Prototypes

THIN = 4.0
"""With so many objects, a threshold goes half of the way."""

_RESAMPLES = 64
_POINTS = 99
_SURE = 1e-4  # thresholds stay this far from 0 and 1
_EQUAL = 1e-12
_FLOOR = 0.05  # nothing is known of candidates below; they were not asked for


@dataclass(frozen=True, slots=True)
class ThresholdFit:
    """threshold: to serve, 0..1. best: without the pull of the default. f1_default, f1: at the default and at the
    threshold, on the images it was learned from. positives: objects that were found at any score. curve: F1 at
    thresholds 0.01, 0.02 ... 0.99."""

    threshold: float
    best: float
    f1_default: float
    f1: float
    positives: int
    curve: tuple[tuple[float, float], ...]


def best_threshold(
    examples: Sequence[Example], phrases: Sequence[str], *, default: float, prototypes: Prototypes | None = None
) -> ThresholdFit:
    """Of a search with these phrases; the default where no object was found at any score."""
    return fit_threshold(Sheet.of(examples, phrases, prototypes), default)


def fit_threshold(sheet: Sheet, default: float) -> ThresholdFit:
    """``best_threshold`` of candidates that are combined already."""
    positives = int(np.count_nonzero(sheet.true))
    cuts = _best_cuts(sheet, default) if positives else np.zeros(0)
    best = _expit(float(cuts.mean())) if cuts.size else default
    home = _logit(default)
    pull = positives / (positives + THIN)
    threshold = default if best == default else _expit(home + pull * (_logit(best) - home))
    points = [step / (_POINTS + 1) for step in range(1, _POINTS + 1)]
    return ThresholdFit(
        threshold=threshold,
        best=best,
        f1_default=sheet.tally(default).f1,
        f1=sheet.tally(threshold).f1,
        positives=positives,
        curve=tuple((point, sheet.tally(point).f1) for point in points),
    )


def _best_cuts(sheet: Sheet, default: float) -> Floats:
    """The best threshold of each resample of the groups that has a hit, as logits ``(<= 64,)``.

    F1 is constant between two scores, and over scores of groups that were not drawn: the best threshold is the middle
    of such a plateau, or the default where it lies on it: nothing speaks for another one then.
    """
    groups = len(sheet.truths)
    drawn = np.random.default_rng(0).multinomial(groups, np.full(groups, 1 / groups), _RESAMPLES)
    weights = drawn[:, sheet.groups]
    hits = np.cumsum(weights * sheet.true, axis=1)
    f1 = 2 * hits / np.maximum(np.cumsum(weights, axis=1) + (drawn @ sheet.truths)[:, None], 1)
    lasts = np.flatnonzero(np.append(sheet.scores[1:] < sheet.scores[:-1], True))
    f1 = f1[hits[:, -1] > 0][:, lasts]
    edges = np.append(sheet.scores[lasts], min(_FLOOR, float(sheet.scores[-1]) - _SURE))
    first = f1.argmax(axis=1)
    worse = (f1 < f1.max(axis=1, keepdims=True) - _EQUAL) & (np.arange(len(lasts)) > first[:, None])
    stop = np.where(worse.any(axis=1), worse.argmax(axis=1), len(lasts))
    above, below = _logits(edges[first]), _logits(edges[stop])
    home = _logit(default)
    return np.where((below < home) & (home <= above), home, (above + below) / 2)


def _logits(values: Floats) -> Floats:
    sure = np.clip(values, _SURE, 1 - _SURE)
    return np.asarray(np.log(sure) - np.log1p(-sure))


def _logit(value: float) -> float:
    return float(_logits(np.array([value]))[0])


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value))
