"""Bodies of requests: which image, and what is asked about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Self

from pydantic import Field

from sam3_core.caller import Caller, Lane
from sam3_core.errors import InvalidInput, TooLarge
from sam3_core.masks import Mask
from sam3_core.prototypes import Prototypes
from sam3_core.rules import Tiling
from sam3_core.types import Box, Concept, Exemplar, FindOptions, OutlineOptions, Point, VisualPrompt
from sam3_core.wire.base import Body, Corners, WireMask, WireRules, corners_of, packed, part, unpacked

_MASKS = 4
"""The crops of one request's masks may hold so many times the pixels of the largest image."""

_WIDEST = 1 << 14
_Rows = Annotated[str, Field(max_length=1 << 20)]
"""Base64 of prototypes of one kind: of the real model's 512 numbers 768 of them."""

_KEY = re.compile("[0-9a-f]{32}")


def is_key(text: str) -> bool:
    """Whether it looks like ``EncodedImage.key``."""
    return _KEY.fullmatch(text) is not None


class WireImage(Body):
    """An image that the server holds already, by ``EncodedImage.key``."""

    key: Annotated[str, Field(pattern=rf"^{_KEY.pattern}$")]


class Request(Body):
    """What every request has.

    image: left out where the file comes along. lane: in which the work waits for the device; by itself an outline
    waits among the clicks, the others with the bulk. seconds: how long its sender waits for the answer, at most.
    """

    image: WireImage | None = None
    lane: Lane | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None

    def caller(self, usual: Lane, most: float) -> Caller:
        """Who waits: in the lane, unless the request names one, and for ``most`` seconds at most."""
        return Caller.within(min(most, self.seconds or most), self.lane or usual)


class WarmRequest(Request):
    """``Segmenter.warm``."""


class WireExemplar(Body):
    box: Corners
    positive: bool = True

    def exemplar(self) -> Exemplar:
        return Exemplar(Box(*self.box), self.positive)


class WireDrawn(Body):
    """What is outlined already: one of the two."""

    mask: WireMask | None = None
    box: Corners | None = None

    @classmethod
    def of(cls, drawn: Mask | Box) -> Self:
        return cls(mask=WireMask.of(drawn)) if isinstance(drawn, Mask) else cls(box=corners_of(drawn))

    def drawn(self, max_megapixels: float) -> Mask | Box:
        if (self.mask is None) == (self.box is None):
            raise InvalidInput('what is drawn is {"mask": ...} or {"box": ...}, one of the two')
        return _mask(self.mask, max_megapixels) if self.mask is not None else Box(*self.box)  # type: ignore[misc]


class WirePrototypes(Body):
    """``sam3_core.Prototypes``; accepted, rejected: the bytes as base64."""

    width: Annotated[int, Field(ge=1, le=_WIDEST)]
    accepted: _Rows = ""
    rejected: _Rows = ""
    weight: float
    bias: float = 0.0

    @classmethod
    def of(cls, prototypes: Prototypes) -> Self:
        return cls(
            width=prototypes.width,
            accepted=packed(prototypes.accepted),
            rejected=packed(prototypes.rejected),
            weight=float(prototypes.weight),
            bias=float(prototypes.bias),
        )

    def prototypes(self) -> Prototypes:
        with part("prototypes"):
            rows = unpacked(self.accepted), unpacked(self.rejected)
            return Prototypes(self.width, *rows, self.weight, self.bias)


class WireConcept(Body):
    """``sam3_core.Concept``."""

    phrases: tuple[str, ...] = ()
    exemplars: tuple[WireExemplar, ...] = ()
    negatives: tuple[str, ...] = ()
    rules: WireRules = WireRules()
    drawn: tuple[WireDrawn, ...] = ()
    prototypes: WirePrototypes | None = None
    adapter: str | None = None

    @classmethod
    def of(cls, concept: Concept) -> Self:
        return cls(
            phrases=concept.phrases,
            exemplars=tuple(WireExemplar(box=corners_of(e.box), positive=e.positive) for e in concept.exemplars),
            negatives=concept.negatives,
            rules=WireRules.of(concept.rules),
            drawn=tuple(WireDrawn.of(one) for one in concept.drawn),
            prototypes=WirePrototypes.of(concept.prototypes) if concept.prototypes is not None else None,
            adapter=concept.adapter or None,  # what is not asked for is not sent: older servers do not know it
        )

    def concept(self, max_megapixels: float) -> Concept:
        return Concept(
            phrases=self.phrases,
            exemplars=tuple(one.exemplar() for one in self.exemplars),
            negatives=self.negatives,
            rules=self.rules.rules(),
            drawn=tuple(one.drawn(max_megapixels) for one in self.drawn),
            prototypes=self.prototypes.prototypes() if self.prototypes is not None else None,
            adapter=self.adapter or "",
        )


