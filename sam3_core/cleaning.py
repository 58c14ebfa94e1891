"""Loose parts and holes of a mask, found in its runs: a clean mask costs one pass over its pixels and little more.

Pixels inside hang together through edges, those outside through corners too, so every hole has one part around it.
Runs are held as ``flat_edges`` gives them: in that count, rows are one pixel longer than the mask's, and where two
runs of neighbouring rows lie over each other, one row's length is between them.
"""

from __future__ import annotations

import numpy as np

from sam3_core.encodings.runs import Indices, flat_edges
from sam3_core.masks import Bits, Mask


def without_specks(mask: Mask, least: float, *, largest_only: bool = False) -> Mask:
    """The mask without parts below ``least`` pixels, the largest apart, and with holes below it filled.

    Parts go first: the pixels of a speck in a hole are the hole's. What else is in a hole that is filled becomes one
    with what is around it. largest_only: no part stays but the largest; of equals, the first in reading order.

    The mask itself where there is nothing to do, else tight.
    """
    edges = flat_edges(mask.bits)
    if edges.size == 0 or (least <= 1 and not largest_only):
        return mask
    stride = mask.bits.shape[1] + 1
    kept = _of_large_parts(edges, stride, least, largest_only)
    kept[kept] = _around_large_holes(edges[kept], stride, least)
    if kept.all():
        return mask
    bits = mask.bits.copy()
    _flip(bits, edges[~kept])  # between an edge that went and the next that went, the pixels change sides
    return Mask(bits, mask.x, mask.y, mask.frame).tight()


def separate_parts(mask: Mask) -> list[Mask]:
    """The connected parts of the mask, in reading order; the mask itself where it is only one."""
    edges = flat_edges(mask.bits).reshape(-1, 2)
    labels = _part_of(edges.ravel(), mask.bits.shape[1] + 1)
    names = np.unique(labels)
    if names.size < 2:
        return [mask]
    parts = []
    for name in names:
        bits = np.zeros_like(mask.bits)
        _flip(bits, edges[labels == name].ravel())
        parts.append(Mask(bits, mask.x, mask.y, mask.frame).tight())
    return parts


def parts_and_holes(bits: Bits) -> tuple[int, int]:
    """How many connected parts there are, and how many holes."""
    edges, stride = flat_edges(bits), bits.shape[1] + 1
    if edges.size == 0:
        return 0, 0
    return np.unique(_part_of(edges, stride)).size, np.unique(_gap_of(edges, stride)).size - 1


def _of_large_parts(edges: Indices, stride: int, least: float, largest_only: bool) -> Bits:
    """For each edge whether it belongs to a part that stays."""
    labels = _part_of(edges, stride)
    areas = np.bincount(labels, weights=edges[1::2] - edges[::2])
    stays = np.zeros(areas.size, dtype=np.bool_) if largest_only else areas >= least
    stays[areas.argmax()] = True
    return np.repeat(stays[labels], 2)


def _around_large_holes(edges: Indices, stride: int, least: float) -> Bits:
    """For each edge whether it stays when holes below ``least`` are filled."""
    kept = np.ones(edges.size, dtype=np.bool_)
    labels = _gap_of(edges, stride)[1:-1]
    areas = np.bincount(labels, weights=edges[2::2] - edges[1:-1:2])
    fills = (areas < least)[labels] & (labels > 0)
    kept[1:-1] = ~np.repeat(fills, 2)
    return kept


def _part_of(edges: Indices, stride: int) -> Indices:
    """For each run the number of its part: that of the part's first run."""
    starts, stops = edges[::2], edges[1::2]
    above = np.searchsorted(stops + stride, starts, side="right")
    return _joined(above, np.searchsorted(starts + stride, stops, side="left"))


def _gap_of(edges: Indices, stride: int) -> Indices:
    """For each gap between runs the number of its first gap; 0 for all outside.

    Before the first run and after the last is a row of its own. A gap may go from one row to the next.
    """
    last = int(edges[-1]) // stride * stride + 2 * stride
    starts, stops = np.append(-stride, edges[1::2]), np.append(edges[::2], last)
    above = np.searchsorted(stops + stride, starts, side="left")
    return _joined(above, np.searchsorted(starts + stride, stops, side="right"))


def _joined(firsts: Indices, ends: Indices) -> Indices:
    """For each of some things the first that it hangs together with, when thing i touches ``firsts[i]:ends[i]``.

    Every group of touching things hangs on its first; groups that touch are hung on the earlier of them, until none
    do. Things mostly touch the one above, and halving the way up takes few turns.
    """
    counts = ends - firsts
    one = np.repeat(np.arange(counts.size), counts)
    other = np.arange(one.size) - np.repeat(np.cumsum(counts) - counts - firsts, counts)
    root = np.arange(counts.size)
    while True:
        mine, theirs = root[one], root[other]
        apart = mine != theirs
        if not apart.any():
            return root
        mine, theirs = mine[apart], theirs[apart]
        np.minimum.at(root, np.maximum(mine, theirs), np.minimum(mine, theirs))
        while not np.array_equal(root, higher := root[root]):
            root = higher


def _flip(bits: Bits, edges: Indices) -> None:
    """Change in place which side pixels are on, between the first edge and the second, the third and the fourth."""
    rows, columns = np.divmod(edges, bits.shape[1] + 1)
    for row, start, stop in zip(rows[::2].tolist(), columns[::2].tolist(), columns[1::2].tolist(), strict=True):
        bits[row, start:stop] ^= True
