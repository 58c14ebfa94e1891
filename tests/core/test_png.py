"""Masks as PNG, read by other decoders than ours: Pillow and OpenCV."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mask_strategies import disc, encoded, masks
from PIL import Image

from sam3_core import Mask
from sam3_core.encodings import png
from sam3_core.errors import BrokenImage, TooLarge


@given(masks())
def test_grey_is_read_the_same_by_everybody(mask: Mask) -> None:
    data = png.encode(mask)
    expected = mask.full() * np.uint8(255)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        assert np.array_equal(np.asarray(image), expected)
    assert np.array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), expected)
    assert np.array_equal(png.decode(data).full(), mask.full())


@given(masks(), st.tuples(*[st.integers(0, 255)] * 3))
def test_ink_is_opaque_inside_and_transparent_outside(mask: Mask, color: tuple[int, int, int]) -> None:
    data = png.encode_ink(mask, color)
    bits = mask.full()
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image.convert("RGBA"))
    assert np.array_equal(pixels[..., 3], bits * np.uint8(255))
    assert (pixels[bits] == [*color, 255]).all()
    assert np.array_equal(png.decode(data).full(), bits)


def test_drawings_of_editors_are_read() -> None:
    mask = disc((40, 30), 12, 14, 9)
    opaque = np.dstack([np.zeros((30, 40, 3), np.uint8), mask.full() * np.uint8(255)])
    assert np.array_equal(png.decode(encoded(Image.fromarray(opaque), "PNG")).full(), mask.full())
    one_bit = Image.fromarray(mask.full())
    assert np.array_equal(png.decode(encoded(one_bit, "PNG")).full(), mask.full())


def test_bad_files_are_refused() -> None:
    data = png.encode(disc((40, 30), 12, 14, 9))
    with pytest.raises(BrokenImage):
        png.decode(data[:-30])
    with pytest.raises(TooLarge):
        png.decode(data, max_megapixels=0.001)
