"""Random masks and files that the tests of this room share."""

from __future__ import annotations

import io

import cv2
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from sam3_core import Instance, Mask


@st.composite
def full_bits(draw: st.DrawFn, most: int = 24) -> NDArray[np.bool_]:
    """A whole frame: noise of any density, blobs, or nothing but a rectangle; one-pixel frames included."""
    height, width = draw(st.integers(1, most)), draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["noise", "blobs", "box"]))
    if kind == "noise":
        return rng.random((height, width)) < draw(st.sampled_from([0.0, 0.05, 0.3, 0.5, 0.7, 0.95, 1.0]))
    if kind == "blobs":
        smooth = cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), draw(st.floats(0.6, 4)))
        return np.asarray(smooth > draw(st.sampled_from([-0.05, 0.0, 0.1])))
    bits = np.zeros((height, width), dtype=np.bool_)
    top, left = rng.integers(height), rng.integers(width)
    bits[top : rng.integers(top, height) + 1, left : rng.integers(left, width) + 1] = True
    return bits


@st.composite
def masks(draw: st.DrawFn, most: int = 24) -> Mask:
    """A mask, tight, padded or empty, anywhere in its frame."""
    mask = Mask.from_full(draw(full_bits(most)))
    if not draw(st.booleans()):
        return mask
    width, height = mask.frame
    x0, y0, x1, y1 = mask.box
    left, top = draw(st.integers(0, x0)), draw(st.integers(0, y0))
    right, bottom = draw(st.integers(x1, width)), draw(st.integers(y1, height))
    return Mask(mask.full()[top:bottom, left:right], left, top, mask.frame)


def disc(frame: tuple[int, int], x: float, y: float, radius: float) -> Mask:
    """A round mask, cut by the frame."""
    rows, columns = np.mgrid[: frame[1], : frame[0]] + 0.5
    return Mask.from_full(np.hypot(columns - x, rows - y) < radius)


def box_instance(x0: int, y0: int, x1: int, y1: int, score: float, phrase: str = "") -> Instance:
    """A rectangle in a frame of 100 x 100."""
    return Instance(Mask(np.ones((y1 - y0, x1 - x0), dtype=np.bool_), x0, y0, (100, 100)), score, phrase)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of a picture file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
