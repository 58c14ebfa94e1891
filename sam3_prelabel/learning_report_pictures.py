"""The gallery of the report: what was shown on a picture beside what its reviewer left, small enough for one file."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from backend.images import ImageReader, Site
from backend.learning.records import Drawn
from sam3_core import Instance, Mask
from sam3_core.errors import ImageUnavailable, Sam3Error
from sam3_core.images import Pixels, decode
from sam3_prelabel.learning_figures import Bad
from sam3_prelabel.overlay import RGB, draw, palette

_LONG_SIDE = 560  # pixels of a picture in the gallery
_QUALITY = 82
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture of the gallery, both ways as ``data:`` addresses; or why it cannot be shown."""

    bad: Bad
    ours: str = ""
    theirs: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Gallery:
    """site: the Label Studio that opens the pictures, None without one."""

    reader: ImageReader
    site: Site | None
    max_megapixels: float

    def shots(self, worst: Sequence[Bad], told: Callable[[], None]) -> list[Shot]:
        """One for each, in order. told: is called after each picture, from any thread."""
        labels = (drawn.label for bad in worst for drawn in (*_ours(bad), *_theirs(bad)))
        colors = palette(sorted(set(labels)))

        def shot(bad: Bad) -> Shot:
            try:
                return self._shot(bad, colors)
            except Sam3Error as error:
                return Shot(bad, problem=str(error))
            finally:
                told()

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(shot, worst))

    def _shot(self, bad: Bad, colors: Mapping[str, RGB]) -> Shot:
        data = self.reader.read(_address(bad), self.site, bad.review.task)
        small = _shrunk(decode(data, max_megapixels=self.max_megapixels))
        ours = draw(small, _instances(_ours(bad), small), colors)
        theirs = draw(small, _instances(_theirs(bad), small), colors, scores=False)
        return Shot(bad, _inlined(ours), _inlined(theirs))


def _ours(bad: Bad) -> list[Drawn]:
    return [outcome.ours for outcome in bad.outcomes if outcome.ours is not None]


def _theirs(bad: Bad) -> list[Drawn]:
    return [outcome.theirs for outcome in bad.outcomes if outcome.theirs is not None]


def _address(bad: Bad) -> str:
    """Raises ImageUnavailable for a page that the task does not have."""
    addresses = bad.review.images.get(bad.source, [])
    listed = addresses if isinstance(addresses, list) else [addresses]
    if bad.page >= len(listed):
        raise ImageUnavailable("the task names no such picture any more")
    return listed[bad.page]


def _shrunk(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    factor = min(1.0, _LONG_SIDE / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return pixels if factor == 1.0 else np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


def _instances(drawn: Iterable[Drawn], picture: Pixels) -> list[tuple[str, Instance]]:
    """Labels and shapes of the picture's size."""
    frame = picture.shape[1], picture.shape[0]
    return [(one.label, Instance(_scaled(one.mask, frame), one.score or 0.0)) for one in drawn]


def _scaled(mask: Mask, frame: tuple[int, int]) -> Mask:
    """The mask in a picture of another size; at least one pixel of it stays."""
    across, down = frame[0] / mask.frame[0], frame[1] / mask.frame[1]
    x0, y0, x1, y1 = mask.box
    left, top = min(int(x0 * across), frame[0] - 1), min(int(y0 * down), frame[1] - 1)
    width = max(1, min(round(x1 * across), frame[0]) - left)
    height = max(1, min(round(y1 * down), frame[1]) - top)
    if mask.bits.size == 0:
        return Mask(np.ones((1, 1), dtype=np.bool_), left, top, frame)
    share = cv2.resize(mask.bits.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    bits = share >= min(0.5, float(share.max()))
    return Mask(bits, left, top, frame).tight()


def _inlined(pixels: Pixels) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