class WireFindOptions(Body):
    """``sam3_core.FindOptions``: what is not there has its default."""

    rules: WireRules = WireRules()
    tiles: Tiling | None = None
    duplicate_iou: float = FindOptions().duplicate_iou
    contained_share: float = FindOptions().contained_share
    across_iou: float = FindOptions().across_iou
    negative_margin: float = FindOptions().negative_margin
    features: bool | None = None

    @classmethod
    def of(cls, options: FindOptions) -> Self:
        return cls(
            rules=WireRules.of(options.rules),
            tiles=options.tiles,
            duplicate_iou=options.duplicate_iou,
            contained_share=options.contained_share,
            across_iou=options.across_iou,
            negative_margin=options.negative_margin,
            features=options.features or None,
        )

    def options(self) -> FindOptions:
        return FindOptions(
            rules=self.rules.rules(),
            tiles=self.tiles,
            duplicate_iou=self.duplicate_iou,
            contained_share=self.contained_share,
            across_iou=self.across_iou,
            negative_margin=self.negative_margin,
            features=bool(self.features),
        )


class FindRequest(Request):
    """``Segmenter.find``."""

    concepts: tuple[WireConcept, ...]
    options: WireFindOptions = WireFindOptions()

    @classmethod
    def of(cls, concepts: Sequence[Concept], options: FindOptions) -> Self:
        return cls(concepts=tuple(map(WireConcept.of, concepts)), options=WireFindOptions.of(options))

    def parsed(self, *, max_megapixels: float) -> tuple[list[Concept], FindOptions]:
        """Raises InvalidInput, InvalidPrompt or TooLarge, naming the concept."""
        _check_masks((one.mask for concept in self.concepts for one in concept.drawn), max_megapixels)
        concepts = []
        for number, concept in enumerate(self.concepts):
            with part(f"concepts[{number}]"):
                concepts.append(concept.concept(max_megapixels))
        with part("options"):
            return concepts, self.options.options()


class WirePoint(Body):
    x: float
    y: float
    positive: bool = True


class WireVisualPrompt(Body):
    """``sam3_core.VisualPrompt``."""

    points: tuple[WirePoint, ...] = ()
    box: Corners | None = None
    mask: WireMask | None = None

    @classmethod
    def of(cls, prompt: VisualPrompt) -> Self:
        return cls(
            points=tuple(WirePoint(x=float(p.x), y=float(p.y), positive=p.positive) for p in prompt.points),
            box=corners_of(prompt.box) if prompt.box else None,
            mask=WireMask.of(prompt.mask) if prompt.mask else None,
        )

    def prompt(self, max_megapixels: float) -> VisualPrompt:
        return VisualPrompt(
            points=tuple(Point(p.x, p.y, p.positive) for p in self.points),
            box=Box(*self.box) if self.box else None,
            mask=_mask(self.mask, max_megapixels) if self.mask else None,
        )


class WireOutlineOptions(Body):
    """``sam3_core.OutlineOptions``."""

    candidates: int = OutlineOptions().candidates


class OutlineRequest(Request):
    """``Segmenter.outline``."""

    prompt: WireVisualPrompt
    options: WireOutlineOptions = WireOutlineOptions()

    @classmethod
    def of(cls, prompt: VisualPrompt, options: OutlineOptions) -> Self:
        return cls(prompt=WireVisualPrompt.of(prompt), options=WireOutlineOptions(candidates=options.candidates))

    def parsed(self, *, max_megapixels: float) -> tuple[VisualPrompt, OutlineOptions]:
        """Raises InvalidInput, InvalidPrompt or TooLarge, naming the part."""
        _check_masks([self.prompt.mask], max_megapixels)
        with part("prompt"):
            prompt = self.prompt.prompt(max_megapixels)
        with part("options"):
            return prompt, OutlineOptions(self.options.candidates)


def _mask(mask: WireMask, max_megapixels: float) -> Mask:
    """Raises TooLarge for an image over the limit, and as ``WireMask.mask``."""
    width, height = mask.frame
    if width * height > max_megapixels * 1e6:
        raise TooLarge(f"a mask of an image of {width} x {height} is over the limit of {max_megapixels:g} megapixels")
    return mask.mask(max_megapixels=max_megapixels)


def _check_masks(masks: Iterable[WireMask | None], max_megapixels: float) -> None:
    """A few bytes of runs stand for megabytes of pixels: refuse too many before any is unpacked."""
    most = _MASKS * max_megapixels
    if sum(mask.pixels for mask in masks if mask is not None) > most * 1e6:
        raise TooLarge(f"the crops of the request's masks hold more than {most:g} megapixels together")
