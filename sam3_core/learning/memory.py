"""What accepted and rejected instances of a concept looked like, as prototypes that judge new ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sam3_core.learning.bootstrap import NO_DIFFERENCE, Interval, difference
from sam3_core.learning.combine import Bools, Floats, Sheet, combined
from sam3_core.learning.examples import Example
from sam3_core.learning.folds import folds
from sam3_core.learning.logistic import regressed
from sam3_core.learning.measure import Tally
from sam3_core.learning.thresholds import fit_threshold
from sam3_core.prototypes import Prototypes, logit

Rows = NDArray[np.float32]

MOST_PROTOTYPES = 32
LEAST_OF_EACH = 5
"""So many accepted and so many rejected instances must be known, in at least two groups."""

_PARTLY = 0.3  # what overlaps an object this much (IoU) and is no hit is a poor outline, not another thing's look
_LOOKED_AT = 256  # of a kind, the surest ones
_SETTLED = 4  # rounds after which means of groups hardly move
_PRIOR = np.array([1.0, 0.5, 0.1])  # precisions of the normal priors of slope (around 1), weight and bias (around 0)
_LEAST_SLOPE = 0.1
_MOST = 1000.0  # of weight and bias, see `Prototypes`
_STIFFNESS = 5.0  # of the ridge, in units of the mean variance of the features' directions


@dataclass(frozen=True, slots=True)
class PrototypeFit:
    """prototypes: None where nothing was learned. threshold: to go with them, 0..1; None where none was to be learned
    or nothing was. gain: in F1 on the groups held out in turn, with prototypes against without. accepted,
    rejected: instances that were known. why: in a sentence, where nothing was learned."""

    prototypes: Prototypes | None
    threshold: float | None
    gain: Interval = NO_DIFFERENCE
    accepted: int = 0
    rejected: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Looks:
    """Candidates that have a feature. features ``(n, D)``, scores ``(n,)`` 0..1, true ``(n,)``, folds ``(n,)``.
    other: ``(n,)``, whether it is clearly another thing than the truth."""

    features: Rows
    scores: Floats
    true: Bools
    other: Bools
    folds: NDArray[np.intp]

    def where(self, chosen: Bools) -> _Looks:
        return _Looks(
            self.features[chosen], self.scores[chosen], self.true[chosen], self.other[chosen], self.folds[chosen]
        )


def fit_prototypes(
    examples: Sequence[Example], phrases: Sequence[str], *, default: float, learn_threshold: bool
) -> PrototypeFit:
    """From the features of what the phrases found and what of it is there.

    An instance's likeness is judged by prototypes of other groups alone: those of its own would know it. Nothing is
    learned where too few of either kind are known, or where groups held out in turn are not found better for it.
    """
    fold_of = folds(example.group for example in examples)
    looks = _looks(examples, phrases, fold_of)
    accepted, rejected = int(np.count_nonzero(looks.true)), int(np.count_nonzero(looks.other))
    found = PrototypeFit(None, None, accepted=accepted, rejected=rejected)
    if min(accepted, rejected) < LEAST_OF_EACH:
        return replace(found, why=f"too few instances with a look: {accepted} accepted, {rejected} rejected")
    gains = {kind: _gain(examples, phrases, looks, kind, fold_of, default, learn_threshold) for kind in _KINDS}
    best = max(_KINDS, key=lambda kind: gains[kind].low)
    found = replace(found, gain=gains[best])
    prototypes = _learned(looks, best)
    if prototypes is None or gains[best].low <= 0:
        return replace(found, why="held-out images are not surely searched better with it")
    threshold = fit_threshold(Sheet.of(examples, phrases, prototypes), default).threshold if learn_threshold else None
    return replace(found, prototypes=prototypes, threshold=threshold)


def _gain(
    examples: Sequence[Example],
    phrases: Sequence[str],
    looks: _Looks,
    kind: _Kind,
    fold_of: dict[str, int],
    default: float,
    learn_threshold: bool,
) -> Interval:
    """How much better each fold is searched with what was learned from the others' looks."""
    before: dict[str, Tally] = {}
    after: dict[str, Tally] = {}
    for fold in sorted(set(fold_of.values())):
        rest = [example for example in examples if fold_of[example.group] != fold]
        mine = [example for example in examples if fold_of[example.group] == fold]
        for prototypes, tallies in ((None, before), (_learned(looks.where(looks.folds != fold), kind), after)):
            threshold = default
            if learn_threshold:
                threshold = fit_threshold(Sheet.of(rest, phrases, prototypes), default).threshold
            for example in mine:
                told = combined(example, phrases, prototypes).tally(threshold)
                tallies[example.group] = tallies.get(example.group, Tally()) + told
    return difference(before, after)


