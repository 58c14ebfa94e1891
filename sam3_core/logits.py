"""Between the model's low-resolution maps and masks in image pixels, computed only where the object can be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sam3_core.masks import Bits, Mask

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]

_BLOCK = 2048  # columns worked on at a time
_ROWS = 128  # rows worked on at a time: with the columns, 1 MiB that stays in the processor's cache


@dataclass(frozen=True, slots=True)
class _Axis:
    """Where the output pixels ``start, start + 1, ...`` of one axis sample the cells.

    lower, upper: the two cells of each pixel. weight: the share of ``upper``, float32, 0..1.
    """

    start: int
    lower: Indices
    upper: Indices
    weight: Floats


def mask_from_logits(logits: Floats, frame: tuple[int, int], threshold: float = 0.0) -> Mask:
    """The pixels where the logits, stretched over the whole image, lie above ``threshold``.

    logits: ``(h, w)`` float32, the whole image at low resolution; NaN counts as outside.
    frame: ``(width, height)`` of the image in pixels.
    Returns a tight mask, empty when no pixel exceeds the threshold. Raises ValueError for an empty map or frame.

    Equal to ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False) > threshold`` of the full map,
    but for float32 rounding. A pixel is a mean of its four cells, so only the pixels beside a cell above the
    threshold are computed; beyond the result it needs a few MiB, whatever the size of the image.
    """
    if logits.ndim != 2 or logits.size == 0 or min(frame) < 1:
        raise ValueError(f"need a 2-D map of logits and a frame, not {logits.shape} and {frame}")
    cells = np.nan_to_num(logits.astype(np.float32, copy=False), nan=-1e30, posinf=1e30, neginf=-1e30)
    above = cells > threshold
    rows, cols = np.flatnonzero(above.any(axis=1)), np.flatnonzero(above.any(axis=0))
    if rows.size == 0:
        return Mask(np.zeros((0, 0), dtype=np.bool_), 0, 0, frame)
    across = _axis(cells.shape[1], frame[0], int(cols[0]), int(cols[-1]))
    down = _axis(cells.shape[0], frame[1], int(rows[0]), int(rows[-1]))
    bits = np.empty((down.lower.size, across.lower.size), dtype=np.bool_)
    if bits.size == 0:  # so small a frame that no pixel samples these cells
        return Mask(np.zeros((0, 0), dtype=np.bool_), 0, 0, frame)
    cells, down = _needed(cells, down)
    for left in range(0, across.lower.size, _BLOCK):
        columns = slice(left, left + _BLOCK)
        _compare(bits[:, columns], _stretched(cells, across, columns), down, threshold)
    return Mask(bits, across.start, down.start, frame).tight()


def cell_cover(mask: Mask, side: int) -> Floats:
    """The share, 0..1, of each cell that the mask covers, for ``side`` x ``side`` cells over the whole frame.

    Returns ``(side, side)`` float32, exact but for rounding: a pixel across the edge of two cells counts to each by
    its part. Time and memory go with the crop (and ``side``), not with the frame.
    """
    width, height = mask.frame
    top, rows = _cell_sums(mask.bits.view(np.uint8), mask.y, height, side)
    left, columns = _cell_sums(np.ascontiguousarray(rows.T), mask.x, width, side)
    cover = np.zeros((side, side), dtype=np.float32)
    shares = columns.T * np.float32(side * side / (width * height))
    cover[top : top + shares.shape[0], left : left + shares.shape[1]] = shares
    return cover


def _cell_sums(values: NDArray[np.generic], start: int, pixels: int, cells: int) -> tuple[int, Floats]:
    """Rows of pixels summed to rows of cells.

    values: ``(n, m)``; row r is pixel ``start + r`` of an axis of so many pixels, divided into so many cells.
    Returns the first cell that has a part of a row, and the ``(k, m)`` float32 sums of it and the k - 1 after it.
    """
    count = len(values)
    first, last = start * cells // pixels, -(-(start + count) * cells // pixels)
    kind = np.uint16 if values.dtype == np.uint8 and pixels < 2**16 else np.float32  # four times as fast
    edges = [divmod(cell * pixels - start * cells, cells) for cell in range(first, last + 1)]
    sums = np.zeros((last - first, *values.shape[1:]), dtype=np.float32)
    for row, ((lower, cut), (upper, more)) in enumerate(pairwise(edges)):
        sums[row] = values[max(lower, 0) : upper].sum(axis=0, dtype=kind)
        if lower >= 0 and cut:
            sums[row] -= np.float32(cut / cells) * values[lower]
        if upper < count and more:
            sums[row] += np.float32(more / cells) * values[upper]
    return first, sums


def _axis(cells: int, pixels: int, first: int, last: int) -> _Axis:
    """Sampling of the pixels that have one of the cells ``first..last`` among their two.

    In float32 and in the order of operations of torch's ``area_pixel_compute_source_index``: a position that is
    one rounding step off moves the values at steep edges by more than the last digit.
    """
    scale = np.float32(cells) / np.float32(pixels)
    # A pixel more on each side than the real numbers say: rounding is decided below, on the exact positions.
    begin = max(0, (first - 1) * pixels // cells - 1)
    end = min(pixels, -(-(last + 2) * pixels // cells) + 1)
    places = np.arange(begin, end, dtype=np.float32)
    position = np.maximum(scale * (places + np.float32(0.5)) - np.float32(0.5), 0)
    lower = np.minimum(position.astype(np.intp), cells - 1)
    upper = np.minimum(lower + 1, cells - 1)
    start, stop = int(np.searchsorted(upper, first, "left")), int(np.searchsorted(lower, last, "right"))
    kept = slice(start, max(start, stop))
    weight = np.clip(position[kept] - lower[kept], 0, 1).astype(np.float32)
    return _Axis(begin + start, lower[kept], upper[kept], weight)


def _needed(cells: Floats, down: _Axis) -> tuple[Floats, _Axis]:
    """The rows of cells that are sampled, and the same sampling of them."""
    first = int(down.lower[0])
    return cells[first : int(down.upper[-1]) + 1], replace(down, lower=down.lower - first, upper=down.upper - first)


def _stretched(cells: Floats, across: _Axis, columns: slice) -> Floats:
    """Every row of cells, interpolated at some columns of pixels: ``(h, columns)`` float32."""
    weight = across.weight[columns]
    return cells[:, across.lower[columns]] * (1 - weight) + cells[:, across.upper[columns]] * weight


def _compare(bits: Bits, rows: Floats, down: _Axis, threshold: float) -> None:
    """Interpolate between rows of cells and compare, together for the pixels that lie between the same two."""
    bounds = [0, *(np.flatnonzero(np.diff(down.lower)) + 1).tolist(), down.lower.size]
    for start, stop in pairwise(bounds):
        for top in range(start, stop, _ROWS):
            bottom = min(stop, top + _ROWS)
            base = rows[down.lower[top]]
            rise = rows[down.upper[top]] - base
            np.greater(np.multiply.outer(down.weight[top:bottom], rise), threshold - base, out=bits[top:bottom])
