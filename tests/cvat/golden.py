"""The golden requests: one scene in every form in which CVAT sends a picture, and every prompt that it can carry."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam3_core.demo.scenes import Scene, render_scene

SCENE: Scene = render_scene(10, objects=(3, 4), size=(320, 240))
"""A white square, a yellow circle over one of its corners, and two more circles, purple and orange."""

TARGET, OTHER = SCENE.matching("white square")[0], SCENE.matching("orange circle")[0]
BACKGROUND = (75.0, 55.0)
_ROI = (55, 50, 315, 240)
_LARGE = 12  # times the scene: 3840 x 2880

Point = tuple[float, float]


@dataclass(frozen=True)
class Picture:
    """data: the file. scale, offset: from pixels of the scene to those of the picture. colours: as in the scene.

    scene: whether anything of the scene is in it.
    """

    data: bytes
    size: tuple[int, int]
    scale: float = 1.0
    offset: Point = (0.0, 0.0)
    colours: bool = True
    scene: bool = True

    def at(self, point: Point) -> list[float]:
        return [(place - away) * self.scale for place, away in zip(point, self.offset, strict=True)]

    def truth(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The scene's mask in this picture, ``(height, width)``."""
        left, top = int(self.offset[0]), int(self.offset[1])
        width, height = round(self.size[0] / self.scale), round(self.size[1] / self.scale)
        crop = mask[top : top + height, left : left + width]
        return np.repeat(np.repeat(crop, int(self.scale), axis=0), int(self.scale), axis=1)


@dataclass(frozen=True)
class Prompts:
    """For the interactor. asks: whether there is anything to outline; boxes None: left out by a caller of the API."""

    positive: tuple[Point, ...] = ()
    negative: tuple[Point, ...] = ()
    boxes: tuple[Point, ...] | None = ()

    @property
    def asks(self) -> bool:
        return bool(self.positive or self.boxes)

    def on(self, picture: Picture) -> dict[str, Any]:
        """Arguments of interactor_request."""
        return {
            "positive": [picture.at(point) for point in self.positive],
            "negative": [picture.at(point) for point in self.negative],
            "boxes": None if self.boxes is None else [picture.at(corner) for corner in self.boxes],
        }


def _centre(box: tuple[float, float, float, float]) -> Point:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _corners(box: tuple[float, float, float, float]) -> tuple[Point, Point]:
    return (box[0], box[1]), (box[2], box[3])


_ON_TARGET, _TARGET_BOX, _OTHER_BOX = _centre(TARGET.box), _corners(TARGET.box), _corners(OTHER.box)

PROMPTS = {
    "none": Prompts(),
    "none, box left out": Prompts(boxes=None),
    "+": Prompts((_ON_TARGET,)),
    "+, box left out": Prompts((_ON_TARGET,), boxes=None),
    "-": Prompts((), (BACKGROUND,)),
    "+-": Prompts((_ON_TARGET,), (BACKGROUND,)),
    "box": Prompts(boxes=_TARGET_BOX),
    "two boxes": Prompts(boxes=(*_TARGET_BOX, *_OTHER_BOX)),
    "box and +-": Prompts((_ON_TARGET,), (BACKGROUND,), _TARGET_BOX),
}


def _saved(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def _with_alpha(image: Image.Image) -> bytes:
    """The white square is a hole, seen on the white page; the colour hidden under it is the dark background's."""
    pixels = np.dstack([np.asarray(image), np.full(SCENE.image.shape[:2], 255, np.uint8)])
    pixels[TARGET.mask] = [*SCENE.image[0, 0], 0]
    return _saved(Image.fromarray(pixels), "PNG")


def _sixteen_bits(image: Image.Image) -> bytes:
    """A narrow part of the range, as from a scanner: shown as it is, it would be black."""
    grey = np.asarray(image.convert("L")).astype(np.uint16)
    return _saved(Image.fromarray(grey * 16 + 1000), "PNG")


def _turned(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # the row on top of the file is the right side of the picture
    return _saved(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)


def pictures() -> dict[str, Picture]:
    scene = Image.fromarray(SCENE.image)
    forms: dict[str, Callable[[Image.Image], bytes]] = {
        "JPEG": lambda image: _saved(image, "JPEG", quality=95),
        "PNG with alpha": _with_alpha,
        "palette": lambda image: _saved(image.quantize(128), "PNG"),
        "CMYK JPEG": lambda image: _saved(image.convert("CMYK"), "JPEG", quality=95),
        "turned by EXIF": _turned,
    }
    grey: dict[str, Callable[[Image.Image], bytes]] = {
        "grey": lambda image: _saved(image.convert("L"), "PNG"),
        "16 bit": _sixteen_bits,
    }
    large = scene.resize((scene.width * _LARGE, scene.height * _LARGE), Image.Resampling.NEAREST)
    crop = scene.crop(_ROI)
    return {
        **{name: Picture(write(scene.copy()), scene.size) for name, write in forms.items()},
        **{name: Picture(write(scene), scene.size, colours=False) for name, write in grey.items()},
        "4K": Picture(_saved(large, "JPEG", quality=90), large.size, scale=_LARGE),
        "ROI": Picture(_saved(crop, "PNG"), crop.size, offset=(_ROI[0], _ROI[1])),
        "1 x 1": Picture(_saved(Image.new("RGB", (1, 1), "white"), "PNG"), (1, 1), scale=1 / 320, scene=False),
    }


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Intersection over union."""
    return float((one & other).sum() / max((one | other).sum(), 1))
