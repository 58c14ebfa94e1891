"""What each path of the loopback CVAT server answers (paths and fields of cvat-sdk 2.80)."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

from annotation_rules import Refused, check_annotations
from cvat_store import CvatStore, Job, Task
from PIL import ExifTags, Image

_JSON = "application/vnd.cvat+json"


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    content_type: str = _JSON
    logs_in: bool = False  # sets the cookies of a session


@dataclass(frozen=True)
class Call:
    store: CvatStore
    parts: tuple[str, ...]  # what the path's pattern caught
    query: Mapping[str, str]
    body: Any

    @property
    def task(self) -> Task:
        """The task that the path names, or the one of the job that it names."""
        number = int(self.parts[0])
        task: Task = _known(self.store.tasks, self.store.jobs[number].task if number in self.store.jobs else number)
        return task


class _NotFound(Exception):
    pass


def answer(store: CvatStore, method: str, path: str, query: Mapping[str, str], body: Any) -> Answer:
    """What CVAT would answer; 404 for what it does not have, 400 for what it refuses."""
    for verb, pattern, route in _ROUTES:
        match = re.fullmatch(pattern, path)
        if not match or verb != method:
            continue
        try:
            with store.lock:
                result = route(Call(store, match.groups(), query, body))
        except _NotFound:
            break
        except Refused as refusal:
            return Answer(400, json.dumps([str(refusal)]).encode())
        return result if isinstance(result, Answer) else Answer(200, json.dumps(result).encode())
    return Answer(404, b'{"detail": "Not found."}')


def _known(things: Mapping[Any, Any], key: Any) -> Any:
    if key not in things:
        raise _NotFound
    return things[key]


def _page(results: list[Any]) -> dict[str, Any]:
    return {"count": len(results), "next": None, "previous": None, "results": results}


def _about(call: Call) -> dict[str, str]:
    return {"name": "CVAT", "description": "stand-in", "version": "2.80.0", "logo_url": "", "subtitle": ""}


def _login(call: Call) -> Answer:
    if not (call.body or {}).get("password"):
        raise Refused("Unable to log in with provided credentials.")
    return Answer(200, b'{"key": "of-the-twin"}', logs_in=True)


def _user(call: Call) -> dict[str, Any]:
    return {"id": 1, "username": "admin", "first_name": "", "last_name": "", "url": "http://localhost/api/users/1"}


def _task(call: Call) -> dict[str, Any]:
    task = call.task
    return {
        "id": int(call.parts[0]),
        "name": "a task",
        "url": "http://localhost/api/tasks/1",
        "project_id": task.project,
        "mode": "annotation",
        "status": "annotation",
        "dimension": "2d",
        "media_type": "image",
        "subset": "",
        "size": len(task.images),
        "data": 1,
        "data_chunk_size": task.chunk_size,
        "data_original_chunk_type": "imageset",
        "data_compressed_chunk_type": "imageset",
        "organization": None,
        "organization_id": None,
        "created_date": "2026-01-01T00:00:00.000000Z",
        "updated_date": task.updated.isoformat(),
        "jobs": {"count": 1, "completed": 0, "validation": 0, "url": ""},
        "labels": {"url": ""},
    }


def _project(call: Call) -> dict[str, Any]:
    _known(call.store.projects, int(call.parts[0]))
    return {
        "id": int(call.parts[0]),
        "name": "a project",
        "organization": None,
        "organization_id": None,
        "labels": {"url": ""},
        "tasks": {"count": 0, "url": ""},
    }


def _labels(call: Call) -> dict[str, Any]:
    if "project_id" in call.query:
        return _page(_known(call.store.projects, int(call.query["project_id"])))
    owner = call.query.get("task_id") or call.query.get("job_id")
    return _page([]) if owner is None else _page(task_labels(call.store, replace(call, parts=(owner,)).task))


def task_labels(store: CvatStore, task: Task) -> list[dict[str, Any]]:
    """A task inside a project has the project's."""
    return task.labels if task.project is None else store.projects[task.project]


def _meta(call: Call) -> dict[str, Any]:
    """A job's entries begin with its first frame."""
    task = call.task
    job = call.store.jobs.get(int(call.parts[0])) or Job(0, 0, len(task.images) - 1, None)
    frames = []
    for name, encoded in task.images[job.first : job.last + 1]:
        with Image.open(io.BytesIO(encoded)) as picture:
            turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5  # pixels may be cut off
            width, height = picture.size[::-1] if turned else picture.size
        frames.append({"name": name, "width": width, "height": height, "related_files": 0})
    return {
        "chunks_updated_date": "2026-01-01T00:00:00.000000Z",
        "chunk_size": task.chunk_size,
        "size": len(frames),
        "image_quality": 70,
        "start_frame": job.first,
        "stop_frame": job.last,
        "frame_filter": "",
        "frames": frames,
        "deleted_frames": task.deleted,
        "included_frames": job.included and list(job.included),
        "storage": "local",
    }


def _data(call: Call) -> Answer:
    """A frame's bytes, or a chunk: the zip of its frames; originals in both, as CVAT keeps them."""
    images, number = call.task.images, int(call.query["number"])
    if call.query["type"] == "frame":
        if not 0 <= number < len(images):
            raise Refused(f"frame {number} is not in the task")
        return Answer(200, images[number][1], "image/jpeg")
    first = number * call.task.chunk_size
    chunk = images[first : first + call.task.chunk_size]
    if not chunk:
        raise Refused(f"chunk {number} is not in the task")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for place, (name, encoded) in enumerate(chunk):
            archive.writestr(f"{place:06d}{PurePath(name).suffix}", encoded)
    return Answer(200, packed.getvalue(), "application/zip")


