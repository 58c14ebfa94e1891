"""The API of version 1: the core's prompts and results over HTTP, for other processes and for anybody's scripts.

Described in docs/api.md and docs/openapi.yaml; the bodies are ``sam3_core.wire``'s.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from flask import Blueprint, Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from backend.admission import Admission
from backend.callers import watched
from backend.metrics import Metrics
from backend.settings import BackendSettings
from backend.trace import current
from sam3_core import Caller, EncodedImage, Lane, Segmenter
from sam3_core.errors import InvalidInput, TooLarge, UnknownImage
from sam3_core.timing import stage
from sam3_core.wire.base import Body, read
from sam3_core.wire.prompts import FindRequest, OutlineRequest, Request, WarmRequest
from sam3_core.wire.results import FindAnswer, InfoAnswer, OutlineAnswer, SeenImage, WarmAnswer

PREFIX = "/v1"

_R = TypeVar("_R", bound=Request)
_MIB = 1 << 20


class Uploads:
    """Files that were sent, by their key, the longest unused out first. Callable from any thread."""

    def __init__(self, *, megabytes: float) -> None:
        self._limit = int(megabytes * _MIB)
        self._kept: OrderedDict[str, EncodedImage] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: str) -> EncodedImage:
        """Raises UnknownImage."""
        with self._lock:
            image = self._kept.get(key)
            if image is None:
                raise UnknownImage(f"no image of the key {key} is held here (any more): send its file")
            self._kept.move_to_end(key)
            return image

    def put(self, image: EncodedImage) -> EncodedImage:
        """Keep an image where there is room for it at all. Returns it, or the same that was kept before."""
        with self._lock:
            known = self._kept.setdefault(image.key, image)
            self._kept.move_to_end(image.key)
            self._bytes += len(image.data) if known is image else 0
            while self._bytes > self._limit:
                _, gone = self._kept.popitem(last=False)
                self._bytes -= len(gone.data)
            return known


def make_v1(
    settings: BackendSettings,
    segmenter: Segmenter,
    metrics: Metrics,
    admission: Admission,
    version: Callable[[], str],
) -> Blueprint:
    """The routes under ``/v1``; guard, errors, limits of bodies and counting are the app's.

    version: names the weights, at once.
    """
    api = Blueprint("v1", __name__, url_prefix=PREFIX)
    uploads = Uploads(megabytes=settings.image_cache_mb)

    @contextmanager
    def working(kind: type[_R], usual: Lane) -> Iterator[tuple[_R, EncodedImage, SeenImage, Caller]]:
        """The request, and who waits for it, with a place in its lane. Raises as ``_received``, and Busy."""
        with admission.door():
            asked, image, seen = _received(kind, settings, uploads)
            caller = watched(request.environ, asked.caller(usual, settings.request_seconds))
            current().lane = caller.lane
            with admission.work(caller.lane):
                yield asked, image, seen, caller

    @api.get("/info")
    def info() -> Response:
        return _answer(InfoAnswer.of(segmenter.info()))

    @api.post("/find")
    def find() -> Response:
        with working(FindRequest, Lane.BULK) as (asked, image, seen, caller):
            concepts, options = asked.parsed(max_megapixels=settings.max_megapixels)
            results = segmenter.find(image, concepts, options, caller=caller)
            metrics.instances.inc(sum(len(result.instances) for result in results))
            metrics.count_removed(results)
            with stage("encode"):
                return _answer(FindAnswer.of(version(), seen, results))

    @api.post("/outline")
    def outline() -> Response:
        with working(OutlineRequest, Lane.CLICK) as (asked, image, seen, caller):
            prompt, options = asked.parsed(max_megapixels=settings.max_megapixels)
            with metrics.interactive_seconds.time():
                instances = segmenter.outline(image, prompt, options, caller=caller)
            metrics.instances.inc(len(instances))
            with stage("encode"):
                return _answer(OutlineAnswer.of(version(), seen, instances))

    @api.post("/warm")
    def warm() -> Response:
        with working(WarmRequest, Lane.BULK) as (_, image, seen, caller):
            segmenter.warm(image, caller=caller)
            return _answer(WarmAnswer(model=version(), image=seen))

    return api


def _received(kind: type[_R], settings: BackendSettings, uploads: Uploads) -> tuple[_R, EncodedImage, SeenImage]:
    """The request in the body, and the image it is about; a file that is a picture is kept.

    Raises InvalidInput, UnknownImage, TooLarge or BrokenImage.
    """
    with stage("parse"):
        try:
            text, file = _parts() if request.mimetype == "multipart/form-data" else (request.get_data(), None)
        except RequestEntityTooLarge:
            raise TooLarge("the body is larger than SAM3_MAX_REQUEST_MB allows") from None
        asked = read(kind, text)
        image = _image(asked, file, settings, uploads)
        seen = SeenImage.of(image, image.displayed_size(max_megapixels=settings.max_megapixels))
        return asked, image if file is None else uploads.put(image), seen


def _image(asked: Request, file: bytes | None, settings: BackendSettings, uploads: Uploads) -> EncodedImage:
    """By its key or by its file, which is not read yet."""
    if file is None:
        if asked.image is None:
            raise InvalidInput("image: name one by its key, or send its file as the part image of a multipart body")
        return uploads.get(asked.image.key)
    if asked.image is not None:
        raise InvalidInput("image: the request names one by its key and brings a file: send one of the two")
    if len(file) > settings.max_image_mb * _MIB:
        raise TooLarge(f"the image file is larger than {settings.max_image_mb:g} MiB; SAM3_MAX_IMAGE_MB raises it")
    return EncodedImage(file)


def _parts() -> tuple[bytes, bytes | None]:
    """The parts ``request`` and ``image`` of a multipart body, each as a field or as a file."""
    request.max_form_memory_size = request.max_content_length  # a field may hold many masks

    def one(name: str) -> bytes | None:
        file, field = request.files.get(name), request.form.get(name)
        if file is not None:
            return file.stream.read()
        return None if field is None else field.encode("utf-8", "surrogateescape")

    asked = one("request")
    if asked is None:
        raise InvalidInput("a multipart body needs a part named request, the JSON of what is asked")
    return asked, one("image")


def _answer(body: Body) -> Response:
    return Response(body.text(), mimetype="application/json")
