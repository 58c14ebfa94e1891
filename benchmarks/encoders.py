"""Encoding a mask: our encoders and those that one would call otherwise, on the same pixels."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from cvat_sdk.masks import encode_mask
from label_studio_sdk.converter.brush import mask2rle
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as pycoco

from backend.rle import brush_rle
from benchmarks.shapes import Size, noisy, smooth
from benchmarks.table import Row
from cvat_nuclio.masks import cvat_rle, flat_crop
from sam3_core.encodings import coco, png
from sam3_core.masks import Bits, Mask

SHAPES = {"smooth": smooth, "noisy": noisy}

Full = NDArray[np.uint8]
"""``(H, W)``, 0 or 255."""

_SIDES = ("ours", "framed", "theirs")


@dataclass(eq=False)
class Duel:
    """Two encoders and one mask. ours: starts from the crop, as our engine hands it out; theirs: from the frame."""

    name: str
    shape: str
    mask: Mask
    full: Full
    ours: Callable[[Mask], Any]
    theirs: Callable[[Full], Any]
    milliseconds: dict[str, list[float]] = field(default_factory=lambda: {side: [] for side in _SIDES})

    def run(self, turn: float) -> None:
        """Each once, and again until its ``turn`` (milliseconds) is over: later runs have warm caches."""
        self._clock("ours", turn, lambda: self.ours(self.mask))
        self._clock("framed", turn, lambda: self.ours(Mask.from_full(self.full)))
        self._clock("theirs", turn, lambda: self.theirs(self.full))

    def _clock(self, side: str, turn: float, work: Callable[[], object]) -> None:
        spent = 0.0
        while True:
            started = time.process_time()
            work()
            self.milliseconds[side].append(1000 * (time.process_time() - started))
            spent += self.milliseconds[side][-1]
            if spent >= turn:
                return

    def forget(self) -> None:
        """Drop what was measured so far."""
        self.milliseconds = {side: [] for side in _SIDES}

    def row(self) -> Row:
        """ratio: theirs by ours. Sizes in kilobytes of JSON; dense: a list of 0 and 1 for every pixel."""
        median = {side: float(np.median(times)) for side, times in self.milliseconds.items()}
        dense = _kilobytes((self.full > 0).astype(int).tolist())
        ours = _kilobytes(self.ours(self.mask))
        return {
            "encoder": self.name,
            "mask": f"{self.shape}, {self.mask.frame[0]}x{self.mask.frame[1]}",
            "runs": min(map(len, self.milliseconds.values())),
            "ours_ms": median["ours"],
            "ours_from_frame_ms": median["framed"],
            "theirs_ms": median["theirs"],
            "ratio": median["theirs"] / median["ours"],
            "ratio_from_frame": median["theirs"] / median["framed"],
            "ours_kB": ours,
            "theirs_kB": _kilobytes(self.theirs(self.full)),
            "dense_kB": dense,
            "dense_by_ours": dense / ours,
        }


def measure_encoders(sizes: Sequence[Size], rounds: int, turn: float) -> list[Row]:
    """A row for each encoder, shape and size; all take turns, ``rounds`` times.

    Times are medians of CPU time, of all threads: what else the machine does counts little.
    turn: milliseconds that each side runs for when it is its turn; 0: once. runs: of the side that ran fewest times.
    """
    duels = [duel for size in sizes for shape in SHAPES for duel in _duels(shape, size)]
    for duel in duels:  # the first run of each pays for memory that was never touched
        duel.run(turn)
        duel.forget()
    for _ in range(rounds):
        for duel in duels:
            duel.run(turn)
    return [duel.row() for duel in duels]


def _duels(shape: str, size: Size) -> Iterator[Duel]:
    bits: Bits = SHAPES[shape](np.random.default_rng(0), size)
    mask, full = Mask.from_full(bits), bits.view(np.uint8) * np.uint8(255)
    yield Duel("brush RLE, label-studio-sdk", shape, mask, full, brush_rle, mask2rle)
    yield Duel("COCO RLE, pycocotools", shape, mask, full, coco.encode, stock_coco)
    yield Duel("PNG, Pillow RGBA", shape, mask, full, png.encode_ink, stock_png)
    yield Duel("CVAT RLE, cvat-sdk", shape, mask, full, cvat_rle, stock_cvat_rle)
    yield Duel("CVAT flat crop, numpy", shape, mask, full, flat_crop, stock_flat_crop)


def stock_coco(full: Full) -> dict[str, Any]:
    """pycocotools, with the change to column order that it asks for."""
    rle = pycoco.encode(np.asfortranarray(full > 0, dtype=np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def stock_cvat_rle(full: Full) -> list[float]:
    """cvat-sdk, which looks for the box itself."""
    points: list[float] = encode_mask(full > 0)
    return points


def stock_flat_crop(full: Full) -> list[int]:
    """numpy, with OpenCV's box: cvat-sdk has no such encoder."""
    left, top, width, height = cv2.boundingRect(full)
    crop: list[int] = (full[top : top + height, left : left + width] > 0).astype(np.uint8).ravel().tolist()
    return [*crop, left, top, left + width - 1, top + height - 1]


def stock_png(full: Full) -> bytes:
    """Opaque black inside, transparent outside, four channels, as Pillow saves by default."""
    picture = np.zeros((*full.shape, 4), np.uint8)
    picture[..., 3] = full
    file = BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def _kilobytes(value: Any) -> float:
    """Of the value as JSON; files as base64."""
    return len(json.dumps(base64.b64encode(value).decode() if isinstance(value, bytes) else value)) / 1e3
