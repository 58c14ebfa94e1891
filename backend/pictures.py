"""A short memory of task images: between the clicks on one picture nothing is fetched, hashed or measured again."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass

from backend.images import ImageReader, Site, is_cloud, is_data
from sam3_core import EncodedImage

_FRESH = 300.0  # seconds after which a picture is fetched again: what a plain link leads to may change

_Key = tuple[Site | None, str, int | str | None]


@dataclass(frozen=True, slots=True)
class PicturesInfo:
    """The memory's state: bytes and pictures in it now, lookups since the start."""

    bytes: int
    entries: int
    hits: int
    misses: int


@dataclass(frozen=True, slots=True)
class _Entry:
    image: EncodedImage
    since: float  # time.monotonic


class Pictures:
    """Task images by address, least recently used first out. Callable from any thread.

    A picture belongs to who may read it: the Label Studio and the token it was fetched with are part of its name.
    """

    def __init__(self, reader: ImageReader, *, megabytes: float, fresh_seconds: float = _FRESH) -> None:
        self._reader = reader
        self._limit = int(megabytes * (1 << 20))
        self._fresh_seconds = fresh_seconds
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._coming: dict[_Key, Future[EncodedImage]] = {}
        self._bytes = self._hits = self._misses = 0
        self._lock = threading.Lock()

    def get(self, address: object, site: Site | None, task_id: int | str | None, *, keep: bool) -> EncodedImage:
        """The picture behind an address of a task.

        keep: remember it, for an annotator who works on it; a batch only looks, as it would push all others out.
        Several callers that want to keep one picture fetch it once. Raises as ``ImageReader.read``.
        """
        key = _key(address, site, task_id)
        if key is None:  # a data: address is as long as the picture; the reader has a sentence for everything else
            return EncodedImage(self._reader.read(address, site, task_id))
        with self._lock:
            known = self._look(key)
            if known is not None:
                return known
            coming = self._coming.get(key)
            if coming is None and keep:
                mine = self._coming[key] = Future[EncodedImage]()
        if coming is not None:
            return coming.result()
        if not keep:
            return EncodedImage(self._reader.read(address, site, task_id))
        return self._fetch(key, mine)

    def info(self) -> PicturesInfo:
        """The state at this moment."""
        with self._lock:
            return PicturesInfo(self._bytes, len(self._entries), self._hits, self._misses)

    def _look(self, key: _Key) -> EncodedImage | None:
        entry = self._entries.get(key)
        if entry is not None and time.monotonic() - entry.since < self._fresh_seconds:
            self._entries.move_to_end(key)
            self._hits += 1
            return entry.image
        self._misses += 1
        return None

    def _fetch(self, key: _Key, mine: Future[EncodedImage]) -> EncodedImage:
        site, address, task_id = key
        try:
            image = EncodedImage(self._reader.read(address, site, task_id))
        except BaseException as error:
            with self._lock:
                del self._coming[key]
            mine.set_exception(error)
            raise
        with self._lock:
            self._put(key, image)
            del self._coming[key]
        mine.set_result(image)
        return image

    def _put(self, key: _Key, image: EncodedImage) -> None:
        stale = self._entries.pop(key, None)
        self._bytes += len(image.data) - (len(stale.image.data) if stale else 0)
        self._entries[key] = _Entry(image, time.monotonic())
        while self._bytes > self._limit:
            _, gone = self._entries.popitem(last=False)
            self._bytes -= len(gone.image.data)


def _key(address: object, site: Site | None, task_id: int | str | None) -> _Key | None:
    """What names a picture; None for one that is not remembered."""
    if not isinstance(address, str) or is_data(address):
        return None
    # Label Studio opens cloud addresses for one task and not for another.
    return site, address.strip(), task_id if is_cloud(address) else None
