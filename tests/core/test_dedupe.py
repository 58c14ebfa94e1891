"""Which of several overlapping instances stay: of one concept, of several, and beside what is drawn already."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mask_strategies import box_instance, masks

from sam3_core import Box, FindOptions, Instance, Mask
from sam3_core.dedupe import (
    Crowd,
    annotated,
    best_first,
    calibrated,
    duplicates,
    lookalikes,
    shared_out,
    shown,
    stretched,
)

BIG = (10, 10, 50, 50)
PART = (12, 12, 30, 30)
MARGIN = FindOptions().negative_margin


def without_duplicates(instances: list[Instance], *, iou: float, contained: float) -> list[Instance]:
    """The instances of one concept, best first, without ``duplicates``."""
    crowd = Crowd.of(best_first(instances))
    return list(crowd.where(~duplicates(crowd, iou=iou, contained=contained)).instances)


@st.composite
def crowds(draw: st.DrawFn, distinct: bool = False) -> list[Instance]:
    """Up to a dozen overlapping ragged boxes with few distinct scores, so that equal ones occur."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found = []
    for place in range(draw(st.integers(0, 12))):
        x, y = rng.integers(0, 60, 2)
        width, height = rng.integers(5, 40, 2)
        bits = rng.random((height, width)) < rng.choice([0.3, 0.9, 1.0])
        bits[0, 0] = True
        score = (place + 1) / 20 if distinct else float(rng.integers(1, 6)) / 5
        found.append(Instance(Mask(bits, int(x), int(y), (100, 100)).tight(), score))
    return draw(st.permutations(found)) if distinct else found


def overlap(one: Instance, other: Instance) -> tuple[float, float]:
    """IoU, and the share of the first inside the other, by whole frames."""
    mine, theirs = one.mask.full(), other.mask.full()
    shared = (mine & theirs).sum()
    return shared / (mine | theirs).sum(), shared / mine.sum()


@given(crowds(), st.floats(0, 1), st.floats(0, 1))
def test_as_the_rule_written_out(crowd: list[Instance], iou: float, contained: float) -> None:
    expected: list[Instance] = []
    for one in sorted(crowd, key=lambda instance: instance.score, reverse=True):
        overlaps = [overlap(one, better) for better in expected]
        if not any(share > iou or inside > contained for share, inside in overlaps):
            expected.append(one)
    kept = without_duplicates(crowd, iou=iou, contained=contained)
    assert [id(one) for one in kept] == [id(one) for one in expected]


@given(crowds(distinct=True), st.floats(0, 1), st.floats(0, 1), st.randoms())
def test_the_order_given_decides_nothing_but_ties(
    crowd: list[Instance], iou: float, contained: float, rng: np.random.Generator
) -> None:
    kept = without_duplicates(crowd, iou=iou, contained=contained)
    rng.shuffle(crowd)
    again = without_duplicates(crowd, iou=iou, contained=contained)
    assert [id(one) for one in again] == [id(one) for one in kept]
    assert without_duplicates(kept, iou=iou, contained=contained) == kept


def test_the_better_of_two_readings_stays() -> None:
    worse, better = box_instance(*BIG, 0.6), box_instance(11, 10, 50, 50, 0.9)
    assert without_duplicates([worse, better], iou=0.6, contained=0.85) == [better]


def test_a_worse_part_of_a_better_whole_goes() -> None:
    whole, part = box_instance(*BIG, 0.9), box_instance(*PART, 0.8)
    assert without_duplicates([part, whole], iou=0.6, contained=0.85) == [whole]


def test_a_worse_whole_around_a_better_part_stays() -> None:
    whole, part = box_instance(*BIG, 0.8), box_instance(*PART, 0.9)
    assert without_duplicates([whole, part], iou=0.6, contained=0.85) == [part, whole]


def test_what_was_dropped_drops_nothing() -> None:
    first, second, third = (box_instance(x, 0, x + 30, 30, score) for x, score in ((0, 0.9), (7, 0.8), (14, 0.7)))
    assert without_duplicates([third, second, first], iou=0.5, contained=1) == [first, third]


