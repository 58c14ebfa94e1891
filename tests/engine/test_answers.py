"""Detections to results, with logits drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sam3_core.engine import answers
from sam3_core.engine.answers import concept_result, outlines
from sam3_core.engine.clicks import Readings
from sam3_core.engine.concepts import Detection
from sam3_core.engine.plan import Step
from sam3_core.types import Box, FindOptions

SIZE = (160, 80)


def logits(left: int, right: int) -> np.ndarray:
    """A 16x16 map, high in some columns."""
    drawn = np.full((16, 16), -8, dtype=np.float32)
    drawn[4:12, left:right] = 8
    return drawn


def detection(
    *kept: tuple[float, tuple[int, int]], rejected: tuple[float, ...] = (), presence: float = 0.9
) -> Detection:
    maps = [logits(*columns) for _, columns in kept]
    return Detection(
        presence,
        np.array([score for score, _ in kept], dtype=np.float32),
        np.stack(maps) if maps else np.zeros((0, 16, 16), dtype=np.float32),
        np.array(rejected, dtype=np.float32),
    )


def test_masks_land_in_image_pixels() -> None:
    step = Step((("star", 0),), (), 0.5)
    result = concept_result(step, [detection((0.8, (2, 6)))], SIZE, FindOptions())
    (instance,) = result.instances
    assert instance.box == pytest.approx((20, 20, 60, 60), abs=2)
    assert instance.mask.frame == SIZE == result.size
    assert instance.phrase == "star"
    assert instance.score == pytest.approx(0.8)


def test_synonyms_are_united_and_the_better_reading_stays() -> None:
    step = Step((("disc", 0), ("circle", 1)), (), 0.5)
    disc = detection((0.6, (0, 4)), (0.55, (8, 12)), presence=0.7)
    circle = detection((0.9, (0, 4)), presence=0.95)
    result = concept_result(step, [disc, circle], SIZE, FindOptions())
    assert [(i.phrase, round(i.score, 2)) for i in result.instances] == [("circle", 0.9), ("disc", 0.55)]
    assert result.presence == pytest.approx(0.95)


def test_best_rejected_is_the_highest_score_under_this_concepts_threshold() -> None:
    found = [detection((0.8, (0, 4)), (0.45, (8, 12)), rejected=(0.2, 0.1)), detection(rejected=(0.3,))]
    result = concept_result(Step((("a", 0), ("b", 1)), (), 0.5), found, SIZE, FindOptions())
    assert len(result.instances) == 1  # another concept of the request wanted the second one, at 0.4
    assert result.best_rejected == pytest.approx(0.45)
    assert result.threshold == 0.5
    everything = concept_result(Step((("a", 0),), (), 0.0), [detection((0.8, (0, 4)))], SIZE, FindOptions())
    assert everything.best_rejected is None


def test_a_score_on_the_threshold_is_kept() -> None:
    result = concept_result(Step((("a", 0),), (), 0.7), [detection((0.7, (0, 4)))], SIZE, FindOptions())
    assert len(result.instances) == 1


def test_nothing_found_has_a_reason() -> None:
    result = concept_result(
        Step((("a", 0),), (), 0.5), [detection(rejected=(0.31,), presence=0.02)], SIZE, FindOptions()
    )
    assert result.instances == ()
    assert result.reason == "nothing found: presence 0.02, best score 0.31, threshold 0.50"


def test_look_alikes_go_when_the_negative_is_surer() -> None:
    found = [detection((0.9, (0, 4)), (0.6, (8, 12))), detection((0.95, (8, 12)), (0.95, (13, 15)))]
    step = Step((("ball", 0),), (1,), 0.5)
    result = concept_result(step, found, SIZE, FindOptions())
    assert [i.box[0] for i in result.instances] == [pytest.approx(0, abs=2)]
    kept = concept_result(Step((("ball", 0),), (), 0.5), found, SIZE, FindOptions())
    assert len(kept.instances) == 2


def test_what_a_negative_exemplar_shows_is_no_answer() -> None:
    """Refused before duplicates are judged, so that a worse reading of another thing does not go with it."""
    found = [detection((0.9, (0, 4)), (0.8, (8, 12)))]
    near = Box(2, 18, 42, 62)  # about what the first one covers
    result = concept_result(Step((("ball", 0),), (), 0.5, (near,)), found, SIZE, FindOptions())
    assert [round(i.score, 2) for i in result.instances] == [0.8]
    wide = Box(0, 0, 160, 80)  # much more than any of them: a hint to the model, no refusal of all inside
    result = concept_result(Step((("ball", 0),), (), 0.5, (wide,)), found, SIZE, FindOptions())
    assert len(result.instances) == 2


def test_max_instances_keeps_the_best() -> None:
    found = [detection((0.9, (0, 4)), (0.8, (5, 8)), (0.7, (9, 12)))]
    step = Step((("ball", 0),), (), 0.5)
    result = concept_result(step, found, SIZE, FindOptions(max_instances=2))
    assert [round(i.score, 2) for i in result.instances] == [0.9, 0.8]


def test_candidates_without_a_pixel_are_left_out() -> None:
    empty = np.full((16, 16), -3, dtype=np.float32)
    found = outlines(readings((0.9, empty), (0.4, logits(2, 6))), SIZE, 3)
    assert [round(i.score, 2) for i in found] == [0.4]
    assert found[0].mask.area > 0


def test_candidates_that_look_the_same_are_one() -> None:
    near = logits(2, 6) * 1.01
    given = readings((0.9, logits(2, 6)), (0.8, near), (0.7, logits(2, 7)))
    assert [round(i.score, 2) for i in outlines(given, SIZE, 3)] == [0.9, 0.7]
    assert [round(i.score, 2) for i in outlines(given, SIZE, 2)] == [0.9, 0.7]


def test_no_candidate_is_drawn_that_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The unwanted one may be as large as the image."""
    drawn: list[int] = []
    draw = answers.mask_from_logits
    monkeypatch.setattr(answers, "mask_from_logits", lambda *args: drawn.append(1) or draw(*args))
    given = readings((0.9, logits(2, 6)), (0.8, logits(3, 9)), (0.7, logits(0, 16)))
    assert len(outlines(given, SIZE, 1)) == 1
    assert len(drawn) == 1


def readings(*candidates: tuple[float, np.ndarray]) -> Readings:
    scores = np.array([score for score, _ in candidates], dtype=np.float32)
    return Readings(np.stack([drawn for _, drawn in candidates]), scores, 0.99)