def _looks(examples: Sequence[Example], phrases: Sequence[str], fold_of: dict[str, int]) -> _Looks:
    features, rows = [], []
    for example in examples:
        one = combined(example, phrases)
        for place, candidate in enumerate(one.candidates):
            if candidate.feature is not None:
                features.append(candidate.feature)
                true = bool(one.true[place])
                other = not true and one.ious[place] < _PARTLY
                rows.append((one.scores[place], true, other, fold_of[example.group]))
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return _Looks(
        np.array(features, dtype=np.float32).reshape(len(rows), -1 if rows else 0),
        table[:, 0],
        table[:, 1] > 0,
        table[:, 2] > 0,
        table[:, 3].astype(np.intp),
    )


def _learned(looks: _Looks, kind: _Kind) -> Prototypes | None:
    """Prototypes with weight and bias; None where a kind is missing, or likeness says nothing good."""
    likeness = np.zeros(len(looks.scores))
    judged = np.zeros(len(looks.scores), dtype=np.bool_)
    for fold in np.unique(looks.folds).tolist():
        mine = looks.folds == fold
        rest = looks.where(~mine)
        if rest.true.any() and rest.other.any():
            likeness[mine] = Prototypes.of(*kind(rest), 1.0).likeness(looks.features[mine])
            judged |= mine
    if not (looks.true & judged).any() or not (looks.other & judged).any():
        return None
    slope, weight, bias = _regressed(looks.scores[judged], likeness[judged], looks.true[judged])
    weight, bias = weight / slope, bias / slope
    return Prototypes.of(*kind(looks), weight, bias) if 0 < weight < _MOST and abs(bias) < _MOST else None


def _nearest(looks: _Looks) -> tuple[Rows, Rows]:
    """What is typical of the accepted and of the rejected ones."""
    return _typical(looks, looks.true), _typical(looks, looks.other)


def _opposite(looks: _Looks) -> tuple[Rows, Rows]:
    """One prototype of each kind, and each the other's opposite: the direction in which the two kinds differ most, by
    ridge regression with both kinds of equal weight. Among things that look much alike it tells more than what is
    near: with the demo checkpoint, crescents among triangles have an area under the curve of 0.83 by it, and 0.78
    by the nearest."""
    known = looks.true | looks.other
    features, true = looks.features[known].astype(np.float64), looks.true[known]
    weights = np.where(true, 0.5 / np.count_nonzero(true), 0.5 / np.count_nonzero(~true))
    centred = features - weights @ features
    spread = centred.T @ (centred * weights[:, None])
    stiff = _STIFFNESS * np.trace(spread) / len(spread) + 1e-12
    pull = centred.T @ (weights * np.where(true, 1.0, -1.0))
    direction = np.linalg.solve(spread + stiff * np.eye(len(spread)), pull)
    towards = np.asarray(direction[None], dtype=np.float32)
    return towards, -towards


_Kind = Callable[["_Looks"], tuple[Rows, Rows]]
_KINDS: tuple[_Kind, ...] = (_nearest, _opposite)
"""Ways to make prototypes; the one that did better on groups held out in turn is taken."""


def _typical(looks: _Looks, kind: Bools) -> Rows:
    """At most 32 means of directions that stand for all features of a kind ``(n, D)``: spherical k-means (Dhillon and
    Modha, 2001), started from the feature nearest to the mean of all and then, again and again, the one farthest from
    those chosen."""
    order = np.argsort(-looks.scores[kind], kind="stable")[:_LOOKED_AT]
    rows = _unit(looks.features[kind][order])
    if len(rows) <= MOST_PROTOTYPES:
        return rows
    chosen = [int(np.argmax(rows @ rows.mean(axis=0)))]
    near = rows @ rows[chosen[0]]
    while len(chosen) < MOST_PROTOTYPES:
        chosen.append(int(np.argmin(near)))
        near = np.maximum(near, rows @ rows[chosen[-1]])
    means = rows[chosen]
    for _ in range(_SETTLED):
        owner = (rows @ means.T).argmax(axis=1)
        sums = (owner == np.arange(len(means))[:, None]).astype(np.float32) @ rows
        means = _unit(np.where(np.linalg.norm(sums, axis=1, keepdims=True) > 0, sums, means))
    return means


def _unit(rows: Rows) -> Rows:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def _regressed(scores: Floats, likeness: Floats, true: Bools) -> tuple[float, float, float]:
    """Slope, weight and bias of sigmoid(slope * logit(score) + weight * likeness + bias).

    The slope is fitted too, because a model that is too sure of itself would drown the likeness; ``Prototypes`` have
    a slope of 1, so all is divided by it: that moves no decision at 0.5, and keeps the order. The prior of the weight
    is in units of the likeness's spread, as some models' features are all alike and others' are not.
    """
    values = logit(scores.astype(np.float32)).astype(np.float64)
    design = np.stack([values, likeness, np.ones_like(values)], axis=1)
    prior = _PRIOR * np.array([1.0, max(float(likeness.var()), 1e-6), 1.0])
    slope, weight, bias = regressed(design, true, np.array([1.0, 0.0, 0.0]), prior).tolist()
    if slope < _LEAST_SLOPE:
        slope = _LEAST_SLOPE
        weight, bias = regressed(design[:, 1:], true, np.zeros(2), prior[1:], slope * values).tolist()
    return slope, weight, bias
