"""Masks as PNG files of the whole frame: grey for tools, ink on nothing for the canvases of editors."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from sam3_core.images import opened
from sam3_core.masks import Mask

_QUICK = 1  # zlib level: a mask's long runs pack well at any


def encode(mask: Mask) -> bytes:
    """One channel of eight bits, 255 inside and 0 outside, as large as the frame."""
    return _saved(Image.fromarray(mask.full().view(np.uint8) * np.uint8(255)))


def encode_ink(mask: Mask, color: tuple[int, int, int] = (0, 0, 0)) -> bytes:
    """Opaque ``color`` (RGB, 0..255) inside, transparent outside, as large as the frame.

    A palette of two entries, one bit a pixel: browsers and Pillow's ``convert("RGBA")`` read it as RGBA, at an eighth
    of a byte a pixel instead of four bytes.
    """
    picture = Image.fromarray(mask.full().view(np.uint8)).convert("L")
    picture.putpalette([0, 0, 0, *color])
    return _saved(picture, bits=1, transparency=0)


def decode(data: bytes, *, max_megapixels: float = 100.0) -> Mask:
    """The tight mask of a PNG (or another lossless picture), drawn in either way.

    A pixel is inside when it is at least half opaque, in a picture with transparency, else when it is at least half
    as bright as white. Raises BrokenImage or TooLarge as ``images.decode`` does.
    """
    with opened(data, max_megapixels=max_megapixels) as image:
        image.load()
        channel = image.convert("RGBA").getchannel("A") if image.has_transparency_data else image.convert("L")
        return Mask.from_full(np.asarray(channel) > 127)


def _saved(picture: Image.Image, **options: int) -> bytes:
    file = BytesIO()
    picture.save(file, "PNG", compress_level=_QUICK, **options)
    return file.getvalue()
