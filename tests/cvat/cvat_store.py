"""What the loopback CVAT server keeps: tasks, projects, functions and the requests to their agents."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass
class Task:
    images: list[tuple[str, bytes]]
    labels: list[dict[str, Any]]
    chunk_size: int
    deleted: list[int]
    project: int | None
    annotations: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {"tags": [], "shapes": []})
    # The SDK keeps frames on disk by server and task until this is newer; ports and ids come again in other runs.
    updated: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Job:
    """Frames first to last of a task, both included; of these only some where included says which."""

    task: int
    first: int
    last: int
    included: tuple[int, ...] | None


@dataclass
class AgentRequest:
    """What a user asked of an agent's function. state: queued, acquired, completed or failed; result: as sent."""

    function: int
    category: str
    params: dict[str, Any]
    state: str = "queued"
    result: Any = None


class CvatStore:
    """Tasks, projects, functions and the requests to their agents."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.tasks: dict[int, Task] = {}
        self.jobs: dict[int, Job] = {}
        self.projects: dict[int, list[dict[str, Any]]] = {}
        self.functions: dict[int, dict[str, Any]] = {}
        self.agent_requests: dict[str, AgentRequest] = {}
        self._ids = itertools.count(101)

    def add_task(
        self,
        images: Sequence[tuple[str, bytes]],
        labels: Sequence[dict[str, Any]],
        *,
        chunk_size: int = 2,
        deleted_frames: Sequence[int] = (),
        project: int | None = None,
    ) -> int:
        """images: name and encoded bytes of each frame.

        labels: ``{"name", "type"?, "attributes"?: [{"name", "input_type", "values"}]}``; their ids are given here.
        """
        with self.lock:
            task = self.new_id()
            filled = self._with_ids(labels, {"task_id": task})
            self.tasks[task] = Task(list(images), filled, chunk_size, list(deleted_frames), project)
            return task

    def add_job(self, task: int, first: int, last: int, included: Sequence[int] | None = None) -> int:
        """included: as ground truth jobs have it."""
        with self.lock:
            job = self.new_id()
            self.jobs[job] = Job(task, first, last, None if included is None else tuple(included))
            return job

    def add_project(self, labels: Sequence[dict[str, Any]]) -> int:
        """labels: as in add_task."""
        with self.lock:
            project = self.new_id()
            self.projects[project] = self._with_ids(labels, {"project_id": project})
            return project

    def annotations(self, task_id: int) -> dict[str, list[dict[str, Any]]]:
        """A copy of what is stored: ``{"tags": [...], "shapes": [...]}``."""
        with self.lock:
            copy: dict[str, list[dict[str, Any]]] = json.loads(json.dumps(self.tasks[task_id].annotations))
            return copy

    def ask_agent(self, function: int, category: str, params: dict[str, Any]) -> str:
        """Queue a request for the function's agent; category: interactive or batch. Returns its id."""
        with self.lock:
            request = f"ar-{self.new_id()}"
            self.agent_requests[request] = AgentRequest(function, category, params)
            return request

    def new_id(self) -> int:
        return next(self._ids)

    def _with_ids(self, labels: Sequence[dict[str, Any]], owner: dict[str, int]) -> list[dict[str, Any]]:
        filled = []
        for label in labels:
            attributes = [
                {"id": self.new_id(), "mutable": False, "default_value": "", "values": [], **attribute}
                for attribute in label.get("attributes", [])
            ]
            common = {"color": "#3d3df5", "type": "any", "sublabels": [], "has_parent": False, "parent_id": None}
            filled.append({"id": self.new_id(), **common, **owner, **label, "attributes": attributes})
        return filled