def crossing() -> list[Instance]:
    """Two with one box and not a pixel in common."""
    lower = np.tri(40, dtype=np.bool_)
    return [Instance(Mask(bits, 10, 10, (100, 100)), score) for bits, score in ((lower, 0.9), (~lower, 0.8))]


def test_boxes_that_overlap_around_masks_that_do_not() -> None:
    pair = crossing()
    assert without_duplicates(pair, iou=0.1, contained=0.1) == pair


def test_only_pairs_that_can_overlap_enough_are_compared_by_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    count = Mask.intersection
    monkeypatch.setattr(Mask, "intersection", lambda *pair: compared.append(1) or count(*pair))
    whole, far = box_instance(0, 0, 90, 90, 0.9), box_instance(91, 91, 99, 99, 0.8)
    beside, near = box_instance(60, 60, 99, 99, 0.7), box_instance(1, 1, 90, 90, 0.6)
    assert without_duplicates([whole, far, beside, near], iou=0.6, contained=0.85) == [whole, far, beside]
    assert len(compared) == 1


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_the_threshold_is_one_half_of_the_calibrated_scale(threshold: float) -> None:
    scale = np.linspace(0, 1, 101)
    sure = calibrated(scale, threshold)
    assert ((sure >= 0) & (sure <= 1)).all()
    assert (np.diff(sure) > 0).all()
    assert ((sure >= 0.5) == (scale >= threshold)).all()
    assert sure[-1] == 1
    if 0 < threshold < 1:
        assert sure[0] == 0
        assert calibrated(np.array([threshold]), threshold)[0] == 0.5
    if threshold == 0.5:
        np.testing.assert_allclose(sure, scale)


def gone_by(own: float, rival: float, threshold: float = 0.5) -> bool:
    cat, dog = box_instance(*BIG, own), box_instance(12, 10, 50, 50, rival)
    (gone,) = lookalikes(Crowd.of([cat]), Crowd.of([dog]), threshold, margin=MARGIN).tolist()
    return bool(gone)


def test_what_a_negative_matches_about_as_well_goes() -> None:
    assert gone_by(0.7, 0.9)
    assert gone_by(0.95, 0.9)  # nearly sure of both: it is what the negative names
    assert gone_by(0.95, 0.95 - MARGIN + 0.01)
    assert not gone_by(0.95, 0.95 - MARGIN - 0.01)
    assert not gone_by(0.6, 0.49)  # the negative has to be found to match
    assert gone_by(0.6, 0.5)


def test_the_margin_is_on_the_scale_of_the_threshold() -> None:
    assert not gone_by(0.95, 0.84, threshold=0.8)
    assert gone_by(0.95, 0.88, threshold=0.8)
    assert gone_by(0.95, 0.6, threshold=0.1)


def test_candidates_under_the_threshold_have_no_margin() -> None:
    assert gone_by(0.3, 0.3)
    assert not gone_by(0.3, 0.29)


def test_lookalikes_are_the_same_object() -> None:
    cat, far = box_instance(*BIG, 0.7), box_instance(60, 60, 90, 90, 0.7)
    part, around, same = box_instance(*PART, 0.9), box_instance(0, 0, 70, 70, 0.9), box_instance(*BIG, 0.9)
    for negatives, expected in (
        ([part], [False, False]),
        ([around], [False, False]),  # a part of a look-alike is no look-alike
        ([part, same], [True, False]),
        ([], [False, False]),
    ):
        assert lookalikes(Crowd.of([cat, far]), Crowd.of(negatives), 0.5, margin=MARGIN).tolist() == expected
    assert lookalikes(Crowd.of([]), Crowd.of([part]), 0.5, margin=MARGIN).tolist() == []


