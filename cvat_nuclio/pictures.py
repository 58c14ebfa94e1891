"""Pictures as CVAT sends them become what its viewer shows.

CVAT sends the stored file at original quality, which may be of any mode, and the same file again with every click.
Its viewer shows most as a browser does, as the core decodes them; what it shows otherwise is rewritten here as PNG:

- deep greyscale. Sixteen bits: stretched from the least to the greatest value, then the histogram equalised.
  Thirty-two: the greatest value white. Floats, which it shows clipped, nearly always as black, as sixteen bits.
- WebP with an EXIF orientation, which browsers ignore and CVAT applies.

Source: CVAT's media_extractors.py, ``_compress_image`` and ``exif_transpose`` before it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from sam3_core import EncodedImage
from sam3_core.errors import BrokenImage
from sam3_core.images import opened

_REMEMBERED = 4096  # names and sizes of pictures, some 200 bytes each
_PLAIN = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
"""Modes that a PNG holds and the core shows as CVAT does."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image, and ``(width, height)`` in pixels as displayed: known without its bytes, where it was seen before."""

    image: EncodedImage
    size: tuple[int, int]


class Pictures:
    """Reads the base64 text of requests, and remembers what it was. Callable from any thread.

    What was seen before is known by the text alone: neither the text nor the picture in it is decoded, unless
    somebody asks for the bytes.
    """

    def __init__(self, *, max_megapixels: float, remembered: int = _REMEMBERED) -> None:
        self._max_megapixels = max_megapixels
        self._remembered = remembered
        self._known: OrderedDict[bytes, tuple[str, tuple[int, int]]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, text: str) -> Picture:
        """Raises BrokenImage or TooLarge for text that is no picture we read."""
        raw = text.encode("ascii", "replace")  # what is not ASCII is not base64 either
        name = hashlib.blake2b(raw, digest_size=16).digest()
        with self._lock:
            if known := self._known.get(name):
                self._known.move_to_end(name)
        if known:
            key, size = known
            return Picture(EncodedImage.deferred(key, partial(self._decode, raw)), size)
        image = EncodedImage(self._decode(raw))
        picture = Picture(image, image.displayed_size(max_megapixels=self._max_megapixels))
        with self._lock:
            self._known[name] = image.key, picture.size
            if len(self._known) > self._remembered:
                self._known.popitem(last=False)
        return picture

    def _decode(self, text: bytes) -> bytes:
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise BrokenImage(f"the image is not base64: {error}") from None
        return as_shown(data, max_megapixels=self._max_megapixels)


def as_shown(data: bytes, *, max_megapixels: float) -> bytes:
    """The file itself, or a PNG where CVAT's viewer shows it otherwise than a browser. Raises as ``decode``."""
    with opened(data, max_megapixels=max_megapixels) as image:
        turned = image.format == "WEBP" and image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        if not _is_deep(image) and not turned:
            return data
        image.load()
        return png_of(image)


def png_of(image: Image.Image) -> bytes:
    """A PNG of a Pillow image (of any mode) as CVAT's viewer shows it, EXIF orientation applied."""
    upright = ImageOps.exif_transpose(image)
    if _is_deep(upright):
        upright = _shown_grey(upright)
    elif upright.mode not in _PLAIN:
        upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    buffer = BytesIO()
    upright.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith(("I", "F"))


def _shown_grey(image: Image.Image) -> Image.Image:
    """Deep greyscale in eight bits; what is not finite is black."""
    values = np.asarray(image).astype(np.float64)
    finite = np.isfinite(values)
    high = values.max(initial=-np.inf, where=finite)
    if image.mode == "I":
        return _grey(values * (256 / high) if high > 0 else np.zeros_like(values))
    low = values.min(initial=np.inf, where=finite)
    if not low < high:
        return _grey(np.zeros_like(values))
    return ImageOps.equalize(_grey(np.where(finite, (values - low) / (high - low) * 255, 0)))


def _grey(values: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
