"""LocalSegmenter: the Segmenter whose weights live in this process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sam3_core.engine.answers import concept_result, outlines
from sam3_core.engine.embeddings import Embedding, EmbeddingCache
from sam3_core.engine.plan import make_plan
from sam3_core.engine.turns import Wanted, check_wanted
from sam3_core.engine.weights import DEMO, find_weights, version_of
from sam3_core.errors import ModelUnavailable, NotReady
from sam3_core.images import EncodedImage, decode
from sam3_core.settings import CoreSettings
from sam3_core.timing import stage
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

OBJECT_FLOOR = 0.5
"""Least object probability for an answer to a visual prompt: the tracker's logit above 0, where the stock video path
draws the line too. Measured with the demo checkpoint on 100 scenes: of 341 clicks anywhere in an object 0.9 % are
refused (0.3 % of those with a good mask), none in its middle and no box; of 400 clicks on the ground 89 % are."""


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """The weights, and what they made of images so far."""

    model: Sam3
    cache: EmbeddingCache


class LocalSegmenter:
    """SAM 3 in this process; see ``Segmenter`` for the contract.

    The constructor returns at once and loads in a background thread; ``info`` always answers at once. A failure
    to load is remembered: every call then raises it again, ``info().problem`` tells what to do.
    """

    def __init__(self, settings: CoreSettings) -> None:
        self._settings = settings
        self._version = version_of(settings.model)
        self._loaded: Future[_Loaded] = Future()
        threading.Thread(target=self._load, args=(self._loaded,), name="sam3-load", daemon=True).start()

    def info(self) -> ModelInfo:
        """What runs here, at once. Before loading ends, device and dtype are the settings' words (`auto`)."""
        loaded, settings = self._loaded, self._settings
        if not loaded.done():
            return ModelInfo(self._version, ModelState.LOADING, settings.device, settings.dtype)
        problem = loaded.exception()
        if problem is not None:
            state = ModelState.FAILED
            return ModelInfo(self._version, state, settings.device, settings.dtype, str(problem), can_outline=False)
        model, cache = loaded.result().model, loaded.result().cache
        return ModelInfo(
            self._version,
            ModelState.READY,
            model.device,
            model.dtype,
            can_outline=model.clicks is not None,
            cache=cache.info(),
        )

    def wait_until_ready(self, timeout: float | None = None) -> None:
        """Block until prompts are answered. Raises NotReady after timeout seconds, ModelUnavailable on failure."""
        self._ready(timeout)

    def find(
        self, image: bytes | EncodedImage, concepts: Sequence[Concept], options: FindOptions | None = None
    ) -> list[ConceptResult]:
        """One result per concept, in order; the image is encoded once, every different phrase asked once."""
        if not concepts:
            return []
        loaded = self._ready(self._settings.load_wait)
        options = options or FindOptions(threshold=self._settings.threshold)
        vision = self._vision(loaded, EncodedImage.of(image))
        plan = make_plan(concepts, vision.size, options)
        detections = loaded.model.detect(vision, plan.prompts, plan.floors)
        with stage("masks"):
            return [concept_result(step, detections, vision.size, options) for step in plan.steps]

    def outline(
        self,
        image: bytes | EncodedImage,
        prompt: VisualPrompt,
        options: OutlineOptions | None = None,
        *,
        wanted: Wanted | None = None,
    ) -> list[Instance]:
        """Readings of one visual prompt, best first by predicted IoU, without empty ones and near copies of better
        ones; none where the model sees no object."""
        loaded = self._ready(self._settings.load_wait)
        most = (options or OutlineOptions()).candidates
        loaded.model.require_clicks()
        maps = self._click_maps(loaded, EncodedImage.of(image), wanted)
        readings = loaded.model.trace(maps, prompt, several=most > 1, wanted=wanted)
        if readings.presence < OBJECT_FLOOR:
            logger.info("nothing at the prompt: object probability %.2f, least %.2f", readings.presence, OBJECT_FLOOR)
            return []
        with stage("masks"):
            return outlines(readings, maps.size, most)

    def warm(self, image: bytes | EncodedImage) -> None:
        """Encode the image for concepts and, where the checkpoint takes any, for clicks."""
        loaded, image = self._ready(self._settings.load_wait), EncodedImage.of(image)
        self._vision(loaded, image)
        if loaded.model.clicks is not None:
            self._click_maps(loaded, image)

    def close(self) -> None:
        """Forget the weights and the embeddings; later calls raise ModelUnavailable. May be called twice."""
        closed: Future[_Loaded] = Future()
        closed.set_exception(ModelUnavailable("this segmenter was closed; start a new one"))
        self._loaded = closed

    def _ready(self, timeout: float | None) -> _Loaded:
        try:
            return self._loaded.result(timeout)
        except TimeoutError:
            raise NotReady(f"the weights {self._version} are still loading; try again in a moment") from None
        except ModelUnavailable as error:
            raise type(error)(str(error)) from error

    def _vision(self, loaded: _Loaded, image: EncodedImage, wanted: Wanted | None = None) -> Embedding:
        def compute() -> Embedding:
            check_wanted(wanted)
            with stage("decode"):
                pixels = decode(image.data, max_megapixels=self._settings.max_megapixels)
            return loaded.model.embed(pixels, wanted)

        return loaded.cache.get((image.key, "vision"), compute)

    def _click_maps(self, loaded: _Loaded, image: EncodedImage, wanted: Wanted | None = None) -> Embedding:
        def compute() -> Embedding:
            return loaded.model.click_maps(self._vision(loaded, image, wanted), wanted)

        return loaded.cache.get((image.key, "clicks"), compute)

    def _load(self, outcome: Future[_Loaded]) -> None:
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
            outcome.set_result(_Loaded(model, self._make_cache(model)))

    def _make_cache(self, model: Sam3) -> EmbeddingCache:
        host = 0 if model.device == "cpu" else self._settings.cache_host_mb * _MIB
        return EmbeddingCache(
            self._settings.cache_mb * _MIB,
            host,
            to_host=lambda embedding: embedding.to("cpu"),
            to_device=lambda embedding: embedding.to(model.device),
        )
