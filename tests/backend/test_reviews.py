"""Reviews follow what people do, whatever way events arrive, and say what became of each of our instances."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from review_events import CONFIG, annotation, box, deleted, event, project, square, submitted, task_of
from test_database import ROOT, together

from backend.database import Database
from backend.learning.predicted import Predictions
from backend.learning.records import KnownProject, Review, Verdict
from backend.learning.reviews import Reviews

OURS = [square("a", 10, score=0.9), square("b", 30, score=0.6), square("c", 50, "bus")]


def store(file: Path | None = None) -> tuple[Reviews, Predictions]:
    database = Database(file)
    predictions = Predictions(database)
    return Reviews(database, predictions), predictions


def predict(
    predictions: Predictions, result: list[Any], version: str = "v1", task: str = "1", name: str = "1"
) -> None:
    predictions.remember(name, task, {"result": result, "model_version": version, "score": 0.5})


def said(review: Review | None) -> list[tuple[str, str, str | None, str | None]]:
    """Verdict, label, our region and theirs."""
    assert review is not None
    told = [
        (
            one.verdict.value,
            one.label,
            one.ours.region if one.ours else None,
            one.theirs.region if one.theirs else None,
        )
        for one in review.outcomes
    ]
    return sorted(told, key=repr)


def reviewed(result: list[Any], ours: list[Any] = OURS, **more: Any) -> Review:
    reviews, predictions = store()
    predict(predictions, ours)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
    reviews.apply(*submitted(annotation(1, result, created_at=now, **more)))
    review = reviews.review("1", "1")
    assert review is not None
    return review


# ---- what became of our instances ---------------------------------------------------------------------------------


def test_accepted_edited_deleted_and_missed() -> None:
    review = reviewed([square("a", 10), square("b", 32), square("d", 80)])
    assert said(review) == [
        ("accepted", "car", "a", "a"), ("deleted", "bus", "c", None),
        ("edited", "car", "b", "b"), ("missed", "car", None, "d"),
    ]  # fmt: skip
    by = {one.verdict: one for one in review.outcomes}
    assert by[Verdict.ACCEPTED].iou == 1
    assert by[Verdict.EDITED].iou == pytest.approx(8 / 12, abs=0.02)
    assert by[Verdict.DELETED].iou == by[Verdict.MISSED].iou == 0
    ours = by[Verdict.ACCEPTED].ours
    assert ours is not None
    assert ours.score == 0.9
    assert [drawn.region for drawn in review.truth] == ["a", "b", "d"]
    assert (review.version, review.lead_time) == ("v1", 3.5)
    assert review.images == {"image": "/data/upload/1.jpg"}
    assert review.updated == "2026-11-22T03:00:00.000000+00:00"


def test_redrawn_regions_are_told_by_their_pixels() -> None:
    review = reviewed([square("x", 10.2), square("y", 33)])
    assert said(review) == [("accepted", "car", "a", "x"), ("deleted", "bus", "c", None), ("edited", "car", "b", "y")]


def test_another_label_is_one_deleted_and_one_missed() -> None:
    assert said(reviewed([square("a", 10, "bus")], [square("a", 10)])) == [
        ("deleted", "car", "a", None), ("missed", "bus", None, "a"),
    ]  # fmt: skip


def test_what_lies_apart_does_not_go_together_even_under_one_id() -> None:
    assert said(reviewed([square("a", 80)], [square("a", 10)])) == [
        ("deleted", "car", "a", None), ("missed", "car", None, "a"),
    ]  # fmt: skip


def test_untouched_is_accepted_whatever_its_pixels_say() -> None:
    moved = [square("a", 11.5, origin="prediction")]
    assert said(reviewed(moved, [square("a", 10)])) == [("accepted", "car", "a", "a")]
    changed = [square("a", 11.5, origin="prediction-changed")]
    assert said(reviewed(changed, [square("a", 10)])) == [("edited", "car", "a", "a")]
    part = [square("a", 10), square("b", 20, parentID="a")]
    assert said(reviewed([part[0] | {"origin": "prediction"}], part)) == [("edited", "car", "a", "a")]


def test_boxes_and_outlines_of_one_object_go_with_their_like() -> None:
    both = [square("outline", 10), box("box", 10)]
    assert said(reviewed(both[::-1], both)) == [
        ("accepted", "car", "box", "box"), ("accepted", "car", "outline", "outline"),
    ]  # fmt: skip
    assert said(reviewed([box("new", 10.1)], [square("a", 10)])) == [("accepted", "car", "a", "new")]


def test_of_two_that_overlap_the_nearer_one_is_it() -> None:
    review = reviewed([square("x", 12), square("y", 10.1)], [square("a", 10)])
    assert said(review) == [("accepted", "car", "a", "y"), ("missed", "car", None, "x")]


def test_regions_on_a_picture_of_another_size_are_others() -> None:
    assert said(reviewed([square("a", 10, original_width=400)], [square("a", 10)])) == [
        ("deleted", "car", "a", None), ("missed", "car", None, "a"),
    ]  # fmt: skip


def test_without_a_prediction_there_is_only_truth() -> None:
    reviews, _ = store()
    reviews.apply(*submitted(annotation(1, [square("a", 10)])))
    review = reviews.review("1", "1")
    assert review is not None
    assert (review.outcomes, review.version, len(review.truth)) == ((), "", 1)


# ---- which prediction it was --------------------------------------------------------------------------------------


def choose(one: dict[str, Any], *known: tuple[str, list[Any]]) -> str:
    reviews, predictions = store()
    for version, result in known:
        predict(predictions, result, version)
    reviews.apply(*submitted(one))
    review = reviews.review("1", "1")
    assert review is not None
    return review.version


FUTURE = "2099-01-01T00:00:00Z"


def test_the_prediction_that_a_reviewer_began_with() -> None:
    left = [square("a", 10), square("b", 30)]
    old, new = ("old", [square("a", 10), square("b", 30)]), ("new", [square("a", 10), square("z", 70)])
    assert choose(annotation(1, left), old, new) == "old"  # by the ids
    assert choose(annotation(1, [square("q", 10)], created_at=FUTURE), old, new) == "new"  # the newest
    assert choose(annotation(1, [square("a", 10)], created_at=FUTURE), old, new) == "new"
    assert choose(annotation(1, [square("q", 10)]), old, new) == ""  # it came later than the annotation
    beside = {"id": 8, "model_version": "shown", "result": [square("s", 10)], "created_at": "2026-11-22T02:00:00Z"}
    assert choose(annotation(1, left, prediction=beside, parent_prediction=8), old, new) == "shown"
    assert choose(annotation(1, left, prediction=beside, parent_prediction=9), old, new) == "old"
    assert choose(annotation(1, [square("q", 10)], prediction=beside)) == "shown"


# ---- events -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "one",
    [
        annotation(1, [square("a", 10)], was_cancelled=True),
        annotation(1, []),
        annotation(1, []) | {"result": None},
        annotation(1, [square("a", 10, is_positive=True)]),
        annotation(1, [square("a", 10, "plane")]),
    ],
)
def test_what_is_no_review_and_ends_one(one: dict[str, Any]) -> None:
    reviews, predictions = store()
    predict(predictions, OURS)
    assert reviews.apply(*submitted(one)) == set()
    assert reviews.of("1") == []
    assert reviews.apply(*submitted(annotation(1, [square("a", 10)], second=1))) == {("1", "1")}
    assert reviews.count("1") == 1
    assert reviews.apply(*submitted(one | {"updated_at": FUTURE})) == {("1", "1")}
    assert (reviews.of("1"), reviews.count("1"), reviews.tasks("1"), reviews.review("1", "1")) == ([], 0, [], None)


def test_of_several_annotations_the_newest_counts_and_before_all_the_ground_truth() -> None:
    reviews, _ = store()
    reviews.apply(*submitted(annotation(1, [square("old", 10)], second=1)))
    reviews.apply(*submitted(annotation(2, [square("new", 10)], second=2)))
    reviews.apply(*submitted(annotation(3, [square("x", 10)], second=9, was_cancelled=True)))

    def counts() -> str:
        (review,) = reviews.of("1")
        return review.truth[0].region

    assert counts() == "new"
    reviews.apply(*submitted(annotation(1, [square("old", 10)], second=1.5, ground_truth=True)))
    assert counts() == "old"
    reviews.apply(*deleted(1))
    assert counts() == "new"
    assert reviews.apply(*event("ANNOTATION_DELETED", {"annotation": {"id": 2}})) == {("1", "1")}
    assert reviews.of("1") == []


def test_lists_tasks_and_projects() -> None:
    reviews, _ = store()
    many = [annotation(number, [square("a", 10)], task=number, second=number) for number in (1, 2, 3)]
    body = {"annotation": many, "task": [task_of(number) for number in (3, 2, 1)]}
    assert reviews.apply(*event("ANNOTATIONS_CREATED", body)) == {("1", "1"), ("1", "2"), ("1", "3")}
    assert reviews.tasks("1") == ["3", "2", "1"] == [review.task for review in reviews.of("1")]
    assert [review.images["image"] for review in reviews.of("1", 2)] == ["/data/upload/3.jpg", "/data/upload/2.jpg"]
    assert reviews.apply(*event("TASKS_DELETED", {"tasks": [{"id": 2}]})) == {("1", "2")}
    assert reviews.apply(*submitted(annotation(9, [square("a", 10)], task=2, second=9))) == set()
    assert reviews.tasks("1") == ["3", "1"]


def test_projects_never_mix() -> None:
    reviews, predictions = store()
    for number in (1, 2, 12):
        predict(predictions, [square(f"p{number}", 10)], name=str(number))
        one = annotation(5, [square(f"p{number}", 10)], second=number)
        assert reviews.apply(*submitted(one, number=number)) == {(str(number), "1")}
    assert reviews.apply(*deleted(5, number=2)) == {("2", "1")}
    for number in (1, 12):
        (review,) = reviews.of(str(number))
        assert (review.project, review.truth[0].region) == (str(number), f"p{number}")
        assert said(review) == [("accepted", "car", f"p{number}", f"p{number}")]
        assert reviews.count(str(number)) == 1
    assert reviews.of("2") == []
    assert reviews.replace("1", CONFIG, "cars", []) == 0
    assert reviews.count("12") == 1


def test_what_events_say_of_projects() -> None:
    reviews, _ = store()
    reviews.apply(*event("PROJECT_UPDATED", {}, model_version="v1"))
    reviews.apply(*event("START_TRAINING", {}, 2, title="buses"))
    reviews.apply("START_TRAINING", json.dumps({"action": "", "project": {"id": 1, "title": "lorries"}}).encode())
    reviews.apply("START_TRAINING", json.dumps({"action": "", "project": {}}).encode())
    lorries = KnownProject("1", "lorries", CONFIG, "v1")
    assert reviews.projects() == [lorries, KnownProject("2", "buses", CONFIG)]
    assert (reviews.project("1"), reviews.project("3")) == (lorries, None)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b'{"project": 5}', b'{"annotation": 5}', b'{"project": {"id": 1}, "annotation": {}}',
        b'{"annotation": {"id": 1, "task": 1, "result": []}}', b'{"project": {"id": []}, "annotation": [{}]}',
        b'{"project": {"id": 1}, "annotation": {"id": 1, "task": {}, "result": [1], "updated_at": 5}, "task": 3}',
        b'{"project": {"id": 1}, "annotations": [{}, 5, null, {"id": []}]}', b'{"project": {"id": 1}, "tasks": [{}]}',
    ],
)  # fmt: skip
def test_events_that_cannot_be_read_change_nothing(body: bytes) -> None:
    body = body.replace(b"{", b'{"action": "", ', 1)
    reviews, _ = store()
    for action in ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATIONS_DELETED", "TASKS_DELETED", "x"):
        assert reviews.apply(action, body) == set()
    assert reviews.of("1") == []


# ---- in any order, however often ----------------------------------------------------------------------------------

states = st.builds(
    annotation,
    st.integers(1, 3),
    st.sampled_from([[], [square("a", 10)], [square("b", 40), square("c", 70, "bus")]]),
    second=st.integers(0, 3),
    task=st.just(1),
    was_cancelled=st.booleans(),
    ground_truth=st.booleans(),
)
events = (
    states.map(lambda one: submitted(one | {"task": 1 + one["id"] % 2}))
    | st.lists(st.integers(1, 3), max_size=1).map(lambda numbers: deleted(*numbers))
    | st.just(event("TASKS_DELETED", {"tasks": [{"id": 2}]}))
)


def everything(reviews: Reviews) -> list[Any]:
    return [
        (
            one.task, one.annotation, one.updated, said(one),
            [(drawn.region, drawn.label, np.packbits(drawn.mask.full()).tobytes()) for drawn in one.truth],
        )
        for one in reviews.of("1")
    ]  # fmt: skip


@settings(max_examples=40)
@given(st.lists(events, max_size=6), st.randoms(use_true_random=False))
def test_any_order_and_repetition_of_events_ends_the_same(
    happened: list[tuple[str, bytes]], chance: random.Random
) -> None:
    once, predictions = store()
    predict(predictions, OURS)
    for one in happened:
        once.apply(*one)
    again = [*happened, *chance.choices(happened, k=3)] if happened else []
    chance.shuffle(again)
    other, predictions = store()
    predict(predictions, OURS)
    for one in again:
        other.apply(*one)
    assert everything(other) == everything(once)
    for one in happened:
        assert other.apply(*one) == set()


# ---- made anew ----------------------------------------------------------------------------------------------------


def listed(number: int, *annotations: dict[str, Any], predictions: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return task_of(number) | {"annotations": list(annotations), "predictions": list(predictions)}


def test_reviews_are_made_anew_from_a_list_of_tasks() -> None:
    reviews, _ = store()
    for number in (1, 2, 3):
        reviews.apply(*submitted(annotation(number, [square("a", 10)], task=number, second=5)))
    before = {"id": 4, "model_version": "v7", "result": OURS, "created_at": "2026-11-22T02:00:00Z"}
    tasks = [
        listed(1, annotation(1, [square("b", 30)], second=6, parent_prediction=4), predictions=(before,)),
        listed(
            2, annotation(2, [square("old", 30)], task=2, second=1), annotation(8, [], task=2, was_cancelled=True)
        ),
        listed(4, {"id": "x"}, annotation(7, [square("c", 50, "bus")], task=4)),
        {"id": 5},
    ]
    assert reviews.replace("1", CONFIG, "anew", tasks) == 3
    assert {review.task: review.truth[0].region for review in reviews.of("1")} == {"1": "b", "2": "a", "4": "c"}
    assert reviews.review("1", "1").version == "v7"  # type: ignore[union-attr]
    assert reviews.project("1") == KnownProject("1", "anew", CONFIG)


def test_labels_that_have_a_new_name_are_read_anew() -> None:
    reviews, _ = store()
    one = annotation(1, [square("a", 10, "lorry")])
    reviews.apply(*submitted(one))
    assert reviews.of("1") == []
    renamed = CONFIG.replace("car", "lorry")
    assert reviews.replace("1", renamed, "cars", [listed(1, one)]) == 1
    assert reviews.apply(*submitted(one)) == set()


def test_what_comes_in_while_the_list_is_read_is_kept() -> None:
    reviews, _ = store()
    reviews.apply(*submitted(annotation(1, [square("a", 10)])))
    reviews.apply(*submitted(annotation(4, [square("d", 10)], task=4)))

    def tasks() -> Any:
        yield listed(1, annotation(1, [square("a", 10)]))
        reviews.apply(*submitted(annotation(1, [square("changed", 10)], second=7)))
        reviews.apply(*submitted(annotation(2, [square("b", 10)], task=2)))
        reviews.apply(*submitted(annotation(4, [square("e", 10)], task=4, second=7)))
        yield listed(3, annotation(3, [square("c", 10)], task=3))
        reviews.apply(*deleted(3))

    assert reviews.replace("1", CONFIG, "cars", tasks()) == 3
    assert {review.task: review.truth[0].region for review in reviews.of("1")} == {"1": "changed", "2": "b", "4": "e"}


def test_a_list_that_breaks_off_changes_nothing() -> None:
    reviews, _ = store()
    reviews.apply(*submitted(annotation(1, [square("a", 10)])))

    def tasks() -> Any:
        yield listed(1, annotation(1, [square("new", 10)], second=7))
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - it has no message
        reviews.replace("1", CONFIG, "anew", tasks())
    assert reviews.of("1")[0].truth[0].region == "a"
    assert reviews.project("1") == KnownProject("1", "cars", CONFIG)


# ---- the file -----------------------------------------------------------------------------------------------------

APPLIER = """
import sys
sys.path.insert(0, "tests/backend")
from pathlib import Path
from review_events import annotation, square, submitted
from backend.database import Database
from backend.learning.predicted import Predictions
from backend.learning.reviews import Reviews
database = Database(Path(sys.argv[1]))
reviews = Reviews(database, Predictions(database))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    reviews.apply(*submitted(annotation(number, [square("a", 10)], task=number)))
    print(number, flush=True)
"""


def test_two_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "store"
    together(APPLIER, [str(file), "0", "12"], [str(file), "6", "18"])
    reviews, _ = store(file)
    assert sorted(map(int, reviews.tasks("1"))) == list(range(18))


def test_a_process_killed_in_the_middle_leaves_whole_reviews(tmp_path: Path) -> None:
    file = tmp_path / "store"
    command = [sys.executable, "-c", APPLIER, str(file), "0", "1000000"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    told = [process.stdout.readline() for _ in range(8)]
    process.kill()
    process.communicate()
    assert told[-1] == "6\n"
    database = Database(file)
    assert database.rows("PRAGMA integrity_check") == [("ok",)]
    reviews = Reviews(database, Predictions(database))
    kept = reviews.of("1")
    assert set(range(7)) <= {int(review.task) for review in kept}
    assert all(review.truth[0].mask.area for review in kept)
    assert project()["title"] == reviews.project("1").title  # type: ignore[union-attr]
