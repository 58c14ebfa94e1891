"""Reviewed images out of a world where the right answer is known: objects and other things in a grid of cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sam3_core.learning.examples import Candidate, Example, Heard, Truth
from sam3_core.masks import Mask

SIDE, CELL = 4, 8
FRAME = (SIDE * CELL, SIDE * CELL)


@dataclass(frozen=True)
class Ear:
    """How the model hears a phrase: logits of scores are normal around ``hit`` on objects and ``miss`` on others.

    finds: the share of objects that get a candidate at all. errs: the same of other things. spread: of the logits.
    """

    hit: float = 1.5
    miss: float = -1.5
    finds: float = 1.0
    errs: float = 1.0
    spread: float = 1.0


@dataclass(frozen=True)
class Looks:
    """Features: objects look like one direction, others like another, ``apart`` (0: alike) with noise."""

    apart: float = 1.0
    width: int = 16


def cell(place: int, inset: int = 0, grown: int = 0) -> Mask:
    """A square in a cell of the grid; each inset leaves out so many rows at its bottom."""
    row, column = divmod(place, SIDE)
    return Mask(np.ones((CELL - 1 - inset + grown, CELL - 1), np.bool_), column * CELL, row * CELL, FRAME)


def world(
    count: int,
    ears: Mapping[str, Ear],
    *,
    seed: int = 0,
    objects: float = 3.0,
    others: float = 3.0,
    looks: Looks | None = None,
) -> list[Example]:
    """So many images, each its own group, with Poisson numbers of objects and of other things."""
    rng = np.random.default_rng(seed)
    return [_example(f"task {number}", rng, ears, (objects, others), looks) for number in range(count)]


def _example(
    group: str,
    rng: np.random.Generator,
    ears: Mapping[str, Ear],
    means: tuple[float, float],
    looks: Looks | None,
) -> Example:
    places = rng.permutation(SIDE * SIDE).tolist()
    things = min(int(rng.poisson(means[0])), SIDE * SIDE)
    rest = min(int(rng.poisson(means[1])), SIDE * SIDE - things)
    kinds = [(place, True) for place in places[:things]] + [
        (place, False) for place in places[things : things + rest]
    ]
    features = {place: _feature(rng, real, looks) for place, real in kinds}
    found = {}
    for phrase, ear in ears.items():
        candidates = []
        for place, real in kinds:
            value = rng.normal(ear.hit if real else ear.miss, ear.spread)
            score = 1 / (1 + np.exp(-value))
            if rng.random() < (ear.finds if real else ear.errs) and score >= 0.05:
                inset = int(rng.integers(0, 3))
                candidates.append(Candidate(cell(place, inset), float(np.float32(score)), features[place]))
        candidates.sort(key=lambda one: -one.score)
        found[phrase] = Heard(max([one.score for one in candidates], default=0.0), tuple(candidates))
    return Example(group, tuple(Truth(cell(place)) for place, real in kinds if real), found)


def _feature(rng: np.random.Generator, real: bool, looks: Looks | None) -> np.ndarray | None:
    if looks is None:
        return None
    way = np.zeros(looks.width)
    way[0], way[1] = 1.0, looks.apart if real else -looks.apart
    noisy = way + rng.normal(0, 0.3, looks.width)
    return np.asarray(noisy / np.linalg.norm(noisy), dtype=np.float32)
