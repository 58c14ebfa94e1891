"""Where the runs of a mask begin and end: what COCO RLE and outlines are built from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sam3_core.masks import Bits

Indices = NDArray[np.int64]


def run_edges(bits: Bits) -> tuple[Indices, Indices]:
    """The vertical pixel edges between inside and outside, in reading order.

    bits: ``(h, w)`` bool; outside the array counts as outside.
    Returns ``(rows, columns)``, both ``(2 * runs,)`` int64: alternately the left and the right edge of a run, so
    run i of the mask fills the columns ``columns[2 * i] : columns[2 * i + 1]`` of row ``rows[2 * i]``.
    """
    height, width = bits.shape
    if bits.size == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    edge = np.empty((height, width + 1), dtype=np.bool_)
    edge[:, 0] = bits[:, 0]
    edge[:, -1] = bits[:, -1]
    np.not_equal(bits[:, 1:], bits[:, :-1], out=edge[:, 1:-1])
    return np.divmod(np.flatnonzero(edge).astype(np.int64, copy=False), width + 1)
