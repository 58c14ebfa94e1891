"""The HTTP server Label Studio talks to: routes, answers and errors; the work is done in ``backend.model``."""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from backend import metrics
from backend.bodies import PredictBody, PredictParams, SetupBody, T, WebhookBody, decode, project_id
from backend.model import Runtime, Sam3Backend
from backend.settings import BackendSettings
from backend.v1 import make_v1
from sam3_core import Segmenter
from sam3_core.errors import Sam3Error, TooLarge, Unauthorized, UnknownImage
from sam3_core.timing import collected, stage
from sam3_core.wire.results import kind_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

_Error = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

# Events of Label Studio 1.23 that carry annotations, its START_TRAINING, and ANNOTATION_DELETED, which only
# label-studio-ml knows. Others are answered and ignored.
_TRAIN_EVENTS = frozenset(
    {
        "ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED",
        "ANNOTATION_DELETED", "ANNOTATIONS_DELETED", "START_TRAINING",
    }
)  # fmt: skip


def create_app(settings: BackendSettings, segmenter: Segmenter) -> Flask:
    """The WSGI app. /health and /setup never wait for weights or the network."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = int(settings.max_request_mb * (1 << 20))
    runtime = Runtime(settings, segmenter)
    _add_routes(app, runtime)
    app.register_blueprint(make_v1(settings, segmenter, runtime.metrics))
    _add_guard(app, settings)
    _add_errors(app)
    _add_counting(app, runtime)
    app.wsgi_app = _timed(app.wsgi_app)  # type: ignore[assignment, method-assign]
    return app


def _add_routes(app: Flask, runtime: Runtime) -> None:
    @app.get("/")
    @app.get("/health")
    def health() -> Response:
        info = runtime.segmenter.info()
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
        project = project_id(body.project)
        runtime.introduce(project, body.hostname, body.access_token)
        model = Sam3Backend(project, body.label_config, runtime)
        model.set_extra_params(body.extra_params)
        return _json({"model_version": model.model_version})

    @app.post("/predict")
    def predict() -> Response:
        body = _body(PredictBody)
        model = Sam3Backend(project_id(body.project), body.label_config, runtime)
        with runtime.metrics.predict_seconds.time():
            params = body.params or PredictParams()
            results = model.predict(body.tasks, params.context, **params.options())
        return _json({"results": results})

    @app.post("/webhook")
    def webhook() -> Response:
        body = _body(WebhookBody)
        if body.action not in _TRAIN_EVENTS:
            return _json({"status": "ignored"})
        project = str(body.project.get("id", ""))
        result = Sam3Backend(project, None, runtime).fit(body.action, body.event())
        return _json({"status": "ok", "result": result}, 201)

    @app.get("/versions")
    def versions() -> Response:
        return _json({"versions": [runtime.segmenter.info().version]})

    @app.get("/metrics")
    def show_metrics() -> Response:
        return Response(runtime.metrics.render(), content_type=metrics.CONTENT_TYPE)


def _add_guard(app: Flask, settings: BackendSettings) -> None:
    """Basic auth on everything but ``/``, which container probes ask, and, where wanted, the webhook.

    /health is guarded: Label Studio sends credentials there too, and tells its user about wrong ones only then.
    """
    if settings.basic_auth_user is None or settings.basic_auth_password is None:
        return
    user, password = settings.basic_auth_user.encode(), settings.basic_auth_password.encode()
    open_paths = {"/", "/webhook"} if settings.open_webhook else {"/"}

    @app.before_request
    def check_login() -> None:
        if request.path in open_paths:
            return
        login = request.authorization
        given = ("", "") if login is None else (login.username or "", login.password or "")
        # Both are always compared, so that the time tells nothing.
        if not hmac.compare_digest(given[0].encode(), user) & hmac.compare_digest(given[1].encode(), password):
            raise Unauthorized("this backend asks for a user and a password (basic auth)")


def _add_errors(app: Flask) -> None:
    @app.errorhandler(Sam3Error)
    def known(error: Sam3Error) -> Response:
        # That a file has to be sent is how every image begins.
        level = logging.INFO if isinstance(error, UnknownImage) else logging.WARNING
        log.log(level, "%s %s: %d %s", request.method, request.path, error.status, error)
        answer = _json({"error": str(error), "kind": kind_of(error)}, error.status)
        if error.retry_after is not None:
            answer.headers["Retry-After"] = str(max(1, round(error.retry_after)))
        if error.status == Unauthorized.status:
            answer.headers["WWW-Authenticate"] = 'Basic realm="sam3-prelabel"'
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
        log.error("%s %s failed", request.method, request.path, exc_info=error)
        return _error("this is a defect of the backend; its log has the details", 500)


def _add_counting(app: Flask, runtime: Runtime) -> None:
    @app.after_request
    def count(answer: Response) -> Response:
        # The rule, not the path: unknown paths must not make a series each.
        route = request.url_rule.rule if request.url_rule else "unknown"
        runtime.metrics.requests.labels(route, str(answer.status_code)).inc()
        return answer


def _timed(inner: WSGIApplication) -> WSGIApplication:
    """The app with a Server-Timing header: milliseconds by stage and in total, reading the body included."""

    def outer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        started = time.perf_counter()

        def start(
            status: str, headers: list[tuple[str, str]], error: _Error | None = None
        ) -> Callable[[bytes], object]:
            total = time.perf_counter() - started
            timings = (f"{name};dur={taken * 1000:.1f}" for name, taken in [*seconds.items(), ("total", total)])
            return start_response(status, [*headers, ("Server-Timing", ", ".join(timings))], error)

        with collected() as seconds:
            return inner(environ, start)

    return outer


def _body(kind: type[T]) -> T:
    with stage("parse"):
        try:
            raw = request.get_data(cache=False)
        except RequestEntityTooLarge:
            raise TooLarge("the body is larger than SAM3_MAX_REQUEST_MB allows") from None
        return decode(kind, raw)


def _json(value: Any, status: int = 200) -> Response:
    with stage("encode"):
        text = msgspec.json.encode(value)
        if b"null" in text:
            # msgspec writes NaN so, and inside a region that would make the task impossible to open; this raises.
            json.dumps(value, allow_nan=False)
    return Response(text, status=status, mimetype="application/json")


def _error(sentence: str, status: int) -> Response:
    return _json({"error": sentence}, status)
