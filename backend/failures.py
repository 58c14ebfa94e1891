"""The last things that went wrong, with what to do: Label Studio shows its users nothing of them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime

from backend.addresses import AddressRefused
from backend.logs import redacted
from backend.trace import current
from sam3_core.errors import (
    BrokenImage,
    Busy,
    ImageUnavailable,
    InvalidInput,
    InvalidPrompt,
    ModelUnavailable,
    NotReady,
    OutOfMemory,
    OutOfTime,
    Sam3Error,
    ServerUnavailable,
    TooLarge,
    Unauthorized,
    Unsupported,
)
from sam3_core.wire.results import kind_of

_KEPT = 50
_LONGEST = 500  # characters of a sentence

_HINTS: tuple[tuple[type[Exception], str], ...] = (  # the more special before the more general
    (OutOfMemory, "Give the model more memory: lower SAM3_CACHE_MB, end what else uses the device, or use another."),
    (OutOfTime, "More is asked than the device can do in time: send fewer tasks at once, or add a device."),
    (Busy, "More is asked than the device can do: send fewer tasks at once, raise the limit, or add a device."),
    (NotReady, "Wait until the state above says ready."),
    (ModelUnavailable, "The weights do not work: see the sentence, then restart the server."),
    (AddressRefused, "Where the host may be asked for pictures, name it in SAM3_ALLOWED_HOSTS."),
    (ImageUnavailable, "See whether the address opens from the server's machine, and SAM3_LABEL_STUDIO_URL and "
     "SAM3_LABEL_STUDIO_API_KEY."),
    (TooLarge, "The sentence names the limit; the setting that raises it is in `sam3-prelabel settings`."),
    (BrokenImage, "Open the task's image: it may be damaged, no picture at all, or of a kind that is not read."),
    (Unauthorized, "Enter SAM3_BASIC_AUTH_USER and its password in Label Studio, Settings, Model; scripts and other "
     "servers may send SAM3_API_TOKEN instead."),
    (ServerUnavailable, "See whether the other server runs."),
    (Unsupported, "This checkpoint cannot do that: use another, or another tool."),
    (InvalidPrompt, "Draw the prompt again, on the object."),
    (InvalidInput, "The request is not what this server takes: see its sender's version and the documentation."),
)  # fmt: skip
_DEFECT = "A defect of this server: its log has the details under the request's id."


@dataclass(frozen=True, slots=True)
class Failure:
    """One of them. time: of the last one like it, ISO 8601, UTC; times: how many there were. hint: what to do.

    request, project, task: of the last one; empty where there is none.
    """

    time: str
    kind: str
    sentence: str
    hint: str
    request: str
    project: str
    task: str
    times: int = 1


class Failures:
    """The last failures; those of one project that say the same are one. Callable from any thread."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, str], Failure] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, error: Exception, *, task: object = None) -> None:
        """Keep one. task: its id, where it was about one; request and project are those of this thread."""
        trace, ours = current(), isinstance(error, Sam3Error)
        kind = kind_of(error) if isinstance(error, Sam3Error) else "defect"
        sentence = redacted(str(error))[:_LONGEST] if ours else "something unexpected happened"
        now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
        key = (kind, sentence, trace.project)
        with self._lock:
            known = self._kept.pop(key, None)
            self._kept[key] = Failure(
                time=now,
                kind=kind,
                sentence=sentence,
                hint=_hint(error),
                request=trace.id,
                project=trace.project,
                task="" if task is None else str(task)[:100],
                times=1 + (known.times if known else 0),
            )
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)

    def last(self) -> list[Failure]:
        """What is kept, newest first."""
        with self._lock:
            return list(reversed(self._kept.values()))


def _hint(error: Exception) -> str:
    return next((hint for kind, hint in _HINTS if isinstance(error, kind)), _DEFECT)
