"""The report on what reviewers taught: its figures, and a page that is safe to open and to pass on."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image
from taught_project import BASE, EVIDENCE, PROJECT, reviewed_tasks, task, taught
from typer.testing import CliRunner

from backend.learning.courses import Course
from backend.learning.records import Drawn, KnownProject, Outcome, Review, Verdict
from backend.learning.versions import Version
from sam3_core import Mask
from sam3_core.demo.scenes import Scene
from sam3_core.learning.lessons import NOTHING_LEARNED, Calibration, Lesson, Lessons
from sam3_core.prototypes import Prototypes
from sam3_prelabel.cli import app
from sam3_prelabel.learning_changes import changes, gain
from sam3_prelabel.learning_figures import Report
from sam3_prelabel.learning_report import tell
from sam3_prelabel.learning_report_page import page
from sam3_prelabel.learning_report_pictures import Shot, _scaled

HOSTILE = "<script>alert(1)</script>\"'&"
FIRST = f"{BASE}+{PROJECT}.1"


class Parsed(HTMLParser):
    """Tags with their attributes, in order; an end tag that does not belong there is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def drawn(label: str = "car", score: float | None = None, page: int = 0) -> Drawn:
    return Drawn("r", label, "img", page, Mask(np.ones((3, 3), np.bool_), 0, 0, (9, 9)), score=score)


def outcome(verdict: Verdict, *, iou: float = 0.0, label: str = "car", score: float = 0.8, page: int = 0) -> Outcome:
    ours = None if verdict is Verdict.MISSED else drawn(label, score, page)
    theirs = None if verdict is Verdict.DELETED else drawn(label, None, page)
    return Outcome(verdict, label, iou, ours, theirs)


def review(number: int, *outcomes: Outcome, version: str = FIRST, seconds: float | None = None) -> Review:
    when = f"2026-03-{number:02d}T00:00:00+00:00"
    images: dict[str, Any] = {"img": ["a", "b"]}
    return Review("12", str(number), "1", when, images, (), version, outcomes, seconds)


def version(number: int, lessons: Lessons = NOTHING_LEARNED, evidence: dict[str, Any] | None = None) -> Version:
    name, parent = f"{BASE}+12.{number}", f"{BASE}+12.{number - 1}" if number > 1 else BASE
    return Version("12", number, name, BASE, parent, lessons, evidence or {}, 1.8e9)


def told(*reviews: Review, versions: tuple[Version, ...] = (), serving: str = "") -> Report:
    return tell(KnownProject("12", "Cars"), reviews, versions, serving, Course("12"))


ACCEPTED = outcome(Verdict.ACCEPTED, iou=1.0, score=0.92)
EDITED = outcome(Verdict.EDITED, iou=0.6, score=0.55)
DELETED = outcome(Verdict.DELETED, score=0.52)
MISSED = outcome(Verdict.MISSED)


def test_verdicts_become_figures_by_label_and_in_all() -> None:
    bus = outcome(Verdict.ACCEPTED, iou=0.96, label="bus", page=1)
    read = told(review(1, ACCEPTED, EDITED, DELETED, bus), review(2, MISSED)).as_json()
    car = read["labels"][0]
    assert (car["label"], car["accepted"], car["edited"], car["deleted"], car["missed"]) == ("car", 1, 1, 1, 1)
    assert (car["truth"], car["found"], car["right"]) == (3, 3, 2)
    assert car["precision"] == car["recall"] == car["f1"] == pytest.approx(2 / 3)
    assert car["mask_iou"] == pytest.approx(0.8)
    # Four pictures: shown and there, neither, not shown but there, neither.
    assert car["presence_accuracy"] == 3 / 4
    assert read["labels"][1]["presence_accuracy"] == 1.0
    assert read["overall"]["presence_accuracy"] == 7 / 8
    assert (read["overall"]["right"], read["overall"]["found"]) == (3, 4)


