"""The teacher with real weights: reviews come in by webhook, and the next prediction is better."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from request_bodies import data_url, predict_body

from backend.app import EXTENSION, create_app
from backend.learning.teacher import Teacher
from backend.settings import BackendSettings
from sam3_core.demo.scenes import Scene
from sam3_core.engine import LocalSegmenter
from sam3_core.errors import Busy

CONFIG = """<View><Image name="image" value="$image"/><PolygonLabels name="out" toName="image">
<Label value="Star" prompt="star" threshold="0.97"/><Label value="Circle" prompt="circle"/></PolygonLabels></View>"""
REVIEWED, UNSEEN = range(700, 720), range(740, 748)

Render = Callable[..., Scene]


def scene_of(render: Render, seed: int) -> Scene:
    return render(seed, objects=(3, 5), size=(160, 120))


def regions(scene: Scene) -> list[dict[str, Any]]:
    """What a reviewer leaves who knows the truth."""
    found = []
    for number, thing in enumerate(scene.objects):
        label = {"star": "Star", "circle": "Circle"}.get(thing.shape)
        if label is None:
            continue
        contours, _ = cv2.findContours(thing.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        ring = max(contours, key=cv2.contourArea)[:, 0] + 0.5
        points = (ring / (scene.width, scene.height) * 100).tolist()
        found.append(
            {
                "id": f"r{number}",
                "from_name": "out",
                "to_name": "image",
                "type": "polygonlabels",
                "origin": "manual",
                "original_width": scene.width,
                "original_height": scene.height,
                "value": {"points": points, "closed": True, "polygonlabels": [label]},
            }
        )
    return found


def submitted(scene: Scene, task: int, project: int) -> dict[str, Any]:
    second = f"2026-11-22T03:00:{task % 60:02d}.000000Z"
    annotation = {"id": task, "task": task, "result": regions(scene), "was_cancelled": False, "updated_at": second}
    return {
        "action": "ANNOTATION_CREATED",
        "annotation": annotation,
        "task": {"id": task, "data": {"image": data_url(scene.encode())}},
        "project": {"id": project, "title": "shapes", "label_config": CONFIG, "model_version": "SAM 3"},
    }


def wait_until(done: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)
    return found


class Class:
    """A server whose project 1 was reviewed, and taught once."""

    def __init__(self, app: Flask, render: Render) -> None:
        self.app, self.render, self.numbers = app, render, count(1)
        self.client: FlaskClient = app.test_client()
        self.teacher: Teacher = app.extensions[EXTENSION].teacher
        self.base, self.before = self.setup("1"), 0

    def learning(self, project: str = "1") -> dict[str, Any]:
        listed = self.client.get("/status.json").json["learning"]
        return next((one for one in listed if one["project"] == project), {})

    def send(self, body: dict[str, Any]) -> None:
        answer = self.client.post("/webhook", json=body)
        assert answer.status_code == 201

    def settled(self) -> bool:
        return not self.teacher.waiting() and self.learning().get("state") == "idle"

    def setup(self, project: str) -> str:
        body = {"project": f"{project}.1", "schema": CONFIG, "hostname": "http://ls:80", "extra_params": None}
        version: str = self.client.post("/setup", json=body).json["model_version"]
        return version

    def predict(self, seeds: range, project: str = "1", *, new: bool = True, **params: Any) -> list[dict[str, Any]]:
        """new: as tasks that were never asked for; a batch that was answered just now would not be again."""
        first = next(self.numbers) * 1000 if new else 0
        tasks = [
            {"id": first + seed, "data": {"image": data_url(scene_of(self.render, seed).encode())}} for seed in seeds
        ]
        body = predict_body(tasks, CONFIG) | {"project": f"{project}.1"}
        body["params"] |= params
        found: list[dict[str, Any]] = self.client.post("/predict", json=body).json["results"]
        return found

    def stars_found(self, seeds: range, project: str = "1", **params: Any) -> int:
        predicted = self.predict(seeds, project, **params)
        return sum(r["value"]["polygonlabels"] == ["Star"] for one in predicted for r in one["result"])


@pytest.fixture(scope="module")
def taught(segmenter: LocalSegmenter, scene: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Class]:
    store = tmp_path_factory.mktemp("teacher") / "store.db"
    server = Class(create_app(BackendSettings(store=store, learn_after=15), segmenter), scene)
    server.before = server.stars_found(UNSEEN)
    server.predict(REVIEWED, new=False)
    for seed in REVIEWED:
        server.send(submitted(scene_of(scene, seed), seed, 1))
    wait_until(lambda: server.learning().get("version", server.base) != server.base)
    wait_until(server.settled)
    yield server
    server.teacher.end()
    server.teacher.wait(10)


def stars(render: Render, seeds: range) -> int:
    return sum(thing.shape == "star" for seed in seeds for thing in scene_of(render, seed).objects)


def test_the_next_prediction_is_better(taught: Class, scene: Render) -> None:
    after, there = taught.stars_found(UNSEEN), stars(scene, UNSEEN)
    assert taught.before < 0.5 * there
    assert 0.7 * there <= after <= 1.4 * there


def test_the_new_version_is_everywhere_the_same(taught: Class) -> None:
    version = taught.learning()["version"]
    assert version == f"{taught.base}+1.1"
    assert taught.setup("1") == version
    predicted = taught.predict(UNSEEN)
    assert {one["model_version"] for one in predicted} == {version}
    assert all(version in region["meta"]["text"] for one in predicted for region in one["result"])
    assert taught.client.get("/versions").json["versions"] == [version, taught.base]


def test_other_projects_are_as_they_were(taught: Class) -> None:
    assert taught.setup("2") == taught.base
    assert taught.stars_found(UNSEEN, project="2") == taught.before


def test_the_request_wins_over_what_was_learned(taught: Class) -> None:
    assert taught.stars_found(UNSEEN, threshold=0.97) == taught.before


def test_the_evidence_says_why(taught: Class) -> None:
    (version,) = taught.teacher.versions.of("1")
    evidence = version.evidence
    star = evidence["labels"]["Star"]
    assert evidence["total"]["promoted"]
    assert evidence["total"]["low"] > 0
    assert star["threshold"][0] == 0.97
    assert 0.05 < star["threshold"][1] < 0.97
    assert star["after"]["f1"] > star["before"]["f1"] + 0.3
    assert evidence["tasks"] <= len(REVIEWED)
    assert json.dumps(evidence)


def test_reviews_know_what_became_of_each_instance(taught: Class, scene: Render) -> None:
    reviews = {review.task: review for review in taught.teacher.reviews.of("1")}
    assert len(reviews) == sum(bool(regions(scene_of(scene, seed))) for seed in REVIEWED)
    verdicts = [outcome.verdict.value for review in reviews.values() for outcome in review.outcomes]
    assert verdicts.count("missed") > 3, "stars under the wrong threshold"
    assert verdicts.count("accepted") + verdicts.count("edited") > 3, "circles"
    assert {review.version for review in reviews.values()} == {taught.base}


def test_choosing_an_older_version_in_label_studio_goes_back(taught: Class) -> None:
    project = {"id": 1, "title": "shapes", "label_config": CONFIG}
    newest = taught.learning()["version"]

    def choose(name: str) -> None:
        taught.send({"action": "PROJECT_UPDATED", "project": project | {"model_version": name}})
        wait_until(lambda: not taught.teacher.waiting())

    choose(taught.base)
    assert taught.setup("1") == taught.base
    assert taught.stars_found(UNSEEN) == taught.before
    assert taught.learning()["chosen_by"] == "person"
    choose("SAM 3")
    assert taught.setup("1") == newest
    assert taught.learning()["chosen_by"] == "teacher"
    choose(newest)
    choose("SAM 3")
    assert taught.setup("1") == newest


def test_start_training_without_anything_to_learn_from_says_so(taught: Class) -> None:
    taught.send({"action": "START_TRAINING", "project": {"id": 9, "title": "new", "label_config": CONFIG}})
    said = wait_until(lambda: taught.learning("9").get("sentence"))
    assert "0 tasks are reviewed" in said
    assert taught.setup("9") == taught.base


def test_start_training_learns_from_what_is_known_where_label_studio_cannot_be_read(
    segmenter: LocalSegmenter, scene: Render
) -> None:
    settings = BackendSettings(
        learn="thresholds", learn_after=2, label_studio_url="http://127.0.0.1:9", label_studio_api_key="k" * 40
    )
    server = Class(create_app(settings, segmenter), scene)
    for seed in REVIEWED[:6]:
        server.send(submitted(scene_of(scene, seed), seed, 1))
    wait_until(lambda: not server.teacher.waiting())
    server.send({"action": "START_TRAINING", "project": {"id": 1, "title": "s", "label_config": CONFIG}})
    said = wait_until(lambda: "read anew" in server.learning()["sentence"] and server.learning()["sentence"])
    assert "F1" in said or "better" in said
    server.teacher.end()
    server.teacher.wait(10)


class Shy:
    """Stands for a model with a full line; everything else is the real one's."""

    def __init__(self, segmenter: LocalSegmenter) -> None:
        self._segmenter, self.busy = segmenter, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._segmenter, name)

    def find(self, *args: Any, **more: Any) -> Any:
        if self.busy:
            raise Busy("the line is full")
        return self._segmenter.find(*args, **more)


