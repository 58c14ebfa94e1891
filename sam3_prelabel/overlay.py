"""Pictures of what was found: translucent masks, outlines and name tags over the image."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sam3_core.results import Instance

Pixels = NDArray[np.uint8]
RGB = tuple[int, int, int]
Labelled = tuple[str, Instance]
_Rect = tuple[int, int, int, int]

# Strong hues far from each other, for the usual handful of labels; more follow by the golden angle.
_FIRST: tuple[RGB, ...] = (
    (255, 64, 129), (0, 176, 255), (255, 196, 0), (0, 200, 83), (170, 71, 255),
    (255, 109, 0), (0, 191, 165), (198, 255, 0), (121, 85, 72), (83, 109, 254),
)  # fmt: skip
_GOLDEN_ANGLE = 0.381966
_FILL = 0.35
_INK, _PAPER = (16, 16, 16), (255, 255, 255)


def palette(labels: Iterable[str]) -> dict[str, RGB]:
    """A colour (0..255 RGB) per label, distinct among them; the same list always gives the same colours."""
    names = list(dict.fromkeys(labels))
    return {name: _FIRST[i] if i < len(_FIRST) else _spun(i) for i, name in enumerate(names)}


def draw(image: Pixels, found: Sequence[Labelled], colors: Mapping[str, RGB], *, scores: bool = True) -> Pixels:
    """The image with every instance filled, outlined and tagged with its label and, for the model's own, its score.

    image: ``(H, W, 3)`` uint8 RGB, left as it is. found: labels with instances whose masks have the frame
    ``(W, H)``. colors: from `palette`, of all labels in play, so that a label looks alike in every picture.
    Returns a new ``(H, W, 3)`` uint8 RGB. Raises ValueError for a mask of another frame.
    """
    height, width = image.shape[:2]
    canvas = image.copy()
    # Large ones first, so that a small object on a large one stays visible.
    for label, instance in sorted(found, key=lambda pair: -pair[1].mask.area):
        if instance.mask.frame != (width, height):
            raise ValueError(f"a mask of frame {instance.mask.frame} over an image of {(width, height)}")
        _fill(canvas, instance, colors[label])
        _outline(canvas, instance, colors[label], _line_width(width, height))
    return _tags(canvas, sorted(found, key=lambda pair: pair[1].score), colors, scores)


def _spun(index: int) -> RGB:
    """The colour number `index` on a walk around the hue circle that never comes back to where it was."""
    lightness = (0.5, 0.62, 0.38)[index % 3]
    red, green, blue = colorsys.hls_to_rgb(index * _GOLDEN_ANGLE % 1.0, lightness, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def _line_width(width: int, height: int) -> int:
    return max(1, round(0.0022 * math.sqrt(width * height)))


def _fill(canvas: Pixels, instance: Instance, color: RGB) -> None:
    x0, y0, x1, y1 = instance.box
    window, bits = canvas[y0:y1, x0:x1], instance.mask.bits
    window[bits] = (window[bits] * (1 - _FILL) + np.array(color) * _FILL).astype(np.uint8)


def _outline(canvas: Pixels, instance: Instance, color: RGB, line: int) -> None:
    """The mask's edges, holes too: a dark line under the coloured one keeps it visible on any background."""
    mask = instance.mask
    bits = np.pad(mask.bits.astype(np.uint8), 1)
    rings, _ = cv2.findContours(bits, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(mask.x - 1, mask.y - 1))
    cv2.drawContours(canvas, rings, -1, _INK, line + 2 * max(1, line // 2), cv2.LINE_AA)
    cv2.drawContours(canvas, rings, -1, color, line, cv2.LINE_AA)


def _tags(canvas: Pixels, found: Sequence[Labelled], colors: Mapping[str, RGB], scores: bool) -> Pixels:
    """Names and scores in boxes of the label's colour; the best score comes last and lies on top."""
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    size = max(11, round(0.022 * math.sqrt(picture.width * picture.height)))
    font = ImageFont.load_default(size)
    pad = max(2, size // 4)
    taken: list[_Rect] = []
    for label, instance in found:
        text = f"{label} {instance.score:.2f}" if scores else label
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        tag = int(right - left) + 2 * pad, int(bottom - top) + 2 * pad
        x, y = _place(instance.box, tag, picture.size, taken)
        taken.append((x, y, x + tag[0], y + tag[1]))
        pen.rounded_rectangle(taken[-1], radius=pad, fill=colors[label], outline=_INK)
        pen.text((x + pad - left, y + pad - top), text, font=font, fill=_readable_on(colors[label]))
    return np.array(picture)


def _place(box: _Rect, tag: tuple[int, int], frame: tuple[int, int], taken: Sequence[_Rect]) -> tuple[int, int]:
    """Top left corner of a tag: above its box or else in, below or amid it, where it hides other tags least."""
    x0, y0, x1, y1 = box
    width, height = tag
    middle = ((x0 + x1 - width) // 2, (y0 + y1 - height) // 2)
    wishes = [(x0, y0 - height), (x0, y0), (x0, y1), (x1 - width, y0 - height), (x1 - width, y1), middle]
    spots = [(_inside(x, width, frame[0]), _inside(y, height, frame[1])) for x, y in wishes]
    return min(spots, key=lambda spot: sum(_shared((*spot, spot[0] + width, spot[1] + height), t) for t in taken))


def _inside(start: int, length: int, limit: int) -> int:
    return max(0, min(start, limit - length))


def _shared(a: _Rect, b: _Rect) -> int:
    """Pixels that two xyxy rectangles share."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _readable_on(color: RGB) -> RGB:
    """Dark or light text, whichever contrasts more (relative luminance as in WCAG 2; they are equal near 0.18)."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in color)]
    return _INK if 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.18 else _PAPER
