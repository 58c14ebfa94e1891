"""Reading stored Label Studio regions back into masks, with decoders that are not ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from label_studio_sdk.converter.brush import decode_rle
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sam3_core.masks import Mask
from sam3_core.results import Instance

_OVERSAMPLING = 4  # polygons are drawn so much larger: Pillow fills whole pixels


@dataclass(frozen=True, slots=True)
class StoredRegion:
    """One region of a stored prediction: its label, its type ("polygonlabels", ...) and what it covers."""

    label: str
    kind: str
    instance: Instance


def read_regions(result: Iterable[Mapping[str, Any]]) -> list[StoredRegion]:
    """The polygon, brush and rectangle regions of a prediction's `result`, in order; others are left out.

    Raises KeyError or ValueError for a region that Label Studio could not show either.
    """
    return [_read(region) for region in result if region["type"] in _DECODERS]


def _read(region: Mapping[str, Any]) -> StoredRegion:
    kind, value = str(region["type"]), region["value"]
    size = int(region["original_width"]), int(region["original_height"])
    (label,) = value[kind]
    mask = Mask.from_full(_DECODERS[kind](value, size))
    if not mask.area:
        raise ValueError(f"region {region['id']} ({label}) covers no pixel")
    return StoredRegion(str(label), kind, Instance(mask, float(region["score"])))


def _brush(value: Mapping[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    width, height = size
    rgba = decode_rle(value["rle"])
    return np.asarray(rgba.reshape(height, width, 4)[..., 3] > 127)


def _polygon(value: Mapping[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    width, height = size
    fine = (width * _OVERSAMPLING, height * _OVERSAMPLING)
    # Percent to fine pixels; the half moves from pixel edges to the pixel centres that Pillow counts in.
    ring = [(x / 100 * fine[0] - 0.5, y / 100 * fine[1] - 0.5) for x, y in value["points"]]
    canvas = Image.new("L", fine)
    ImageDraw.Draw(canvas).polygon(ring, fill=255)
    return np.asarray(canvas.resize(size, Image.Resampling.BOX)) >= 128


def _rectangle(value: Mapping[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    width, height = size
    if value["rotation"]:
        raise ValueError("rotated rectangles are not read")
    x0, y0 = value["x"] / 100 * width, value["y"] / 100 * height
    x1, y1 = x0 + value["width"] / 100 * width, y0 + value["height"] / 100 * height
    bits = np.zeros((height, width), np.bool_)
    bits[round(y0) : round(y1), round(x0) : round(x1)] = True
    return bits


_DECODERS = {"brushlabels": _brush, "polygonlabels": _polygon, "rectanglelabels": _rectangle}
