"""Rendered scenes of coloured shapes with exact masks: the world of the demo checkpoint.

Training, tests, the demo and the benchmarks all draw from `render_scene`, which is deterministic
in its arguments. Coordinates are pixels, x to the right and y down, with pixel (row, column)
covering [column, column + 1] x [row, row + 1].
"""

from __future__ import annotations

import colorsys
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam3_core.demo.painting import (
    RGB,
    Bytes,
    Floats,
    Style,
    coverage,
    draw_backdrop,
    paint_shape,
    photograph,
)
from sam3_core.demo.phrases import COLORS, SHAPES, known_words, phrase_matches

__all__ = [
    "COLORS", "SHAPES", "Outline", "Scene", "SceneObject", "known_words", "phrase_matches", "render_scene",
]  # fmt: skip

Outline = Callable[[np.random.Generator], NDArray[np.float64]]
"""Draws a shape's corners, (N, 2) float64 xy, inside the unit circle around the origin, unturned."""

# Hue in degrees, saturation and value in 0..1, each (low, high). The hue gaps keep any two names
# apart even after a brightness change; the ranges hold the CSS colours of the same names.
_HSV: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-8, 5), (0.8, 1.0), (0.65, 1.0)),
    "orange": ((24, 39), (0.88, 1.0), (0.9, 1.0)),
    "yellow": ((52, 61), (0.75, 1.0), (0.88, 1.0)),
    "green": ((100, 148), (0.55, 1.0), (0.42, 0.9)),
    "blue": ((207, 240), (0.65, 1.0), (0.55, 1.0)),
    "purple": ((272, 302), (0.55, 1.0), (0.42, 0.72)),
    "white": ((0, 360), (0.0, 0.04), (0.94, 1.0)),
    "black": ((0, 360), (0.0, 0.3), (0.0, 0.11)),
}
_MIN_CONTRAST = 30.0  # CIE Lab distance between an object and anything it lies on
_MIN_VISIBLE = 0.70  # of an object's own area; above the promised 0.65, as layout is on a coarse grid
_MIN_INSIDE = 0.92  # of an object's own area, likewise above the promised 0.90
_GRID = 384  # long side in cells of the grid that layout is worked out on


@dataclass(frozen=True, slots=True, eq=False)
class SceneObject:
    """One shape of a scene.

    `mask` is (H, W) bool over the whole image: the visible pixels only. `box` is (x1, y1, x2, y2)
    in pixels around them, by pixel edges: x2 is the last column + 1 and y2 the last row + 1.
    """

    color: str
    shape: str
    mask: NDArray[np.bool_]
    box: tuple[float, float, float, float]

    @property
    def name(self) -> str:
        """Colour and shape, as in "red circle"."""
        return f"{self.color} {self.shape}"


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A rendered image, (H, W, 3) uint8 RGB, and its objects from bottom to top."""

    image: Bytes
    objects: tuple[SceneObject, ...]
    seed: int

    @property
    def width(self) -> int:
        """Image width in pixels."""
        return int(self.image.shape[1])

    @property
    def height(self) -> int:
        """Image height in pixels."""
        return int(self.image.shape[0])

    def matching(self, phrase: str) -> list[SceneObject]:
        """The objects that `phrase` names, bottom to top."""
        return [item for item in self.objects if phrase_matches(phrase, item.color, item.shape)]

    def encode(self, format: str = "JPEG", **save_kwargs: Any) -> bytes:
        """The image as a file of a Pillow `format`; `save_kwargs` go to `Image.save`."""
        if format.upper() in ("JPEG", "JPG"):
            format = "JPEG"
            save_kwargs.setdefault("quality", 92)
        buffer = io.BytesIO()
        Image.fromarray(self.image).save(buffer, format=format, **save_kwargs)
        return buffer.getvalue()


def render_scene(
    seed: int,
    *,
    objects: tuple[int, int] = (1, 6),
    size: tuple[int, int] | None = None,
    long_side: tuple[int, int] = (300, 1200),
    small: Sequence[float] = (),
    strange: Mapping[str, Outline] = MappingProxyType({}),
) -> Scene:
    """Render the scene of `seed`: the same arguments always give the same scene.

    `objects` is the (fewest, most) shapes to draw; the fewest are always drawn, more only where
    they fit. `size` is (width, height) in pixels; without it the aspect ratio is log-uniform
    between 1:2 and 2:1 and the long side uniform in `long_side`, in pixels, both ends included.
    `small` are diameters in pixels of more shapes, clear of all others and drawn where they find room.
    `strange` are shapes beside `SHAPES`, by name; of the grammar only words for any shape name them.
    """
    rng = np.random.default_rng(seed)
    width, height = size or _draw_size(rng, long_side)
    backdrop = draw_backdrop(rng, width, height)
    placed = _layout(rng, width, height, objects, strange)
    placed += _scatter(rng, width, height, placed, small)
    colors = _choose_colors(rng, placed, backdrop, width)
    image = np.asarray(cv2.resize(backdrop, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    style = Style.draw(rng)
    owner = np.zeros((height, width), np.int16)
    for index, (item, (_, rgb)) in enumerate(zip(placed, colors, strict=True), start=1):
        paint_shape(rng, image, owner, index, item.outline, rgb, style)
    image = photograph(rng, image)
    found = (
        _read_object(owner, index, color, item)
        for index, (item, (color, _)) in enumerate(zip(placed, colors, strict=True), start=1)
    )
    return Scene(image, tuple(found), seed)


def _draw_size(rng: np.random.Generator, long_side: tuple[int, int]) -> tuple[int, int]:
    """Width and height in pixels."""
    long = int(rng.integers(long_side[0], long_side[1] + 1))
    aspect = 2.0 ** rng.uniform(-1.0, 1.0)
    short = max(1, math.ceil(long * min(aspect, 1 / aspect)))
    return (long, short) if aspect >= 1 else (short, long)


@dataclass(frozen=True, slots=True, eq=False)
class _Placed:
    """A shape's outline, (N, 2) float64 xy in image pixels, and the earlier shapes it overlaps."""

    shape: str
    outline: NDArray[np.float64]
    over: tuple[int, ...]


