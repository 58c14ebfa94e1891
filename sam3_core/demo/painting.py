"""How the demo scenes are drawn: backdrop, shapes with rim and shadow, and the traces of a camera.

Images are (H, W, 3) uint8 RGB. What varies smoothly is worked out small and enlarged, and shapes
are sampled finely on their own patch only, so that large images stay quick to draw.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
RGB = tuple[float, float, float]

_BACKDROP = 192  # the most cells a side of a backdrop
_TILE = 256  # side of the repeated noise tile in pixels


def draw_backdrop(rng: np.random.Generator, width: int, height: int) -> Bytes:
    """An uneven, textured background, (h, w, 3) uint8 RGB, of at most `_BACKDROP` cells a side."""
    scale = min(1.0, _BACKDROP / max(width, height))
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    saturation = rng.uniform(0.0, 0.12) if rng.random() < 0.6 else rng.uniform(0.1, 0.35)
    base = colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.12, 1.0))
    canvas = np.full((h, w, 3), base, np.float32) * 255
    for channels, strength in ((1, rng.uniform(0, 14)), (3, rng.uniform(0, 6))):
        canvas += strength * _clouds(rng, w, h, int(rng.integers(2, 6)), channels)
    canvas += rng.uniform(2, 11) * _texture(rng, w, h)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _clouds(rng: np.random.Generator, w: int, h: int, cells: int, channels: int) -> Floats:
    """Smooth noise of about unit deviation, (h, w, channels) float32, `cells` bumps a side."""
    coarse = rng.standard_normal((cells, cells, channels), dtype=np.float32)
    smooth = cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth, np.float32).reshape(h, w, channels)


def _texture(rng: np.random.Generator, w: int, h: int) -> Floats:
    """One of several patterns within about -1..1, (h, w, 1) float32."""
    kind = rng.choice(["plain", "gradient", "stripes", "checker", "clouds"])
    if kind == "plain":
        return np.zeros((h, w, 1), np.float32)
    if kind == "clouds":
        return np.float32(0.6) * _clouds(rng, w, h, int(rng.integers(8, 40)), 1)
    u, v = _ramps(w, h, rng.uniform(0, 2 * math.pi))
    if kind == "gradient":
        return 2 * u
    frequency = 2 * math.pi * rng.uniform(4, 24)
    waves = np.sin(u * frequency)
    if kind == "checker":
        waves = waves * np.sin(v * frequency)
    return np.asarray(np.clip(waves * rng.uniform(1, 6), -1, 1), np.float32)


def _ramps(w: int, h: int, angle: float) -> tuple[Floats, Floats]:
    """Two linear ramps at right angles, each (h, w, 1) float32, from about -0.5 to 0.5 a side."""
    x = (np.arange(w)[None, :, None] - w / 2) / max(w, h)
    y = (np.arange(h)[:, None, None] - h / 2) / max(w, h)
    c, s = math.cos(angle), math.sin(angle)
    return (x * c + y * s).astype(np.float32), (y * c - x * s).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Style:
    """How the shapes of one scene are drawn; lengths are fractions of a shape's size."""

    fill: str  # flat, gradient, texture
    edge: str  # smooth, aliased, blurred
    rim: float  # outline thickness, 0 for none
    rim_shade: float  # below 1 darkens the outline, above 1 lightens it
    shadow: float  # opacity, 0 for none
    shadow_shift: tuple[float, float]

    @staticmethod
    def draw(rng: np.random.Generator) -> Style:
        return Style(
            fill=str(rng.choice(["flat", "gradient", "texture"])),
            edge=str(rng.choice(["smooth", "aliased", "blurred"], p=[0.65, 0.15, 0.2])),
            rim=rng.uniform(0.012, 0.04) if rng.random() < 0.3 else 0.0,
            rim_shade=rng.choice([0.6, 0.75, 1.25]),
            shadow=rng.uniform(0.15, 0.4) if rng.random() < 0.3 else 0.0,
            shadow_shift=(rng.uniform(-0.05, 0.05), rng.uniform(0.01, 0.06)),
        )