def test_what_was_drawn_by_hand_says_nothing_about_us_but_how_long_it_took() -> None:
    plain = review(1, version="", seconds=100.0)
    read = told(
        plain,
        review(2, ACCEPTED, version=BASE, seconds=60.0),
        review(3, ACCEPTED, seconds=10.0),
        review(4, MISSED, seconds=30.0),
        review(5, ACCEPTED, seconds=1801.0),
        review(6, ACCEPTED, seconds=0.0),
        versions=(version(1),),
    ).as_json()
    assert (read["reviewed_tasks"], read["shown_tasks"]) == (6, 5)
    assert [one["version"] for one in read["versions"]] == [None, BASE, FIRST]
    assert [one["median_seconds"] for one in read["versions"]] == [100.0, 60.0, 20.0]
    assert [one["breaks_left_out"] for one in read["versions"]] == [0, 0, 1]
    assert read["versions"][0]["f1"] is None
    assert (read["first_review"], read["last_review"]) == (plain.updated, "2026-03-06T00:00:00+00:00")


def test_scores_are_held_against_what_became_of_them() -> None:
    read = told(review(1, ACCEPTED, EDITED, DELETED, outcome(Verdict.ACCEPTED, iou=1.0, score=1.0))).as_json()
    assert read["reliability"] == [
        {"from": 0.5, "to": 0.6, "count": 2, "score": pytest.approx(0.535), "right": 0.5},
        {"from": 0.9, "to": 1.0, "count": 2, "score": pytest.approx(0.96), "right": 1.0},
    ]


def test_the_worst_come_first_with_their_worst_page_and_the_good_ones_never() -> None:
    pages = (outcome(Verdict.ACCEPTED, iou=1.0, page=0), outcome(Verdict.MISSED, page=1))
    read = told(review(1, ACCEPTED), review(2, ACCEPTED, MISSED), review(3, *pages), review(4, MISSED, DELETED))
    assert [(bad.review.task, bad.page) for bad in read.worst] == [("4", 0), ("3", 1), ("2", 0)]
    many = told(*(review(number, MISSED) for number in range(1, 29)))
    assert len(many.worst) == 20


def test_changes_are_told_against_the_version_before() -> None:
    memory = Prototypes.of(np.eye(2, dtype=np.float32), np.zeros((0, 2), np.float32), 1.0)
    old = version(1, Lessons.of({"car": Lesson(("car",), threshold=0.4)}))
    lesson = Lesson(("car",), ("van", "car"), 0.3, Calibration(1.0, 0.0), memory)
    new = version(2, Lessons.of({"car": replace(lesson, adapter="tuned")}))
    assert list(changes(old, None)) == ["car: threshold as set → 0.40"]
    assert list(changes(new, old)) == [
        "car: searched with the fine-tuned weights tuned",
        "car: looks for van; car instead of car",
        "car: threshold 0.40 → 0.30",
        "car: compares with how earlier instances looked",
        "car: scores say how likely an instance is accepted",
    ]
    assert list(changes(new, new)) == []
    assert len(list(changes(version(3), new))) == 5, "what is taken back is a change too"
    assert (gain(EVIDENCE), gain({}), gain({"total": "x"})) == ("0.610 → 0.740", "", "")


def test_a_project_without_reviews_is_a_page_too() -> None:
    text = page(told(), [])
    Parsed(text)
    assert "nothing to compare" in text
    assert "Nothing was promoted yet" in text
    json.dumps(told().as_json(), allow_nan=False)


@pytest.mark.parametrize(
    "evidence",
    [
        {},
        {"tasks": "x", "steps": "y"},
        {"steps": [1, {}]},
        {"steps": [{"labels": {"a": 1, "b": {"tried": [1], "threshold": [None], "phrases": 3, "log_loss": {}}}}]},
    ],
)
def test_evidence_may_lack_anything(evidence: dict[str, Any]) -> None:
    Parsed(page(told(review(1, ACCEPTED), versions=(version(1, evidence=evidence),)), []))


def test_strangers_texts_stay_texts() -> None:
    """Labels, titles, versions, phrases, reasons: everything that the page shows."""
    lessons = Lessons.of({HOSTILE: Lesson((HOSTILE,), phrases=(HOSTILE,), adapter=HOSTILE)})
    steps = [
        {
            "step": HOSTILE,
            "why": HOSTILE,
            "labels": {
                HOSTILE: {"phrases": [[HOSTILE], [HOSTILE]], "tried": [[[HOSTILE], 0.5]], "threshold": [HOSTILE]}
            },
        }
    ]
    one = replace(review(1, outcome(Verdict.MISSED, label=HOSTILE), version=HOSTILE), task=HOSTILE)
    learned = replace(version(1, lessons, {"steps": steps}), name=HOSTILE)
    course = Course("12", sentence=HOSTILE)
    found = tell(KnownProject(HOSTILE, HOSTILE), [one], [learned], HOSTILE, course)
    text = page(found, [Shot(found.worst[0], problem=HOSTILE)])
    parsed = Parsed(text)
    assert "script" not in {tag for tag, _ in parsed.tags}
    assert "<script" not in text
    assert sum(HOSTILE in part for part in parsed.texts) >= 12
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)


