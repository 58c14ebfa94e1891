"""Bodies of answers: what was found, what runs, and what went wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sam3_core import errors
from sam3_core.errors import InvalidInput, Sam3Error
from sam3_core.images import EncodedImage
from sam3_core.results import ConceptResult, Instance, Removal
from sam3_core.types import CacheInfo, CacheTier, ModelInfo, ModelState
from sam3_core.wire.base import Answered, Count, Size, WireMask, WireRules, packed, unpacked
from sam3_core.wire.load import WireLoad


class SeenImage(Answered):
    """The image that was asked about. key: stands for it in further requests."""

    key: str
    size: Size

    @classmethod
    def of(cls, image: EncodedImage, size: tuple[int, int]) -> Self:
        return cls(key=image.key, size=size)


class WireInstance(Answered):
    """``sam3_core.Instance``. box: xyxy of the mask in pixel edges, for readers who skip the mask.

    feature: base64 of its numbers in float16, little-endian, which holds them exactly; not there where not asked for.
    """

    score: float
    phrase: str
    box: tuple[int, int, int, int]
    mask: WireMask
    feature: str | None = None

    @classmethod
    def of(cls, instance: Instance) -> Self:
        return cls(
            score=float(instance.score),
            phrase=instance.phrase,
            box=instance.box,
            mask=WireMask.of(instance.mask),
            feature=None if instance.feature is None else packed(instance.feature.astype("<f2").tobytes()),
        )

    def instance(self) -> Instance:
        """Raises InvalidInput for a mask or a feature that cannot be read."""
        mask = self.mask.mask(max_megapixels=math.inf)
        return Instance(mask, self.score, self.phrase, None if self.feature is None else _feature(self.feature))


def _feature(text: str) -> NDArray[np.float32]:
    numbers = unpacked(text)
    if not numbers or len(numbers) % 2:
        raise InvalidInput("a feature must be float16 numbers")
    return np.frombuffer(numbers, dtype="<f2").astype(np.float32)


class AppliedRules(WireRules, Answered):
    """The rules that were applied."""


class WireResult(Answered):
    """``sam3_core.ConceptResult``. best_rejected: not there where every candidate reached the threshold.

    removed: counts by the name of the reason, in small letters. reason: follows from the rest; empty where something
    was found.
    """

    instances: tuple[WireInstance, ...]
    presence: float
    best_rejected: float | None = None
    rules: AppliedRules
    size: Size
    tiles: Count = 0
    resolution: Count = 0
    removed: Mapping[str, Count] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reason: str = ""

    @classmethod
    def of(cls, result: ConceptResult) -> Self:
        return cls(
            instances=tuple(map(WireInstance.of, result.instances)),
            presence=result.presence,
            best_rejected=result.best_rejected,
            rules=AppliedRules.of(result.rules),
            size=result.size,
            tiles=result.tiles,
            resolution=result.resolution,
            removed={removal.name.lower(): count for removal, count in result.removed},
            notes=result.notes,
            reason=result.reason,
        )

    def result(self) -> ConceptResult:
        """What a newer server removed for reasons unknown here is left out."""
        known = {removal.name.lower(): removal for removal in Removal}
        return ConceptResult(
            instances=tuple(one.instance() for one in self.instances),
            presence=self.presence,
            best_rejected=self.best_rejected,
            rules=self.rules.rules(),
            size=self.size,
            tiles=self.tiles,
            resolution=self.resolution,
            removed=tuple((known[name], count) for name, count in self.removed.items() if name in known),
            notes=self.notes,
        )


class FindAnswer(Answered):
    """One result per concept, in order. model: version of the weights."""

    model: str
    image: SeenImage
    results: tuple[WireResult, ...]

    @classmethod
    def of(cls, model: str, image: SeenImage, results: Sequence[ConceptResult]) -> Self:
        return cls(model=model, image=image, results=tuple(map(WireResult.of, results)))


class OutlineAnswer(Answered):
    """Readings of the prompt, best first."""

    model: str
    image: SeenImage
    instances: tuple[WireInstance, ...]

    @classmethod
    def of(cls, model: str, image: SeenImage, instances: Sequence[Instance]) -> Self:
        return cls(model=model, image=image, instances=tuple(map(WireInstance.of, instances)))


class WarmAnswer(Answered):
    """The image is encoded."""

    model: str
    image: SeenImage


class WireCacheTier(Answered):
    bytes: int = 0
    entries: int = 0
    evictions: int = 0

    @classmethod
    def of(cls, tier: CacheTier) -> Self:
        return cls(bytes=tier.bytes, entries=tier.entries, evictions=tier.evictions)

    def tier(self) -> CacheTier:
        return CacheTier(self.bytes, self.entries, self.evictions)


class WireCache(Answered):
    hits: int = 0
    misses: int = 0
    device: WireCacheTier = WireCacheTier()
    host: WireCacheTier = WireCacheTier()

    @classmethod
    def of(cls, cache: CacheInfo) -> Self:
        device, host = WireCacheTier.of(cache.device), WireCacheTier.of(cache.host)
        return cls(hits=cache.hits, misses=cache.misses, device=device, host=host)

    def cache(self) -> CacheInfo:
        return CacheInfo(self.hits, self.misses, self.device.tier(), self.host.tier())


class InfoAnswer(Answered):
    """``sam3_core.ModelInfo``."""

    version: str
    state: ModelState
    device: str
    dtype: str
    problem: str = ""
    can_outline: bool = True
    cache: WireCache = WireCache()
    load: WireLoad = WireLoad()

    @classmethod
    def of(cls, info: ModelInfo) -> Self:
        return cls(
            version=info.version,
            state=info.state,
            device=info.device,
            dtype=info.dtype,
            problem=info.problem,
            can_outline=info.can_outline,
            cache=WireCache.of(info.cache),
            load=WireLoad.of(info.load),
        )

    def info(self) -> ModelInfo:
        return ModelInfo(
            self.version,
            self.state,
            self.device,
            self.dtype,
            self.problem,
            self.can_outline,
            self.cache.cache(),
            self.load.load(),
        )


class Failure(Answered):
    """error: a sentence. kind: which of ``sam3_core.errors`` it is; not there for errors of the server's own.

    request_id: under which the server's log has the request.
    """

    error: str
    kind: str = ""
    request_id: str = ""

    def exception(self, retry_after: float | None) -> Sam3Error | None:
        """The error as the server raised it; None where it does not say which. retry_after: seconds, as it said."""
        raised = _KINDS.get(self.kind)
        if raised is None:
            return None
        error = raised(self.error)
        error.retry_after = error.retry_after if retry_after is None else retry_after
        return error


def kind_of(error: Sam3Error) -> str:
    """``InvalidPrompt`` is ``invalid_prompt`` on the wire."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(error).__name__).lower()


def _kinds() -> dict[str, type[Sam3Error]]:
    classes = [found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, Sam3Error)]
    return {kind_of(found("")): found for found in classes}


_KINDS = _kinds()
