"""Fill the frames of a task, uploading as it goes: a crash loses one slice at most, and nothing comes twice."""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from cvat_nuclio import patience
from cvat_nuclio.cvat_task import CvatTask, Frame, Refused
from cvat_nuclio.resume import Notes, Slice, read_notes, trace, write_notes
from cvat_nuclio.sdk_shapes import Annotation, Target, drawn, search
from sam3_core import EncodedImage, FindOptions, Segmenter
from sam3_core.errors import (
    Busy,
    InvalidInput,
    InvalidPrompt,
    ModelUnavailable,
    NotReady,
    OutOfMemory,
    Sam3Error,
    ServerUnavailable,
    Unauthorized,
)
from sam3_core.results import ConceptResult

_FOR_ALL = (ModelUnavailable, Unauthorized, InvalidPrompt, NotReady, Busy, ServerUnavailable)
"""No other frame would fare better."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a frame: one result per target, in order, or the problem in one sentence."""

    frame: Frame
    results: tuple[ConceptResult, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """What is done to each frame. picture: from the bytes that CVAT sends to what the model is shown."""

    task: CvatTask
    segmenter: Segmenter
    targets: tuple[Target, ...]
    options: FindOptions = field(default_factory=FindOptions)
    picture: Callable[[bytes], EncodedImage] = EncodedImage

    @property
    def plan(self) -> str:
        """A name for what is looked for, how it is drawn and by which model."""
        told = [repr(target) for target in self.targets]
        text = json.dumps([told, repr(self.options), self.segmenter.info().version])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def on(self, frame: Frame) -> Outcome:
        """Raises what no other frame would mend."""
        try:
            image = self.picture(self.task.picture(frame))
            rows = [target.row for target in self.targets]
            results = self.task.patience(lambda: search(self.segmenter, image, rows, self.options))
        except Sam3Error as error:
            if isinstance(error, _FOR_ALL) and not isinstance(error, OutOfMemory):
                raise
            return Outcome(frame, problem=str(error))
        found = drawn(image, results, self.targets)
        for annotation in found:
            annotation.frame = frame.number
            annotation.source = "auto"
        return Outcome(frame, tuple(results), tuple(found))


class Notebook:
    """The notes of a run, on disk before anything depends on them."""

    def __init__(self, path: Path, notes: Notes) -> None:
        self.path = path
        self.notes = notes
        write_notes(path, notes)

    def note(self, notes: Notes) -> None:
        write_notes(self.path, notes)
        self.notes = notes


def begin(
    work: Work,
    frames: Sequence[Frame],
    path: Path,
    *,
    clear: bool = False,
    restart: bool = False,
    waits: Callable[[float], None] = lambda seconds: None,
) -> tuple[Notebook, list[Frame]]:
    """The notes to go on with, and the frames that are left.

    path: of the resume file. clear: remove what the task or job holds already, at a run's start but not when one goes
    on that began so. restart: fill the frames again, whatever was noted. waits: told of the seconds that the last
    slice of a run that was cut off may take to arrive, where it has not.
    Raises InvalidInput where an earlier run looked for something else in a frame, as both would lie over each other.
    """
    task, plan, wanted = work.task, work.plan, frozenset(frame.number for frame in frames)
    notes = read_notes(path) or Notes(server=task.server, task=task.id, plan=plan)
    if (notes.server, notes.task) != (task.server, task.id):
        raise InvalidInput(f"{path} belongs to task {notes.task} on {notes.server}; name another resume file")
    notes = _settled(notes, task, waits).changed(plan=plan)
    otherwise = wanted & notes.filled_otherwise
    anew = restart or (clear and (notes.cleared != task.part or bool(otherwise) or wanted <= notes.filled))
    if anew:
        notes = notes.without(wanted).changed(cleared="")
    elif otherwise:
        raise InvalidInput(
            f"{len(otherwise)} of these {len(wanted)} frames were filled with other labels, other options or another "
            f"model ({path}); --clear-existing replaces what is there, --restart adds to it"
        )
    book = Notebook(path, notes)
    if anew and clear:
        task.clear()
        book.note(notes.changed(cleared=task.part))
    return book, [frame for frame in frames if frame.number not in book.notes.filled]


def _settled(notes: Notes, task: CvatTask, waits: Callable[[float], None]) -> Notes:
    """The notes once it is known whether the last slice of a run that was cut off arrived."""
    last = notes.pending
    if last is None:
        return notes
    arrived, left = task.has(last.traces), patience.STILL_AT_IT - abs(time.time() - last.sent)
    if not arrived and left > 0:
        waits(left)
        arrived = task.has(last.traces, within=left)
    return notes.filling(last.frames if arrived else ())


def fill(
    work: Work,
    frames: Iterable[Frame],
    book: Notebook,
    *,
    in_flight: int = 4,
    slice_frames: int = 20,
    seen: Callable[[Outcome], None] = lambda outcome: None,
) -> Iterator[Outcome]:
    """Fill frames in order; one outcome for each, once its annotations are stored.

    in_flight: how many frames are fetched, searched and drawn at the same time. slice_frames: how many are uploaded
    at once. seen: told of each frame when it has been searched, before it is uploaded.
    Raises ModelUnavailable, Unauthorized, InvalidPrompt, NotReady, Busy or ServerUnavailable, which no other frame
    would mend; what was searched and not uploaded is lost then, and found again by the next run.
    """
    with _ahead(work, frames, in_flight) as outcomes:
        while batch := list(islice(_telling(outcomes, seen), slice_frames)):
            yield from _stored(work.task, batch, book)


@contextmanager
def _ahead(work: Work, frames: Iterable[Frame], in_flight: int) -> Iterator[Iterator[Outcome]]:
    """Outcomes in order; threads work up to as many frames ahead as can wait for the one before them."""
    pool = ThreadPoolExecutor(in_flight, thread_name_prefix="frame")

    def outcomes() -> Iterator[Outcome]:
        waiting: deque[Future[Outcome]] = deque()
        for frame in frames:
            waiting.append(pool.submit(work.on, frame))
            if len(waiting) >= 2 * in_flight:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield outcomes()
    except BaseException:
        work.task.patience.end()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _telling(outcomes: Iterator[Outcome], seen: Callable[[Outcome], None]) -> Iterator[Outcome]:
    for outcome in outcomes:
        seen(outcome)
        yield outcome


def _stored(task: CvatTask, batch: Sequence[Outcome], book: Notebook) -> list[Outcome]:
    """Upload a slice; where CVAT refuses it, its frames one by one, so that only what it refuses is missing."""
    whole = [outcome for outcome in batch if not outcome.problem]
    found = [annotation for outcome in whole for annotation in outcome.annotations]
    frames = tuple(outcome.frame.number for outcome in whole)
    if found:
        traces = frozenset(trace(annotation.to_dict()) for annotation in found)
        book.note(book.notes.changed(pending=Slice(frames=frames, traces=traces, sent=time.time())))
        try:
            task.add(found, traces)
        except Refused as refusal:
            book.note(book.notes.changed(pending=None))
            if len(batch) == 1:
                return [replace(batch[0], annotations=(), results=(), problem=str(refusal))]
            return [stored for outcome in batch for stored in _stored(task, [outcome], book)]
    book.note(book.notes.filling(frames))
    return list(batch)
