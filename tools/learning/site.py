"""A Label Studio, backends that learn, and a project between the two, as a team would set them up."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from sam3_core.errors import Sam3Error
from sam3_prelabel.demo.backend import BackendServer
from sam3_prelabel.demo.client import LabelStudioClient
from sam3_prelabel.demo.process import direct_session
from tools.learning.marking import Marks, mark
from tools.learning.world import Sample

Json = dict[str, Any]

STORE = "store.sqlite"
_UPLOAD, _ASKED = 50, 20  # files and tasks in a request
_POLL = 0.5  # seconds
_QUIET = 2.0  # seconds without work after which a teacher has nothing to do


class ProofFailed(Sam3Error):
    """What is to be measured does not happen; the sentence says what."""


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables for what is started inside."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def learning_backend(
    label_studio: str, token: str, folder: Path, learn: str, more: Mapping[str, str] | None = None
) -> Iterator[BackendServer]:
    """A backend whose store and adapters lie in the folder. learn: as SAM3_LEARN. more: other settings of it."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {
        "SAM3_STORE": str(folder / STORE),
        "SAM3_ADAPTERS": str(folder / "adapters"),
        "SAM3_LEARN": learn,
    }
    with environment(own | dict(more or {})):
        server = BackendServer(label_studio, token, log=folder / "backend.log")
    with server:
        yield server


@dataclass(frozen=True)
class Team:
    """A project of a Label Studio, connected to a backend: its id, the backend's id there, and its tasks in order."""

    client: LabelStudioClient
    backend: str
    project: int
    connection: int
    config: str
    tasks: tuple[int, ...]

    @classmethod
    def gather(
        cls, client: LabelStudioClient, backend: str, title: str, config: str, samples: Sequence[Sample]
    ) -> Team:
        """A new project with a task for each sample, connected."""
        project = client.create_project(title, config)
        tasks: list[int] = []
        for start in range(0, len(samples), _UPLOAD):
            some = samples[start : start + _UPLOAD]
            tasks += client.upload(project, {sample.name: sample.image for sample in some})
        connection = int(client.connect(project, backend)["id"])
        return cls(client, backend, project, connection, config, tuple(tasks))

    def predicted(self, tasks: Sequence[int]) -> list[Json]:
        """The newest stored prediction of each of these tasks, retrieved anew as the Data Manager does."""
        self.client.retrieve_predictions(self.project, tasks)
        stored = self.client.predictions(self.project)
        return [max(stored[task], key=lambda one: int(one["id"])) for task in tasks]

    def places(self, tasks: Sequence[int]) -> dict[int, str]:
        """Where the pictures of these tasks are, as the tasks say."""
        every = self.client.sdk.tasks.list(project=self.project, fields="task_only")
        known = {int(task.id): str(task.data["image"]) for task in every}
        return {task: known[task] for task in tasks}

    def start_training(self) -> None:
        """The button of the project's settings."""
        self.client.call("POST", f"/api/ml/{self.connection}/train", json={})

    def version(self) -> str:
        """The connection's model version as Label Studio shows it, asked anew."""
        return str(self.client.backends(self.project)[0]["model_version"])


def ask(team: Team, places: Mapping[int, str], config: str | None = None) -> tuple[str, list[list[Json]]]:
    """Ask the backend itself, as Label Studio does, about tasks: by id, the address of the picture.

    config: another labeling config than the project's. Returns the model version and each task's regions. Raises
    ProofFailed where the versions differ.
    """
    answers: list[Json] = []
    tasks = [{"id": task, "data": {"image": place}} for task, place in places.items()]
    with direct_session() as session:
        for start in range(0, len(tasks), _ASKED):
            some = tasks[start : start + _ASKED]
            body = {"tasks": some, "project": f"{team.project}.1700000000", "label_config": config or team.config}
            answer = session.post(f"{team.backend}/predict", json=body | {"params": {"context": None}}, timeout=150)
            answer.raise_for_status()
            answers += answer.json()["results"]
    versions = {str(one["model_version"]) for one in answers}
    if len(versions) != 1:
        raise ProofFailed(f"one measurement was answered by several versions: {sorted(versions)}")
    return versions.pop(), [one["result"] for one in answers]


def measure(
    team: Team, samples: Sequence[Sample], places: Mapping[int, str], config: str | None = None
) -> tuple[str, Marks]:
    """The model version that serves now, and how right it is on these samples, at these places in their order."""
    version, results = ask(team, places, config)
    return version, mark(samples, results)


def standing(backend: str, project: int) -> Json:
    """What the backend's status says of a project's learning; empty when it has nothing to say."""
    with direct_session() as session:
        answer = session.get(f"{backend}/status.json", timeout=30)
    answer.raise_for_status()
    told: list[Json] = answer.json().get("learning", [])
    return next((one for one in told if str(one["project"]) == str(project)), {})


def wait_taught(backend: str, project: int, *, reviewed: int, after: float = 0.0, seconds: float) -> Json:
    """Wait until so many reviews have arrived and nothing is learned any more; how the project stands then.

    after: a learning has to have begun or ended since then, seconds since 1970 (``since`` of the status); 0 for any.
    Raises ProofFailed after so many seconds.
    """
    deadline = time.monotonic() + seconds
    quiet_since = time.monotonic()
    while True:
        try:
            told = standing(backend, project)
        except requests.RequestException as error:
            raise ProofFailed(f"the backend does not tell how its learning stands: {error}") from None
        now = time.monotonic()
        arrived = told.get("reviewed", 0) >= reviewed and (not after or told["since"] > after)
        if not arrived or told.get("state", "idle") != "idle":
            quiet_since = now
        if now - quiet_since >= _QUIET:
            return told
        if now > deadline:
            raise ProofFailed(f"project {project} was not taught within {seconds:.0f} s: {told}")
        time.sleep(_POLL)
