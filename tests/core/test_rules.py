"""Rules in layers, and areas as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sam3_core.errors import InvalidPrompt
from sam3_core.rules import DEFAULT_RULES, OPEN_RULES, Area, Rules, Tiling
from sam3_core.types import FindOptions

areas = st.builds(Area, st.floats(0, 1), st.booleans())
rules = st.builds(
    Rules,
    threshold=st.none() | st.floats(0, 1),
    presence=st.none() | st.floats(0, 1),
    min_area=st.none() | areas,
    max_area=st.none() | areas,
    max_instances=st.none() | st.integers(1, 5),
    top_k=st.none() | st.integers(0, 5),
    overlap=st.none() | st.booleans(),
)


@given(rules, rules)
def test_what_is_chosen_goes_over_what_is_more_general(special: Rules, general: Rules) -> None:
    assert special.over(general).chosen == {**general.chosen, **special.chosen}


@given(rules, rules, rules)
def test_it_does_not_matter_where_layers_are_joined_first(one: Rules, two: Rules, three: Rules) -> None:
    assert one.over(two).over(three) == one.over(two.over(three))
    assert one.over(OPEN_RULES) == OPEN_RULES.over(one) == one.over(one) == one


def test_chosen_zeros_and_falses_are_choices() -> None:
    general = Rules(threshold=0.5, presence=0.4, min_area=Area(9), top_k=3, overlap=True)
    special = Rules(threshold=0.0, presence=0.0, min_area=Area(0), top_k=0, overlap=False)
    assert special.over(general) == special


def test_the_defaults_leave_only_limits_open() -> None:
    assert {*DEFAULT_RULES.chosen} == {"threshold", "presence", "min_area", "top_k", "overlap"}
    assert [*DEFAULT_RULES.chosen] == ["threshold", "presence", "min_area", "top_k", "overlap"]


def test_find_options_fill_rules_and_tiles() -> None:
    base = FindOptions(rules=Rules(threshold=0.4, top_k=2), tiles=Tiling.AUTO, duplicate_iou=0.1)
    request = FindOptions(rules=Rules(threshold=0.0))
    assert request.over(base) == FindOptions(rules=Rules(threshold=0.0, top_k=2), tiles=Tiling.AUTO)
    assert FindOptions(tiles=Tiling.OFF).over(base).tiles is Tiling.OFF


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("threshold", "presence") for value in (-0.1, 1.1, math.nan, math.inf)),
        ("max_instances", 0),
        ("top_k", -1),
    ],
)
def test_numbers_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(InvalidPrompt, match=name):
        Rules(**{name: value})


@pytest.mark.parametrize(
    ("text", "area"),
    [
        ("400", Area(400)),
        (" 400 px ", Area(400)),
        ("12.5", Area(12.5)),
        (".5", Area(0.5)),
        ("0.5%", Area(0.005, relative=True)),
        ("100 %", Area(1, relative=True)),
        ("0", Area(0)),
    ],
)
def test_areas_are_read(text: str, area: Area) -> None:
    assert Area.read(text) == area


@pytest.mark.parametrize("text", ["", "many", "-4", "1e3", "4 %%", "400 cm", "%", "nan", "inf", "1,5", "4 px px"])
def test_what_is_no_area_is_refused(text: str) -> None:
    with pytest.raises(InvalidPrompt, match="an area is in pixels"):
        Area.read(text)


@pytest.mark.parametrize("arguments", [(-1,), (math.nan,), (math.inf,), (1.5, True)])
def test_an_area_out_of_range_is_refused(arguments: tuple[float, bool]) -> None:
    with pytest.raises(InvalidPrompt, match="an area is a number of pixels"):
        Area(*arguments)
    with pytest.raises(InvalidPrompt):
        Area.read("101%")


def test_areas_in_pixels_of_an_image() -> None:
    assert Area(400).pixels((200, 100)) == 400
    assert Area(0.25, relative=True).pixels((200, 100)) == 5000


@given(st.integers(0, 10**9), st.booleans())
@example(12_000_000, False)
@example(10, True)
def test_an_area_reads_what_it_writes(amount: int, relative: bool) -> None:
    area = Area(amount / 10**9 if relative else amount / 100, relative)
    assert Area.read(str(area)).pixels((1000, 1000)) == pytest.approx(area.pixels((1000, 1000)), abs=0.01)


@pytest.mark.parametrize(
    ("area", "text"), [(Area(400), "400 px"), (Area(0.005, relative=True), "0.5%"), (Area(0), "0 px")]
)
def test_areas_are_written_shortly(area: Area, text: str) -> None:
    assert str(area) == text