def share_out(
    instances: list[tuple[Instance, int]],
    overlaps: tuple[bool, ...],
    limits: tuple[int, ...] = (),
    iou: float = 0.7,
    kinds: tuple[int, ...] = (),
) -> tuple[list[bool], list[bool]]:
    """(instance, whose), the surest first. kinds: all differ where there are none."""
    stays, elsewhere = shared_out(
        Crowd.of([instance for instance, _ in instances]),
        np.array([owner for _, owner in instances], dtype=np.intp),
        np.array(kinds or range(len(overlaps)), dtype=np.intp),
        np.array(overlaps, dtype=np.bool_),
        limits or [99] * len(overlaps),
        iou=iou,
    )
    return stays.tolist(), elsewhere.tolist()


SAME = [(box_instance(*BIG, 0.9), 0), (box_instance(11, 10, 50, 50, 0.8), 1)]


def test_an_object_goes_to_the_surer_concept() -> None:
    assert share_out(SAME, (False, False)) == ([True, False], [False, True])


@pytest.mark.parametrize("overlaps", [(True, False), (False, True), (True, True)])
def test_concepts_that_may_overlap_are_left_alone(overlaps: tuple[bool, bool]) -> None:
    assert share_out(SAME, overlaps) == ([True, True], [False, False])


def test_concepts_that_ask_the_same_have_the_same_objects() -> None:
    given = [*SAME, (box_instance(10, 11, 50, 50, 0.7), 2)]
    assert share_out(given, (False,) * 3, kinds=(0, 0, 1)) == ([True, True, False], [False, False, True])
    assert share_out(given, (False,) * 3, kinds=(1, 0, 0)) == ([True, False, False], [False, True, True])


def test_a_part_of_another_concepts_object_stays() -> None:
    helmet = [(box_instance(*BIG, 0.9), 0), (box_instance(*PART, 0.8), 1)]
    assert share_out(helmet, (False, False)) == ([True, True], [False, False])


def test_what_a_full_concept_does_not_get_it_keeps_from_nobody() -> None:
    first, second = box_instance(60, 60, 90, 90, 0.95), box_instance(11, 10, 50, 50, 0.8)
    given = [(first, 0), (box_instance(*BIG, 0.9), 0), (second, 1)]
    assert share_out(given, (False, False)) == ([True, True, False], [False, False, True])
    assert share_out(given, (False, False), (1, 99)) == ([True, False, True], [False, False, False])


def test_what_another_concept_has_does_not_count_to_the_limit() -> None:
    given = [*SAME, (box_instance(60, 60, 90, 90, 0.7), 1), (box_instance(0, 60, 20, 90, 0.6), 1)]
    assert share_out(given, (False, False), (99, 1)) == ([True, False, True, False], [False, True, False, False])


@given(crowds(), st.data())
def test_shared_out_as_promised(crowd: list[Instance], data: st.DataObject) -> None:
    """No two that stay are one object; what another has, another has; limits hold; nothing else goes."""
    crowd = sorted(crowd, key=lambda instance: -instance.score)
    owners = data.draw(st.lists(st.integers(0, 2), min_size=len(crowd), max_size=len(crowd)))
    overlaps = tuple(data.draw(st.lists(st.booleans(), min_size=3, max_size=3)))
    limits = tuple(data.draw(st.lists(st.integers(1, 4), min_size=3, max_size=3)))
    iou = data.draw(st.sampled_from([0.0, 0.1, 0.3]))
    stays, elsewhere = share_out(list(zip(crowd, owners, strict=True)), overlaps, limits, iou)

    def rivals(one: int, other: int) -> bool:
        apart = owners[one] != owners[other] and not overlaps[owners[one]] and not overlaps[owners[other]]
        return apart and overlap(crowd[one], crowd[other])[0] > iou

    places = range(len(crowd))
    assert not any(rivals(a, b) for a, b in itertools.combinations([p for p in places if stays[p]], 2))
    for place in places:
        had = [p for p in range(place) if stays[p] and owners[p] == owners[place]]
        assert len(had) + stays[place] <= limits[owners[place]]
        claimed = any(stays[p] and rivals(p, place) for p in range(place))
        if not stays[place]:
            assert elsewhere[place] == (claimed and len(had) < limits[owners[place]])
            assert claimed or len(had) == limits[owners[place]]
        else:
            assert not elsewhere[place]


