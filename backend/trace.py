"""One request from the door to its answer: its id, what it is about, and where its time goes."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from sam3_core import Lane
from sam3_core.timing import collected

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

P = ParamSpec("P")
R = TypeVar("R")
_Error = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

ID_HEADER = "X-Request-Id"
_SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(slots=True)
class Trace:
    """What is known of a request so far.

    started: of ``time.monotonic``. method, route: the route is the rule that it matched, not its path. lane: None
    where it does no work. project: of Label Studio; empty where there is none. kind: of the error, where it is one.
    """

    id: str
    method: str
    started: float = field(default_factory=time.monotonic)
    route: str = "unknown"
    lane: Lane | None = None
    project: str = ""
    kind: str = ""


_current: ContextVar[Trace | None] = ContextVar("sam3_trace", default=None)

Finish = Callable[[Trace, int, Mapping[str, float], float], None]
"""What is told at the end of a request: its trace, status, seconds by stage, and in total."""


def current() -> Trace:
    """The request of this thread; where there is none, one that nobody reads."""
    return _current.get() or Trace("", "")


def carried(work: Callable[P, R]) -> Callable[P, R]:
    """The same function for another thread: what it logs and what fails there belongs to the request of this."""
    trace = current()

    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with _working_for(trace):
            return work(*args, **kwargs)

    return run


@contextmanager
def _working_for(trace: Trace) -> Iterator[None]:
    token = _current.set(trace)
    try:
        yield
    finally:
        _current.reset(token)


def traced(inner: WSGIApplication, finish: Finish) -> WSGIApplication:
    """The app where every answer has ``X-Request-Id``, taken from the request if it is sane, and ``Server-Timing``:
    milliseconds by stage and in total, reading the body included."""

    def outer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        trace = Trace(_id_of(environ), str(environ["REQUEST_METHOD"]))

        def start(
            status: str, headers: list[tuple[str, str]], error: _Error | None = None
        ) -> Callable[[bytes], object]:
            total = time.monotonic() - trace.started
            timings = (f"{name};dur={taken * 1000:.1f}" for name, taken in [*seconds.items(), ("total", total)])
            finish(trace, int(status[:3]), seconds, total)
            added = [("Server-Timing", ", ".join(timings)), (ID_HEADER, trace.id)]
            return start_response(status, [*headers, *added], error)

        with _working_for(trace), collected() as seconds:
            return inner(environ, start)

    return outer


def _id_of(environ: WSGIEnvironment) -> str:
    given = str(environ.get("HTTP_X_REQUEST_ID", ""))
    return given if _SANE.fullmatch(given) else secrets.token_hex(8)
