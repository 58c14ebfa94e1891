"""Panels: a part of the scene with what was found drawn on it, and a caption below."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sam3_core import Instance, Mask
from sam3_core.encodings.polygons import bridged, polygons
from sam3_core.encodings.shapes import ellipse, oriented_box, visual_centre
from sam3_core.finish import Finish
from tools.pictures.scene import Pixels

Box = tuple[int, int, int, int]
Draw = Callable[["Sheet"], None]

_INK, _PAPER, _LINE, _FILL = (24, 24, 27), (255, 255, 255), (255, 0, 110), (255, 0, 110, 90)
_CAPTION = 46  # pixels below a panel, for two lines
_SHADES = ((255, 0, 110), (0, 110, 255), (255, 170, 0), (0, 170, 90), (150, 60, 255))


@dataclass(frozen=True, slots=True)
class Panel:
    """draw: paints on the sheet. caption: one or two lines."""

    caption: str
    draw: Draw


class Sheet:
    """A part of the scene, enlarged; what is drawn is in pixels of the scene."""

    def __init__(self, scene: Pixels, part: Box, width: int) -> None:
        x0, y0, x1, y1 = part
        self._origin, self._scale = np.array([x0, y0], dtype=np.float64), width / (x1 - x0)
        height = round((y1 - y0) * self._scale)
        cut = Image.fromarray(scene[y0:y1, x0:x1]).resize((width, height), Image.Resampling.LANCZOS)
        self.image = cut.convert("RGBA")
        self._tags: list[tuple[float, float]] = []

    def mask(self, mask: Mask, shade: int = 0) -> None:
        """Its pixels, translucent."""
        color = (*_SHADES[shade % len(_SHADES)], 110)
        full = Image.fromarray(mask.full().astype(np.uint8) * 255)
        x0, y0 = self._origin.astype(int).tolist()
        width, height = (round(side / self._scale) for side in self.image.size)
        shown = full.crop((x0, y0, x0 + width, y0 + height)).resize(self.image.size, Image.Resampling.NEAREST)
        ink = Image.new("RGBA", self.image.size, color)
        self.image.alpha_composite(Image.composite(ink, Image.new("RGBA", self.image.size), shown))

    def ring(self, points: object, *, corners: bool = False, shade: int = 0) -> None:
        """A closed line through ``(N, 2)`` points, filled a little; with a dot on each corner where wanted."""
        color = _SHADES[shade % len(_SHADES)]
        places = [tuple(place) for place in self._places(points).tolist()]
        layer = Image.new("RGBA", self.image.size)
        pen = ImageDraw.Draw(layer)
        pen.polygon(places, fill=(*color, 70))
        pen.line([*places, places[0]], fill=(*color, 255), width=2)
        for x, y in places if corners else ():
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_PAPER, outline=(*color, 255))
        self.image.alpha_composite(layer)

    def dot(self, point: tuple[float, float]) -> None:
        ((x, y),) = self._places([point]).tolist()
        pen = ImageDraw.Draw(self.image)
        pen.ellipse((x - 7, y - 7, x + 7, y + 7), fill=_LINE, outline=_PAPER, width=2)

    def note(self, text: str, point: tuple[float, float]) -> None:
        """A small tag at a place."""
        ((x, y),) = self._places([point]).tolist()
        pen, font = ImageDraw.Draw(self.image), ImageFont.load_default(13)
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        x = min(max(0.0, x), self.image.width - (right - left) - 8)
        y = min(max(0.0, y), self.image.height - (bottom - top) - 8)
        while any(abs(x - other_x) < right - left + 8 and abs(y - other_y) < 20 for other_x, other_y in self._tags):
            y += 20  # one below the other
        self._tags.append((x, y))
        pen.rectangle((x, y, x + right - left + 8, y + bottom - top + 8), fill=_PAPER, outline=_INK)
        pen.text((x + 4 - left, y + 4 - top), text, font=font, fill=_INK)

    def _places(self, points: object) -> NDArray[np.float64]:
        return (np.asarray(points, dtype=np.float64) - self._origin) * self._scale


def strip(scene: Pixels, part: Box, panels: Sequence[Panel], *, width: int) -> Image.Image:
    """The panels side by side, each of so many pixels, with white between them."""
    sheets = []
    for panel in panels:
        sheet = Sheet(scene, part, width)
        panel.draw(sheet)
        sheets.append(sheet.image.convert("RGB"))
    gap, height = 10, sheets[0].height
    whole = Image.new("RGB", (len(sheets) * (width + gap) - gap, height + _CAPTION), _PAPER)
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(15)
    for number, (panel, drawn) in enumerate(zip(panels, sheets, strict=True)):
        left = number * (width + gap)
        whole.paste(drawn, (left, 0))
        pen.multiline_text((left + 2, height + 4), panel.caption, font=font, fill=_INK, spacing=2)
    return whole


def shown_polygons(instances: Sequence[Instance], finish: Finish, *, corners: bool = True) -> Draw:
    """Every polygon as an editor gets it: holes on their bridges."""

    def draw(sheet: Sheet) -> None:
        for shade, instance in enumerate(instances):
            for number, polygon in enumerate(polygons(instance.mask, finish)):
                sheet.ring(bridged(polygon), corners=corners, shade=shade + number)

    return draw


def shown_masks(instances: Sequence[Instance], *, tags: bool = False) -> Draw:
    """Every mask in a colour of its own, with phrase and score where wanted."""

    def draw(sheet: Sheet) -> None:
        for shade, instance in enumerate(instances):
            sheet.mask(instance.mask, shade)
        for instance in instances if tags else ():
            sheet.note(f"{instance.phrase} {instance.score:.2f}", visual_centre(instance.mask))

    return draw


def shown_box(mask: Mask) -> Draw:
    x0, y0, x1, y1 = mask.box
    return lambda sheet: sheet.ring([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def shown_oriented_box(mask: Mask) -> Draw:
    return lambda sheet: sheet.ring(oriented_box(mask).corners())


def shown_ellipse(mask: Mask) -> Draw:
    shape = ellipse(mask)
    (cos, sin), along = (
        (math.cos(math.radians(shape.angle)), math.sin(math.radians(shape.angle))),
        np.arange(0, 360, 4),
    )
    own = np.stack([shape.rx * np.cos(np.radians(along)), shape.ry * np.sin(np.radians(along))], axis=1)
    return lambda sheet: sheet.ring(own @ np.array([[cos, sin], [-sin, cos]]) + (shape.cx, shape.cy))


def shown_centre(mask: Mask) -> Draw:
    return lambda sheet: sheet.dot(visual_centre(mask))
