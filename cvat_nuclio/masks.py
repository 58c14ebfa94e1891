"""Masks as CVAT stores, shows and converts them.

Two forms, both lists of whole numbers that end with the box ``xtl, ytl, xbr, ybr`` of the crop before it, in pixels,
its last column and row included (so the crop is ``xbr - xtl + 1`` wide):

- runs (a stored mask's ``points``, an interactor's shapes): lengths of runs in row order, outside first, which is 0
  where the crop begins inside; as ``encode_mask`` of cvat-sdk writes them;
- flat (a detector's ``mask``): 0 or 1 for each pixel in row order, which CVAT's server turns into runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sam3_core import Mask
from sam3_core.encodings.runs import run_lengths
from sam3_core.errors import InvalidInput

_BOX = 4  # numbers


def cvat_rle(mask: Mask) -> list[int]:
    """The runs of the smallest crop, and its box. Raises ValueError for an empty mask, which has no box."""
    tight = _tight(mask)
    height, width = tight.bits.shape
    return [*run_lengths(tight.bits, 0, 0, (width, height)).tolist(), *_box(tight)]


def flat_crop(mask: Mask) -> list[int]:
    """The pixels of the smallest crop and its box; two bytes of JSON a pixel. Raises ValueError for an empty mask."""
    tight = _tight(mask)
    return [*tight.bits.tobytes(), *_box(tight)]


def mask_of_rle(points: Sequence[float], frame: tuple[int, int]) -> Mask:
    """The tight mask of CVAT's runs and box; a mask without a pixel inside is empty.

    points: whole numbers, as ints or floats (CVAT's API gives floats). frame: ``(width, height)`` in pixels, which
    the box must lie in. The full frame is never built. Raises InvalidInput, with what is wrong, for anything else.
    """
    numbers = _whole_numbers(points)
    lengths, (left, top, right, bottom) = numbers[:-_BOX], numbers[-_BOX:].tolist()
    if not (0 <= left <= right < frame[0] and 0 <= top <= bottom < frame[1]):
        raise InvalidInput(
            f"the box {[left, top, right, bottom]} of a CVAT mask is not in the {frame[0]} x {frame[1]} pixels"
        )
    width, height = right - left + 1, bottom - top + 1
    if (lengths < 0).any() or lengths.max() > width * height or int(lengths.sum()) != width * height:
        raise InvalidInput(f"the runs of a CVAT mask do not add up to its box of {width} x {height} pixels")
    inside = np.arange(lengths.size) % 2 == 1
    return Mask(np.repeat(inside, lengths).reshape(height, width), left, top, frame).tight()


def _whole_numbers(points: Sequence[float]) -> NDArray[np.int64]:
    """``(N,)``, at least one before the box."""
    refusal = "a CVAT mask is a list of whole numbers: runs of pixels, then the four of its box"
    try:
        numbers = np.asarray(points)
    except ValueError:  # lists of different lengths in the list
        raise InvalidInput(refusal) from None
    if numbers.ndim != 1 or numbers.size <= _BOX or numbers.dtype.kind not in "iuf":
        raise InvalidInput(refusal)
    # Beyond 2**53 floats skip whole numbers; no image is near.
    if not (np.abs(numbers) < 2.0**53).all() or (numbers != np.floor(numbers)).any():
        raise InvalidInput(refusal)
    return numbers.astype(np.int64)


def _tight(mask: Mask) -> Mask:
    tight = mask.tight()
    if tight.bits.size == 0:
        raise ValueError("an empty mask has no box")
    return tight


def _box(mask: Mask) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = mask.box
    return x0, y0, x1 - 1, y1 - 1