def test_a_try_that_came_to_nothing_is_told_with_its_evidence() -> None:
    evidence = {"tasks": 14, "total": {"before": 0.8, "after": 0.79, "low": -0.05, "mean": -0.01, "high": 0.03}}
    tried = evidence | {"sentence": "nothing is surely better"}
    listed = [version(1, NOTHING_LEARNED, {"tasks": 12})]
    found = tell(KnownProject("12", "Cars"), [], listed, FIRST, Course("12"), tried)
    assert [one.tasks for one in found.learned] == [14, 12]
    assert found.learned[0].changes == ("nothing is surely better",)
    assert "nothing is surely better" in page(found, [])
    promoted = [version(1, NOTHING_LEARNED, evidence)]
    assert len(tell(KnownProject("12", "Cars"), [], promoted, FIRST, Course("12"), tried).learned) == 1


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, scene: Callable[..., Scene]) -> tuple[str, dict[str, Any]]:
    """The command on nine reviewed scenes, one of whose pictures is gone: the page and the JSON."""
    root = tmp_path_factory.mktemp("report")
    tasks = list(reviewed_tasks(scene, 9))
    tasks[-1] = task(9, scene(49, objects=(2, 4), long_side=(240, 320)), FIRST, image="/data/upload/1/gone.jpg")
    store = taught(root / "store.sqlite", tasks)
    arguments = ["report", str(PROJECT), "--store", str(store), "--out", str(root / "r.html")]
    done = CliRunner().invoke(app, ["label-studio", *arguments, "--json", str(root / "r.json")])
    assert done.exit_code == 0, done.output
    return (root / "r.html").read_text(encoding="utf-8"), json.loads((root / "r.json").read_text())


def test_the_command_tells_what_the_store_knows(written: tuple[str, dict[str, Any]]) -> None:
    text, read = written
    assert (read["reviewed_tasks"], read["shown_tasks"], read["serving"]) == (9, 6, FIRST)
    assert [one["version"] for one in read["versions"]] == [None, BASE, FIRST]
    assert read["versions"][0]["median_seconds"] > read["versions"][1]["median_seconds"]
    assert read["versions"][0]["breaks_left_out"] == 1
    assert min(read["overall"][name] for name in ("accepted", "edited", "deleted", "missed")) > 0
    assert read["learned"][1]["steps"] == EVIDENCE["steps"]
    assert read["learned"][1]["total"]["after"] == 0.74
    assert "F1 0.610 → 0.740 · gain +0.130, between +0.020 and +0.200" in text
    assert "0.50 → 0.31" in text
    assert "0.69 → 0.51" in text
    assert read["learned"][1]["changes"][0] == "circle: looks for disc; circle instead of circle"
    assert read["last_course"] in text
    assert "SAM3_LABEL_STUDIO_URL" in text, "why a picture is missing"


def test_the_page_needs_nothing_but_itself(written: tuple[str, dict[str, Any]]) -> None:
    text, read = written
    parsed = Parsed(text)
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in parsed.tags}
    assert not any("style" in attributes for _, attributes in parsed.tags)
    policy = next(a["content"] for tag, a in parsed.tags if tag == "meta" and "http-equiv" in a)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    pictures = [attributes["src"] or "" for tag, attributes in parsed.tags if tag == "img"]
    assert len(pictures) == 2 * (len(read["worst"]) - 1)
    for address in pictures:
        with Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/jpeg;base64,")))) as image:
            image.load()
            assert max(image.size) <= 560


def test_shapes_shrink_with_their_picture() -> None:
    bits = np.zeros((300, 400), np.bool_)
    bits[100:200, 40:240] = True
    small = _scaled(Mask.from_full(bits), (40, 30))
    assert small.box == (4, 10, 24, 20)
    assert small.area == 200
    speck = _scaled(Mask(np.ones((1, 1), np.bool_), 399, 299, (400, 300)), (4, 3))
    assert (speck.box, speck.area) == ((3, 2, 4, 3), 1)
