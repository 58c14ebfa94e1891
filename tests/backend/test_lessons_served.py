"""Lessons put into a plan: what they change, and what wins over them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from backend.labeling import Label, Plan, resolve_plan
from backend.learning.course import still_meant, takes_over
from backend.learning.proposals import Pupil
from backend.learning.serving import under_lessons
from backend.learning.tutor import _tuned
from sam3_core.choices import OPEN, read_choices
from sam3_core.learning.lessons import NOTHING_LEARNED, Calibration, Lesson, Lessons
from sam3_core.prototypes import Prototypes

CONFIG = """<View><Image name="image" value="$image"/>
<PolygonLabels name="polygon" toName="image">
  <Label value="Car" prompt="vehicle; auto" threshold="0.9" negative_prompt="bus"/><Label value="Bus"/>
</PolygonLabels></View>"""
PROTOTYPES = Prototypes.of(np.eye(3, dtype=np.float32)[:1], np.eye(3, dtype=np.float32)[1:], 2.0)
CAR = Lesson(("vehicle", "auto"), ("auto",), 0.4, Calibration(2.0, 0.1), PROTOTYPES)


def label(plan: Plan, value: str) -> Label:
    return next(one for one in plan.sources[0].labels if one.value == value)


def test_a_lesson_wins_over_its_labels_author() -> None:
    plan = resolve_plan(CONFIG)
    learned = under_lessons(plan, Lessons.of({"Car": replace(CAR, adapter="p1-abc")}))
    car = label(learned, "Car")
    assert car.concept.phrases == ("auto",)
    assert car.concept.rules.threshold == 0.4
    assert car.concept.negatives == ("bus",)
    assert car.concept.prototypes == PROTOTYPES
    assert car.calibration == Calibration(2.0, 0.1)
    assert car.concept.adapter == "p1-abc"
    assert label(learned, "Bus") == label(plan, "Bus")
    assert label(plan, "Car").concept.rules.threshold == 0.9, "the plan itself is shared and must not change"


def test_the_request_wins_over_a_lesson() -> None:
    request, _ = read_choices({"threshold": 0.7})
    learned = under_lessons(resolve_plan(CONFIG, request), Lessons.of({"Car": CAR}), request)
    assert label(learned, "Car").concept.rules.threshold == 0.7
    assert label(learned, "Car").concept.phrases == ("auto",)


def test_a_lesson_does_not_outlive_the_wording_it_was_learned_for() -> None:
    plan = resolve_plan(CONFIG.replace("vehicle; auto", "vehicle; lorry"))
    assert label(under_lessons(plan, Lessons.of({"Car": CAR})), "Car") == label(plan, "Car")


def test_a_lesson_changes_only_what_was_learned() -> None:
    plan = resolve_plan(CONFIG)
    learned = under_lessons(plan, Lessons.of({"Car": Lesson(("vehicle", "auto"), threshold=0.2)}))
    before, after = label(plan, "Car"), label(learned, "Car")
    assert after.concept.phrases == before.concept.phrases
    assert after.concept.rules.threshold == 0.2
    assert after.calibration is None
    assert under_lessons(plan, NOTHING_LEARNED, OPEN) is plan


def test_fine_tuned_weights_are_tried_for_every_label_with_the_wordings_that_serve() -> None:
    plan = resolve_plan(CONFIG)
    tuned = _tuned(plan, Lessons.of({"Car": CAR}), "p1-abc")
    assert tuned.of_label("Car") == Lesson(CAR.asked, ("auto",), adapter="p1-abc")
    assert tuned.of_label("Bus") == Lesson(("bus",), adapter="p1-abc")
    changed = _tuned(plan, Lessons.of({"Car": replace(CAR, asked=("lorry",))}), "p1-abc")
    assert changed.of_label("Car") == Lesson(CAR.asked, adapter="p1-abc")


def test_a_new_course_begins_with_fine_tuned_weights_and_nothing_else_that_was_learned() -> None:
    serving = Lessons.of({"Car": replace(CAR, adapter="p1-abc"), "Bus": Lesson(("bus",), threshold=0.3)})
    assert takes_over(serving) == Lessons.of({"Car": Lesson(CAR.asked, CAR.phrases, adapter="p1-abc")})
    assert serving.adapters == {"p1-abc"}


def test_nothing_is_built_on_lessons_about_another_wording() -> None:
    pupils = [Pupil("Car", ("vehicle", "auto"), (), 0.5, True), Pupil("Bus", ("coach",), (), 0.5, True)]
    lessons = Lessons.of(
        {"Car": CAR, "Bus": Lesson(("bus",), adapter="p1-abc"), "Gone": Lesson(("x",), threshold=0.1)}
    )
    assert still_meant(lessons, pupils) == Lessons.of({"Car": CAR})
