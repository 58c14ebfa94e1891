"""A reviewed project without a real Label Studio: a stand-in has its pictures, its people's requests come from here.

For what is measured about the backend alone. Bodies have the keys of Label Studio 1.23.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sam3_prelabel.demo.process import direct_session
from tools.chaos.stand_in import TOKEN, LabelStudio
from tools.learning import project
from tools.learning.reviewer import work_on
from tools.learning.world import Sample

Json = dict[str, Any]

PROJECT = 1
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_LONG = 150.0  # seconds


def upload(site: LabelStudio, name: str, data: bytes) -> str:
    """Have the stand-in serve a file; its address as it stands in a task."""
    site.odd[name] = data
    return f"/data/upload/1/{name}"


class Events:
    """What a Label Studio would send a backend for these pictures; task numbers begin with 1."""

    def __init__(self, site: LabelStudio, backend: str, samples: Sequence[Sample]) -> None:
        self._site = site
        self._backend = backend
        self._samples = samples
        self._places = [upload(site, sample.name, sample.image) for sample in samples]

    def introduce(self) -> None:
        """As Label Studio does when a backend is connected."""
        where = {"hostname": self._site.url, "access_token": TOKEN}
        self._post("/setup", where | {"project": f"{PROJECT}.1700000000", "schema": project.config()})

    def predict(self, number: int) -> Json:
        """The prediction of one task, as Label Studio would store it."""
        body = {"tasks": [self._task(number)], "project": f"{PROJECT}.1700000000", "label_config": project.config()}
        found: Json = self._post("/predict", body | {"params": {"context": None}})["results"][0]
        return found | {"id": 1000 + number, "task": number}

    def review(self, number: int, *, again: int = 0) -> None:
        """A person goes over the prediction of one task and submits. again: how often it was submitted before."""
        prediction = self.predict(number)
        work = work_on(self._samples[number - 1], prediction["result"], random.Random(number))
        at = (_BEGIN + timedelta(minutes=number, days=again)).isoformat().replace("+00:00", "Z")
        annotation = {
            "id": 2000 + number, "result": work.result, "was_cancelled": False, "ground_truth": False,
            "lead_time": work.seconds + again, "prediction": prediction, "result_count": len(work.result),
            "task": number, "project": PROJECT, "completed_by": 1, "parent_prediction": prediction["id"],
            "parent_annotation": None, "created_at": at, "updated_at": at,
        }  # fmt: skip
        task = self._task(number) | {"is_labeled": True, "total_annotations": 1, "project": PROJECT}
        told = {"id": PROJECT, "title": "Proof", "label_config": project.config(), "model_version": "sam3-prelabel"}
        action = "ANNOTATION_UPDATED" if again else "ANNOTATION_CREATED"
        self._post("/webhook", {"action": action, "annotation": annotation, "task": task, "project": told})

    def version(self) -> str:
        """The model version that answers a prediction now."""
        return str(self.predict(1)["model_version"])

    def status(self) -> Json:
        """What the backend's status says of the project's learning; empty when it has nothing to say."""
        with direct_session() as session:
            told: list[Json] = session.get(f"{self._backend}/status.json", timeout=30).json()["learning"]
        return next((one for one in told if one["project"] == str(PROJECT)), {})

    def _task(self, number: int) -> Json:
        return {"id": number, "data": {"image": self._places[number - 1]}}

    def _post(self, path: str, body: Json) -> Any:
        with direct_session() as session:
            answer = session.post(self._backend + path, json=body, timeout=_LONG)
        answer.raise_for_status()
        return answer.json()
