"""How everything stands: /ready for probes, /status as a page for people, /status.json the same for machines."""

from __future__ import annotations

import logging
import sqlite3
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import msgspec
from flask import Blueprint, Response, render_template

from backend.checks import check_config
from backend.logs import redacted
from backend.model import Project, Runtime
from backend.pieces import JobInfo
from backend.product import VERSION
from backend.standing import Standing
from sam3_core import ModelState
from sam3_core.load import PassLoad

log = logging.getLogger(__name__)

_MOST_PROJECTS = 50
_LOADING_RETRY = "5"  # seconds


def make_status(runtime: Runtime) -> Blueprint:
    """The routes ``/ready``, ``/status`` and ``/status.json``; guard and counting are the app's."""
    pages = Blueprint("status", __name__)

    @pages.get("/ready")
    def ready() -> Response:
        standing = runtime.informant.standing()
        info = standing.info
        answer = _json(
            {
                "ready": standing.ready,
                "model_state": info.state.value,
                "model_version": info.version,
                "sentence": standing.sentence,
            },
            200 if standing.ready else 503,
        )
        if info.state is ModelState.LOADING:
            answer.headers["Retry-After"] = _LOADING_RETRY
        return answer

    @pages.get("/status")
    def page() -> Response:
        answer = Response(render_template("status.html", **status_of(runtime)), mimetype="text/html")
        # Names and labels in it are strangers': should one ever get through the escaping, it must not do anything.
        answer.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
        answer.headers["Cache-Control"] = "no-store"
        return answer

    @pages.get("/status.json")
    def machine() -> Response:
        return _json(status_of(runtime))

    return pages


def status_of(runtime: Runtime) -> dict[str, Any]:
    """Everything that the page shows; its fields are described in docs/metrics.md. No tokens are in it."""
    standing, now = runtime.informant.standing(), time.time()
    info = standing.info
    projects = list(runtime.projects().items())[:_MOST_PROJECTS]
    return {
        "product": {"name": "sam3-prelabel", "version": VERSION},
        "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        "uptime_seconds": round(now - runtime.started, 1),
        "model": _model(standing),
        "remarks": _remarks(runtime),
        "lanes": _lanes(runtime, standing),
        "passes": [_pass(one) for one in info.load.passes],
        "memory": asdict(info.load.memory),
        "caches": {"embeddings": asdict(info.cache), "images": asdict(runtime.pictures.info())},
        "jobs": [_job(job, now) for job in runtime.jobs()],
        "learning": [learned | {"sentence": redacted(learned["sentence"])} for learned in _learning(runtime)],
        "failures": [asdict(failure) for failure in runtime.metrics.failed.last()],
        "projects": [_project(number, project) for number, project in projects],
    }


def _model(standing: Standing) -> dict[str, Any]:
    info = standing.info
    return {
        "version": info.version,
        "state": info.state.value,
        "ready": standing.ready,
        "sentence": standing.sentence,
        "device": info.device,
        "dtype": info.dtype,
        "clicks": info.can_outline,
    }


def _remarks(runtime: Runtime) -> list[str]:
    """What in the server's own settings people will stumble over."""
    settings, remarks = runtime.settings, list[str]()
    if settings.model == "demo":
        remarks.append("the demo model knows drawn coloured shapes, not photos; SAM3_MODEL picks others")
    if settings.label_studio_url is None:
        remarks.append("SAM3_LABEL_STUDIO_URL is not set: Label Studio is looked for where /setup says it is")
    if settings.label_studio_api_key is None:
        remarks.append(
            "SAM3_LABEL_STUDIO_API_KEY is not set: uploaded images are read with the token that Label Studio sends, "
            "which 1.23 refuses by default"
        )
    if settings.store is None and settings.steps:
        remarks.append("SAM3_STORE is not set: what reviewers teach is forgotten when the server ends")
    if (settings.basic_auth_user or settings.api_token) and not settings.open_webhook:
        remarks.append(
            "Label Studio's webhooks carry no login: add an Authorization header to them, or set SAM3_OPEN_WEBHOOK"
        )
    return remarks


def _lanes(runtime: Runtime, standing: Standing) -> list[dict[str, Any]]:
    """Each lane: requests at work, and pieces of work at the device, which are None where it does not tell."""
    device = {load.lane: load for load in standing.info.load.lanes}
    rows = []
    for places in runtime.admission.info():
        load = device.get(places.lane)
        rows.append(
            {
                "lane": places.lane.value,
                "at_work": places.at_work,
                "limit": places.limit,
                "refused": places.refused,
                "device_waiting": load and load.waiting,
                "device_done": load and load.done,
                "device_dropped": load and load.dropped,
                "device_refused": load and load.refused,
            }
        )
    return rows


def _pass(load: PassLoad) -> dict[str, Any]:
    """One kind of pass; sizes by how many items went together."""
    passes = sum(count for _, count in load.sizes)
    items = sum(size * count for size, count in load.sizes)
    return {
        "kind": load.kind,
        "passes": passes,
        "items": items,
        "mean_items": round(items / passes, 2) if passes else 0.0,
        "most_items": max((size for size, _ in load.sizes), default=0),
        "limit": load.limit,
        "seconds": round(load.seconds, 3),
        "out_of_memory": load.out_of_memory,
    }


def _learning(runtime: Runtime) -> list[dict[str, Any]]:
    """A store that cannot be read now must not hide all else."""
    try:
        return runtime.teacher.status()
    except sqlite3.Error as error:
        log.warning("what is learned cannot be shown: %s", error)
        return []


def _job(job: JobInfo, now: float) -> dict[str, Any]:
    return asdict(job) | {"sentence": redacted(job.sentence), "seconds": round(now - job.started, 1)}


def _project(number: str, project: Project) -> dict[str, Any]:
    check = asdict(check_config(project.config, project.choices))
    return {"project": number, "hostname": redacted(project.hostname or ""), "options": _options(project)} | check


def _options(project: Project) -> dict[str, str]:
    return {name: str(value) for name, value in project.choices.chosen.items()}


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status=status, mimetype="application/json")
