"""What the functions for cvat-sdk share: their settings, their segmenter, and errors as cvat-sdk shows them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import TypeVar

from cvat_sdk.auto_annotation import BadFunctionError
from PIL import ExifTags, Image

from cvat_nuclio.patience import Patience
from cvat_nuclio.pictures import png_of
from cvat_nuclio.segmenter import make_segmenter
from cvat_nuclio.settings import CvatSettings
from sam3_core import EncodedImage, Segmenter
from sam3_core.errors import Sam3Error

Answer = TypeVar("Answer")


class Core:
    """A segmenter that is made when it is first asked for: cvat-cli loads functions only to read their spec too."""

    def __init__(self, settings: CvatSettings) -> None:
        self.settings = settings
        self._segmenter: Segmenter | None = None
        self._lock = Lock()
        self._patience = Patience()

    @property
    def segmenter(self) -> Segmenter:
        """Raises BadSettings where there can be none."""
        with self._lock:
            if self._segmenter is None:
                self._segmenter = make_segmenter(self.settings)
            return self._segmenter

    def ask(self, call: Callable[[Segmenter], Answer]) -> Answer:
        """What ``call`` returns; waits for weights that are still loading: giving up costs cvat-cli a whole run."""
        segmenter = self.segmenter
        return self._patience(lambda: call(segmenter))


@contextmanager
def told_to_users() -> Iterator[None]:
    """Our errors as BadFunctionError: of others, agents tell users no more than that they do not know them."""
    try:
        yield
    except Sam3Error as error:
        raise BadFunctionError(str(error)) from error


def encoded(image: Image.Image) -> EncodedImage:
    """A Pillow image (of any mode) as CVAT's viewer shows it.

    Known by its pixels: it is encoded, without loss, only where they have not been seen before.
    """
    turn, clear = image.getexif().get(ExifTags.Base.Orientation), image.info.get("transparency")
    name = hashlib.blake2b(repr((image.mode, image.size, image.getpalette(), clear, turn)).encode(), digest_size=16)
    name.update(image.tobytes())
    return EncodedImage.deferred(name.hexdigest(), partial(png_of, image))
