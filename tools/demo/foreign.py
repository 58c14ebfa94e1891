"""Scenes by another hand: plain Pillow drawing, to see whether the checkpoint holds beyond its own renderer."""

from __future__ import annotations

import math
import random

import numpy as np
from PIL import Image, ImageDraw

from sam3_core.demo.scenes import Scene, SceneObject

# CSS colours, not the renderer's.
PAINTS = {
    "red": "crimson",
    "green": "forestgreen",
    "blue": "royalblue",
    "yellow": "gold",
    "orange": "darkorange",
    "purple": "purple",
    "white": "white",
    "black": "black",
}
GROUNDS = ("slategray", "tan", "lightsteelblue", "dimgray", "rosybrown", "darkseagreen", "gray")


def draw_scene(seed: int, *, objects: tuple[int, int] = (1, 6)) -> Scene:
    """A flat ground with flat, jagged (not anti-aliased) shapes that do not touch; 400 to 900 pixels a side."""
    rng = random.Random(seed)
    width, height = rng.randint(400, 900), rng.randint(400, 900)
    image = Image.new("RGB", (width, height), rng.choice(GROUNDS))
    brush = ImageDraw.Draw(image)
    placed: list[tuple[float, float, float]] = []
    things = []
    for _ in range(rng.randint(*objects)):
        radius = rng.uniform(0.09, 0.2) * min(width, height)
        x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
        if any(math.hypot(x - a, y - b) < radius + r for a, b, r in placed):
            continue
        placed.append((x, y, radius))
        color, shape = rng.choice(list(PAINTS)), rng.choice(("circle", "square", "triangle", "star"))
        stencil = Image.new("1", (width, height))
        outline = _outline(shape, x, y, radius, rng.uniform(0, 2 * math.pi))
        for canvas, paint in ((brush, PAINTS[color]), (ImageDraw.Draw(stencil), 1)):
            if outline is None:
                canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=paint)
            else:
                canvas.polygon(outline, fill=paint)
        mask = np.asarray(stencil)
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = (float(cols[0]), float(rows[0]), float(cols[-1] + 1), float(rows[-1] + 1))
        things.append(SceneObject(color, shape, mask, box))
    return Scene(np.asarray(image), tuple(things), seed)


def _outline(shape: str, x: float, y: float, radius: float, turn: float) -> list[tuple[float, float]] | None:
    """Corners of the shape, None for a circle."""
    if shape == "circle":
        return None
    corners = {"square": 4, "triangle": 3, "star": 10}[shape]
    radii = [radius * (0.45 if shape == "star" and i % 2 else 1.0) for i in range(corners)]
    angles = [turn + 2 * math.pi * i / corners for i in range(corners)]
    return [(x + r * math.cos(a), y + r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]
