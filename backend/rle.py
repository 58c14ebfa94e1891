"""Label Studio's brush RLE, written straight from a mask's crop.

The format is thi.ng's rle-pack (https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack), most significant
bit first: 32 bits count of values, 5 bits word size - 1 (8-bit words), four 4-bit size fields - 1 (3, 4, 8, 16 bits),
then runs of 1 bit "repeat", 2 bits size field, length - 1 in that many bits and the 8-bit value. Values are the RGBA
bytes of the *whole* image in row order, so a pixel is 4 values and one run holds at most 65 536 of them. Each pixel's
four bytes are 255 inside and 0 outside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sam3_core import Mask

_SIZES = np.array([3, 4, 8, 16], dtype=np.int64)
_LONGEST = 1 << 16
_MAX_VALUES = (1 << 32) - 1
_CHUNK = 1 << 18  # runs packed at a time: bounds the bits held unpacked to some megabytes


def brush_rle(mask: Mask) -> list[int]:
    """The mask as Label Studio's ``rle``: bytes as ints 0..255, for exactly width x height x 4 values of its frame.

    The full frame is never built: run ends are found inside the crop and spliced into the image. Raises ValueError
    for an image of 2**30 pixels or more, whose count does not fit the format.
    """
    width, height = mask.frame
    count = width * height * 4
    if count > _MAX_VALUES:
        raise ValueError(f"an image of {width}x{height} pixels is too large for brush RLE")
    lengths, inside = _split_long(*_frame_runs(mask))
    return _pack(count, lengths, inside)


def _frame_runs(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Runs of the flattened frame: their lengths in pixels, ``(N,)`` and all positive, and whether each is inside."""
    width, height = mask.frame
    rows, columns = mask.bits.shape
    # A column of background on both sides closes every run within its own row.
    padded = np.zeros((rows, columns + 2), dtype=np.int8)
    padded[:, 1:-1] = mask.bits
    steps = np.diff(padded, axis=1)
    row, start = np.nonzero(steps == 1)
    end = np.nonzero(steps == -1)[1]
    offset = (row + mask.y) * width + mask.x
    # Starts and ends interleaved; a run that goes on at the next row's first column leaves a gap of zero.
    edges = np.empty(2 * len(row) + 2, dtype=np.int64)
    edges[0], edges[-1] = 0, width * height
    edges[1:-1:2], edges[2:-1:2] = offset + start, offset + end
    lengths = np.diff(edges)
    inside = np.zeros(len(lengths), dtype=np.bool_)
    inside[1::2] = True
    return _join(lengths[lengths > 0], inside[lengths > 0])


def _join(lengths: NDArray[np.int64], inside: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Neighbouring runs of the same value made one."""
    if lengths.size == 0:
        return lengths, inside
    first = np.flatnonzero(np.concatenate(([True], inside[1:] != inside[:-1])))
    return np.add.reduceat(lengths, first), inside[first]


def _split_long(lengths: NDArray[np.int64], inside: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Pixels to values, and runs longer than the format's longest cut into full ones and a rest."""
    values = lengths * 4
    pieces = (values + _LONGEST - 1) // _LONGEST
    out = np.full(int(pieces.sum()), _LONGEST, dtype=np.int64)
    out[np.cumsum(pieces) - 1] = values - (pieces - 1) * _LONGEST
    return out, np.repeat(inside, pieces)


def _pack(count: int, lengths: NDArray[np.int64], inside: NDArray[np.bool_]) -> list[int]:
    """Header and runs as bytes."""
    header = (count << 21) | ((8 - 1) << 16) | 0x237F  # size fields 3, 4, 8, 16, each less one, four bits each
    bits = [np.array([int(bit) for bit in f"{header:053b}"], dtype=np.uint8)]
    for i in range(0, len(lengths), _CHUNK):
        bits.append(_run_bits(lengths[i : i + _CHUNK], inside[i : i + _CHUNK]))
    packed: list[int] = np.packbits(np.concatenate(bits)).tolist()
    return packed


def _run_bits(lengths: NDArray[np.int64], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The bits of some runs, one per element, in order."""
    field = np.searchsorted(1 << _SIZES, lengths)  # the first size that holds length - 1
    size = _SIZES[field]
    value = np.where(inside, 255, 0)
    word = (((1 << 2 | field) << size) | (lengths - 1)) << 8 | value
    total = size + 11
    # Bit j of all words together belongs to the word whose end lies behind j; its weight falls towards that end.
    ends = np.cumsum(total)
    owner = np.repeat(np.arange(len(total)), total)
    shift = ends[owner] - 1 - np.arange(int(ends[-1]) if len(ends) else 0)
    bits: NDArray[np.uint8] = ((word[owner] >> shift) & 1).astype(np.uint8)
    return bits
