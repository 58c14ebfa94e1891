"""What a finish makes of a mask: cleaned and smoothed as far as it says, never lost."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from mask_strategies import disc, masks

from sam3_core.cleaning import parts_and_holes, separate_parts, without_specks
from sam3_core.encodings.polygons import polygons
from sam3_core.errors import InvalidPrompt
from sam3_core.finish import DEFAULT_FINISH, Fineness, Finish, Holes, Parts, finished
from sam3_core.masks import Mask
from sam3_core.rules import Area

FINISHES = st.builds(
    Finish,
    fineness=st.none() | st.sampled_from(Fineness),
    min_iou=st.none() | st.sampled_from([0.0, 0.8, 1.0]),
    min_area=st.none() | st.sampled_from([Area(0), Area(3), Area(40), Area(0.02, relative=True)]),
    holes=st.none() | st.sampled_from(Holes),
    parts=st.none() | st.sampled_from(Parts),
)


@given(masks(50), FINISHES)
def test_never_lost_and_never_outside_the_promise(mask: Mask, finish: Finish) -> None:
    result = finished(mask, finish)
    assert result.frame == mask.frame
    assert (result.area == 0) == (mask.area == 0)
    if mask.area == 0:
        return
    clean = without_specks(mask, finish.speck(mask), largest_only=finish.parts is Parts.LARGEST)
    assert result.iou(clean) >= finish.floor
    if finish.parts is Parts.LARGEST:
        assert parts_and_holes(result.bits)[0] == 1
    if finish.fineness is not Fineness.LOW:
        np.testing.assert_array_equal(result.full(), clean.full())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("min_iou", [None, 0.8, 0.95])
def test_smoothing_and_outlining_together_keep_the_promise(seed: int, min_iou: float | None) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:120, :120] - 60
    jagged = np.hypot(rows, columns) + rng.normal(0, 3, rows.shape) < 40
    finish = Finish(fineness=Fineness.LOW, min_iou=min_iou, max_vertices=0)
    clean = without_specks(Mask.from_full(jagged), 40, largest_only=True)
    smooth = finished(clean, finish)
    (polygon,) = polygons(smooth, finish)
    outline = shapely.Polygon(polygon.outer, polygon.holes)
    inside = shapely.contains_xy(outline, *(np.mgrid[:120, :120][::-1] + 0.5))
    assert smooth.iou(clean) < 1
    assert Mask.from_full(inside).iou(clean) >= finish.floor


@given(masks(50))
def test_high_is_the_mask_as_the_model_drew_it(mask: Mask) -> None:
    assert finished(mask, Finish(fineness=Fineness.HIGH)) is mask


@given(masks(50), FINISHES)
def test_what_is_open_is_as_by_default(mask: Mask, finish: Finish) -> None:
    np.testing.assert_array_equal(finished(mask, finish).full(), finished(mask, finish.over(DEFAULT_FINISH)).full())


@given(
    masks(50), st.sampled_from([Fineness.MEDIUM, Fineness.HIGH]), st.sampled_from([0, 4, 50]), st.sampled_from(Parts)
)
def test_finishing_twice_is_finishing_once(mask: Mask, fineness: Fineness, least: float, parts: Parts) -> None:
    finish = Finish(fineness=fineness, min_area=Area(least), parts=parts)
    once = finished(mask, finish)
    assert finished(once, finish) is once


def _dirty() -> Mask:
    """A disc of some 31 400 pixels with holes of 48 and 250 pixels, beside parts of 1, 48, 250 and 2500."""
    bits = disc((400, 300), 150, 150, 100).full()
    bits[150:156, 110:118] = bits[120:145, 160:170] = False
    bits[280, 380] = True
    bits[10:16, 300:308] = bits[100:125, 300:310] = bits[200:250, 300:350] = True
    return Mask.from_full(bits)


@pytest.mark.parametrize(
    ("finish", "parts", "holes"),
    [
        (Finish(fineness=Fineness.HIGH), 5, 2),
        (Finish(), 3, 1),  # below 0.2 %, some 68 pixels
        (Finish(fineness=Fineness.MEDIUM), 3, 1),
        (Finish(fineness=Fineness.LOW), 2, 0),  # below 1 %, some 340 pixels
        (Finish(fineness=Fineness.HIGH, min_area=Area(49)), 3, 1),
        (Finish(fineness=Fineness.LOW, min_area=Area(48)), 4, 2),
        (Finish(min_area=Area(0)), 5, 2),
        (Finish(min_area=Area(0.01, relative=True)), 2, 0),  # 1200 pixels of 400 x 300
        (Finish(min_area=Area(1, relative=True)), 1, 0),
        (Finish(fineness=Fineness.HIGH, parts=Parts.LARGEST), 1, 2),
        (Finish(parts=Parts.LARGEST), 1, 1),
        (Finish(fineness=Fineness.HIGH, holes=Holes.FILLED), 5, 2),  # the business of shapes without holes
    ],
)
def test_what_counts_as_a_speck(finish: Finish, parts: int, holes: int) -> None:
    assert parts_and_holes(finished(_dirty(), finish).bits) == (parts, holes)


def test_only_low_smooths() -> None:
    spiky = disc((400, 300), 150, 150, 100).full()
    spiky[149:152, 249:265] = True
    mask = Mask.from_full(spiky)
    assert finished(mask, DEFAULT_FINISH) is mask
    low = finished(mask, Finish(fineness=Fineness.LOW))
    assert low.box[2] < 255
    assert 0.95 <= low.iou(mask) < 1
    assert finished(mask, Finish(fineness=Fineness.LOW, min_iou=1)).box == mask.box


def test_a_mask_of_specks_only_keeps_the_largest() -> None:
    dots = np.zeros((30, 30), dtype=np.bool_)
    dots[::6, ::6] = True
    dots[12, 13] = True
    for fineness in Fineness:
        result = finished(Mask.from_full(dots), Finish(fineness=fineness, min_area=Area(100)))
        assert (result.area, result.box) == (2, (12, 12, 14, 13))
    assert len(separate_parts(finished(Mask.from_full(dots), DEFAULT_FINISH))) == 25


@pytest.mark.parametrize(("fineness", "floor"), [("low", 0.9), ("medium", 0.98), ("high", 0.99), (None, 0.98)])
def test_the_floor_is_the_fineness_s_unless_chosen(fineness: str | None, floor: float) -> None:
    chosen = None if fineness is None else Fineness(fineness)
    assert Finish(fineness=chosen).floor == floor
    assert Finish(fineness=chosen, min_iou=0.5).floor == 0.5
    assert Finish(fineness=chosen, min_iou=0.0).floor == 0.0


@pytest.mark.parametrize(
    "choice", [{"min_iou": 1.1}, {"min_iou": float("nan")}, {"max_vertices": 3}, {"max_vertices": -1}]
)
def test_choices_out_of_range_are_refused(choice: dict[str, float]) -> None:
    with pytest.raises(InvalidPrompt, match=next(iter(choice))):
        Finish(**choice)  # type: ignore[arg-type]


def test_layers_of_choices() -> None:
    label = Finish(fineness=Fineness.LOW, parts=Parts.LARGEST)
    tag = Finish(fineness=Fineness.HIGH, min_iou=0.9)
    both = label.over(tag).over(DEFAULT_FINISH)
    assert (both.fineness, both.min_iou, both.parts, both.holes) == (Fineness.LOW, 0.9, Parts.LARGEST, Holes.BRIDGED)
