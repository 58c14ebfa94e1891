"""Label Studio's brush RLE, written straight from a mask's crop and read straight into one.

The format is thi.ng's rle-pack (https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack), most significant
bit first: 32 bits count of values, 5 bits word size - 1 (8-bit words), four 4-bit size fields - 1 (3, 4, 8, 16 bits),
then runs of 1 bit "repeat", 2 bits size field, length - 1 in that many bits and the 8-bit value. Values are the RGBA
bytes of the *whole* image in row order, so a pixel is 4 values and one run holds at most 65 536 of them. A run
without "repeat" holds that many raw values instead of one. Each pixel's four bytes are written as 255 inside and 0
outside; what is read is the alpha, every fourth byte, in which browsers keep what was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sam3_core import Mask
from sam3_core.encodings.runs import Indices, run_lengths
from sam3_core.errors import InvalidInput

_SIZES = np.array([3, 4, 8, 16], dtype=np.int64)
_SPANS = 1 << _SIZES
_LONGEST = 1 << 16
_MAX_VALUES = (1 << 32) - 1
_HEADER = 53  # bits
_MAX_BYTES = 1 << 20  # of RLE that is read: half a second's work; a mask of 12 megapixels has some 20 000


def brush_rle(mask: Mask) -> list[int]:
    """The mask as Label Studio's ``rle``: bytes as ints 0..255, for exactly width x height x 4 values of its frame.

    The full frame is never built: run ends are found inside the crop and spliced into the image. Raises ValueError
    for an image of 2**30 pixels or more, whose count does not fit the format.
    """
    width, height = mask.frame
    count = width * height * 4
    if count > _MAX_VALUES:
        raise ValueError(f"an image of {width}x{height} pixels is too large for brush RLE")
    lengths, inside = _split_long(run_lengths(mask.bits, mask.x, mask.y, mask.frame))
    return _pack(count, lengths, inside)


def _split_long(lengths: Indices) -> tuple[Indices, Indices]:
    """Pixels to values, and runs longer than the format's longest cut into full ones and a rest.

    lengths: as ``run_lengths`` gives them. Returns lengths, all positive, and 1 for those inside, 0 for the others.
    """
    first = int(lengths[0] == 0)
    values = lengths[first:] * 4
    pieces = (values + _LONGEST - 1) // _LONGEST
    out = np.full(int(pieces.sum()), _LONGEST, dtype=np.int64)
    out[np.cumsum(pieces) - 1] = values - (pieces - 1) * _LONGEST
    return out, np.repeat(np.arange(first, lengths.size) & 1, pieces)


def _pack(count: int, lengths: Indices, inside: Indices) -> list[int]:
    """Header and runs as bytes."""
    header = (count << 21) | ((8 - 1) << 16) | 0x237F  # size fields 3, 4, 8, 16, each less one, four bits each
    field = np.searchsorted(_SPANS, lengths)  # the first size that holds length - 1
    size = _SIZES[field]
    words = (((1 << 2 | field) << size) | (lengths - 1)) << 8 | inside * 255
    ends = np.cumsum(size + 11) + _HEADER
    starts = ends - size - 11
    words <<= 40 - 11 - size - starts % 8  # a word of 27 bits at most lies in five bytes
    packed = np.zeros(int(ends[-1] + 7) // 8 + 4, dtype=np.uint8)
    packed[:7] = list((header << 3).to_bytes(7, "big"))
    first = starts // 8
    for place in range(5):  # words share bytes, never bits, so a sum joins them
        np.add.at(packed, first + place, (words >> 32 - 8 * place).astype(np.uint8))
    return list(packed[:-4].tobytes())


def mask_of_rle(rle: Sequence[int] | bytes, frame: tuple[int, int]) -> Mask:
    """The tight mask of Label Studio's ``rle``: pixels that are at least half opaque.

    rle: bytes, or ints 0..255. frame: ``(width, height)`` in pixels, which it must be of. The full frame is never
    built. Raises InvalidInput for what is no RLE of that frame, is cut off or longer than a mebibyte.
    """
    if len(rle) > _MAX_BYTES:
        raise InvalidInput(f"a brush mask of {len(rle)} bytes is more than the {_MAX_BYTES} that are read")
    try:
        data = bytes(rle)
    except (TypeError, ValueError):
        raise InvalidInput("a brush mask is a list of bytes") from None
    return _fill(_inside_runs(data, frame[0] * frame[1] * 4), frame)


def _inside_runs(data: bytes, count: int) -> NDArray[np.int64]:
    """``(N, 2)``: first pixel and the one behind the last of each run inside, in order, not touching each other."""
    header = int.from_bytes(data[:8].ljust(8, b"\0"), "big") >> (64 - _HEADER)
    if len(data) * 8 < _HEADER or (header >> 16) & 31 != 7:
        raise InvalidInput("a brush mask needs a header with words of 8 bits")
    if header >> 21 != count:
        raise InvalidInput(f"a brush mask holds {header >> 21} values, and the picture {count}")
    sizes = [((header >> shift) & 15) + 1 for shift in (12, 8, 4, 0)]
    runs: list[int] = []  # starts and ends in turn
    at, place = 0, _HEADER  # value and bit that come next
    while at < count:
        # The longest repeating run has 1 + 2 + 16 + 8 bits, and begins within the first 8 of these 40.
        window = int.from_bytes(data[place >> 3 : (place >> 3) + 5].ljust(5, b"\0"), "big") << (place & 7)
        size = sizes[(window >> 37) & 3]
        length = ((window >> (37 - size)) & ((1 << size) - 1)) + 1
        repeats = window >> 39 & 1
        place += 3 + size
        end = place + (8 if repeats else 8 * length)
        if at + length > count or end > len(data) * 8:
            raise InvalidInput("a brush mask is cut off, or runs over its own end")
        if repeats:
            if (window >> (36 - size)) & 1:  # the value's highest bit: at least half opaque
                _add(runs, at // 4, (at + length) // 4)
        else:
            raw = int.from_bytes(data[place >> 3 : (end + 7) >> 3], "big") >> (-end & 7)
            values = (raw & ((1 << 8 * length) - 1)).to_bytes(length, "big")
            for number, alpha in enumerate(values[3 - at % 4 :: 4], start=at // 4):
                if alpha > 127:
                    _add(runs, number, number + 1)
        at, place = at + length, end
    return np.array(runs, dtype=np.int64).reshape(-1, 2)


def _add(runs: list[int], start: int, end: int) -> None:
    """Append a run of pixels; one that touches the last makes it longer."""
    if start >= end:
        return
    if runs and runs[-1] == start:
        runs[-1] = end
    else:
        runs += (start, end)


def _fill(runs: NDArray[np.int64], frame: tuple[int, int]) -> Mask:
    """The mask of runs of the flattened frame."""
    width, _ = frame
    if len(runs) == 0:
        return Mask(np.zeros((0, 0), dtype=np.bool_), 0, 0, frame)
    first, last = runs[:, 0] // width, (runs[:, 1] - 1) // width
    rows = last - first + 1
    whole = np.repeat(np.arange(len(runs)), rows)  # the run that each piece, cut at the ends of rows, is of
    row = np.arange(int(rows.sum())) - np.repeat(np.cumsum(rows) - rows, rows) + first[whole]
    left = np.maximum(runs[whole, 0] - row * width, 0)
    right = np.minimum(runs[whole, 1] - row * width, width)
    x, y = int(left.min()), int(row[0])
    bits = np.zeros((int(row[-1]) - y + 1, int(right.max()) - x), dtype=np.bool_)
    # Slices touch what is inside; a running sum over steps would walk the whole crop (measured: ten times slower).
    for line, start, end in zip((row - y).tolist(), (left - x).tolist(), (right - x).tolist(), strict=True):
        bits[line, start:end] = True
    return Mask(bits, x, y, frame)
