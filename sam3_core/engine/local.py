"""LocalSegmenter: the Segmenter whose weights live in this process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

from sam3_core.caller import BULK, CLICK, Waits
from sam3_core.engine.answers import Search, answers, outlines
from sam3_core.engine.embeddings import Embedding, EmbeddingCache
from sam3_core.engine.found import Found
from sam3_core.engine.plan import Plan, make_plan
from sam3_core.engine.seams import merged
from sam3_core.engine.tiles import Tile, prompts_in, tiles_of
from sam3_core.engine.weights import DEMO, find_weights, version_of
from sam3_core.errors import ModelUnavailable, NotReady
from sam3_core.images import EncodedImage, Pixels, decode
from sam3_core.results import ConceptResult, Instance
from sam3_core.rules import Rules, Tiling
from sam3_core.settings import CoreSettings
from sam3_core.timing import stage
from sam3_core.types import Concept, FindOptions, ModelInfo, ModelState, OutlineOptions, VisualPrompt
from sam3_core.wording import Words, read_glossary

if TYPE_CHECKING:
    from sam3_core.engine.model import Sam3, Serving

logger = logging.getLogger(__name__)

_MIB = 1024 * 1024
_TILES = 4  # go through the encoder together

OBJECT_FLOOR = 0.5
"""Least object probability for an answer to a visual prompt: the tracker's logit above 0, where the stock video path
draws the line too. Measured with the demo checkpoint on 100 scenes: of 341 clicks anywhere in an object 0.9 % are
refused (0.3 % of those with a good mask), none in its middle and no box; of 400 clicks on the ground 89 % are."""


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """The weights, what they made of images so far, and how phrases are put to them."""

    model: Sam3
    cache: EmbeddingCache
    words: Words


class LocalSegmenter:
    """SAM 3 in this process; see ``Segmenter`` for the contract.

    The constructor returns at once and loads in a background thread; ``info`` always answers at once. A failure
    to load is remembered: every call then raises it again, ``info().problem`` tells what to do.
    """

    def __init__(self, settings: CoreSettings, *, on_broken: Callable[[str], None] | None = None) -> None:
        """on_broken: told once, with a sentence, when the device stopped working for good in this process."""
        self._settings = settings
        self._on_broken = on_broken
        self._version = version_of(settings.model)
        self._defaults = FindOptions(rules=Rules(threshold=settings.threshold), tiles=settings.tiles)
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
            ModelState.FAILED if model.broken else ModelState.READY,
            model.device,
            model.dtype,
            model.broken,
            can_outline=model.clicks is not None,
            cache=cache.info(),
            load=model.load_now(),
        )

    def wait_until_ready(self, timeout: float | None = None) -> None:
        """Block until prompts are answered. Raises NotReady after timeout seconds, ModelUnavailable on failure."""
        self._ready(timeout)

    def find(
        self,
        image: bytes | EncodedImage,
        concepts: Sequence[Concept],
        options: FindOptions | None = None,
        *,
        caller: Waits = BULK,
    ) -> list[ConceptResult]:
        """One result per concept, in order; the image is encoded once, every different phrase asked once."""
        if not concepts:
            return []
        loaded = self._ready_for(caller)
        image, options = EncodedImage.of(image), (options or FindOptions()).over(self._defaults)
        for prototypes in (concept.prototypes for concept in concepts if concept.prototypes is not None):
            prototypes.check_width(loaded.model.look_width)
        pixels = cache(partial(self._pixels, image))  # decoded once, for the whole and for its tiles
        vision = self._vision(loaded, image, caller, pixels)
        plan = make_plan(concepts, vision.size, options, loaded.words)
        tiles = tiles_of(vision.size, loaded.model.side, options.tiles or Tiling.OFF, self._settings.max_tiles)
        found = self._search(loaded, vision, plan, caller)
        if tiles:
            found = self._search_tiles(loaded, pixels(), plan, found, tiles, caller)
        with stage("masks"):
            return answers(plan.steps, found, Search(vision.size, len(tiles), loaded.model.side), options)

    def outline(
        self,
        image: bytes | EncodedImage,
        prompt: VisualPrompt,
        options: OutlineOptions | None = None,
        *,
        caller: Waits = CLICK,
    ) -> list[Instance]:
        """Readings of one visual prompt, best first by predicted IoU, without empty ones and near copies of better
        ones; none where the model sees no object."""
        loaded = self._ready_for(caller)
        most = (options or OutlineOptions()).candidates
        loaded.model.require_clicks()
        maps = self._click_maps(loaded, EncodedImage.of(image), caller)
        readings = loaded.model.trace(maps, prompt, several=most > 1, caller=caller)
        if readings.presence < OBJECT_FLOOR:
            logger.info("nothing at the prompt: object probability %.2f, least %.2f", readings.presence, OBJECT_FLOOR)
            return []
        with stage("masks"):
            return outlines(readings, maps.size, most)

    def _search(self, loaded: _Loaded, view: Embedding, plan: Plan, caller: Waits) -> list[Found]:
        """What each prompt finds in one view of an image."""
        asked = [plan.question(view, place, prompt) for place, prompt in enumerate(plan.prompts)]
        detections = loaded.model.detect(asked, caller)
        with stage("masks"):
            return [plan.found(place, detection, view.size) for place, detection in enumerate(detections)]

    def _search_tiles(
        self,
        loaded: _Loaded,
        pixels: Pixels,
        plan: Plan,
        whole: Sequence[Found],
        tiles: Sequence[Tile],
        caller: Waits,
    ) -> list[Found]:
        """What each prompt found in the whole image, and finds in tiles of it.

        No tile's embedding is kept: one request's would push what annotators have open out of the cache, and clicks
        do not use them. Of some tiles only masks are left when the next ones' turn comes.
        """
        size = (pixels.shape[1], pixels.shape[0])
        views: list[list[tuple[Tile, Found]]] = [[] for _ in plan.prompts]
        asked = {tile: [(i, p) for i, p in enumerate(prompts_in(tile, plan.prompts, size)) if p] for tile in tiles}
        busy = [tile for tile in tiles if asked[tile]]
        for start in range(0, len(busy), _TILES):
            some = busy[start : start + _TILES]
            made = loaded.model.embed([pixels[tile.y0 : tile.y1, tile.x0 : tile.x1] for tile in some], caller)
            rows = [(tile, view, *row) for tile, view in zip(some, made, strict=True) for row in asked[tile]]
            questions = [plan.question(view, i, prompt) for _, view, i, prompt in rows]
            detections = loaded.model.detect(questions, caller)
            with stage("masks"):
                for (tile, view, i, _), detection in zip(rows, detections, strict=True):
                    views[i].append((tile, plan.found(i, detection, view.size)))
        with stage("masks"):
            return [merged(one, seen, size) for one, seen in zip(whole, views, strict=True)]

    def warm(self, image: bytes | EncodedImage, *, caller: Waits = BULK) -> None:
        """Encode the image for concepts and, where the checkpoint takes any, for clicks."""
        loaded, image = self._ready_for(caller), EncodedImage.of(image)
        self._vision(loaded, image, caller)
        if loaded.model.clicks is not None:
            self._click_maps(loaded, image, caller)

    def close(self) -> None:
        """Forget the weights and the embeddings; later calls raise ModelUnavailable. May be called twice."""
        closed: Future[_Loaded] = Future()
        closed.set_exception(ModelUnavailable("this segmenter was closed; start a new one"))
        loaded, self._loaded = self._loaded, closed
        loaded.add_done_callback(_stop)

    def _ready_for(self, caller: Waits) -> _Loaded:
        return self._ready(min(self._settings.load_wait, caller.seconds_left))

    def _ready(self, timeout: float | None) -> _Loaded:
        try:
            return self._loaded.result(timeout)
        except TimeoutError:
            raise NotReady(f"the weights {self._version} are still loading; try again in a moment") from None
        except ModelUnavailable as error:
            raise type(error)(str(error)) from error

    def _vision(
        self, loaded: _Loaded, image: EncodedImage, caller: Waits, pixels: Callable[[], Pixels] | None = None
    ) -> Embedding:
        """pixels: what decodes the image, where the caller has more use for them."""

        def compute(callers: Waits) -> Embedding:
            callers.check()
            return loaded.model.embed([pixels() if pixels else self._pixels(image)], callers)[0]

        return loaded.cache.get((image.key, "vision"), compute, caller)

    def _pixels(self, image: EncodedImage) -> Pixels:
        with stage("decode"):
            return decode(image.data, max_megapixels=self._settings.max_megapixels)

    def _click_maps(self, loaded: _Loaded, image: EncodedImage, caller: Waits) -> Embedding:
        def compute(callers: Waits) -> Embedding:
            return loaded.model.click_maps(self._vision(loaded, image, callers), callers)

        return loaded.cache.get((image.key, "clicks"), compute, caller)

    def _load(self, outcome: Future[_Loaded]) -> None:
        """Runs in the background thread; good or bad, the end is the outcome's."""
        started = time.monotonic()
        settings = self._settings
        try:
            # torch and transformers take seconds to import: here, so that the process answers meanwhile.
            from sam3_core.engine.model import Sam3

            folder = find_weights(settings.model, settings.hub_token)
            model = Sam3.load(folder, settings.device, settings.dtype, self._serving())
            words = self._make_words(model)
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
            cache = self._make_cache(model)
            model.when_short(cache.give_up_device)
            outcome.set_result(_Loaded(model, cache, words))

    def _serving(self) -> Serving:
        from sam3_core.engine.model import Serving

        settings = self._settings
        return Serving(
            settings.pass_mb,
            settings.cache_mb,
            settings.bulk_share,
            settings.queue,
            self._on_broken,
            settings.adapters,
        )

    def _make_words(self, model: Sam3) -> Words:
        """Raises BadSettings for the glossary, ModelUnavailable for the translation model."""
        settings = self._settings
        translate: Callable[[str], str] | None = None
        if settings.translation_model is not None:
            from sam3_core.engine.translation import Translator

            translator = Translator(
                settings.translation_model,
                model.device,
                language=settings.translation_language,
                token=settings.hub_token,
            )

            translate = partial(_translated, model, translator)

        glossary = {} if settings.glossary is None else read_glossary(settings.glossary)
        return Words(glossary, translate, translate_latin=settings.translate_latin)

    def _make_cache(self, model: Sam3) -> EmbeddingCache:
        host = 0 if model.device == "cpu" else self._settings.cache_host_mb * _MIB
        return EmbeddingCache(
            self._settings.cache_mb * _MIB,
            host,
            to_host=lambda embedding: embedding.to("cpu"),
            to_device=lambda embedding: embedding.to(model.device),
        )


def _stop(loaded: Future[_Loaded]) -> None:
    if loaded.exception() is None:
        loaded.result().model.close()


def _translated(model: Sam3, translator: Callable[[str], str], phrase: str) -> str:
    return model.alone(lambda: translator(phrase))
