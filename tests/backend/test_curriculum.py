"""The steps: nothing is kept that the judge does not find better, and no group is judged by what it taught."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from backend.labeling import resolve_plan
from backend.learning import curriculum
from backend.learning.curriculum import FOLDS, Curriculum, Draft
from backend.learning.judging import Tallies
from backend.learning.proposals import Pupil
from sam3_core.learning.examples import Example
from sam3_core.learning.folds import folds
from sam3_core.learning.lessons import Lesson, Lessons
from sam3_core.learning.measure import Tally

GROUPS = [str(number) for number in range(40)]
GOOD, BAD = Tally(9, 1, 1), Tally(5, 5, 5)
PUPILS = [Pupil(label, (label,), (), 0.5, True) for label in ("car", "bus")]
EXAMPLES = {pupil.label: [Example(group, ()) for group in GROUPS] for pupil in PUPILS}


class KnownWorth:
    """Stands for the judge: a threshold's worth is known."""

    def __init__(self, worth: Callable[[str, Lesson | None], Tally]) -> None:
        self.worth = worth
        self.seen: list[tuple[str, Lessons]] = []

    def tallies(self, images: object, plan: object, lessons_for: Callable[[str], Lessons]) -> Tallies:
        self.seen += [(group, lessons_for(group)) for group in GROUPS]
        return {
            pupil.label: {
                group: self.worth(pupil.label, lessons_for(group).of_label(pupil.label)) for group in GROUPS
            }
            for pupil in PUPILS
        }


def course(judge: KnownWorth, steps: Sequence[str]) -> Curriculum:
    return Curriculum(resolve_plan("<View/>"), (), judge, PUPILS, EXAMPLES, steps, lambda _: None)  # type: ignore[arg-type]


def always(threshold: float) -> Callable[..., tuple[Lesson, dict[str, Any]]]:
    return lambda pupil, lesson, examples: (replace(lesson, threshold=threshold), {})


def better_for(*labels: str) -> Callable[[str, Lesson | None], Tally]:
    def worth(label: str, lesson: Lesson | None) -> Tally:
        changed = lesson is not None and lesson.threshold == 0.3
        return (GOOD if label in labels else BAD) if changed else (BAD if label in labels else GOOD)

    return worth


@pytest.fixture
def proposed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def use(**proposals: Any) -> None:
        monkeypatch.setattr(curriculum, "PROPOSALS", proposals)

    return use


def test_what_is_better_is_kept_label_by_label(proposed: Callable[..., None]) -> None:
    proposed(thresholds=always(0.3))
    judge = KnownWorth(better_for("car"))
    work = course(judge, ["thresholds"])
    after = work.run(work.judged(Draft.alike(Lessons())))
    assert after.draft.whole == Lessons.of({"car": Lesson(("car",), threshold=0.3)})
    (said,) = work.evidence
    assert said["promoted"]
    assert said["labels"]["car"]["promoted"]
    assert not said["labels"]["bus"]["promoted"]
    assert said["after"] > said["before"]
    assert said["labels"]["car"]["threshold"] == [0.5, 0.3]


def test_what_is_worse_is_not_kept(proposed: Callable[..., None]) -> None:
    proposed(thresholds=always(0.3))
    work = course(KnownWorth(better_for()), ["thresholds"])
    start = work.judged(Draft.alike(Lessons()))
    assert work.run(start) is start
    assert not work.evidence[0]["promoted"]
    assert "car" in work.evidence[0]["why"]


def test_equal_is_not_better(proposed: Callable[..., None]) -> None:
    proposed(thresholds=always(0.3))
    work = course(KnownWorth(lambda label, lesson: GOOD), ["thresholds"])
    start = work.judged(Draft.alike(Lessons()))
    assert work.run(start) is start


def test_a_gain_that_hangs_on_few_groups_is_not_sure(proposed: Callable[..., None]) -> None:
    proposed(thresholds=always(0.3))
    judge = KnownWorth(lambda label, lesson: GOOD)
    work = course(judge, ["thresholds"])
    start = work.judged(Draft.alike(Lessons()))
    lucky = judge.tallies

    def one_better(images: object, plan: object, lessons_for: Callable[[str], Lessons]) -> Tallies:
        found = {label: dict(groups) for label, groups in lucky(images, plan, lessons_for).items()}
        for groups in found.values():
            groups["0"] = Tally(10, 0, 0)
            groups["1"] = Tally(9, 1, 2)
        return found

    judge.tallies = one_better  # type: ignore[method-assign]
    assert work.run(start) is start


