"""The decoders that judge stored regions must themselves be right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.converter.brush import mask2rle

from sam3_prelabel.demo.regions import read_regions

WIDTH, HEIGHT = 50, 40


def region(kind: str, value: dict[str, Any]) -> dict[str, Any]:
    full = {"id": "r", "type": kind, "score": 0.5, "original_width": WIDTH, "original_height": HEIGHT}
    return full | {"value": value | {kind: ["A"]}}


@st.composite
def boxes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    x0, y0 = draw(st.integers(0, WIDTH - 1)), draw(st.integers(0, HEIGHT - 1))
    return x0, y0, draw(st.integers(x0 + 1, WIDTH)), draw(st.integers(y0 + 1, HEIGHT))


@given(boxes())
def test_one_box_in_three_encodings_is_one_mask(box: tuple[int, int, int, int]) -> None:
    x0, y0, x1, y1 = box
    bits = np.zeros((HEIGHT, WIDTH), np.uint8)
    bits[y0:y1, x0:x1] = 255
    px, py = 100 / WIDTH, 100 / HEIGHT
    corners = [[x0 * px, y0 * py], [x1 * px, y0 * py], [x1 * px, y1 * py], [x0 * px, y1 * py]]
    size = {"x": x0 * px, "y": y0 * py, "width": (x1 - x0) * px, "height": (y1 - y0) * py, "rotation": 0}
    read = read_regions(
        [
            region("brushlabels", {"format": "rle", "rle": mask2rle(bits)}),
            region("polygonlabels", {"points": corners, "closed": True}),
            region("rectanglelabels", size),
        ]
    )
    assert [found.kind for found in read] == ["brushlabels", "polygonlabels", "rectanglelabels"]
    for found in read:
        assert np.array_equal(found.instance.mask.full(), bits > 0)
        assert (found.label, found.instance.score) == ("A", 0.5)


def test_a_brush_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="reshape"):
        read_regions([region("brushlabels", {"format": "rle", "rle": mask2rle(np.full((20, 25), 255, np.uint8))})])


def test_a_region_that_covers_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="covers no pixel"):
        read_regions([region("polygonlabels", {"points": [[1, 1], [1, 1], [1, 1]], "closed": True})])
