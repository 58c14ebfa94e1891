"""Whether a difference is more than luck: the paired bootstrap over groups (Efron and Tibshirani, 1993)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam3_core.learning.measure import Tally


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference, -1..1: ``low`` to ``high`` holds the level's share of the rounds; ``mean`` is the difference over
    all groups as they are. share_better: of the rounds with a difference above 0; half of those without any."""

    low: float
    mean: float
    high: float
    share_better: float


NO_DIFFERENCE = Interval(0.0, 0.0, 0.0, 0.5)


def difference(
    before: Mapping[str, Tally],
    after: Mapping[str, Tally],
    *,
    rounds: int = 2000,
    level: float = 0.9,
    seed: int = 0,
) -> Interval:
    """How much higher the micro F1 is after than before, over the groups that both have.

    Each round draws as many groups as there are, with repeats, the same for both. Without a group all is 0. Equal
    input gives equal output, whatever the groups are called and however they are ordered.
    """
    pairs = sorted(_counts(before[group]) + _counts(after[group]) for group in before.keys() & after.keys())
    if not pairs:
        return NO_DIFFERENCE
    counts = np.array(pairs, dtype=np.float64)
    drawn = _draws(len(pairs), rounds, seed) @ counts
    gained = _f1(drawn[:, 2:]) - _f1(drawn[:, :2])
    low, high = np.quantile(gained, [(1 - level) / 2, (1 + level) / 2])
    better = float(np.mean(gained > 0) + np.mean(gained == 0) / 2)
    whole = counts.sum(axis=0, keepdims=True)
    return Interval(float(low), float((_f1(whole[:, 2:]) - _f1(whole[:, :2]))[0]), float(high), better)


def _draws(groups: int, rounds: int, seed: int) -> NDArray[np.float64]:
    """How often each group is drawn in each round, ``(rounds, groups)``."""
    drawn = np.random.default_rng(seed).integers(0, groups, (rounds, groups))
    places = (drawn + groups * np.arange(rounds)[:, None]).ravel()
    return np.bincount(places, minlength=rounds * groups).reshape(rounds, groups).astype(np.float64)


def _counts(tally: Tally) -> tuple[int, int]:
    """Twice the hits, and that with all that went wrong: F1 is the first over the second."""
    return 2 * tally.hits, 2 * tally.hits + tally.false + tally.missed


def _f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of ``(n, 2)`` counts: ``(n,)``, 0..1; see ``Tally.f1``."""
    return np.where(counts[:, 1] > 0, counts[:, 0] / np.maximum(counts[:, 1], 1), 1.0)
