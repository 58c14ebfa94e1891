"""COCO RLE against pycocotools, in both directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mask_strategies import disc, full_bits, masks
from pycocotools import mask as pycoco

from sam3_core import Mask
from sam3_core.encodings import coco
from sam3_core.errors import InvalidInput, TooLarge

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own


@given(masks())
def test_bytes_are_those_of_pycocotools(mask: Mask) -> None:
    theirs = pycoco.encode(np.asfortranarray(mask.full().astype(np.uint8)))
    ours = coco.encode(mask)
    assert ours == {"size": theirs["size"], "counts": theirs["counts"].decode()}
    assert np.array_equal(pycoco.decode(ours), mask.full())


@given(masks())
def test_decode_gives_the_mask_back(mask: Mask) -> None:
    rle = coco.encode(mask)
    decoded = coco.decode(rle)
    assert np.array_equal(decoded.full(), mask.full())
    assert decoded.frame == mask.frame
    assert decoded.bits.shape == mask.tight().bits.shape
    counts = _uncompressed(mask.full())
    for form in (rle["counts"].encode(), counts):
        assert np.array_equal(coco.decode({"size": rle["size"], "counts": form}).full(), mask.full())


def test_large_frames_with_large_counts() -> None:
    round_bits = disc((3000, 2500), 1500, 1500, 1400).bits
    mask = Mask(round_bits, 5000, 4000, (9000, 7000))
    rle = coco.encode(mask)
    assert pycoco.area(rle) == mask.area
    assert pycoco.toBbox(rle).tolist() == [mask.x, mask.y, *mask.bits.shape[::-1]]
    assert np.array_equal(coco.decode(rle).bits, mask.bits)


def test_the_frame_itself_is_never_built() -> None:
    """A dot in a frame of 4 gigapixels: as an array it would not fit."""
    mask = Mask(np.ones((2, 3), dtype=np.bool_), 40_000, 50_000, (60_000, 65_000))
    decoded = coco.decode(coco.encode(mask), max_megapixels=4000)
    assert decoded.box == mask.box
    assert decoded.area == 6


@given(full_bits(8), st.data())
def test_damaged_counts_are_refused_or_fill_the_frame(bits: np.ndarray, data: st.DataObject) -> None:
    rle = coco.encode(Mask.from_full(bits))
    counts = list(rle["counts"])
    place = data.draw(st.integers(0, len(counts) - 1))
    counts[place : place + data.draw(st.integers(0, 2))] = data.draw(st.text(max_size=3))
    try:
        decoded = coco.decode({"size": rle["size"], "counts": "".join(counts)})
    except InvalidInput:
        return
    assert decoded.frame == bits.shape[::-1]


@pytest.mark.parametrize(
    "rle",
    [
        {},
        {"size": [2, 2]},
        {"counts": "4"},
        {"size": [2], "counts": "4"},
        {"size": [2, -2], "counts": "4"},
        {"size": [2, 2.0], "counts": [4]},
        {"size": [True, True], "counts": [1]},
        {"size": "22", "counts": [4]},
        {"size": [2, 2], "counts": []},
        {"size": [2, 2], "counts": ""},
        {"size": [2, 2], "counts": [3]},
        {"size": [2, 2], "counts": [5]},
        {"size": [2, 2], "counts": [6, -2]},
        {"size": [2, 2], "counts": [2**63]},
        {"size": [2, 2], "counts": [[1, 1, 2, 2, 3, 3]]},
        {"size": [2, 2], "counts": "oooooooooooooooooooooo0"},
        {"size": [2, 2], "counts": "3N3"},  # 3, -2, 3
        {"size": [2, 2], "counts": "o"},
        {"size": [2, 2], "counts": "4 "},
        {"size": [2, 2], "counts": "\u20ac"},
        {"size": [2, 2], "counts": None},
    ],
    ids=repr,
)
def test_nonsense_is_refused(rle: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="COCO RLE"):
        coco.decode(rle)


def test_frames_over_the_limit_are_refused() -> None:
    with pytest.raises(TooLarge, match=r"4000 x 3000 pixels.*10 megapixels"):
        coco.decode({"size": [3000, 4000], "counts": [12_000_000]}, max_megapixels=10)


def _uncompressed(bits: np.ndarray) -> list[int]:
    flat = bits.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    return [0, *counts] if flat[0] else counts