def coverage(
    outline: NDArray[np.float64], frame: tuple[int, ...], pad: int, fine: int, rim: float = 0.0
) -> tuple[tuple[slice, slice], Floats]:
    """How much of each pixel a polygon covers, worked out on its own patch of the frame only.

    `outline` is (N, 2) xy in pixels, `frame` (H, W), `pad` a margin in pixels and `fine` the
    samples a pixel side. Returns the patch as (rows, columns) and its coverage, (h, w) float32 in
    0..1; with `rim`, the coverage of a line of that thickness in pixels along the inner edge.
    """
    x0, y0 = np.maximum(np.floor(outline.min(axis=0)).astype(int) - pad, 0)
    x1, y1 = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + pad, (frame[1], frame[0]))
    canvas = np.zeros(((y1 - y0) * fine, (x1 - x0) * fine), np.uint8)
    # OpenCV puts integer coordinates at pixel centres, hence the half; 16ths of a pixel by shift 4.
    points = np.rint(((outline - (x0, y0)) * fine - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(canvas, [points], 255, shift=4)
    # fillPoly takes every sample that the border touches, which would swell the shape.
    cv2.polylines(canvas, [points], True, 128, shift=4)
    if rim:
        line = np.zeros_like(canvas)
        cv2.polylines(line, [points], True, 255, max(1, round(2 * rim * fine)), shift=4)
        canvas = np.minimum(canvas, line)
    if fine > 1:
        canvas = np.asarray(cv2.resize(canvas, (int(x1 - x0), int(y1 - y0)), interpolation=cv2.INTER_AREA), np.uint8)
    return (slice(int(y0), int(y1)), slice(int(x0), int(x1))), canvas.astype(np.float32) / np.float32(255)


def paint_shape(
    rng: np.random.Generator,
    image: Bytes,
    owner: NDArray[np.int16],
    index: int,
    outline: NDArray[np.float64],
    rgb: RGB,
    style: Style,
) -> None:
    """Draw one shape into `image` (H, W, 3) and claim its pixels in `owner` (H, W)."""
    length = float(np.ptp(outline, axis=0).max())
    fine = 4 if length < 400 else 2
    if style.shadow:
        _paint_shadow(image, outline, length, style)
    window, alpha = coverage(outline, owner.shape, 3, fine)
    owner[window][alpha >= 0.5] = index

    h, w = alpha.shape
    fill = np.full((h, w, 3), rgb, np.float32)
    if style.fill == "gradient":
        fill *= 1 + rng.uniform(0.1, 0.3) * _ramps(w, h, rng.uniform(0, 2 * math.pi))[0]
    elif style.fill == "texture":
        cells = int(rng.integers(3, 24))
        fill += rng.uniform(3, 11) * _clouds(rng, w, h, cells, 1)
    if style.rim:
        line = coverage(outline, owner.shape, 3, fine, rim=max(1.0, style.rim * length))[1][..., None]
        shade = style.rim_shade
        rim = fill * shade if shade < 1 else fill + (255 - fill) * (shade - 1)
        fill += (rim - fill) * line
    if style.edge == "aliased":
        alpha = (alpha >= 0.5).astype(np.float32)
    elif style.edge == "blurred":
        alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.5, 1.1)), np.float32)
    patch = image[window].astype(np.float32)
    patch += (fill - patch) * alpha[..., None]
    image[window] = np.clip(patch + 0.5, 0, 255).astype(np.uint8)


def _paint_shadow(image: Bytes, outline: NDArray[np.float64], length: float, style: Style) -> None:
    """Darken `image` softly beside a shape of `length` pixels, as if it floated above."""
    # A shadow is smooth, so it is blurred on a patch of some 64 pixels whatever the image's size.
    shifted = outline + np.array(style.shadow_shift) * length
    window, cover = coverage(shifted, image.shape, math.ceil(0.12 * length), 1)
    h, w = cover.shape
    step = max(1.0, length / 64)
    small = cv2.resize(cover, (math.ceil(w / step), math.ceil(h / step)), interpolation=cv2.INTER_AREA)
    soft = cv2.resize(cv2.GaussianBlur(small, (0, 0), 0.03 * length / step), (w, h))
    shade = 1 - style.shadow * np.asarray(soft, np.float32)[..., None]
    image[window] = (image[window] * shade).astype(np.uint8)


def photograph(rng: np.random.Generator, image: Bytes) -> Bytes:
    """Blur, light, noise and JPEG traces as of a camera, on (H, W, 3) uint8 RGB."""
    if rng.random() < 0.25:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.0)), np.uint8)
    if rng.random() < 0.5:
        levels = (np.arange(256) - 128) * rng.uniform(0.86, 1.1) + 128 + rng.uniform(-12, 10)
        image = np.asarray(cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8)), np.uint8)
    if rng.random() < 0.8:
        height, width = image.shape[:2]
        # One tile of noise, repeated: drawing a number per pixel would dominate large images.
        tile = (min(height, _TILE), min(width, _TILE), 1 if rng.random() < 0.5 else 3)
        noise = np.rint(rng.standard_normal(tile, np.float32) * np.float32(rng.uniform(1, 7)))
        noise = np.broadcast_to(noise.astype(np.int16), (*tile[:2], 3))
        for y in range(0, height, _TILE):
            for x in range(0, width, _TILE):
                part = image[y : y + _TILE, x : x + _TILE]
                grain = noise[: part.shape[0], : part.shape[1]]
                part[:] = cv2.add(part, np.ascontiguousarray(grain), dtype=cv2.CV_8U)
    if rng.random() < 0.5:
        quality = int(rng.integers(40, 96))
        data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)
    return image
