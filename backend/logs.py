"""Lines of the log: for people or as JSON, with the id of the request that they belong to, and without secrets."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from typing import Any, Literal

from backend.trace import current

_HIDDEN = (
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@'\"]*@", re.IGNORECASE), r"\1"),  # a login in an address
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?'\"]*)\?[^\s'\"]*", re.IGNORECASE), r"\1?…"),  # presigned links
    (re.compile(r"(\bdata:[^\s,'\"]{0,80}),[^\s'\"]+", re.IGNORECASE), r"\1,…"),
    (re.compile(r"\b(Bearer|Token|Basic)\s+(?=\S*\d)[\w.~+/=-]{12,}", re.IGNORECASE), r"\1 …"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), "…"),  # JWT
    (re.compile(r"\b[0-9a-f]{40}\b"), "…"),  # Label Studio's legacy tokens
)


def redacted(text: str) -> str:
    """Without what opens doors (logins, tokens, queries of links) and without image data."""
    for pattern, instead in _HIDDEN:
        text = pattern.sub(instead, text)
    return text


def set_up_logs(form: Literal["text", "json"]) -> None:
    """Write what is logged to stderr, from level INFO up, in one of the two forms. Replaces what was set up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    handler.addFilter(RequestIds())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # Its warnings about repeated requests show whole addresses, with the signatures of presigned links.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


class RequestIds(logging.Filter):
    """Gives each record its ``request``."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request = current().id
        return True


class TextLines(logging.Formatter):
    """``<time> <LEVEL> <logger>: <sentence> <name>=<value> ...``, and a traceback below it where there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        line = super().formatMessage(record)
        # A line end inside would let a label's name write lines of its own.
        line = line.replace("\r", "\\r").replace("\n", "\\n")
        pairs = "".join(f" {name}={_value(value)}" for name, value in _fields(record).items())
        return redacted(line) + pairs

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        return redacted(super().formatException(ei))


class JsonLines(logging.Formatter):
    """One object a line: ``time`` (UTC), ``level``, ``logger``, ``message``, ``request``, what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(record.getMessage()),
        }
        line |= _fields(record)
        if record.exc_info:
            line["trace"] = redacted(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a record has besides its sentence: ``extra={"fields": {...}}``, and the request."""
    given: Mapping[str, Any] = getattr(record, "fields", {})
    request = getattr(record, "request", "")
    return dict(given) | ({"request": request} if request else {})


def _value(value: object) -> str:
    """As logfmt writes it: quoted where it has more than one word."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}:{one}" for name, one in value.items())
    text = str(value)
    return text if re.fullmatch(r"[^\s\"=]+", text) else json.dumps(text, ensure_ascii=False)
