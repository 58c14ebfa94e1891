"""Overlays: what must change, what must not, and that people can read them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam3_core import Instance, Mask
from sam3_prelabel.overlay import RGB, Pixels, draw, palette


def contrast(one: RGB, other: RGB) -> float:
    """WCAG 2 contrast ratio, 1 to 21."""

    def luminance(color: RGB) -> float:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in color)]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def disc(width: int, height: int, radius: float, hole: float = 0.0) -> Instance:
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(x - width / 2, y - height / 2)
    return Instance(Mask.from_full((distance < radius) & (distance >= hole)), 0.87, "disc")


def grey(width: int, height: int, value: int = 128) -> Pixels:
    return np.full((height, width, 3), value, np.uint8)


def test_the_image_is_left_alone_and_without_instances_nothing_is_drawn() -> None:
    image = grey(200, 150)
    before = image.copy()
    drawn = draw(image, [("disc", disc(200, 150, 40))], palette(["disc"]))
    assert (image == before).all()
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (draw(image, [], {}) == image).all()


def test_inside_is_tinted_and_still_shows_the_image_and_a_hole_stays_clear() -> None:
    image = grey(600, 600)
    image[::2] = 200
    drawn = draw(image, [("disc", disc(600, 600, 200, hole=60))], palette(["disc"]))
    tinted = drawn[300:302, 400]
    assert (tinted != image[300:302, 400]).any(axis=-1).all()
    assert (tinted[0] != tinted[1]).any(), "the stripes below must shine through"
    assert (drawn[290:310, 290:310] == image[290:310, 290:310]).all()
    assert (drawn[-40:, :] == image[-40:, :]).all(), "far away from the object and its tag nothing changes"


@pytest.mark.parametrize("value", [0, 90, 255])
def test_outline_stands_out_on_any_background(value: int) -> None:
    label_color = palette(["disc"])["disc"]
    drawn = draw(grey(1200, 1200, value), [("disc", disc(1200, 1200, 300))], {"disc": label_color})
    row = drawn[600, 890:910]
    seen = [(int(r), int(g), int(b)) for r, g, b in row]
    assert max(contrast(one, other) for one, other in combinations(seen, 2)) >= 3
    assert (row == label_color).all(axis=1).any()


def test_lines_and_tags_grow_with_the_image() -> None:
    def changed_outside(size: int) -> int:
        instance = disc(size, size, size / 5)
        image = grey(size, size)
        drawn = draw(image, [("disc", instance)], palette(["disc"]))
        return int(((drawn != image).any(axis=-1) & ~instance.mask.full()).sum())

    small, large = changed_outside(400), changed_outside(1600)
    assert large > 5 * small, "lines of one width would only make it 4 times as much"


@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    label=st.text(st.characters(codec="utf-8"), max_size=40),
    seed=st.integers(0, 1000),
)
def test_any_size_any_label_any_mask(width: int, height: int, label: str, seed: int) -> None:
    bits = np.random.default_rng(seed).random((height, width)) < 0.3
    bits[0, 0] = True
    drawn = draw(grey(width, height), [(label, Instance(Mask.from_full(bits), 1.0))], palette([label]))
    assert drawn.shape == (height, width, 3)


def test_a_mask_of_another_image_is_refused() -> None:
    with pytest.raises(ValueError, match="frame"):
        draw(grey(100, 50), [("disc", disc(50, 100, 10))], palette(["disc"]))


def test_palette_is_stable_distinct_and_readable() -> None:
    labels = [f"label {i}" for i in range(24)]
    colors = palette(labels)
    assert colors == palette(labels)
    assert palette([*labels[:3], *labels[:3]]) == {name: colors[name] for name in labels[:3]}
    nearest = min(np.abs(np.subtract(a, b)).sum() for a, b in combinations(colors.values(), 2))
    assert nearest >= 24
    from sam3_prelabel.overlay import _readable_on

    assert all(contrast(color, _readable_on(color)) >= 4.4 for color in colors.values())
