"""What was found, measured against what is there: which is which, and how much was hit, false and missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam3_core.learning.examples import Truth
from sam3_core.masks import Mask

LEAST_IOU = 0.5
"""From this mask IoU on, what was found is what is there."""

PRESENT = 0.5
"""From this presence on, the model says that a concept is in the image."""


@dataclass(frozen=True, slots=True)
class Pair:
    """``found[found]`` is ``truth[truth]``. iou: of the two, 0..1."""

    found: int
    truth: int
    iou: float


@dataclass(frozen=True, slots=True)
class Matching:
    """pairs: in the order in which they were made. false: what was found and is not there. missed: the other way."""

    pairs: tuple[Pair, ...]
    false: tuple[int, ...]
    missed: tuple[int, ...]


def match(
    found: Sequence[Mask], truth: Sequence[Truth], least: float = LEAST_IOU, *, nearest: bool = False
) -> Matching:
    """Each found mask to at most one object and the other way round, both at an IoU of at least ``least`` (0..1, and
    never 0). Masks of different frames never match.

    In the order given, best score first, each takes the free object that it overlaps most: so a worse instance never
    changes what a better one counts for, and a threshold only cuts the end off. nearest: the pairs of highest IoU
    come first instead, whatever the order: for what has no scores, or none that matter.
    """
    pairs = matched(overlaps(found, truth), least, nearest=nearest)
    hit, seen = {pair.found for pair in pairs}, {pair.truth for pair in pairs}
    return Matching(
        tuple(pairs),
        tuple(index for index in range(len(found)) if index not in hit),
        tuple(index for index in range(len(truth)) if index not in seen),
    )


def overlaps(found: Sequence[Mask], truth: Sequence[Truth]) -> NDArray[np.float64]:
    """The IoU of each with each: ``(len(found), len(truth))``, 0..1; 0 for masks of different frames."""
    table = np.zeros((len(found), len(truth)))
    for row, column in zip(*np.nonzero(_touching(found, truth)), strict=True):
        table[row, column] = truth[column].iou(found[row])
    return table


def matched(ious: NDArray[np.float64], least: float, *, nearest: bool = False) -> list[Pair]:
    """The pairs of ``match`` out of a table of IoUs, ``(found, truth)``."""
    enough = (ious >= least) & (ious > 0)
    rows, columns = np.nonzero(enough)
    values = ious[rows, columns]
    order = np.lexsort((columns, rows, -values) if nearest else (columns, -values, rows))
    pairs: list[Pair] = []
    taken: set[int] = set()
    seen: set[int] = set()
    for row, column, iou in zip(rows[order].tolist(), columns[order].tolist(), values[order].tolist(), strict=True):
        if row not in taken and column not in seen:
            pairs.append(Pair(row, column, iou))
            taken.add(row)
            seen.add(column)
    return pairs


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of one or of many images; they add up, and measures of the sum are micro averages.

    hits: found and there. false: found and not there. missed: there and not found. ious: the sum over the hits.
    asked: in how many images presence was asked. right: in how many of them it was on the right side of 0.5.
    """

    hits: int = 0
    false: int = 0
    missed: int = 0
    ious: float = 0.0
    asked: int = 0
    right: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.hits + other.hits,
            self.false + other.false,
            self.missed + other.missed,
            self.ious + other.ious,
            self.asked + other.asked,
            self.right + other.right,
        )

    @property
    def precision(self) -> float:
        """Share of what was found that is there, 0..1; 1 where nothing was found: nothing was claimed wrongly."""
        return _share(self.hits, self.hits + self.false)

    @property
    def recall(self) -> float:
        """Share of what is there that was found, 0..1; 1 where nothing is there."""
        return _share(self.hits, self.hits + self.missed)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0..1; 1 where nothing is there and nothing was found."""
        return _share(2 * self.hits, 2 * self.hits + self.false + self.missed)

    @property
    def mean_iou(self) -> float:
        """Of the hits, 0..1; 0 without any."""
        return self.ious / self.hits if self.hits else 0.0

    @property
    def presence(self) -> float:
        """Share of images in which presence was right, 0..1; 1 where it was never asked."""
        return _share(self.right, self.asked)


def tally(
    found: Sequence[Mask], truth: Sequence[Truth], presence: float | None = None, least: float = LEAST_IOU
) -> Tally:
    """Of one image. found: best score first. presence: of the concept, 0..1; None where it was not asked."""
    matching = match(found, truth, least)
    return Tally(
        hits=len(matching.pairs),
        false=len(matching.false),
        missed=len(matching.missed),
        ious=sum(pair.iou for pair in matching.pairs),
        asked=int(presence is not None),
        right=int(presence is not None and (presence >= PRESENT) == bool(truth)),
    )


def _touching(found: Sequence[Mask], truth: Sequence[Truth]) -> NDArray[np.bool_]:
    """Which masks share a frame and have boxes that overlap, ``(found, truth)``: no others are compared by pixels."""
    mine, theirs = _places(found), _places([one.mask for one in truth])
    same = (mine[:, None, 4:] == theirs[None, :, 4:]).all(axis=2)
    lower = np.maximum(mine[:, None, :2], theirs[None, :, :2])
    upper = np.minimum(mine[:, None, 2:4], theirs[None, :, 2:4])
    return np.asarray(same & (lower < upper).all(axis=2))


def _places(masks: Sequence[Mask]) -> NDArray[np.int64]:
    """``(n, 6)``: the box, xyxy, and the frame of each."""
    return np.array([(*mask.box, *mask.frame) for mask in masks], dtype=np.int64).reshape(-1, 6)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
