"""Prompts in the form in which Label Studio 1.23's editor sends them (each was recorded from it)."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam3_core import Mask
from sam3_core.encodings import shapes

Json = dict[str, Any]

_numbers = count(1)


def click_on(
    place: tuple[float, float], size: tuple[int, int], label: str, *, control: str = "click", positive: bool = True
) -> Json:
    """A smart keypoint. place: x, y in pixels of the displayed image; size: its width and height."""
    value = {"x": place[0] / size[0] * 100, "y": place[1] / size[1] * 100, "width": 0.25}
    return _drawn(size, control, "keypointlabels", label, value) | {"is_positive": positive}


def box_around(
    box: tuple[float, float, float, float], size: tuple[int, int], label: str, *, control: str = "box"
) -> Json:
    """A smart rectangle. box: xyxy in pixels of the displayed image."""
    (x0, y0, x1, y1), (width, height) = box, size
    value = {
        "x": x0 / width * 100,
        "y": y0 / height * 100,
        "width": (x1 - x0) / width * 100,
        "height": (y1 - y0) / height * 100,
        "rotation": 0,
    }
    return _drawn(size, control, "rectanglelabels", label, value)


def typed(text: str, *, control: str = "prompt") -> Json:
    """A submitted TextArea."""
    return _common(control, "textarea") | {"value": {"text": [text]}}


def visual_centre(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """x, y of the pixel centre that is deepest inside a (H, W) mask: where somebody would click."""
    return shapes.visual_centre(Mask.from_full(mask))


def _drawn(size: tuple[int, int], control: str, kind: str, label: str, value: Json) -> Json:
    frame = {"original_width": size[0], "original_height": size[1], "image_rotation": 0}
    return _common(control, kind) | frame | {"value": value | {kind: [label], "labels": [label]}}


def _common(control: str, kind: str) -> Json:
    """Ids differ: the backend goes on from an answer when it sees its prompt again."""
    where = {"from_name": control, "to_name": "picture", "type": kind, "origin": "manual"}
    return {"id": f"prompt-{next(_numbers)}", **where}
