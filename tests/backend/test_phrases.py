"""What annotators type becomes the labels' phrases, of their project and no other, as long as the store lives."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from request_bodies import data_url, keypoint, predict_body, text
from scene_segmenter import SceneSegmenter

from backend.database import Database
from backend.labeling import Plan, read_plan
from backend.phrases import Phrases
from backend.settings import BackendSettings
from sam3_core import Concept
from sam3_core.demo.scenes import Scene
from sam3_core.rules import Rules
from sam3_core.settings import load_settings

LABELS = (
    '<Label value="car" prompt="vehicle" negative_prompt="toy" threshold="0.3" remember_prompt="true"/>'
    '<Label value="bus" remember_prompt="true"/><Label value="sky"/>'
)
CONFIG = f"""
<View>
  <Image name="image" value="$image"/>
  <PolygonLabels name="outline" toName="image">{LABELS}</PolygonLabels>
  <BrushLabels name="brush" toName="image">{LABELS}</BrushLabels>
  <TextArea name="prompt" toName="image"/>
  <TextArea name="note" toName="image" smart="false"/>
</View>
"""
PLAN = read_plan(CONFIG)


def looked_for(plan: Plan) -> dict[str, tuple[str, ...]]:
    """What is looked for under each label; the controls must agree."""
    (source,) = plan.sources
    first, second = ([(label.value, label.concept) for label in control.labels] for control in source.controls)
    assert first == second
    return {value: concept.phrases for value, concept in first}


OWN = looked_for(PLAN)


def test_what_was_typed_is_looked_for_and_the_labels_rules_stay() -> None:
    phrases = Phrases(Database(None))
    phrases.learn("1", CONFIG, [text("rusty car; pickup", "bus")])
    plan = phrases.apply("1", PLAN)
    assert looked_for(plan) == OWN | {"car": ("rusty car", "pickup"), "bus": ("bus",)}
    concept = plan.sources[0].labels[0].concept
    assert concept == Concept(("rusty car", "pickup"), negatives=("toy",), rules=Rules(threshold=0.3))
    assert looked_for(PLAN) == OWN


def test_the_newest_submission_wins_label_by_label() -> None:
    phrases = Phrases(Database(None))
    phrases.learn("1", CONFIG, [text("old; bus")])
    phrases.learn("1", CONFIG, [text("older than nothing"), text("newest")])
    assert looked_for(phrases.apply("1", PLAN)) == OWN | {"car": ("older than nothing", "newest")}


def test_the_labels_own_name_is_just_the_phrase() -> None:
    phrases = Phrases(Database(None))
    phrases.learn("1", CONFIG, [text("pickup")])
    phrases.learn("1", CONFIG, [text("Car")])
    assert looked_for(phrases.apply("1", PLAN))["car"] == ("Car",)


def test_projects_are_kept_apart() -> None:
    phrases = Phrases(Database(None))
    phrases.learn("1", CONFIG, [text("one")])
    phrases.learn("2", CONFIG, [text("two")])
    assert [looked_for(phrases.apply(project, PLAN))["car"] for project in ("1", "2", "12", "")] == [
        ("one",), ("two",), ("vehicle",), ("vehicle",),
    ]  # fmt: skip


def test_labels_that_do_not_ask_for_it_are_left_alone() -> None:
    phrases = Phrases(Database(None))
    phrases.learn("1", CONFIG, [text("sky; Sky", "pickup")])
    eager = CONFIG.replace('"sky"', '"sky" prompt="heaven" remember_prompt="true"')
    assert looked_for(phrases.apply("1", read_plan(eager))) == OWN | {"car": ("pickup",), "sky": ("heaven",)}
    changed = CONFIG.replace('threshold="0.3" remember_prompt="true"', 'threshold="0.3"')
    assert looked_for(phrases.apply("1", read_plan(changed))) == OWN
    forgetful = read_plan(CONFIG.replace('remember_prompt="true"', ""))
    assert phrases.apply("1", forgetful) is forgetful


def test_a_text_area_may_ask_for_all_labels() -> None:
    config = CONFIG.replace(' remember_prompt="true"', "").replace(
        'name="prompt"', 'name="prompt" remember_prompt="true"'
    )
    phrases = Phrases(Database(None))
    phrases.learn("1", config, [text("sky; blue sky")])
    assert looked_for(phrases.apply("1", read_plan(config)))["sky"] == ("sky",)
    assert looked_for(phrases.apply("1", read_plan(config)))["car"] == ("blue sky",)


@pytest.mark.parametrize(
    "results",
    [
        None, "text", {}, [], [None, 7, "text"],
        [text()], [text("", " ; ")], [text("elsewhere", to_name="audio")],
        [keypoint(1, 1)], [text("look again", from_name="note")],
        [text("x") | {"value": None}], [text("x") | {"value": {"text": 5}}], [text("x") | {"to_name": []}],
        [text("\ud800")], [text(";".join(map(str, range(100))))],
    ],
)  # fmt: skip
def test_what_teaches_nothing(results: object) -> None:
    phrases = Phrases(Database(None))
    phrases.learn("1", CONFIG, results)
    assert looked_for(phrases.apply("1", PLAN)) == OWN


@pytest.mark.parametrize("config", ["", "not xml", "<View/>", CONFIG.replace("$image", "image")])
def test_a_config_without_labels_teaches_nothing(config: str) -> None:
    Phrases(Database(None)).learn("1", config, [text("pickup")])


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
rows = st.fixed_dictionaries(
    {"type": st.just("textarea")},
    optional={"to_name": st.just("image") | json, "value": json | st.fixed_dictionaries({"text": json})},
)


@given(st.lists(rows | json, max_size=3), st.text(max_size=5))
def test_no_submission_breaks_a_webhook_or_a_prediction(results: list[Any], project: str) -> None:
    phrases = Phrases(Database(None))
    phrases.learn(project, CONFIG, results)
    assert looked_for(phrases.apply(project, PLAN)).keys() == OWN.keys()


# ---- the file ----------------------------------------------------------------------------------------------------


def test_a_file_outlives_the_process_and_nothing_does_without(tmp_path: Path) -> None:
    for file in (tmp_path / "store.sqlite3", None):
        database = Database(file)
        Phrases(database).learn("1", CONFIG, [text("pickup")])
        assert looked_for(Phrases(database).apply("1", PLAN))["car"] == ("pickup",)
        database.close()
        again = Phrases(Database(file))
        assert looked_for(again.apply("1", PLAN))["car"] == (("pickup",) if file else ("vehicle",))


def test_two_users_of_a_file_see_each_others_words(tmp_path: Path) -> None:
    one, other = (Phrases(Database(tmp_path / "store")) for _ in range(2))
    one.learn("1", CONFIG, [text("pickup")])
    assert looked_for(other.apply("1", PLAN))["car"] == ("pickup",)
    other.learn("1", CONFIG, [text("estate")])
    assert looked_for(one.apply("1", PLAN))["car"] == ("estate",)


def test_threads_share_one_store(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    phrases = Phrases(Database(tmp_path / "store"))

    def submit(number: int) -> tuple[str, ...]:
        phrases.learn(str(number), CONFIG, [text(f"car {number}")])
        return looked_for(phrases.apply(str(number), PLAN))["car"]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(submit, range(64))) == [(f"car {number}",) for number in range(64)]
    assert "not remembered" not in caplog.text


def test_a_store_that_breaks_later_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "store"
    phrases = Phrases(Database(file))
    with sqlite3.connect(file) as database:
        database.execute("DROP TABLE label_phrases")
    phrases.learn("1", CONFIG, [text("pickup")])
    assert phrases.apply("1", PLAN) is PLAN
    assert "what was typed is not remembered" in caplog.text
    assert "remembered phrases are not used" in caplog.text


def test_the_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAM3_STORE", "")
    assert load_settings(BackendSettings).store is None
    monkeypatch.setenv("SAM3_STORE", str(tmp_path / "store"))
    assert load_settings(BackendSettings).store == tmp_path / "store"


# ---- through the door --------------------------------------------------------------------------------------------

MEMORY = """
<View>
  <Image name="image" value="$image"/>
  <PolygonLabels name="outline" toName="image"><Label value="thing" prompt="no such thing"/></PolygonLabels>
  <TextArea name="prompt" toName="image" remember_prompt="true"/>
