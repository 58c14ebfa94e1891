"""Tiles: overlapping views of a large image, so that objects which vanish in the whole are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from sam3_core.engine.plan import EXEMPLARS_ONLY, Exhibit, Prompt
from sam3_core.rules import Tiling

_ABOUT_ONE = 1.25
"""An image whose longer side is at most so many times what the model sees is about one tile: none is cut from it."""

_MUCH_LARGER = 2.0
"""AUTO tiles from there on. An object is lost where fewer than some 10 pixels of it are left in what the model sees:
at this factor those under 20 pixels of the image. With SAM 3's 1008 pixels, a picture in Full HD stays one view, and
one in 4K gets 15 tiles, each at the price of a picture."""

_MOSTLY = 0.5
"""An exemplar is shown in a tile that holds at least this share of its box."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A view: its pixels are ``x0 <= x < x1``, ``y0 <= y < y1`` of the image."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def size(self) -> tuple[int, int]:
        """``(width, height)`` in pixels."""
        return self.x1 - self.x0, self.y1 - self.y0


def tiles_of(size: tuple[int, int], side: int, tiling: Tiling, most: int) -> list[Tile]:
    """The tiles of an image of ``(width, height)`` for a model that sees ``side`` x ``side`` pixels; may be none.

    They are of one size and evenly spread, in rows from the top, and neighbours share a fifth of a tile or, by
    rounding, a pixel less. A tile is at most ``side`` wide and high, so that the model sees every pixel, unless that
    takes more than ``most`` tiles; then they are larger, as little as ``most`` allows.
    """
    factor = _MUCH_LARGER if tiling is Tiling.AUTO else _ABOUT_ONE
    if tiling is Tiling.OFF or max(size) <= factor * side:
        return []
    columns = range(1, min(most, _count(size[0], side)) + 1)
    length = min(max(side, _length(size[0], count), _length(size[1], most // count)) for count in columns)
    across, down = (_spans(pixels, _count(pixels, length)) for pixels in size)
    tiles = [Tile(x0, y0, x1, y1) for (y0, y1), (x0, x1) in product(down, across)]
    return tiles if len(tiles) > 1 else []


def prompts_in(tile: Tile, prompts: Sequence[Prompt], size: tuple[int, int]) -> list[Prompt | None]:
    """The prompts as they are asked in a tile of an image of ``(width, height)``; None where one cannot be.

    Text is asked as it is. Exemplars come along with the part of their box that lies in the tile, if that is half of
    it or more. Without text, a prompt is asked only where one of its positive exemplars comes along.
    """
    return [_prompt_in(tile, prompt, size) for prompt in prompts]


def _prompt_in(tile: Tile, prompt: Prompt, size: tuple[int, int]) -> Prompt | None:
    moved = (_exhibit_in(tile, exhibit, size) for exhibit in prompt.exhibits)
    shown = tuple(exhibit for exhibit in moved if exhibit is not None)
    if prompt.exhibits and prompt.text == EXEMPLARS_ONLY and not any(exhibit.positive for exhibit in shown):
        return None
    return replace(prompt, exhibits=shown)


def _exhibit_in(tile: Tile, exhibit: Exhibit, size: tuple[int, int]) -> Exhibit | None:
    """The part of an exemplar box inside the tile, in shares of the tile; None where most of the box lies outside."""
    across = _clipped(exhibit.cx, exhibit.width, size[0], tile.x0, tile.x1)
    down = _clipped(exhibit.cy, exhibit.height, size[1], tile.y0, tile.y1)
    if across is None or down is None or across[2] * down[2] < _MOSTLY:
        return None
    return Exhibit(across[0], down[0], across[1], down[1], exhibit.positive)


def _clipped(centre: float, length: float, pixels: int, start: int, stop: int) -> tuple[float, float, float] | None:
    """One axis of a box, given in shares of so many pixels: centre and length of its part between start and stop, in
    shares of that stretch, and which share of the box the part is; None where there is none."""
    low, high = (centre - length / 2) * pixels, (centre + length / 2) * pixels
    first, last = max(low, float(start)), min(high, float(stop))
    if first >= last:
        return None
    stretch = stop - start
    return ((first + last) / 2 - start) / stretch, (last - first) / stretch, (last - first) / (high - low)


def _length(pixels: int, count: int) -> int:
    """How long each of so many tiles is that cover an axis and of which neighbours share a fifth: they add up to
    ``count - (count - 1) / 5`` lengths."""
    return -(-5 * pixels // (4 * count + 1))


def _count(pixels: int, length: int) -> int:
    """The fewest tiles, none longer than ``length``, that cover an axis: the inverse of ``_length``."""
    fifths = -(-5 * pixels // length)
    return max(1, -(-(fifths - 1) // 4))


def _spans(pixels: int, count: int) -> list[tuple[int, int]]:
    """Start and stop of so many tiles on an axis, evenly spread from end to end."""
    length, steps = _length(pixels, count), max(1, count - 1)
    starts = [i * (pixels - length) // steps for i in range(count)]
    return [(start, start + length) for start in starts]
