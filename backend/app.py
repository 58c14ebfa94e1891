"""The HTTP server Label Studio talks to: routes, answers and errors; the work is done in ``backend.model``."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from backend import metrics
from backend.bodies import PredictBody, PredictParams, SetupBody, T, WebhookBody, decode, project_id
from backend.callers import caller_of, lane_of
from backend.guard import add_guard, sender
from backend.model import Runtime, Sam3Backend
from backend.settings import BackendSettings
from backend.status import make_status
from backend.trace import Trace, current, traced
from backend.v1 import make_v1
from sam3_core import Segmenter
from sam3_core.errors import Dropped, Sam3Error, TooLarge, UnknownImage
from sam3_core.timing import stage
from sam3_core.wire.results import kind_of

log = logging.getLogger(__name__)

# Events of Label Studio 1.23 that something is learned from, its START_TRAINING, and ANNOTATION_DELETED, which only
# label-studio-ml knows. Others are answered and ignored.
_TRAIN_EVENTS = frozenset(
    {
        "ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED",
        "ANNOTATION_DELETED", "ANNOTATIONS_DELETED", "TASKS_DELETED", "START_TRAINING", "PROJECT_UPDATED",
    }
)  # fmt: skip

EXTENSION = "sam3"
"""Under which the ``Runtime`` is among the app's extensions."""

# Asked every few seconds by machines: a line of the log each would bury what people look for.
_QUIET = frozenset({"/", "/health", "/ready", "/metrics", "/status", "/status.json"})


def create_app(settings: BackendSettings, segmenter: Segmenter) -> Flask:
    """The WSGI app. /health and /setup never wait for weights or the network."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = int(settings.max_request_mb * (1 << 20))
    app.extensions[EXTENSION] = runtime = Runtime(settings, segmenter)
    _add_routes(app, runtime)
    app.register_blueprint(
        make_v1(settings, segmenter, runtime.metrics, runtime.admission, runtime.informant.version)
    )
    app.register_blueprint(make_status(runtime))
    _add_tracing(app, runtime)
    add_guard(app, settings)
    _add_errors(app, runtime)
    return app


def _add_routes(app: Flask, runtime: Runtime) -> None:
    @app.get("/")
    @app.get("/health")
    def health() -> Response:
        info = runtime.informant.info()
        return _json(
            {
                "status": "UP",
                "model_class": Sam3Backend.__name__,
                "model_version": info.version,
                "model_state": info.state.value,
                "problem": info.problem,
            }
        )

    @app.post("/setup")
    def setup() -> Response:
        body = _body(SetupBody)
        current().project = project = project_id(body.project)
        runtime.introduce(project, body.hostname, body.access_token, body.label_config or "", sender=sender())
        model = Sam3Backend(project, body.label_config, runtime)
        model.set_extra_params(body.extra_params)
        return _json({"model_version": model.model_version})

    @app.post("/predict")
    def predict() -> Response:
        with runtime.admission.door():
            body, trace = _body(PredictBody), current()
            params = body.params or PredictParams()
            trace.project, trace.lane = project_id(body.project), lane_of(body.tasks, params.context)
            model = Sam3Backend(trace.project, body.label_config, runtime)
            caller = caller_of(request.environ, trace.lane, runtime.settings.request_seconds, since=trace.started)
            with runtime.admission.work(trace.lane), runtime.metrics.predict_seconds.time():
                results = model.predict(body.tasks, params.context, caller=caller, **params.options())
            return _json({"results": results})

    @app.post("/webhook")
    def webhook() -> Response:
        raw = _raw()
        body = _decoded(WebhookBody, raw)
        if body.action not in _TRAIN_EVENTS:
            return _json({"status": "ignored"})
        current().project = project = str(body.project.get("id", ""))
        result = Sam3Backend(project, None, runtime).note(body.action, body, raw)
        return _json({"status": "ok", "result": result}, 201)

    @app.get("/versions")
    def versions() -> Response:
        return _json({"versions": runtime.teacher.names()})

    @app.get("/metrics")
    def show_metrics() -> Response:
        return Response(runtime.metrics.render(), content_type=metrics.CONTENT_TYPE)


def _add_errors(app: Flask, runtime: Runtime) -> None:
    @app.errorhandler(Sam3Error)
    def known(error: Sam3Error) -> Response:
        # That a file has to be sent is how every image begins; that a newer click came, how annotators work.
        expected = isinstance(error, UnknownImage | Dropped)
        log.log(logging.INFO if expected else logging.WARNING, "%d %s", error.status, error)
        if not expected:
            runtime.metrics.failed.add(error)
        answer = _error(str(error), error.status, kind_of(error))
        if error.retry_after is not None:
            answer.headers["Retry-After"] = str(max(1, round(error.retry_after)))
        return answer

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        answer = _error(error.description or error.name, error.code or 500)
        for name, value in error.get_headers():
            if name == "Allow":
                answer.headers[name] = value
        return answer

    @app.errorhandler(Exception)
    def unknown(error: Exception) -> Response:
        log.error("a request failed", exc_info=error)
        runtime.metrics.failed.add(error)
        return _error("this is a defect of the backend; its log has the details", 500, defect=True)


def _add_tracing(app: Flask, runtime: Runtime) -> None:
    """Every answer has an id and its timings; at its end a request is counted, and is a line in the log."""

    @app.before_request
    def find_route() -> None:
        # The rule, not the path: unknown paths must not make a series each.
        current().route = request.url_rule.rule if request.url_rule else "unknown"

    def finish(trace: Trace, status: int, stages: Mapping[str, float], seconds: float) -> None:
        runtime.metrics.count_request(trace, status, stages, seconds)
        fields: dict[str, Any] = {"status": status, "ms": round(seconds * 1000, 1)}
        if trace.lane:
            fields["lane"] = trace.lane.value
        if trace.project:
            fields["project"] = trace.project
        if trace.kind:
            fields["kind"] = trace.kind
        if stages:
            fields["stages"] = {name: round(taken * 1000, 1) for name, taken in stages.items()}
        level = logging.DEBUG if trace.route in _QUIET and trace.kind != "defect" else logging.INFO
        log.log(level, "%s %s", trace.method, trace.route, extra={"fields": fields})

    app.wsgi_app = traced(app.wsgi_app, finish)  # type: ignore[assignment, method-assign]


def _body(kind: type[T]) -> T:
    return _decoded(kind, _raw())


def _raw() -> bytes:
    with stage("parse"):
        try:
            return request.get_data(cache=False)
        except RequestEntityTooLarge:
            raise TooLarge("the body is larger than SAM3_MAX_REQUEST_MB allows") from None


def _decoded(kind: type[T], raw: bytes) -> T:
    with stage("parse"):
        return decode(kind, raw)


def _json(value: Any, status: int = 200) -> Response:
    with stage("encode"):
        text = msgspec.json.encode(value)
        if b"null" in text:
            # msgspec writes NaN so, and inside a region that would make the task impossible to open; this raises.
            json.dumps(value, allow_nan=False)
    return Response(text, status=status, mimetype="application/json")


def _error(sentence: str, status: int, kind: str = "", *, defect: bool = False) -> Response:
    """kind: of ``sam3_core.errors``; empty where it is none of these."""
    trace = current()
    trace.kind = "defect" if defect else kind or "http"
    body = {"error": sentence, "kind": kind, "request_id": trace.id}
    return _json({name: value for name, value in body.items() if value}, status)
