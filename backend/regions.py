"""Instances become regions that Label Studio's editor, exporters and validators accept, to the last field.

Rules for masks that one ring cannot hold (polygons of Label Studio have no holes): every part of a mask becomes a
polygon of its own, with the same score; a hole is joined to its outer ring by a bridge of no width, so that filling
the ring leaves it empty. A rectangle is the box around all parts. For both, fragments below a twentieth of the mask
are left out: each would be a region to delete, or a box far too wide. Brush and bitmask regions hold every pixel.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.labeling import Output
from backend.prompts import Target
from backend.rle import brush_rle
from sam3_core import Instance, Mask
from sam3_core.encodings import png
from sam3_core.encodings.polygons import bridged, polygons

Region = dict[str, Any]

_FRAGMENT_SHARE = 0.05
_DECIMALS = 4  # of a percent: a hundredth of a pixel at 10 000 pixels


@dataclass(frozen=True, slots=True)
class Picture:
    """What region ids are made of besides the region: the image's content and the weights' version."""

    key: str
    version: str


class RegionWriter:
    """Writes the regions of one task. Holds the ids given: equal input gives equal ids, none twice in a task."""

    def __init__(self) -> None:
        self._ids: set[str] = set()

    def write(
        self, instance: Instance, target: Target, picture: Picture, *, region_id: str | None = None
    ) -> list[Region]:
        """The regions of one instance: one, or for polygons one per part; none for an empty mask.

        region_id: the id of the region it takes the place of; further parts get it with ``-2``, ``-3`` behind.
        Where the labels are a tag of their own, each region is two results of one id, as the editor stores them.
        """
        mask = instance.mask
        if mask.area == 0:
            return []
        width, height = mask.frame
        common: Region = {
            "to_name": target.source.name,
            "original_width": width,
            "original_height": height,
            "image_rotation": target.rotation,
            "score": share(instance.score),
            "meta": {"text": [text for text in (instance.phrase, picture.version) if text]},
        }
        if target.page is not None:
            common["item_index"] = target.page
        results: list[Region] = []
        for part, value in enumerate(_values(target.control.output, mask)):
            name = self._next_id(region_id) if region_id else self._new_id(target, picture, mask, part)
            results += ({"id": name, **common, **rest} for rest in _labelled(value, target))
        return results

    def _next_id(self, region_id: str) -> str:
        """The id, with the first number behind it that makes it new."""
        names = itertools.chain((region_id,), (f"{region_id}-{number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in self._ids)
        self._ids.add(name)
        return name

    def _new_id(self, target: Target, picture: Picture, mask: Mask, part: int) -> str:
        """16 letters and digits from everything that makes the region what it is."""
        place = (picture.key, target.source.name, target.page, target.control.name, target.label, mask.box, part)
        content = repr(place).encode() + np.packbits(mask.bits).tobytes()
        for repeat in range(len(self._ids) + 1):
            digest = hashlib.blake2b(content, digest_size=10, salt=repeat.to_bytes(8, "big")).digest()
            region_id = base64.b32encode(digest).decode().lower()
            if region_id not in self._ids:
                break
        self._ids.add(region_id)
        return region_id


def share(score: float) -> float:
    """A score as Label Studio stores it: 0..1, finite, six decimals."""
    return round(min(1.0, max(0.0, float(score))), 6) if math.isfinite(score) else 0.0


def mean_score(regions: Sequence[Region]) -> float:
    """The mean of the regions' scores, 0..1: what Label Studio orders tasks by. 0 without regions."""
    return share(math.fsum(region["score"] for region in regions) / len(regions)) if regions else 0.0


def _labelled(value: Region, target: Target) -> Iterator[Region]:
    """What tells the results of one region apart: tag, type and value, with the label where it belongs."""
    control, labels = target.control, [target.label]
    if not control.labeler:
        yield {"from_name": control.name, "type": control.output.value, "value": value | {control.output: labels}}
        return
    yield {"from_name": control.name, "type": control.output.plain, "value": value}
    yield {"from_name": control.labeler, "type": "labels", "value": value | {"labels": labels}}


def _values(output: Output, mask: Mask) -> Iterator[Region]:
    """The ``value`` of each region a mask becomes, without its labels."""
    if output is Output.POLYGON:
        for polygon in polygons(_without_fragments(mask)):
            yield {"points": _percent(bridged(polygon), mask.frame).tolist(), "closed": True}
    elif output is Output.BRUSH:
        yield {"format": "rle", "rle": brush_rle(mask)}
    elif output is Output.BITMASK:
        yield {"imageDataURL": "data:image/png;base64," + base64.b64encode(png.encode_ink(mask)).decode()}
    else:
        yield _rectangle(_without_fragments(mask))


def _without_fragments(mask: Mask) -> Mask:
    """The mask without parts (pixels joined by edges) below _FRAGMENT_SHARE of its pixels, but with the largest."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.bits.astype(np.uint8), connectivity=4)
    if count <= 2:  # the ground and one part
        return mask
    areas = stats[:, cv2.CC_STAT_AREA]
    stays = areas >= min(_FRAGMENT_SHARE * mask.area, areas[1:].max())
    stays[0] = False
    return Mask(stays[parts], mask.x, mask.y, mask.frame)


def _rectangle(mask: Mask) -> Region:
    (x0, y0), (x1, y1) = _percent(np.array(mask.tight().box, dtype=np.float64).reshape(2, 2), mask.frame).tolist()
    width, height = round(x1 - x0, _DECIMALS), round(y1 - y0, _DECIMALS)
    return {"x": x0, "y": y0, "width": width, "height": height, "rotation": 0}


def _percent(points: NDArray[np.float64], frame: tuple[int, int]) -> NDArray[np.float64]:
    """``(N, 2)`` xy in pixels to percent of the frame, clipped to 0..100 and rounded."""
    percent = np.clip(points * 100.0 / np.array(frame, dtype=np.float64), 0.0, 100.0)
    return percent.round(_DECIMALS)
