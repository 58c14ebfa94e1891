"""COCO's compressed run-length encoding, written and read without holding the whole frame.

The format is that of pycocotools (``maskApi.c``): lengths of runs in column order, zeros first; from the fourth on
each as its difference to the one before the last; five bits a character, the low ones first, counted from "0".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as pycoco

from sam3_core.encodings.runs import run_lengths
from sam3_core.errors import InvalidInput, TooLarge
from sam3_core.masks import Mask

Counts = NDArray[np.int64]


class Rle(TypedDict):
    """size: ``[height, width]`` of the image in pixels. counts: the compressed runs, ASCII."""

    size: list[int]
    counts: str


def encode(mask: Mask) -> Rle:
    """The mask as pycocotools reads it; the cost goes with the crop, not with the frame."""
    width, height = mask.frame
    # Column order is the row order of the transpose.
    counts = run_lengths(_transposed(mask.bits), mask.y, mask.x, (height, width))
    packed = pycoco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return Rle(size=[height, width], counts=packed["counts"].decode("ascii"))


def decode(rle: Mapping[str, Any], *, max_megapixels: float = 100.0) -> Mask:
    """The tight mask of ``{"size": [height, width], "counts": ...}``, counts compressed (str, bytes) or a list.

    Raises InvalidInput, with what is wrong, for anything else: unlike pycocotools, which trusts the counts and
    writes past the end of its array when they are too many. Raises TooLarge above ``max_megapixels``.
    """
    width, height = _frame(rle.get("size"), max_megapixels)
    counts = _counts(rle.get("counts"))
    if (counts < 0).any() or int(counts.sum()) != width * height:
        raise InvalidInput(f"the COCO RLE counts do not add up to {width} x {height} pixels")
    edges = np.cumsum(counts)
    starts, stops = edges[: edges.size // 2 * 2 : 2], edges[1::2]
    filled = np.flatnonzero(stops > starts)
    if filled.size == 0:
        return Mask(np.zeros((0, 0), dtype=np.bool_), 0, 0, (width, height))
    first, last = int(starts[filled[0]]) // height, (int(stops[filled[-1]]) - 1) // height
    steps = np.zeros((last - first + 1) * height + 1, dtype=np.int8)
    steps[starts[filled] - first * height] += 1
    steps[stops[filled] - first * height] -= 1
    inside = np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_)
    return Mask(_transposed(inside.reshape(-1, height)), first, 0, (width, height)).tight()


def _transposed(bits: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A contiguous transpose; cv2 does it in tiles, over ten times faster than numpy's copy of ``bits.T``."""
    if bits.size == 0:
        return np.zeros(bits.shape[::-1], dtype=np.bool_)
    return np.asarray(cv2.transpose(bits.view(np.uint8))).view(np.bool_)


def _frame(size: object, max_megapixels: float) -> tuple[int, int]:
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(type(v) is int and v > 0 for v in size):
        raise InvalidInput(f"a COCO RLE needs size [height, width], two positive whole numbers, not {size!r:.80}")
    if size[0] * size[1] > max_megapixels * 1e6:
        raise TooLarge(f"a mask of {size[1]} x {size[0]} pixels is over the limit of {max_megapixels:g} megapixels")
    return size[1], size[0]


def _counts(counts: object) -> Counts:
    if isinstance(counts, str | bytes):
        return _decompressed(counts.encode("utf-8") if isinstance(counts, str) else counts)
    if isinstance(counts, list) and counts and all(type(v) is int and 0 <= v < 1 << 40 for v in counts):
        return np.array(counts, dtype=np.int64)
    raise InvalidInput("COCO RLE counts must be a compressed string or a list of run lengths")


def _decompressed(text: bytes) -> Counts:
    codes = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - ord("0")
    last = np.flatnonzero((codes & 0x20) == 0)
    if codes.size == 0 or codes.min() < 0 or codes.max() > 0x3F or last.size == 0 or last[-1] != codes.size - 1:
        raise InvalidInput("the COCO RLE counts are cut off or hold characters that do not belong there")
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > 8:
        raise InvalidInput("the COCO RLE counts hold a number too large for any image")
    place = np.arange(codes.size) - np.repeat(first, lengths)
    deltas = np.add.reduceat((codes & 0x1F) << (5 * place), first)
    deltas -= np.where(codes[last] & 0x10, np.int64(1) << (5 * lengths), 0)
    counts = deltas
    for parity in (1, 2):
        counts[parity::2] = np.cumsum(deltas[parity::2])
    return counts