def test_a_model_without_time_puts_the_learning_off(segmenter: LocalSegmenter, scene: Render) -> None:
    shy = Shy(segmenter)
    server = Class(create_app(BackendSettings(learn="thresholds", learn_after=2), shy), scene)
    for seed in REVIEWED[:6]:
        server.send(submitted(scene_of(scene, seed), seed, 1))
    wait_until(lambda: "put off: the line is full" in server.learning().get("sentence", ""))
    assert server.learning()["fresh"] >= 2, "nothing that was reviewed is lost"
    shy.busy = False
    wait_until(lambda: not server.teacher.waiting() and "F1" in server.learning()["sentence"])
    assert server.learning()["fresh"] < 2
    server.teacher.end()
    server.teacher.wait(10)


def test_events_that_cannot_be_read_do_not_hold_up_the_others(taught: Class, scene: Render) -> None:
    seed = UNSEEN[0]
    for odd in ({"result": 3}, {"result": [{"value": {"points": "x"}}]}, {"updated_at": {"x": 1}}):
        body = submitted(scene_of(scene, seed), seed, 3)
        body["annotation"] |= odd
        taught.client.post("/webhook", json=body)
    taught.send(submitted(scene_of(scene, seed + 1), seed + 1, 3))
    wait_until(lambda: not taught.teacher.waiting())
    assert taught.teacher.reviews.review("3", str(seed + 1)) is not None


def test_what_a_dead_server_left_in_the_inbox_is_read_by_the_next(
    segmenter: LocalSegmenter, scene: Render, tmp_path: Path
) -> None:
    settings = BackendSettings(store=tmp_path / "store.db")
    first = Class(create_app(settings, segmenter), scene)
    first.teacher.end()
    first.teacher.wait(10)
    first.send(submitted(scene_of(scene, 700), 700, 1))
    assert first.teacher.waiting() == 1
    second = Class(create_app(settings, segmenter), scene)
    wait_until(lambda: second.teacher.reviews.review("1", "700"))
    second.teacher.end()
    second.teacher.wait(10)


def test_learning_that_is_off_only_remembers(segmenter: LocalSegmenter, scene: Render) -> None:
    server = Class(create_app(BackendSettings(learn="off", learn_after=2), segmenter), scene)
    base = server.setup("1")
    for seed in REVIEWED[:6]:
        server.send(submitted(scene_of(scene, seed), seed, 1))
    wait_until(lambda: not server.teacher.waiting())
    assert server.learning()["reviewed"] > 2
    assert server.learning()["version"] == base
    assert server.teacher.versions.of("1") == []
    server.teacher.end()
    server.teacher.wait(10)