</View>
"""


def submitted(action: str, annotation: object, project: int = 1) -> dict[str, Any]:
    """A webhook as Label Studio 1.23 sends it."""
    return {
        "action": action,
        "annotation": annotation,
        "task": {"id": 1, "data": {}},
        "project": {"id": project, "title": "x", "label_config": MEMORY},
    }


@pytest.mark.parametrize(
    ("action", "several", "cancelled", "project", "learnt"),
    [
        ("ANNOTATION_CREATED", False, False, 1, True),
        ("ANNOTATION_UPDATED", False, False, 1, True),
        ("ANNOTATIONS_CREATED", True, False, 1, True),
        ("ANNOTATION_CREATED", False, True, 1, False),
        ("ANNOTATIONS_CREATED", True, True, 1, False),
        ("ANNOTATION_CREATED", False, False, 2, False),
    ],
)
def test_a_submitted_phrase_finds_more_in_the_next_batch(
    client: FlaskClient,
    oracle: SceneSegmenter,
    scenes: list[Scene],
    action: str,
    several: bool,
    cancelled: bool,
    project: int,
    learnt: bool,
) -> None:
    body = predict_body([{"id": 1, "data": {"image": data_url(oracle.add(scenes[0]))}}], MEMORY)

    def found() -> int:
        (prediction,) = client.post("/predict", json=body).json["results"]
        return len({region["id"] for region in prediction["result"]})

    assert found() == 0
    annotation = {"id": 3, "was_cancelled": cancelled, "result": [keypoint(1, 1), text("object")]}
    webhook = submitted(action, [annotation] if several else annotation, project)
    assert client.post("/webhook", json=webhook).status_code == 201
    assert found() == (len(scenes[0].objects) if learnt else 0)
