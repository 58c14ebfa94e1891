"""Logistic regression with normal priors, for a handful of numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ROUNDS = 50
_CLOSE = 1e-7
_HALVINGS = 0.5 ** np.arange(20)


def regressed(
    design: Floats, true: NDArray[np.bool_], home: Floats, precision: Floats, offset: Floats | None = None
) -> Floats:
    """The most probable coefficients ``(k,)`` of P(true) = sigmoid(design @ coefficients + offset).

    design: ``(n, k)``. true: ``(n,)``. home, precision: ``(k,)``, mean and 1 / variance of the coefficients' priors;
    precisions are above 0, so that there is one answer, whatever the data. offset: ``(n,)``, 0 where not given.

    Newton's method; steps are halved until they gain, as whole ones may overshoot.
    """
    base = np.zeros(len(design)) if offset is None else offset
    at = home.astype(np.float64)
    cost = _cost(design, true, home, precision, base, at)
    for _ in range(_ROUNDS):
        told = _sigmoid(design @ at + base)
        slope = design.T @ (told - true) + precision * (at - home)
        bend = (design.T * (told * (1 - told))) @ design + np.diag(precision)
        step = np.linalg.solve(bend, slope)
        for size in _HALVINGS:
            new = at - size * step
            new_cost = _cost(design, true, home, precision, base, new)
            if new_cost < cost:
                break
        else:
            break
        at, cost = new, new_cost
        if np.abs(step).max() < _CLOSE:
            break
    return at


def _cost(
    design: Floats, true: NDArray[np.bool_], home: Floats, precision: Floats, base: Floats, at: Floats
) -> float:
    """Negative log posterior, in nats."""
    wrong_way = np.where(true, -1.0, 1.0) * (design @ at + base)
    return float(np.logaddexp(0.0, wrong_way).sum() + (precision * (at - home) ** 2).sum() / 2)


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -40, 40))))