def _stored(call: Call) -> dict[str, Any]:
    return {"version": 0, "tracks": [], "intervals": [], **call.task.annotations}


def _replace(call: Call) -> dict[str, Any]:
    items = _checked(call)
    call.task.annotations = {"tags": [], "shapes": []}
    return _append(call, items)


def _patch(call: Call) -> dict[str, Any]:
    action, stored = call.query.get("action"), call.task.annotations
    if action == "create":
        return _append(call, _checked(call))
    items = _checked(call) if action == "update" else call.body
    for kind in ("tags", "shapes"):
        ids = {item["id"] for item in items.get(kind, [])}
        stored[kind] = [item for item in stored[kind] if item["id"] not in ids]
        if action == "update":
            stored[kind] += items[kind]
    call.task.updated = datetime.now(UTC)
    return {"version": 0, "tracks": [], **{kind: items.get(kind, []) for kind in ("tags", "shapes")}}


def _checked(call: Call) -> dict[str, Any]:
    if not isinstance(call.body, dict):
        raise Refused("annotations are a JSON object")
    labels = task_labels(call.store, call.task)
    attributes = {label["id"]: [attribute["id"] for attribute in label["attributes"]] for label in labels}
    check_annotations(call.body, attributes, len(call.task.images))
    return call.body


def _append(call: Call, items: dict[str, Any]) -> dict[str, Any]:
    added = {
        kind: [{"attributes": [], "group": 0, **item, "id": call.store.new_id()} for item in items.get(kind, [])]
        for kind in ("tags", "shapes")
    }
    for kind, new in added.items():
        call.task.annotations[kind] += new
    call.task.updated = datetime.now(UTC)
    return {"version": 0, "tracks": [], **added}


def _remove(call: Call) -> Answer:
    call.task.annotations = {"tags": [], "shapes": []}
    call.task.updated = datetime.now(UTC)
    return Answer(204, b"")


def _create_function(call: Call) -> dict[str, Any]:
    """Labels get the type any, interactors the fields that they left out, as CVAT fills them in."""
    fields = dict(call.body)
    if fields["kind"] == "detector":
        fields["labels_v2"] = [{"type": "any", "sublabels": [], **label} for label in fields["labels_v2"]]
    elif fields["kind"] == "interactor":
        fields = {"min_neg_points": -1, "startswith_box": False, "startswith_box_optional": False, **fields}
    function = {"id": call.store.new_id(), **fields}
    call.store.functions[function["id"]] = function
    return function


def _function(call: Call) -> dict[str, Any]:
    function: dict[str, Any] = _known(call.store.functions, int(call.parts[0]))
    return function


def _delete_function(call: Call) -> Answer:
    _function(call)
    del call.store.functions[int(call.parts[0])]
    return Answer(204, b"")


def _acquire(call: Call) -> dict[str, Any]:
    _function(call)
    for key, request in call.store.agent_requests.items():
        wanted = (int(call.parts[0]), call.body["request_category"], "queued")
        if (request.function, request.category, request.state) == wanted:
            request.state = "acquired"
            return {"ar_assignment": {"ar_id": key, "ar_params": request.params}}
    return {"ar_assignment": None}


def _progress(call: Call) -> dict[str, Any]:
    """complete: annotations are checked as those of an upload, and stored for a batch."""
    request = _known(call.store.agent_requests, call.parts[1])
    step = call.parts[2]
    if step == "update":
        return {}
    if step == "complete" and "annotations" in call.body:
        of_task = Call(call.store, (str(request.params["task"]),), {}, call.body["annotations"])
        checked = _checked(of_task)
        if request.category == "batch":
            _append(of_task, checked)
    request.state = {"complete": "completed", "fail": "failed"}[step]
    request.result = {name: value for name, value in call.body.items() if name != "agent_id"}
    return {}


_OF_JOBS: Mapping[str, Any] = {
    "type": "annotation",
    "organization": None,
    "organization_id": None,
    "issues": {"url": "", "count": 0},
    "labels": {"url": ""},
}


def _job(call: Call) -> dict[str, Any]:
    number = int(call.parts[0])
    job: Job = _known(call.store.jobs, number)
    return {"id": number, "task_id": job.task, "start_frame": job.first, "stop_frame": job.last, **_OF_JOBS}


_TASK, _JOB, _QUEUE = r"/api/(?:tasks|jobs)/(\d+)", r"/api/jobs/(\d+)", r"/api/functions/queues/function:(\d+)"
_ROUTES: tuple[tuple[str, str, Callable[[Call], Any]], ...] = (
    ("GET", "/api/server/about", _about),
    ("POST", "/api/auth/login", _login),
    ("POST", "/api/auth/logout", lambda call: {"detail": "Successfully logged out."}),
    ("GET", "/api/users/self", _user),
    ("GET", _JOB, _job),
    ("GET", _TASK, _task),
    ("GET", _TASK + "/data/meta", _meta),
    ("GET", _TASK + "/data/?", _data),
    ("GET", _TASK + "/annotations/", _stored),
    ("PUT", _TASK + "/annotations/", _replace),
    ("PATCH", _TASK + "/annotations/", _patch),
    ("DELETE", _TASK + "/annotations/", _remove),
    ("GET", "/api/labels", _labels),
    ("GET", r"/api/projects/(\d+)", _project),
    ("POST", "/api/functions", _create_function),
    ("GET", r"/api/functions/(\d+)", _function),
    ("DELETE", r"/api/functions/(\d+)", _delete_function),
    ("POST", _QUEUE + "/requests/acquire", _acquire),
    ("POST", _QUEUE + r"/requests/([^/]+)/(complete|fail|update)", _progress),
)
