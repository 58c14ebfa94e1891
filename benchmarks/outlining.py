"""Polygons of masks: ours, and OpenCV's contours simplified by a share of their perimeter."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.shapes import KINDS
from benchmarks.table import Row
from sam3_core.encodings.outlines import outlines
from sam3_core.encodings.polygons import polygons
from sam3_core.finish import Finish
from sam3_core.masks import Bits, Mask

Rings = Sequence[NDArray[np.float64]]
"""One polygon, its outer ring first: ``(N, 2)`` float64, xy in pixels; column c spans c..c + 1."""

SHARES = (0.001, 0.005, 0.01)
"""Of the perimeter: how far ``approxPolyDP`` may stray."""

FLOORS = (0.95, 0.98, 0.99)
"""IoU that ours promise, without a cap."""

RIVAL = "fewest by Douglas-Peucker for 0.98"

_TOLERANCES = np.geomspace(0.25, 64, 81)  # pixels, for the rival; 7 % apart


def measure_polygons(count: int, side: int) -> list[Row]:
    """A row for each kind of mask and each method, and for all kinds together.

    count: masks of all kinds together. side: of each, in pixels. Vertices of all rings of a mask. IoU of the mask and
    its polygons, filled by the centres of the pixels; worst: the lowest of all masks.
    """
    seen: dict[tuple[str, str], list[tuple[int, float, float]]] = {}
    rng = np.random.default_rng(0)
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        bits = KINDS[kind](rng, (side, side))
        for turn in range(len(_METHODS)):  # another one first each time: it finds the mask in no cache
            method = list(_METHODS)[(number // len(KINDS) + turn) % len(_METHODS)]
            sample = _sample(bits, _METHODS[method])
            seen.setdefault((kind, method), []).append(sample)
            seen.setdefault(("all", method), []).append(sample)
    order = [(kind, method) for kind in (*KINDS, "all") for method in _METHODS]
    return [_row(*key, seen[key]) for key in order if key in seen]


def _sample(bits: Bits, work: Callable[[Bits], Sequence[Rings]]) -> tuple[int, float, float]:
    """Vertices, IoU and milliseconds of CPU time, of all threads together."""
    started = time.process_time()
    found = work(bits)
    spent = 1000 * (time.process_time() - started)
    return _corners(found), _iou(found, bits), spent


def _corners(found: Sequence[Rings]) -> int:
    return sum(len(ring) for rings in found for ring in rings)


def _iou(found: Sequence[Rings], bits: Bits) -> float:
    drawn = np.zeros_like(bits)
    for rings in found:
        drawn |= filled(rings, bits.shape)
    return float(np.count_nonzero(drawn & bits) / np.count_nonzero(drawn | bits))


def _row(kind: str, method: str, samples: Sequence[tuple[int, float, float]]) -> Row:
    vertices, ious, spent = (np.array(column, dtype=np.float64) for column in zip(*samples, strict=True))
    return {
        "masks": kind,
        "polygons": method,
        "number": len(samples),
        "median_vertices": float(np.median(vertices)),
        "mean_IoU": float(ious.mean()),
        "worst_IoU": float(ious.min()),
        "ms": float(np.median(spent)),
    }


def our_polygons(bits: Bits) -> list[Rings]:
    """With the defaults, from the full frame: IoU of 0.98, but no more than 500 corners a polygon."""
    return [polygon.rings for polygon in polygons(Mask.from_full(bits))]


def free_polygons(bits: Bits, floor: float) -> list[Rings]:
    """With as many corners as this IoU needs."""
    finish = Finish(min_iou=floor, max_vertices=0)
    return [polygon.rings for polygon in polygons(Mask.from_full(bits), finish)]


def rival_polygons(bits: Bits, floor: float) -> Sequence[Rings]:
    """The fewest corners with which ``approxPolyDP`` keeps this IoU with the mask: every tolerance is tried.

    A stronger rival than anybody runs: it starts from the edges of the pixels, not from their centres, and takes for
    each mask the tolerance that suits it best, the same for all its rings. Rings that cross are let pass.
    """
    exact = [(part.outer.astype(float), *(hole.astype(float) for hole in part.holes)) for part in outlines(bits)]
    best: Sequence[Rings] = exact
    for tolerance in _TOLERANCES[::-1]:  # few corners first: most of the others need no drawing
        found = [tuple(_simplified(ring, tolerance) for ring in rings) for rings in exact]
        if _corners(found) < _corners(best) and _iou(found, bits) >= floor:
            best = found
    return best


def _simplified(ring: NDArray[np.generic], tolerance: float) -> NDArray[np.float64]:
    return np.asarray(cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, True)[:, 0], np.float64)


def stock_polygons(bits: Bits, share: float) -> list[Rings]:
    """OpenCV's contours with their holes; rings left with fewer than three corners are dropped, as editors want.

    The coordinates are used as they are, which is what integrations do.
    """
    contours, tree = cv2.findContours(bits.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    simple = [cv2.approxPolyDP(one, share * cv2.arcLength(one, True), True)[:, 0].astype(float) for one in contours]
    found: dict[int, list[NDArray[np.float64]]] = {
        i: [ring] for i, ring in enumerate(simple) if tree[0][i][3] < 0 and len(ring) > 2
    }
    for i, ring in enumerate(simple):
        if tree[0][i][3] in found and len(ring) > 2:
            found[tree[0][i][3]].append(ring)
    return list(found.values())


_METHODS: dict[str, Callable[[Bits], Sequence[Rings]]] = {
    "ours": our_polygons,
    **{f"ours, {floor:g}, no cap": partial(free_polygons, floor=floor) for floor in FLOORS},
    **{f"approxPolyDP {share:.1%}": partial(stock_polygons, share=share) for share in SHARES},
    RIVAL: partial(rival_polygons, floor=0.98),
}


def filled(rings: Rings, shape: tuple[int, ...]) -> Bits:
    """``(H, W)`` bool: the pixels whose centres lie inside, by the even-odd rule."""
    height, width = shape
    crossed = np.zeros((height, width + 1), np.int32)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            top, bottom = sorted((y0, y1))
            rows = np.arange(max(0, np.ceil(top - 0.5)), min(height, np.ceil(bottom - 0.5)), dtype=np.intp)
            if rows.size:
                x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
                crossed[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(np.intp)] += 1
    inside: Bits = np.cumsum(crossed, axis=1)[:, :width] % 2 == 1
    return inside
