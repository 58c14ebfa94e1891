"""From an encoded file to the pixels a person sees in a browser."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from sam3_core.errors import BrokenImage, InvalidInput, TooLarge

Pixels = NDArray[np.uint8]

# The reader is chosen by the first bytes, not by Image.open: that one warns and refuses by a limit that is global to
# the process, and opens dozens of formats that nobody annotates.
_READERS: tuple[tuple[bytes, type[ImageFile]], ...] = (
    (b"\xff\xd8\xff", JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"GIF8", GifImageFile),
    (b"RIFF", WebPImageFile),
    (b"II*\0", TiffImageFile),
    (b"MM\0*", TiffImageFile),
    (b"II+\0", TiffImageFile),
    (b"MM\0+", TiffImageFile),
    (b"BM", BmpImageFile),
)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What to do with the stored pixels for each EXIF orientation but the first."""


class EncodedImage:
    """An encoded file (JPEG, PNG, ...) that several prompts are about: what its bytes tell is worked out once.

    Equal bytes have equal keys; two objects are equal only when they are the same. Callable from any thread.
    """

    __slots__ = ("_data", "_key", "_load", "_size")

    def __init__(self, data: bytes) -> None:
        self._data: bytes | None = data
        self._load: Callable[[], bytes] | None = None
        self._key = ""
        self._size: tuple[int, int] | None = None

    @classmethod
    def deferred(cls, key: str, load: Callable[[], bytes]) -> EncodedImage:
        """An image whose bytes are worked out only when somebody wants them: where its key is known, they may not be
        wanted at all. load: their source; it may be asked more than once, and what it raises reaches who wanted them.
        """
        image = cls(b"")
        image._data, image._load, image._key = None, load, key
        return image

    @classmethod
    def of(cls, image: bytes | EncodedImage) -> EncodedImage:
        """The image itself, or the bytes as one."""
        return image if isinstance(image, EncodedImage) else cls(image)

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        if self._data is None:
            assert self._load is not None
            self._data = self._load()
        return self._data

    @property
    def key(self) -> str:
        """A name for these bytes, 32 hexadecimal digits."""
        if not self._key:
            self._key = hashlib.blake2b(self.data, digest_size=16).hexdigest()
        return self._key

    def displayed_size(self, *, max_megapixels: float) -> tuple[int, int]:
        """See ``displayed_size``; the header is read once. Raises as that does, each time."""
        if self._size is None:
            self._size = displayed_size(self.data, max_megapixels=max_megapixels)
        return self._size


def decode(data: bytes, *, max_megapixels: float) -> Pixels:
    """The picture as ``(H, W, 3)`` uint8 RGB, as a browser shows it (measured: Chromium 156).

    Reads JPEG, PNG, WebP, TIFF, GIF and BMP; of several frames or pages the first. EXIF orientation applies, except
    to WebP, where Chromium ignores it; orientation in XMP, or after a PNG's pixels, is ignored too. What is
    transparent lies on white, the ground of the pages that such pictures are drawn for. CMYK JPEG has Adobe's
    polarity. Sixteen-bit PNG keeps its high byte; TIFF of more than eight bits, which browsers do not show, is
    stretched from its least to its greatest value. Colour profiles are not applied: they shift colours, not shapes.

    Raises TooLarge above ``max_megapixels`` (a million pixels each), before any pixel is decoded, and BrokenImage,
    with what the bytes look like, for all that is no whole picture.
    """
    with opened(data, max_megapixels=max_megapixels) as image:
        turn = _UPRIGHT.get(_orientation(image))
        image.load()
        picture = _rgb(image)
        return np.array(picture if turn is None else picture.transpose(turn))


def displayed_size(data: bytes, *, max_megapixels: float) -> tuple[int, int]:
    """``(width, height)`` of what ``decode`` returns, from the header alone. Raises as ``decode`` does."""
    with opened(data, max_megapixels=max_megapixels) as image:
        width, height = image.size
        return (height, width) if _orientation(image) >= 5 else (width, height)


@contextmanager
def opened(data: bytes, *, max_megapixels: float) -> Iterator[ImageFile]:
    """The picture with its header read and its size checked; pixels are decoded by its ``load()``.

    Whatever goes wrong inside, also in the caller's block, is raised as TooLarge or BrokenImage.
    """
    try:
        image = _reader(data)(BytesIO(data), "")
        width, height = image.size
        if min(width, height) < 1:
            raise BrokenImage(f"the picture is {width} x {height} pixels: there is nothing in it")
        if width * height > max_megapixels * 1e6:
            raise TooLarge(
                f"the picture is {width} x {height} pixels, over the limit of {max_megapixels:g} megapixels; "
                "SAM3_MAX_MEGAPIXELS raises it"
            )
        yield image
    except InvalidInput:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLarge(f"the picture's parts are too large to read safely: {error}") from None
    except Exception as error:  # damaged files make the readers raise nearly anything
        raise BrokenImage(f"the picture is damaged or cut off ({str(error) or type(error).__name__})") from error


def _reader(data: bytes) -> type[ImageFile]:
    for magic, reader in _READERS:
        if data.startswith(magic) and (magic != b"RIFF" or data[8:12] == b"WEBP"):
            return reader
    raise BrokenImage(f"{_likeness(data)}; what is read is JPEG, PNG, WebP, TIFF, GIF and BMP")


def _likeness(data: bytes) -> str:
    """What bytes that are no picture seem to be, for a person who wonders what the storage sent."""
    start = data[:2048].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not start:
        return "the file is empty"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "the file is a web page (HTML), not a picture: its address may ask for a login"
    if start.startswith(b"<") and b"<svg" in start:
        return "the file is an SVG drawing, which has no pixels: export it as PNG"
    if start.startswith((b"<?xml", b"<error")):
        return "the file is XML, not a picture: perhaps an error message of the storage"
    if start.startswith((b"{", b"[")):
        return "the file is JSON, not a picture: perhaps an error message of the storage"
    if start.startswith(b"version https://git-lfs"):
        return "the file is a Git LFS pointer: the picture itself was not downloaded"
    if start.startswith(b"%pdf"):
        return "the file is a PDF document, not a picture"
    if data[4:8] == b"ftyp":
        return "the file is HEIC, AVIF or a video: convert it to JPEG or PNG"
    return "the file is not a picture of a known kind"


def _orientation(image: ImageFile) -> int:
    """EXIF orientation, 1..8, that is still to be applied; TIFF, which Pillow turns itself, has none here."""
    if isinstance(image, WebPImageFile):
        return 1  # see decode
    exif = Image.Exif()
    try:
        # Not image.getexif(), which falls back to XMP, where browsers do not look.
        exif.load(image.info.get("exif", b""))
        orientation = int(exif.get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - browsers show a picture with damaged EXIF as it is stored
        return 1
    return orientation if orientation in _UPRIGHT else 1


def _rgb(image: ImageFile) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        grey = np.clip(values >> 8, 0, 255).astype(np.uint8) if image.format == "PNG" else _stretched(values)
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image.convert("RGBA"))
        return canvas.convert("RGB")
    return image.convert("RGB")


def _stretched(values: NDArray[np.generic]) -> Pixels:
    """Least to greatest finite value over 0..255; what is not finite is black."""
    wide = values.astype(np.float64)
    finite = np.isfinite(wide)
    low, high = wide.min(initial=np.inf, where=finite), wide.max(initial=-np.inf, where=finite)
    if low >= high:
        return np.zeros(values.shape, dtype=np.uint8)
    return np.where(finite, (wide - low) / (high - low) * 255, 0).round().astype(np.uint8)