def _layout(
    rng: np.random.Generator, width: int, height: int, objects: tuple[int, int], strange: Mapping[str, Outline]
) -> list[_Placed]:
    """Place shapes at random, bottom to top, so that each stays inside and mostly visible."""
    fewest, most = objects
    count = int(rng.integers(fewest, most + 1))
    low, high = (0.16, 0.45) if count <= 6 else (0.14, 0.28)
    # Scenes of few shapes (as of few colours, below) often hold several objects of one name.
    shapes = rng.permutation((*SHAPES, *strange))[: rng.integers(1, 3) if rng.random() < 0.35 else None]
    scale = _GRID / max(width, height)
    while True:
        owner = np.zeros((math.ceil(height * scale), math.ceil(width * scale)), np.int16)
        visible, areas, placed = np.zeros(count + 1), np.zeros(count + 1), list[_Placed]()
        for _ in range(count):
            shape = str(rng.choice(shapes))
            for _ in range(40):
                diameter = rng.uniform(low, high) * min(width, height)
                margin = 0.4 * diameter
                corner = np.array([width - margin, height - margin])
                center = rng.uniform(margin, corner)
                if placed and rng.random() < 0.3:  # left to chance, few shapes would overlap
                    near = placed[rng.integers(len(placed))].outline.mean(axis=0)
                    center = np.clip(near + rng.normal(0, 0.6 * diameter, 2), margin, corner)
                outline = _turned(rng, strange.get(shape, partial(_corners, shape))(rng)) * (diameter / 2) + center
                window, cover = coverage(outline * scale, owner.shape, 0, 1)
                inside = cover >= 0.5
                area = float(cv2.contourArea((outline * scale).astype(np.float32)))
                # Only pixels inside the frame count as visible, so this keeps the shape inside too.
                hidden = np.bincount(owner[window][inside], minlength=count + 1)
                if cover.sum() < _MIN_INSIDE * area or np.any((visible - hidden)[1:] < _MIN_VISIBLE * areas[1:]):
                    continue
                visible -= hidden
                placed.append(_Placed(shape, outline, tuple(np.flatnonzero(hidden[1:]).tolist())))
                areas[len(placed)] = visible[len(placed)] = inside.sum()
                owner[window][inside] = len(placed)
                break
        if len(placed) >= fewest:
            return placed
        low, high = 0.9 * low, 0.9 * high


