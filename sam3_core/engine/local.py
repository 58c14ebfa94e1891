"""LocalSegmenter: the Segmenter whose weights live in this process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from sam3_core.engine.answers import concept_result, outlines
from sam3_core.engine.embeddings import Embedding, EmbeddingCache
from sam3_core.engine.plan import make_plan
from sam3_core.engine.weights import DEMO, find_weights, version_of
from sam3_core.errors import ModelUnavailable, NotReady
from sam3_core.images import decode, image_key
from sam3_core.settings import CoreSettings
from sam3_core.types import (
    Concept,
    ConceptResult,
    FindOptions,
    Instance,
    ModelInfo,
    ModelState,
    OutlineOptions,
    VisualPrompt,
)

if TYPE_CHECKING:
    from sam3_core.engine.model import Sam3

logger = logging.getLogger(__name__)

_MIB = 1024 * 1024


class LocalSegmenter:
    """SAM 3 in this process; see ``Segmenter`` for the contract.

    The constructor returns at once and loads in a background thread; ``info`` always answers at once. A failure
    to load is remembered: every call then raises it again, ``info().problem`` tells what to do.
    """

    def __init__(self, settings: CoreSettings) -> None:
        self._settings = settings
        self._version = version_of(settings.model)
        self._cache = EmbeddingCache(settings.cache_mb * _MIB)
        self._model: Future[Sam3] = Future()
        threading.Thread(target=self._load, args=(self._model,), name="sam3-load", daemon=True).start()

    def info(self) -> ModelInfo:
        """What runs here, at once. Before loading ends, device and dtype are the settings' words (`auto`)."""
        if not self._model.done():
            state = ModelState.LOADING
            return ModelInfo(self._version, state, self._settings.device, self._settings.dtype)
        problem = self._model.exception()
        if problem is not None:
            state = ModelState.FAILED
            return ModelInfo(
                self._version, state, self._settings.device, self._settings.dtype, str(problem), can_outline=False
            )
        model = self._model.result()
        can_outline = model.clicks is not None
        return ModelInfo(self._version, ModelState.READY, model.device, model.dtype, can_outline=can_outline)

    def wait_until_ready(self, timeout: float | None = None) -> None:
        """Block until prompts are answered. Raises NotReady after timeout seconds, ModelUnavailable on failure."""
        self._ready(timeout)

    def find(
        self, image: bytes, concepts: Sequence[Concept], options: FindOptions | None = None
    ) -> list[ConceptResult]:
        """One result per concept, in order; the image is encoded once, every different phrase asked once."""
        if not concepts:
            return []
        model = self._ready(self._settings.load_wait)
        options = options or FindOptions(threshold=self._settings.threshold)
        embedding = self._embed(model, image)
        plan = make_plan(concepts, embedding.size, options)
        detections = model.detect(embedding, plan.prompts, plan.floors)
        return [concept_result(step, detections, embedding.size, options) for step in plan.steps]

    def outline(self, image: bytes, prompt: VisualPrompt, options: OutlineOptions | None = None) -> list[Instance]:
        """Readings of one visual prompt, best first by predicted IoU; empty ones are left out."""
        model = self._ready(self._settings.load_wait)
        wanted = (options or OutlineOptions()).candidates
        embedding = self._embed(model, image)
        logits, scores = model.trace(embedding, prompt, several=wanted > 1)
        return outlines(logits, scores, embedding.size)[:wanted]

    def close(self) -> None:
        """Forget the weights and the embeddings; later calls raise ModelUnavailable. May be called twice."""
        closed: Future[Sam3] = Future()
        closed.set_exception(ModelUnavailable("this segmenter was closed; start a new one"))
        self._model = closed
        self._cache.clear()

    def _ready(self, timeout: float | None) -> Sam3:
        try:
            return self._model.result(timeout)
        except TimeoutError:
            raise NotReady(f"the weights {self._version} are still loading; try again in a moment") from None
        except ModelUnavailable as error:
            raise type(error)(str(error)) from error

    def _embed(self, model: Sam3, image: bytes) -> Embedding:
        limit = self._settings.max_megapixels
        return self._cache.get(image_key(image), lambda: model.embed(decode(image, max_megapixels=limit)))

    def _load(self, outcome: Future[Sam3]) -> None:
        """Runs in the background thread; good or bad, the end is the outcome's."""
        started = time.monotonic()
        settings = self._settings
        try:
            # torch and transformers take seconds to import: here, so that the process answers meanwhile.
            from sam3_core.engine.model import Sam3

            folder = find_weights(settings.model, settings.hub_token)
            model = Sam3.load(folder, settings.device, settings.dtype, settings.prompt_mb * _MIB)
        except ModelUnavailable as error:
            logger.error("%s", error)
            outcome.set_exception(error)
        except Exception as error:  # a thread that dies silently would leave LOADING for ever
            logger.exception("loading %s failed", settings.model)
            outcome.set_exception(ModelUnavailable(f"loading {settings.model} failed: {error!r}"))
        else:
            seconds = time.monotonic() - started
            logger.info("%s on %s in %s, loaded in %.1f s", self._version, model.device, model.dtype, seconds)
            if settings.model == DEMO:
                logger.warning("%s knows drawn coloured shapes, not photos; SAM3_MODEL picks others", self._version)
            outcome.set_result(model)
