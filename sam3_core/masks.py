"""A mask as the core hands it out: the bits inside its box, and the box's place in the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """Pixels of one object, cropped.

    bits: ``(h, w)`` bool, row-major; ``bits[r, c]`` is image pixel ``(x + c, y + r)``.
    x, y: column and row of ``bits[0, 0]`` in the image, pixels, 0-based.
    frame: ``(width, height)`` of the whole image in pixels, as displayed (EXIF applied).

    The crop lies inside the frame; it need not be tight (``tight()`` makes it so) and may be
    empty (``h == w == 0``). Raises ValueError for a crop that sticks out of the frame.
    """

    bits: Bits
    x: int
    y: int
    frame: tuple[int, int]

    def __post_init__(self) -> None:
        if self.bits.ndim != 2 or self.bits.dtype != np.bool_:
            raise ValueError(f"mask bits must be a 2-D bool array, not {self.bits.dtype} {self.bits.shape}")
        height, width = self.bits.shape
        if self.x < 0 or self.y < 0 or self.x + width > self.frame[0] or self.y + height > self.frame[1]:
            raise ValueError(f"a {width}x{height} crop at ({self.x}, {self.y}) sticks out of frame {self.frame}")

    @classmethod
    def from_full(cls, bits: NDArray[np.generic]) -> Mask:
        """The tight mask of a full-frame ``(H, W)`` array; non-zero is inside."""
        full = np.asarray(bits) != 0
        return cls(full, 0, 0, (full.shape[1], full.shape[0])).tight()

    @property
    def area(self) -> int:
        """Number of pixels inside."""
        return int(np.count_nonzero(self.bits))

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The crop's place: xyxy in pixel edges, so ``x1 - x0`` is its width."""
        height, width = self.bits.shape
        return self.x, self.y, self.x + width, self.y + height

    def tight(self) -> Mask:
        """The same pixels in the smallest crop that holds them; an empty mask keeps its place."""
        rows = np.flatnonzero(self.bits.any(axis=1))
        if rows.size == 0:
            return Mask(np.zeros((0, 0), dtype=np.bool_), self.x, self.y, self.frame)
        cols = np.flatnonzero(self.bits.any(axis=0))
        top, left = int(rows[0]), int(cols[0])
        crop = self.bits[top : int(rows[-1]) + 1, left : int(cols[-1]) + 1]
        return Mask(np.ascontiguousarray(crop), self.x + left, self.y + top, self.frame)

    def full(self) -> Bits:
        """The ``(H, W)`` bool array of the whole frame. For tests and overlays: it is as big as the image."""
        width, height = self.frame
        out = np.zeros((height, width), dtype=np.bool_)
        x0, y0, x1, y1 = self.box
        out[y0:y1, x0:x1] = self.bits
        return out

    def intersection(self, other: Mask) -> int:
        """Pixels in both. Raises ValueError for masks of different frames."""
        if self.frame != other.frame:
            raise ValueError(f"masks of different frames: {self.frame} and {other.frame}")
        ax0, ay0, ax1, ay1 = self.box
        bx0, by0, bx1, by1 = other.box
        x0, y0, x1, y1 = max(ax0, bx0), max(ay0, by0), min(ax1, bx1), min(ay1, by1)
        if x0 >= x1 or y0 >= y1:
            return 0
        mine = self.bits[y0 - ay0 : y1 - ay0, x0 - ax0 : x1 - ax0]
        theirs = other.bits[y0 - by0 : y1 - by0, x0 - bx0 : x1 - bx0]
        return int(np.count_nonzero(mine & theirs))

    def iou(self, other: Mask) -> float:
        """Intersection over union, 0..1; two empty masks have 0."""
        shared = self.intersection(other)
        union = self.area + other.area - shared
        return shared / union if union else 0.0
