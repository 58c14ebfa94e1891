"""Runs of masks: what run-length encodings, outlines and cleaning are built from."""

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
    rows, columns = np.divmod(flat_edges(bits), bits.shape[1] + 1)
    return rows, columns


def flat_edges(bits: Bits) -> Indices:
    """The edges of ``run_edges`` as one number each: ``row * (w + 1) + column``, ``(2 * runs,)`` int64, rising."""
    height, width = bits.shape
    if bits.size == 0:
        return np.zeros(0, dtype=np.int64)
    edge = np.empty((height, width + 1), dtype=np.bool_)
    edge[:, 0] = bits[:, 0]
    edge[:, -1] = bits[:, -1]
    np.not_equal(bits[:, 1:], bits[:, :-1], out=edge[:, 1:-1])
    return np.flatnonzero(edge).astype(np.int64, copy=False)


def run_lengths(bits: Bits, x: int, y: int, frame: tuple[int, int]) -> Indices:
    """The runs of a whole frame, read row after row, from the crop that is not all outside.

    bits: ``(h, w)`` bool at column ``x`` and row ``y`` of a frame of ``(width, height)`` pixels.
    Returns ``(runs,)`` int64: how many pixels are outside, inside, outside and so on; they add up to the frame. The
    first counts pixels outside and is 0 where the frame begins inside; all others are positive. The frame is never
    built.
    """
    width, height = frame
    if bits.shape[1] == width:  # one row, as long as all together
        edges = flat_edges(bits.reshape(1, -1)) + y * width
    else:
        edges = flat_edges(bits)
        edges += edges // (bits.shape[1] + 1) * (width - bits.shape[1] - 1) + (y * width + x)
    if edges.size and edges[-1] == width * height:
        edges = edges[:-1]
    return np.diff(edges, prepend=0, append=width * height)
