"""The masks and logits of the benchmark: made up, of known kinds, the same for the same random generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_core.masks import Bits

Size = tuple[int, int]
Floats = NDArray[np.float32]

SIDE = 288
"""Cells of SAM 3's mask logits in each direction."""

_MEDIAN_BOX, _SPREAD = 0.03, 1.0  # share of the image; standard deviation of its logarithm
_OUTSIDE = -10.0


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What the model says of one image. logits: ``(q,)``, presence: ``(1,)``, masks: ``(q, 288, 288)``; float32
    logits all of them. boxes: ``(q, 4)`` float32, xyxy, 0..1."""

    logits: Floats
    presence: Floats
    masks: Floats
    boxes: Floats


def random_answer(seed: int, kept: int, queries: int) -> Answer:
    """So many queries, the first of them sure of themselves and the others not. Each has an object, two of three in
    boxes of 1 to 8 % of the image, with a median of 3 %; the n-th is the same whatever the number."""
    masks, boxes = np.empty((queries, SIDE, SIDE), np.float32), np.empty((queries, 4), np.float32)
    for number in range(queries):
        rng = np.random.default_rng([seed, number])
        area = np.clip(_MEDIAN_BOX * np.exp(_SPREAD * rng.standard_normal()), 5e-4, 0.6)
        stretch = np.exp(0.3 * rng.standard_normal() * np.array([0.5, -0.5]))
        side = np.minimum(np.sqrt(area) * stretch, 0.95)
        corner = rng.uniform(0, 1 - side)
        boxes[number] = [*corner, *(corner + side)]
        _draw_logits(masks[number], rng, corner, side)
    return Answer(
        logits=np.where(np.arange(queries) < kept, 4, -4).astype(np.float32),
        presence=np.array([4], np.float32),
        masks=masks,
        boxes=boxes,
    )


def _draw_logits(
    canvas: Floats, rng: np.random.Generator, corner: NDArray[np.float64], side: NDArray[np.float64]
) -> None:
    """An object's logits in place: a hill that fills the box, its slopes bent by blurred noise, a plain elsewhere."""
    left, top = np.floor(corner * SIDE).astype(int)
    width, height = np.maximum(4, np.ceil(side * SIDE)).astype(int)
    inside = canvas[top : top + height, left : left + width]
    height, width = inside.shape
    noise = cv2.GaussianBlur(rng.standard_normal((height, width)).astype(np.float32), (0, 0), max(1.0, width / 8))
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    canvas.fill(_OUTSIDE)
    inside[:] = np.clip(8 * (1 - x**2 - y**2) + 4 * noise / max(float(noise.std()), 1e-6), _OUTSIDE, -_OUTSIDE)


def smooth(rng: np.random.Generator, size: Size) -> Bits:
    """``(H, W)`` bool: a blob with a few gentle bays, over half of the image wide and high."""
    return _blob(rng, size, 0.3)


def noisy(rng: np.random.Generator, size: Size) -> Bits:
    """A smooth mask whose pixels are inside or outside at random along its border; so is a twentieth of the rest."""
    bits = smooth(rng, size)
    doubt = cv2.GaussianBlur(bits.astype(np.float32), (0, 0), max(size) / 200)
    flipped: Bits = rng.random(bits.shape, np.float32) < 0.05 + 0.9 * doubt
    return flipped


def jagged(rng: np.random.Generator, size: Size) -> Bits:
    """A blob with a frayed border, in one part and without holes."""
    bits = smooth(rng, size)
    field = cv2.GaussianBlur(bits.astype(np.float32), (0, 0), max(1.0, max(size) / 120))
    frayed = cv2.GaussianBlur(rng.standard_normal(bits.shape).astype(np.float32), (0, 0), 1.0)
    return _one_part(field + frayed > 0.5)


def holed(rng: np.random.Generator, size: Size) -> Bits:
    """A blob with one to four holes of different size."""
    bits = smooth(rng, size)
    for _ in range(int(rng.integers(1, 5))):
        rows, columns = np.nonzero(bits)
        at = int(rng.integers(rows.size))
        center = columns[at] / size[0], rows[at] / size[1]
        bits &= ~_blob(rng, size, rng.uniform(0.03, 0.08), center)
    return _largest(bits)


def thin(rng: np.random.Generator, size: Size) -> Bits:
    """A winding line, three to eight pixels wide."""
    along = np.linspace(0.05, 0.95, 200)
    across = 0.5 + sum(
        rng.uniform(0.05, 0.15) * np.sin(turns * 2 * np.pi * along + rng.uniform(0, 6)) for turns in (1, 2, 3)
    )
    points = np.stack([along, np.clip(across, 0.05, 0.95)], axis=1)[:, :: int(rng.choice([-1, 1]))]
    canvas = np.zeros(size[::-1], np.uint8)
    line = np.rint(points * size).astype(np.int32)
    cv2.polylines(canvas, [line], isClosed=False, color=1, thickness=int(rng.integers(3, 9)))
    return _largest(canvas > 0)


KINDS: dict[str, Callable[[np.random.Generator, Size], Bits]] = {
    "smooth": smooth, "jagged": jagged, "holed": holed, "thin": thin,
}  # fmt: skip


def _blob(rng: np.random.Generator, size: Size, radius: float, center: tuple[float, float] = (0.5, 0.5)) -> Bits:
    """radius, center: shares of the width and the height."""
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    waves = sum(rng.uniform(0, 0.25) / turns * np.cos(turns * angle + rng.uniform(0, 6)) for turns in range(2, 7))
    reach = radius * (1 + waves)
    points = (np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=1) + center) * size
    canvas = np.zeros(size[::-1], np.uint8)
    cv2.fillPoly(canvas, [np.rint(points).astype(np.int32)], 1)
    return canvas > 0


def _one_part(bits: Bits) -> Bits:
    """The largest part, its holes filled."""
    return ~_outside(_largest(bits))


def _outside(bits: Bits) -> Bits:
    """What hangs together with the surroundings."""
    _, parts = cv2.connectedComponents(np.pad(~bits, 1, constant_values=True).astype(np.uint8), connectivity=4)
    reached: Bits = parts[1:-1, 1:-1] == parts[0, 0]
    return reached


def _largest(bits: Bits) -> Bits:
    _, parts, stats, _ = cv2.connectedComponentsWithStats(bits.astype(np.uint8), connectivity=4)
    largest: Bits = parts == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    return largest
