"""Batches for which the request's time does not last: a real Label Studio ends with one prediction for each task."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from ground_truth import LABELS, Tally
from projects import Backend, Project, config_of

from sam3_core.demo.scenes import render_scene
from sam3_prelabel.demo.backend import BackendServer
from sam3_prelabel.demo.client import LabelStudioClient
from sam3_prelabel.demo.label_studio import LabelStudioServer
from sam3_prelabel.demo.regions import read_regions

pytestmark = pytest.mark.e2e

NewProject = Callable[[str], Project]
SCENES = [render_scene(seed, objects=(2, 4), size=(320, 240)) for seed in range(700, 712)]


@pytest.fixture(scope="module")
def hasty(label_studio: LabelStudioServer, token: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A backend whose requests have to be answered before all twelve images can be done."""
    log = tmp_path_factory.mktemp("hasty") / "backend.log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAM3_REQUEST_SECONDS", "0.6")
        with BackendServer(label_studio.url, token, log=log) as server:
            yield Backend(server.url, server.log)


@pytest.fixture
def tasks(client: LabelStudioClient, new_project: NewProject, hasty: Backend) -> tuple[Project, list[int]]:
    """A connected project and its tasks, one for each scene."""
    project = new_project(config_of("BrushLabels", LABELS))
    files = {f"scene-{number}.jpg": scene.encode() for number, scene in enumerate(SCENES)}
    uploaded = client.upload(project.id, files)
    client.connect(project.id, hasty.url)
    return project, uploaded


def settled(client: LabelStudioClient, project: Project, count: int, log: Callable[[], str]) -> dict[int, int]:
    """How many predictions each task has, once all have one and some seconds more brought no other."""
    end = time.monotonic() + 90
    while len(client.predictions(project.id)) < count:
        assert time.monotonic() < end, log()
        time.sleep(0.5)
    time.sleep(4)
    return {task: len(stored) for task, stored in client.predictions(project.id).items()}


def test_every_task_gets_its_prediction_though_the_time_does_not_last(
    client: LabelStudioClient, hasty: Backend, tasks: tuple[Project, list[int]]
) -> None:
    project, numbers = tasks
    client.retrieve_predictions(project.id)
    assert settled(client, project, len(numbers), hasty.log) == dict.fromkeys(numbers, 1)
    assert "they are stored through Label Studio's API" in hasty.log()
    tally = Tally()
    for task, scene in zip(numbers, SCENES, strict=True):
        (prediction,) = client.predictions(project.id)[task]
        assert prediction["project"] == project.id
        tally.add(scene, read_regions(prediction["result"]))
    tally.check()
    for task in numbers[:2]:  # nothing is asked for again
        assert len(client.open_task(task)["predictions"]) == 1


def test_pressing_twice_at_once_doubles_nothing(
    client: LabelStudioClient, hasty: Backend, tasks: tuple[Project, list[int]]
) -> None:
    project, numbers = tasks
    before = hasty.counter("sam3_instances_total")
    presses = [threading.Thread(target=client.retrieve_predictions, args=(project.id,)) for _ in range(2)]
    for press in presses:
        press.start()
    for press in presses:
        press.join(120)
    assert settled(client, project, len(numbers), hasty.log) == dict.fromkeys(numbers, 1)
    stored = sum(len(prediction["result"]) for (prediction,) in client.predictions(project.id).values())
    assert hasty.counter("sam3_instances_total") - before == stored  # each was searched once