def test_a_label_that_is_hardly_better_does_not_ride_along(proposed: Callable[..., None]) -> None:
    proposed(thresholds=always(0.3))
    judge = KnownWorth(better_for("car"))
    work = course(judge, ["thresholds"])
    start = work.judged(Draft.alike(Lessons()))
    known = judge.tallies

    def luck(images: object, plan: object, lessons_for: Callable[[str], Lessons]) -> Tallies:
        """The bus is as before, but for a group that is a little better."""
        found = {label: dict(groups) for label, groups in known(images, plan, lessons_for).items()}
        found["bus"] = dict.fromkeys(GROUPS, GOOD)
        if lessons_for("0").of_label("bus"):
            found["bus"]["0"] = Tally(10, 0, 0)
        return found

    judge.tallies = luck  # type: ignore[method-assign]
    assert set(dict(work.run(start).draft.whole.labels)) == {"car"}


def test_what_costs_other_labels_more_than_it_brings_is_not_kept(proposed: Callable[..., None]) -> None:
    proposed(
        thresholds=lambda pupil, lesson, _: always(0.3)(pupil, lesson, _) if pupil.label == "car" else (lesson, {})
    )
    judge = KnownWorth(better_for("car"))
    work = course(judge, ["thresholds"])
    start = work.judged(Draft.alike(Lessons()))
    known = judge.tallies

    def robbed(images: object, plan: object, lessons_for: Callable[[str], Lessons]) -> Tallies:
        """The car takes what was the bus's."""
        found = {label: dict(groups) for label, groups in known(images, plan, lessons_for).items()}
        if lessons_for("0").of_label("car"):
            found["bus"] = {group: Tally(1, 9, 9) for group in GROUPS}
        return found

    judge.tallies = robbed  # type: ignore[method-assign]
    assert work.run(start) is start
    assert "all labels together" in work.evidence[0]["why"]


def test_groups_are_judged_by_what_was_learned_without_them(proposed: Callable[..., None]) -> None:
    taught: dict[float, set[str]] = {}

    def remembers(pupil: Pupil, lesson: Lesson, examples: Sequence[Example]) -> tuple[Lesson, dict[str, Any]]:
        groups = {example.group for example in examples}
        threshold = round(0.2 + len(taught) / 100, 3)
        taught[threshold] = groups
        return replace(lesson, threshold=threshold), {}

    proposed(thresholds=remembers)
    judge = KnownWorth(lambda label, lesson: BAD if lesson is None else GOOD)
    work = course(judge, ["thresholds"])
    after = work.run(work.judged(Draft.alike(Lessons())))
    judged = [(group, one) for group, lessons in judge.seen for _, one in lessons.labels]
    assert len(judged) == len(GROUPS) * len(PUPILS)
    for group, lesson in judged:
        assert lesson.threshold is not None
        assert group not in taught[lesson.threshold]
        assert len(taught[lesson.threshold]) == len([g for g in GROUPS if _fold(g) != _fold(group)])
    served = after.draft.whole.of_label("car")
    assert served is not None
    assert served.threshold is not None
    assert taught[served.threshold] == set(GROUPS), "what is served knows all of them"


def test_later_steps_build_on_what_earlier_ones_found(proposed: Callable[..., None]) -> None:
    phrases = lambda pupil, lesson, examples: (replace(lesson, phrases=("x", pupil.label)), {})  # noqa: E731
    proposed(phrases=phrases, thresholds=always(0.3))

    def worth(label: str, lesson: Lesson | None) -> Tally:
        return Tally(4 + 2 * bool(lesson and lesson.phrases) + 2 * bool(lesson and lesson.threshold), 2, 2)

    work = course(KnownWorth(worth), ["phrases", "thresholds"])
    after = work.run(work.judged(Draft.alike(Lessons())))
    lesson = after.draft.whole.of_label("car")
    assert lesson == Lesson(("car",), ("x", "car"), 0.3)
    assert [said["promoted"] for said in work.evidence] == [True, True]


def _fold(group: str) -> int:
    return folds([group], FOLDS)[group]
