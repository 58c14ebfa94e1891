"""Calibration: new meanings of scores are kept where they are surely better than those that people see now."""

from __future__ import annotations

import numpy as np

from backend.learning.calibrating import calibrated
from backend.learning.curriculum import Draft
from backend.learning.proposals import Pupil
from sam3_core import Mask
from sam3_core.learning.examples import Candidate, Example, Heard, Truth
from sam3_core.learning.lessons import Lesson, Lessons

PUPIL = Pupil("car", ("car",), (), 0.3, True)


def mask(place: int) -> Mask:
    full = np.zeros((20, 200), np.bool_)
    full[5:15, place * 20 : place * 20 + 10] = True
    return Mask.from_full(full)


def examples(count: int, truthful: bool, seed: int = 1) -> list[Example]:
    """Scores between 0.3 and 1; truthful ones are the share of instances that are right, others are too sure."""
    rng = np.random.default_rng(seed)
    made = []
    for group in range(count):
        scores = np.sort(rng.uniform(0.3, 1.0, 8))[::-1]
        right = rng.random(8) < (scores if truthful else scores * 0.4)
        candidates = tuple(Candidate(mask(place), float(score)) for place, score in enumerate(scores))
        truth = tuple(Truth(mask(place)) for place in np.flatnonzero(right).tolist())
        made.append(Example(str(group), truth, {"car": Heard(1.0, candidates)}))
    return made


def test_scores_that_are_too_sure_are_brought_down() -> None:
    draft, said = calibrated(Draft.alike(Lessons()), [PUPIL], {"car": examples(60, truthful=False)})
    lesson = draft.whole.of_label("car")
    assert lesson is not None
    assert lesson.calibration is not None
    assert 0.2 < lesson.calibration(0.8) < 0.5
    assert said["promoted"]
    before, after = said["labels"]["car"]["log_loss"]
    assert after < before - 0.05


def test_truthful_scores_stay_as_they_are() -> None:
    draft, said = calibrated(Draft.alike(Lessons()), [PUPIL], {"car": examples(60, truthful=True)})
    assert draft == Draft.alike(Lessons())
    assert not said["promoted"]


def test_a_calibration_that_serves_is_not_replaced_by_its_like() -> None:
    """Every few reviews another version of the same would make Label Studio ask for every task again."""
    first, _ = calibrated(Draft.alike(Lessons()), [PUPIL], {"car": examples(60, truthful=False)})
    again, said = calibrated(Draft.alike(first.whole), [PUPIL], {"car": examples(70, truthful=False)})
    assert again.whole == first.whole
    assert not said["promoted"]


def test_too_few_instances_say_nothing() -> None:
    draft, said = calibrated(Draft.alike(Lessons()), [PUPIL], {"car": examples(2, truthful=False)})
    assert draft.whole.empty
    assert not said["promoted"]


def test_what_else_was_learned_stays() -> None:
    lessons = Lessons.of({"car": Lesson(("car",), threshold=0.4)})
    draft, _ = calibrated(Draft.alike(lessons), [PUPIL], {"car": examples(60, truthful=False)})
    lesson = draft.whole.of_label("car")
    assert lesson is not None
    assert lesson.threshold == 0.4
    assert lesson.calibration is not None
