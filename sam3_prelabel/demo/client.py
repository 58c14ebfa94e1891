"""What the demo and its tests ask of Label Studio: label-studio-sdk's client, and plain HTTP where it has no call."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping, Sequence
from typing import Any, cast

import httpx
import requests
from label_studio_sdk import LabelStudio

from sam3_prelabel.demo.process import direct_session

Json = dict[str, Any]

_LONG = 150.0  # seconds; Label Studio gives a backend 100


class LabelStudioClient:
    """One user's view of a Label Studio. Raises requests.HTTPError or the SDK's ApiError where it refuses.

    token: a personal access token; the SDK exchanges and refreshes it.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._token = token
        self.sdk = LabelStudio(base_url=url, api_key=token, httpx_client=httpx.Client(trust_env=False, timeout=_LONG))

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """One HTTP request below the server's address; returns the parsed JSON of a 2xx answer.

        Raises requests.HTTPError, with Label Studio's own words, for any other.
        """
        with direct_session() as session:
            # A fresh access token each time: it lives five minutes only.
            session.headers["Authorization"] = f"Bearer {self.sdk.tokens.refresh(refresh=self._token).access}"
            answer = session.request(method, self.url + path, timeout=_LONG, **arguments)
        if not answer.ok:
            raise requests.HTTPError(
                f"Label Studio answered {answer.status_code} to {method} {path}: {answer.text[:500]}", response=answer
            )
        return answer.json() if answer.content else None

    def create_project(self, title: str, label_config: str) -> int:
        """The new project's id."""
        return int(self.sdk.projects.create(title=title, label_config=label_config).id)

    def upload(self, project: int, files: Mapping[str, bytes]) -> list[int]:
        """Upload images by file name, as the Import button does; returns the ids of their tasks, in order."""
        parts = [(name, (name, data, mimetypes.guess_type(name)[0])) for name, data in files.items()]
        answer = self.call("POST", f"/api/projects/{project}/import?return_task_ids=true", files=parts)
        return [int(task) for task in answer["task_ids"]]

    def import_tasks(self, project: int, data: Sequence[Json]) -> list[int]:
        """Import tasks by their data, such as `{"image": "https://..."}`; returns their ids, in order."""
        answer = self.sdk.projects.import_tasks(project, request=list(data), return_task_ids=True)
        return [int(task) for task in answer.task_ids]

    def connect(self, project: int, backend_url: str, title: str = "sam3-prelabel") -> Json:
        """Connect an ML backend to the project, for batches and clicks; returns it as Label Studio describes it."""
        body = {"project": project, "url": backend_url, "title": title, "is_interactive": True}
        return cast(Json, self.call("POST", "/api/ml", json=body))

    def backends(self, project: int) -> list[Json]:
        """The project's ML backends, asked anew for health and setup."""
        return cast(list[Json], self.call("GET", f"/api/ml?project={project}"))

    def retrieve_predictions(self, project: int, tasks: Sequence[int] | None = None) -> None:
        """The Data Manager's "Retrieve predictions", for these tasks or all. Returns when all is stored."""
        chosen = {"all": True, "excluded": []} if tasks is None else {"all": False, "included": list(tasks)}
        path = f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}"
        self.call("POST", path, json={"selectedItems": chosen})

    def predictions(self, project: int) -> dict[int, list[Json]]:
        """All stored predictions of the project by task id, read without calling a backend."""
        stored = cast(list[Json], self.call("GET", f"/api/predictions/?task__project={project}"))
        by_task: dict[int, list[Json]] = {}
        for prediction in stored:
            by_task.setdefault(int(prediction["task"]), []).append(prediction)
        return by_task

    def open_task(self, task: int) -> Json:
        """The task as the editor opens it: with no prediction stored, Label Studio asks the backend for one."""
        return cast(Json, self.call("GET", f"/api/tasks/{task}/"))

    def ask(self, backend: int, task: int, prompts: Sequence[Json]) -> list[Json]:
        """What the editor gets for these prompts, drawn or typed on the task: the regions that it would suggest.

        backend: its id. Raises KeyError when the backend failed, which Label Studio answers with 200.
        """
        body = {"task": task, "context": {"result": list(prompts)}}
        answer = self.call("POST", f"/api/ml/{backend}/interactive-annotating", json=body)
        return cast(list[Json], answer["data"]["result"])

    def annotate(self, task: int, result: Sequence[Json]) -> None:
        """Submit an annotation."""
        self.call("POST", f"/api/tasks/{task}/annotations/", json={"result": list(result)})

    def annotations(self, task: int) -> list[Json]:
        """The task's submitted annotations."""
        return cast(list[Json], self.call("GET", f"/api/tasks/{task}/annotations/"))
