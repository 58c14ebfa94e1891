"""The scene on which every option is shown: a ring, a star, a square in two halves, and things that are small."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sam3_core.demo.painting import Style, paint_shape

Pixels = NDArray[np.uint8]

SIZE = (960, 640)
_GROUND = (176, 186, 178)
_COLORS = {
    "red": (215, 35, 40), "blue": (45, 85, 215), "green": (40, 150, 70), "yellow": (240, 215, 40),
    "orange": (245, 140, 20), "purple": (130, 50, 160), "white": (250, 250, 250), "black": (15, 15, 18),
}  # fmt: skip
_CORNERS = {"circle": 128, "square": 4, "triangle": 3, "star": 10}

# Colour, shape, centre, radius, turn in degrees, and how much its own axes are stretched; later ones lie on top.
_SHAPES = (
    ("red", "circle", (190, 180), 125, 0, (1.0, 1.0)),
    ("blue", "square", (200, 175), 50, 20, (1.0, 1.0)),
    ("green", "star", (470, 160), 120, 10, (1.0, 1.0)),
    ("orange", "square", (760, 200), 170, 45, (1.0, 1.0)),
    ("black", "square", (760, 200), 200, 45, (0.18, 1.1)),
    ("purple", "triangle", (240, 480), 120, 80, (1.0, 1.0)),
    ("yellow", "circle", (480, 450), 95, 0, (1.0, 1.0)),
    ("red", "circle", (700, 520), 60, 0, (1.0, 1.0)),
    ("blue", "circle", (830, 480), 70, 0, (1.0, 1.0)),
    ("white", "circle", (600, 330), 18, 0, (1.0, 1.0)),
    ("white", "circle", (380, 350), 12, 0, (1.0, 1.0)),
    ("white", "circle", (900, 600), 14, 0, (1.0, 1.0)),
)


def paint_scene() -> Pixels:
    """``(H, W, 3)`` uint8 RGB, the same each time."""
    rng = np.random.default_rng(3)
    style = Style.draw(np.random.default_rng(1))
    image = np.full((SIZE[1], SIZE[0], 3), _GROUND, dtype=np.uint8)
    owner = np.zeros((SIZE[1], SIZE[0]), dtype=np.int16)
    for index, (color, shape, centre, radius, turn, stretch) in enumerate(_SHAPES, start=1):
        red, green, blue = _COLORS[color]
        outline = _outline(shape, turn) * radius * np.array(stretch) + np.array(centre)
        paint_shape(rng, image, owner, index, outline, (float(red), float(green), float(blue)), style)
    return image


def _outline(shape: str, turn: float) -> NDArray[np.float64]:
    """``(N, 2)`` xy in a unit circle around the origin."""
    angles = np.arange(_CORNERS[shape]) * (2 * math.pi / _CORNERS[shape])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    if shape == "star":
        points[1::2] *= 0.45
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]))
