"""What all bodies share: strict reading, boxes, masks and rules."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sam3_core.encodings import coco
from sam3_core.errors import InvalidInput
from sam3_core.masks import Bits, Mask
from sam3_core.rules import Area, Rules
from sam3_core.types import Box

Pixel = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Size = tuple[Pixel, Pixel]
"""``(width, height)`` in pixels as displayed."""

Corners = tuple[float, float, float, float]
"""xyxy in pixels of the image as displayed; see ``Box``."""


def corners_of(box: Box) -> Corners:
    """Of floats, whatever numbers the box was made of."""
    x0, y0, x1, y1 = map(float, box.xyxy)
    return x0, y0, x1, y1


class Body(BaseModel):
    """A JSON object. Nothing is converted, NaN and infinity are refused; what is None is not written."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, extra="forbid", protected_namespaces=())

    def text(self) -> bytes:
        """As JSON."""
        return self.model_dump_json(exclude_none=True).encode()


class Answered(Body):
    """A part of an answer: what a newer server adds is skipped."""

    model_config = ConfigDict(extra="ignore")


B = TypeVar("B", bound=Body)


def read(kind: type[B], raw: bytes) -> B:
    """JSON as one of the bodies. Raises InvalidInput, naming the first wrong field."""
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        raise InvalidInput(f"the request is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).removeprefix(".")
    raise InvalidInput(f"{where or 'the request'}: {first['msg']}"[:500])


@contextmanager
def part(name: str) -> Iterator[None]:
    """What is wrong in the block is wrong in this part of a body: the sentence says so."""
    try:
        yield
    except InvalidInput as error:
        raise type(error)(f"{name}: {error}") from None


def packed(data: bytes) -> str:
    """As base64."""
    return base64.b64encode(data).decode("ascii")


def unpacked(text: str) -> bytes:
    """Of base64, with padding and without spaces. Raises InvalidInput for anything else."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise InvalidInput("what should be base64 is not") from None


class WireRle(Answered):
    """COCO's compressed run-length encoding; size: ``[height, width]`` of the crop in pixels."""

    size: tuple[Pixel, Pixel]
    counts: str


class WireMask(Answered):
    """A mask: its crop, the crop's place (column ``x``, row ``y``) and the size of the whole image."""

    frame: Size
    x: Pixel
    y: Pixel
    rle: WireRle

    @classmethod
    def of(cls, mask: Mask) -> Self:
        height, width = mask.bits.shape
        counts = coco.encode(Mask(mask.bits, 0, 0, (width, height)))["counts"] if mask.bits.size else ""
        frame = (int(mask.frame[0]), int(mask.frame[1]))
        return cls(frame=frame, x=int(mask.x), y=int(mask.y), rle=WireRle(size=(height, width), counts=counts))

    @property
    def pixels(self) -> int:
        """Of the crop: what the mask takes in memory."""
        return self.rle.size[0] * self.rle.size[1]

    def mask(self, *, max_megapixels: float) -> Mask:
        """Raises InvalidInput for runs that do not fit the crop and a crop that does not fit the image, TooLarge."""
        height, width = self.rle.size
        bits: Bits
        if self.pixels == 0:
            bits = np.zeros((height, width), dtype=np.bool_)
        else:
            bits = coco.decode(self.rle.model_dump(), max_megapixels=max_megapixels).full()
        try:
            return Mask(bits, self.x, self.y, self.frame)
        except ValueError as error:
            raise InvalidInput(str(error)) from None


class WireArea(Answered):
    """One of the two: a number of pixels, or a share (0..1) of the image."""

    pixels: float | None = None
    share: float | None = None

    @classmethod
    def of(cls, area: Area) -> Self:
        return cls(share=area.amount) if area.relative else cls(pixels=area.amount)

    def area(self) -> Area:
        if (self.pixels is None) == (self.share is None):
            raise InvalidInput('an area is {"pixels": ...} or {"share": ...}, one of the two')
        return Area(self.share, relative=True) if self.pixels is None else Area(self.pixels)  # type: ignore[arg-type]


class WireRules(Body):
    """``sam3_core.Rules``: what is not there is left open."""

    threshold: float | None = None
    presence: float | None = None
    min_area: WireArea | None = None
    max_area: WireArea | None = None
    max_instances: Count | None = None
    top_k: Count | None = None
    overlap: bool | None = None

    @classmethod
    def of(cls, rules: Rules) -> Self:
        areas = {name: WireArea.of(area) for name, area in rules.chosen.items() if isinstance(area, Area)}
        return cls(**(rules.chosen | areas))

    def rules(self) -> Rules:
        """Raises InvalidPrompt for numbers out of range."""
        return Rules(
            threshold=self.threshold,
            presence=self.presence,
            min_area=self.min_area.area() if self.min_area else None,
            max_area=self.max_area.area() if self.max_area else None,
            max_instances=self.max_instances,
            top_k=self.top_k,
            overlap=self.overlap,
        )