def _scatter(
    rng: np.random.Generator, width: int, height: int, placed: Sequence[_Placed], diameters: Sequence[float]
) -> list[_Placed]:
    """Shapes of these diameters in pixels, inside the image, at some distance from each other and from `placed`."""
    centers = [item.outline.mean(axis=0) for item in placed]
    radii = [float(np.linalg.norm(item.outline - at, axis=1).max()) for item, at in zip(placed, centers, strict=True)]
    added: list[_Placed] = []
    for radius in (diameter / 2 for diameter in diameters):
        shape = str(rng.choice(SHAPES))
        for _ in range(40):
            center = rng.uniform(radius, np.array([width, height]) - radius)
            gaps = np.linalg.norm(np.reshape(centers, (-1, 2)) - center, axis=1) - radii - radius
            if np.all(gaps > radius):
                added.append(_Placed(shape, _turned(rng, _corners(shape, rng)) * radius + center, ()))
                centers.append(center)
                radii.append(radius)
                break
    return added


def _corners(shape: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """One of `SHAPES` as an `Outline`."""
    corners = {"circle": 128, "square": 4, "triangle": 3, "star": 10}[shape]
    angles = np.arange(corners) * (2 * math.pi / corners)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    if shape == "star":
        points[1::2] *= rng.uniform(0.40, 0.50)
    if shape == "triangle":
        points[:, 0] *= rng.uniform(0.88, 1.12)
        points /= np.linalg.norm(points, axis=1).max()
    return points


def _turned(rng: np.random.Generator, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The outline (N, 2) at a random rotation around the origin."""
    turn = rng.uniform(0, 2 * math.pi)
    c, s = math.cos(turn), math.sin(turn)
    return np.asarray(points @ np.array([[c, s], [-s, c]]), np.float64)


def _choose_colors(
    rng: np.random.Generator, placed: Sequence[_Placed], backdrop: Bytes, width: int
) -> list[tuple[str, RGB]]:
    """A colour name and RGB (0..255) per shape that stands out from all that it lies on."""
    palette = rng.permutation(COLORS)[: rng.integers(1, 4) if rng.random() < 0.35 else None]
    scale = backdrop.shape[1] / width
    lab = np.asarray(cv2.cvtColor(backdrop.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
    chosen: list[tuple[str, RGB]] = []
    for item in placed:
        window, _ = coverage(item.outline * scale, lab.shape[:2], 2, 1)
        patch = lab[window].reshape(-1, 3)
        below = [patch.mean(axis=0), patch[patch[:, 0].argmin()], patch[patch[:, 0].argmax()]]
        below += [_lab(chosen[index][1]) for index in item.over]
        options: list[tuple[float, str, RGB]] = []
        for color in [*rng.permutation(palette), *rng.permutation(COLORS)]:
            (h0, h1), s, v = _HSV[str(color)]
            hsv = rng.uniform(h0, h1) / 360 % 1, rng.uniform(*s), rng.uniform(*v)
            red, green, blue = (255 * value for value in colorsys.hsv_to_rgb(*hsv))
            rgb = (red, green, blue)
            contrast = float(np.linalg.norm(_lab(rgb) - np.array(below), axis=1).min())
            options.append((contrast, str(color), rgb))
            if contrast >= _MIN_CONTRAST:
                break
        best = options[-1] if options[-1][0] >= _MIN_CONTRAST else max(options)
        chosen.append(best[1:])
    return chosen


def _lab(rgb: RGB) -> Floats:
    """CIE Lab, (3,) float32, of RGB in 0..255."""
    pixel = np.array(rgb, np.float32).reshape(1, 1, 3) / 255
    return np.asarray(cv2.cvtColor(pixel, cv2.COLOR_RGB2LAB)[0, 0], np.float32)


def _read_object(owner: NDArray[np.int16], index: int, color: str, item: _Placed) -> SceneObject:
    """The finished object: what later shapes left of it in `owner` (H, W)."""
    (rows, columns), _ = coverage(item.outline, owner.shape, 1, 1)
    visible = owner[rows, columns] == index
    mask = np.zeros(owner.shape, np.bool_)
    mask[rows, columns] = visible
    xs, ys = np.flatnonzero(visible.any(axis=0)), np.flatnonzero(visible.any(axis=1))
    left, top = columns.start, rows.start
    box = (left + xs[0], top + ys[0], left + xs[-1] + 1, top + ys[-1] + 1)
    x1, y1, x2, y2 = (float(edge) for edge in box)
    return SceneObject(color, item.shape, mask, (x1, y1, x2, y2))
