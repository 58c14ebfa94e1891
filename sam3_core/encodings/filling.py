"""Rings filled as rasterisers do, a pixel being inside when its centre is, without a picture: as edges of runs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Filled = NDArray[np.int64]
"""``(2 * runs,)`` int64: where runs of pixels start and stop, in turn, sorted; each is ``row << 32 | column``."""


def filled(rings: Iterable[NDArray[np.generic]]) -> Filled:
    """The pixels inside by the even-odd rule, for ``(N, 2)`` rings of xy >= 0, not closed.

    A centre on an edge belongs to what lies right of it. The cost goes with the rows that the rings pass.
    """
    starts, stops = [], []
    for ring in rings:
        starts.append(ring)
        stops += [ring[1:], ring[:1]]
    (x, top), (to_x, bottom) = (np.concatenate(ends).astype(np.float64, copy=False).T for ends in (starts, stops))
    first, last = np.ceil(top - 0.5).astype(np.int64), np.ceil(bottom - 0.5).astype(np.int64)
    counts = np.abs(last - first)
    crossing = np.flatnonzero(counts)
    counts = counts[crossing]
    lowest = np.minimum(first, last)[crossing]
    side = np.repeat(crossing, counts)
    rows = np.arange(side.size) + np.repeat(lowest - np.cumsum(counts) + counts, counts)
    # In this order the arithmetic is exact for corners on a grid, and so are ties: only the division rounds.
    across = (rows + 0.5 - top[side]) * (to_x - x)[side] / (bottom - top)[side]
    return np.sort((rows << 32) + np.ceil(x[side] + across - 0.5).astype(np.int64))


def iou(one: Filled, other: Filled) -> float:
    """Intersection over union of two sets of pixels, at least one of them not empty."""
    both = np.sort(np.concatenate([one, other]), kind="stable")  # merges what is sorted already
    different = int((both[1::2] - both[::2]).sum())
    total = int((one[1::2] - one[::2]).sum() + (other[1::2] - other[::2]).sum())
    return (total - different) / (total + different)
