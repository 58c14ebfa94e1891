"""Who waits for an answer, as the door sees it: how urgently, for how long, and whether the client is still there."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Mapping, Sized
from dataclasses import replace
from typing import Any

from backend.bodies import Context
from sam3_core import Caller, Lane

_SOCKET = "gunicorn.socket"  # the connection, as gunicorn puts it into the WSGI environment
_LEFT = getattr(select, "POLLRDHUP", 0)  # Linux has it; elsewhere only a connection that broke is noticed


def lane_of(tasks: Sized, context: Context | Mapping[str, Any] | None) -> Lane:
    """Clicks are what an annotator looks at the screen for: a prompt, or the single task that is being opened."""
    prompted = bool(context) and not (isinstance(context, Context) and context.missing)
    return Lane.CLICK if prompted or len(tasks) == 1 else Lane.BULK


def caller_of(environ: Mapping[str, Any], lane: Lane, seconds: float, *, since: float | None = None) -> Caller:
    """The caller of a request: wanted until its client hangs up.

    seconds: of its budget. since: when that began (``time.monotonic``); now, where it is not told.
    """
    return watched(environ, Caller(lane, (time.monotonic() if since is None else since) + seconds))


def watched(environ: Mapping[str, Any], caller: Caller) -> Caller:
    """The same caller, no longer wanted once the client has hung up; without gunicorn nobody can tell."""
    connection = environ.get(_SOCKET)
    return caller if connection is None else replace(caller, wanted=lambda: _is_open(connection))


def both(caller: Caller, wanted: Callable[[], bool]) -> Caller:
    """The same caller, wanted only while ``wanted`` says so too."""
    return replace(caller, wanted=lambda: caller.wanted() and wanted())


def _is_open(connection: Any) -> bool:
    """Whether the other side still listens. Never blocks, reads nothing and works under TLS: bytes of a next request
    may wait in front of the end of the stream, where a look at the data would not see it."""
    try:
        watch = select.poll()
        watch.register(connection.fileno(), _LEFT)
        return not watch.poll(0)
    except (OSError, ValueError):  # closed on our side: the request is over
        return False
