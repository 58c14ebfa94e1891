"""Stands for a Label Studio 1.23 that stores predictions: ``/api/predictions/``, and its troubles."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from label_studio_stand_in import Answer, StandIn, served

_PATH = "/api/predictions/"


class PredictionsStandIn(StandIn):
    """stored: what was posted, in order, with what was there before. trouble: asked before each call of the
    predictions' API with its method and task; what it answers is sent instead, where it is not None.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stored: list[dict[str, Any]] = []
        self.trouble: Callable[[str, int], Answer | None] = lambda method, task: None
        self._lock = threading.Lock()

    def versions(self, task: int) -> list[str]:
        """Of a task's predictions, in order."""
        with self._lock:
            return [prediction["model_version"] for prediction in self.stored if prediction["task"] == task]

    def tasks(self) -> list[int]:
        """Those that have predictions, sorted; one with two stands twice."""
        with self._lock:
            return sorted(prediction["task"] for prediction in self.stored)

    def answer(self, path: str, header: str | None) -> Answer:
        parts = urlsplit(path)
        if parts.path != _PATH:
            return super().answer(path, header)
        task = int(parse_qs(parts.query)["task"][0])
        if refusal := self.refusal(header):
            return 401, {}, json.dumps({"detail": refusal}).encode()
        listed = [{"id": 1, "task": task, "result": [], "model_version": version} for version in self.versions(task)]
        return self.trouble("GET", task) or (200, {}, json.dumps(listed).encode())

    def post(self, path: str, header: str | None, body: bytes) -> Answer | None:
        if path != _PATH:
            return super().post(path, header, body)
        if refusal := self.refusal(header):
            return 401, {}, json.dumps({"detail": refusal}).encode()
        prediction = json.loads(body)
        if (answer := self.trouble("POST", prediction["task"])) is not None:
            return answer
        with self._lock:
            self.stored.append(prediction)
        return 201, {}, b"{}"


P = TypeVar("P", bound=PredictionsStandIn)


@contextmanager
def predictions_api(site: P | None = None) -> Iterator[P]:
    """A running one; default a plain one."""
    with served(site or PredictionsStandIn()) as running:
        yield running  # type: ignore[misc]