RULE = {"iou": 0.6, "contained": 0.85}


def drawn_already(instance: Instance, *drawn: Mask | Box) -> bool:
    (gone,) = annotated(Crowd.of([instance]), drawn, **RULE).tolist()
    return bool(gone)


def test_what_a_person_outlined_is_drawn_already() -> None:
    thing = box_instance(*BIG, 0.9)
    outlined = box_instance(13, 11, 52, 50, 1).mask
    far = box_instance(60, 60, 90, 90, 1).mask
    assert drawn_already(thing, outlined)
    assert drawn_already(thing, far, outlined)
    assert not drawn_already(thing, far)
    assert not drawn_already(thing)
    assert annotated(Crowd.of([]), (outlined, Box(1, 1, 5, 5)), **RULE).tolist() == []


def test_a_part_of_what_is_outlined_is_drawn_already_and_a_whole_around_it_is_not() -> None:
    whole, part = box_instance(*BIG, 0.9), box_instance(*PART, 0.9)
    assert drawn_already(part, whole.mask)
    assert not drawn_already(whole, part.mask)


def test_pixels_decide_beside_an_outline() -> None:
    lower, upper = crossing()
    assert not drawn_already(upper, lower.mask)
    assert drawn_already(upper, upper.mask)


def test_an_empty_outline_is_nothing() -> None:
    empty = Mask(np.zeros((0, 0), dtype=np.bool_), 0, 0, (100, 100))
    assert not drawn_already(box_instance(*BIG, 0.9), empty)


def test_an_outline_of_another_frame_is_stretched() -> None:
    thing = box_instance(*BIG, 0.9)
    small = Mask(np.ones((20, 20), dtype=np.bool_), 5, 5, (50, 50))
    assert drawn_already(thing, small)
    assert not drawn_already(thing, replace(small, x=30))
    assert not drawn_already(thing, Mask(np.ones((1, 1), dtype=np.bool_), 0, 0, (1, 40)))


@pytest.mark.parametrize("grown", [-3, 0, 4, 12, 15])
def test_a_box_drawn_tight_or_loose_is_around_its_object(grown: int) -> None:
    thing = box_instance(30, 30, 70, 70, 0.9)
    box = Box(30 - grown, 30 - grown, 70 + grown, 70 + grown)
    assert drawn_already(thing, box)


def test_a_box_much_larger_than_an_object_is_around_another() -> None:
    small = box_instance(40, 40, 50, 50, 0.9)
    assert not drawn_already(small, Box(10, 10, 90, 90))
    assert not drawn_already(small, Box(50, 40, 60, 50))
    assert not drawn_already(small, Box(200, 200, 900, 900))
    assert not drawn_already(box_instance(10, 10, 90, 90, 0.9), Box(40, 40, 50, 50))


def test_a_box_beside_which_half_an_object_lies_is_around_another() -> None:
    assert not drawn_already(box_instance(30, 30, 70, 70, 0.9), Box(10, 30, 55, 70))


def test_shown_goes_by_pixels() -> None:
    bits = np.zeros((60, 60), dtype=np.bool_)
    bits[:20, :20] = True
    bits[59, 59] = True  # a stray pixel makes the box large
    mask = Mask(bits, 20, 20, (100, 100))
    assert shown(mask, Box(19, 19, 41, 41))
    assert not shown(mask, Box(0, 0, 100, 100))
    assert not shown(mask, Box(40, 40, 80, 80))


@given(masks(), st.integers(1, 30), st.integers(1, 30))
def test_stretched_is_the_whole_frame_sampled_at_centres(mask: Mask, width: int, height: int) -> None:
    old = mask.frame
    rows = [int((row + 0.5) * old[1] / height) for row in range(height)]
    columns = [int((column + 0.5) * old[0] / width) for column in range(width)]
    np.testing.assert_array_equal(stretched(mask, (width, height)).full(), mask.full()[np.ix_(rows, columns)])
    assert stretched(mask, old) is mask
