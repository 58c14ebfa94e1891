"""What a run over a task has uploaded, kept in a file so that the next run goes on from there."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sam3_core.errors import InvalidInput

_DECIMALS = 2  # what servers keep of a coordinate at least


def trace(annotation: Mapping[str, Any]) -> str:
    """What an annotation, as JSON, is recognised by on the server: frame, label, type and points."""
    points = [round(float(number), _DECIMALS) + 0.0 for number in annotation.get("points") or ()]
    kind = annotation.get("type") or "tag"
    told = json.dumps([annotation["frame"], annotation["label_id"], str(kind), points])
    return hashlib.blake2b(told.encode(), digest_size=12).hexdigest()


class Slice(BaseModel):
    """Frames that are uploaded in one request, the traces of the annotations in it, and when (seconds since 1970)."""

    model_config = ConfigDict(frozen=True)

    frames: tuple[int, ...]
    traces: frozenset[str]
    sent: float


class Notes(BaseModel):
    """What a resume file says.

    server, task: what it goes for. plan: what the last run looked for and with which model. done: by plan, so that
    one run is not continued by another, the frames whose annotations are on the server, or for which there was
    nothing to upload. cleared: the part of the task that the last run has removed all annotations from, or nothing.
    pending: a slice of the last run that was sent and may have arrived or not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: str
    task: int
    plan: str
    done: dict[str, frozenset[int]] = {}
    cleared: str = ""
    pending: Slice | None = None

    def changed(self, **fields: Any) -> Notes:
        return self.model_copy(update=fields)

    @property
    def filled(self) -> frozenset[int]:
        """Frames that are done by the plan."""
        return self.done.get(self.plan, frozenset())

    @property
    def filled_otherwise(self) -> frozenset[int]:
        """Frames that are done by another plan."""
        return frozenset[int]().union(*(done for plan, done in self.done.items() if plan != self.plan))

    def filling(self, frames: Iterable[int]) -> Notes:
        """With these frames done by the plan, and no slice pending."""
        return self.changed(done=self.done | {self.plan: self.filled.union(frames)}, pending=None)

    def without(self, frames: frozenset[int]) -> Notes:
        """With these frames not done, by whatever plan."""
        return self.changed(done={plan: done - frames for plan, done in self.done.items()})


def read_notes(path: Path) -> Notes | None:
    """What an earlier run noted, or None. Raises InvalidInput for a file that is no such notes."""
    try:
        return Notes.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise InvalidInput(f"{path} is not a resume file of this version; move it away or name another") from None


def write_notes(path: Path, notes: Notes) -> None:
    """Replace the file in one step: a crash leaves the old one or the new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".new")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(_as_json(notes), file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _as_json(notes: Notes) -> dict[str, Any]:
    return notes.model_dump(mode="json") | {"done": {plan: sorted(done) for plan, done in notes.done.items()}}


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """While no other run on this machine uses this resume file. Raises InvalidInput where one does, and OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidInput(f"another run is at work with {path}") from None
        yield
