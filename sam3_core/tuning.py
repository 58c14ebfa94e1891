"""Fine-tuning as its callers see it: a folder with a job in it, worked on by a process of its own. Without torch.

A job's folder holds ``job.json`` (``TuningJob``), the images beside it, ``progress.json`` (``Progress``, replaced as
a whole each time), ``log.txt``, and in the end, where the state is DONE, ``adapter.safetensors``. A file ``cancel``
in it ends the work, a file ``pause`` holds it up for a moment after each touch. The folder may be deleted when the
process has ended, at whatever moment that was.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from sam3_core.encodings import coco
from sam3_core.errors import InvalidInput
from sam3_core.learning.examples import Truth
from sam3_core.masks import Mask

JOB, PROGRESS, CANCEL, ADAPTER, LOG = "job.json", "progress.json", "cancel", "adapter.safetensors", "log.txt"
PAUSE = "pause"
BEST, SIGHTS = "best.safetensors", "sights"  # the work's own: the best epoch so far, and what found no room in memory

MEGAPIXELS = 1000.0
"""Of an image: whoever wrote the job took it already."""


class TuningState(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"
    ENCODING = "encoding"
    TRAINING = "training"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One concept asked of an image in training: its phrases, each asked alone, and every object that is one."""

    phrases: tuple[str, ...]
    truth: tuple[Truth, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TuningImage:
    """file: name of the encoded image in the job's folder. held: kept out of training, to see when it is enough."""

    file: str
    asked: tuple[Asked, ...]
    held: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class TuningJob:
    """What to train on, with which weights, and how much it may take.

    model, device, dtype: as ``CoreSettings``. minutes: of training; then the best so far is the result. megabytes: of
    the process' memory (on CUDA of the device's); more ends it with a sentence. threads: of torch on the CPU.
    patience: epochs without a better held-out loss that end it. batch: questions in a step. rank, rate: of the
    adapters. mirror: learn from each image's mirror image too, which is wrong where left and right make a difference.

    The defaults were measured with the demo checkpoint, on a shape that it does not know: F1 on unseen scenes went
    from 0 to 0.62 with 30 images, a quarter of them kept out, in a minute of one core, and to 0.67 with 75; with rate
    1e-3 to 0.47. For the real model they are a guess; 3e-4 and rank 16 would be usual.

    Raises InvalidInput for numbers that are no amount.
    """

    images: tuple[TuningImage, ...]
    model: str
    device: str = "auto"
    dtype: str = "auto"
    minutes: float = 30.0
    megabytes: int = 8192
    epochs: int = 12
    patience: int = 4
    rank: int = 8
    rate: float = 3e-3
    batch: int = 8
    threads: int = 1
    seed: int = 1
    mirror: bool = True

    def __post_init__(self) -> None:
        amounts = ("minutes", "megabytes", "epochs", "patience", "rank", "rate", "batch", "threads")
        for name in amounts:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InvalidInput(f"{name} of a fine-tuning must be above 0, not {value}")


@dataclass(frozen=True, slots=True)
class Progress:
    """done: share of the work, 0..1. loss, held_out: of the last epoch, None before the first; held_out before the
    first is what the weights started from. best: that of the epoch that is kept so far. sentence: for a person; for
    FAILED what went wrong."""

    state: TuningState
    done: float = 0.0
    epoch: int = 0
    loss: float | None = None
    held_out: float | None = None
    best: float | None = None
    seconds: float = 0.0
    sentence: str = ""


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


class _Truth(_Stored):
    size: list[int]
    counts: str
    around: bool


class _Asked(_Stored):
    phrases: list[str]
    truth: list[_Truth]


class _Image(_Stored):
    file: str
    asked: list[_Asked]
    held: bool


class _Job(_Stored):
    """``TuningJob`` as it is written, masks as COCO RLE."""

    images: list[_Image]
    model: str
    device: str
    dtype: str
    minutes: float
    megabytes: int
    epochs: int
    patience: int
    rank: int
    rate: float
    batch: int
    threads: int
    seed: int
    mirror: bool


_PROGRESS = TypeAdapter(Progress)


def write_job(folder: Path, job: TuningJob, images: Mapping[str, bytes]) -> None:
    """Make a job's folder: the images by their names in it, then the job. Replaces an earlier job's files.

    Raises InvalidInput for an image without bytes, and for names that are no plain file names or the folder's own.
    """
    for image in job.images:
        _check_name(image.file)
        if image.file not in images:
            raise InvalidInput(f"the fine-tuning's image {image.file} has no bytes")
    folder.mkdir(parents=True, exist_ok=True)
    for name in (JOB, PROGRESS, CANCEL, PAUSE, ADAPTER, BEST):
        (folder / name).unlink(missing_ok=True)
    for image in job.images:
        (folder / image.file).write_bytes(images[image.file])
    numbers = {name: getattr(job, name) for name in _Job.model_fields if name != "images"}
    stored = {"images": [_stored_image(image) for image in job.images], **numbers}
    replace_text(folder / JOB, json.dumps(stored, ensure_ascii=False))


def read_job(folder: Path) -> TuningJob:
    """Raises InvalidInput, with what is wrong, for anything that ``write_job`` does not write."""
    try:
        stored = _Job.model_validate_json((folder / JOB).read_bytes())
    except OSError as error:
        raise InvalidInput(f"{folder} holds no fine-tuning job: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidInput(f"{folder / JOB} is no fine-tuning job: {where}: {first['msg']}") from None
    numbers = {name: getattr(stored, name) for name in _Job.model_fields if name != "images"}
    return TuningJob(tuple(map(_read_image, stored.images)), **numbers)


def read_progress(folder: Path) -> Progress:
    """How far it is; WAITING where nothing was written yet. Raises InvalidInput for a file that is no progress."""
    try:
        return _PROGRESS.validate_json((folder / PROGRESS).read_bytes())
    except FileNotFoundError:
        return Progress(TuningState.WAITING)
    except (OSError, ValidationError) as error:
        raise InvalidInput(f"{folder / PROGRESS} cannot be read: {str(error).splitlines()[0]}") from None


def write_progress(folder: Path, progress: Progress) -> None:
    """Replace what ``read_progress`` reads, as a whole."""
    replace_text(folder / PROGRESS, json.dumps(asdict(progress)))


def cancel(folder: Path) -> None:
    """End the work soon, in the state CANCELLED; nothing happens when it has ended."""
    (folder / CANCEL).touch()


def pause(folder: Path) -> None:
    """Hold the work up for a second, as somebody is waiting for the machine.

    However often this is said, at least a quarter of the time is the work's own.
    """
    (folder / PAUSE).touch()


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Work on a job, in a process of its own that gives way to all others and ends when this one does.

    What it has to say goes into the folder's log. Raises InvalidInput for a folder without a job.
    """
    job = read_job(folder)
    # The C library's habit of giving freed memory back costs half of a training's time.
    memory = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(job.threads))
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "sam3_core.engine.tuning", str(folder), "--parent", str(os.getpid())],
            env=os.environ | memory | threads,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a terminal's Ctrl-C is for the server, which then ends this
        )


def replace_text(file: Path, text: str) -> None:
    """Write a file so that whoever reads it sees the old or the new one, whole, even after a power cut."""
    part = file.with_name(file.name + ".part")
    with part.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(file)


def _check_name(name: str) -> None:
    taken = {"", "..", JOB, PROGRESS, CANCEL, PAUSE, ADAPTER, LOG, BEST, SIGHTS}
    if name in taken or name != Path(name).name or {"\\", "\0"} & set(name) or name.endswith(".part"):
        raise InvalidInput(f"{name!r} cannot be the name of an image in a fine-tuning's folder")


def _stored_image(image: TuningImage) -> dict[str, object]:
    asked = [
        {
            "phrases": list(one.phrases),
            "truth": [{**coco.encode(truth.mask), "around": truth.around} for truth in one.truth],
        }
        for one in image.asked
    ]
    return {"file": image.file, "asked": asked, "held": image.held}


def _read_image(stored: _Image) -> TuningImage:
    _check_name(stored.file)
    asked = tuple(
        Asked(tuple(one.phrases), tuple(Truth(_mask(truth), truth.around) for truth in one.truth))
        for one in stored.asked
    )
    return TuningImage(stored.file, asked, stored.held)


def _mask(stored: _Truth) -> Mask:
    return coco.decode({"size": stored.size, "counts": stored.counts}, max_megapixels=MEGAPIXELS)
