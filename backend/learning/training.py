"""A fine-tuning, from reviewed images to an adapter in its folder: the work is done by a process of its own."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.labeling import Plan
from backend.learning.course import Told
from backend.learning.reviewed import Album, ReviewedImage
from backend.learning.serving import under_lessons
from backend.settings import BackendSettings
from sam3_core.engine.weights import version_of
from sam3_core.errors import Sam3Error
from sam3_core.learning.folds import folds, held_out
from sam3_core.learning.lessons import Lessons
from sam3_core.tuning import (
    ADAPTER,
    Asked,
    TuningImage,
    TuningJob,
    TuningState,
    cancel,
    pause,
    read_progress,
    start,
    write_job,
)
from sam3_core.wording import Words, read_glossary

log = logging.getLogger(__name__)

_LOOK = 0.25  # seconds between two looks at the progress, and at what people do
_GRACE = 20.0  # seconds for a job to end by itself
_FEWEST = 8  # images on each side, or there is nothing to learn from or to judge by
_JOB = ".job-"
_KEPT_OUT = 5  # a fifth of what is learned from tells when it is enough; it judges nothing


class TuningFailed(Sam3Error):
    """A fine-tuning came to nothing; the sentence says why."""

    status = 500


@dataclass(frozen=True, slots=True)
class Trained:
    """adapter: the name under which it can be searched with. tasks: those that it was trained on."""

    adapter: str
    tasks: tuple[str, ...]
    file: Path

    def forget(self) -> None:
        """It is of no use."""
        self.file.unlink(missing_ok=True)


def train(
    project: str,
    images: Sequence[ReviewedImage],
    plan: Plan,
    album: Album,
    settings: BackendSettings,
    serving: Lessons,
    version: str,
    told: Told,
    clicks: Callable[[], int],
) -> Trained:
    """Fine-tune on the images whose task is not held out, with the wordings that serve.

    version: of the weights that serve. clicks: how many were answered so far; the training pauses while they come.
    Raises TuningFailed, and what ``told`` raises; then the process is ended, and
    nothing is left.
    """
    folder = settings.adapters_folder
    if folder is None:
        raise TuningFailed("fine-tuning needs a place for what it makes: set SAM3_STORE")
    if version_of(settings.model) != version:
        raise TuningFailed(
            f"fine-tuning needs the weights that serve here too: SAM3_MODEL is {settings.model}, not {version}"
        )
    held = [image for image in images if held_out(image.group)]
    if min(len(held), len(images) - len(held)) < _FEWEST:
        raise TuningFailed(
            f"fine-tuning needs {_FEWEST} reviewed images to learn from and {_FEWEST} to be judged by: there are "
            f"{len(images) - len(held)} and {len(held)}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(f"{_JOB}*"):  # of a server that was killed
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_JOB, dir=folder, ignore_cleanup_errors=True) as place:
        job = Path(place)
        told("fine-tuning: fetching images", 0.0)
        learned_from = [image for image in images if not held_out(image.group)]
        _write(job, learned_from, under_lessons(plan, serving), album, settings)
        _supervised(job, told, clicks)
        name = f"p{project}-{hashlib.blake2b((job / ADAPTER).read_bytes(), digest_size=6).hexdigest()}"
        # Copied beside its place first: a half one never has the name.
        part = folder / f".{name}.{os.getpid()}"
        shutil.copyfile(job / ADAPTER, part)
        file = part.replace(folder / f"{name}.safetensors")
    return Trained(name, tuple(sorted({image.group for image in learned_from})), file)


def _write(job: Path, images: Sequence[ReviewedImage], plan: Plan, album: Album, settings: BackendSettings) -> None:
    words = Words({} if settings.glossary is None else read_glossary(settings.glossary))

    def worded(phrases: Sequence[str]) -> tuple[str, ...]:
        """As the model hears them; translation is for who has no wording for a glossary."""
        return tuple(dict.fromkeys(asked for phrase in phrases for asked in words(phrase).asked))

    files: dict[str, bytes] = {}
    shown: list[TuningImage] = []
    for number, (image, picture) in enumerate(album.usable(images)):
        source = plan.source(image.spot.source)
        assert source is not None  # the images come from this plan
        asked = tuple(Asked(worded(label.concept.phrases), image.truth[label.value]) for label in source.labels)
        files[f"{number}.image"] = picture.data
        kept_out = folds([image.group], _KEPT_OUT)[image.group] == 0
        shown.append(TuningImage(f"{number}.image", asked, held=kept_out))
    write_job(
        job,
        TuningJob(
            tuple(shown),
            model=settings.model,
            device=settings.device,
            dtype=settings.dtype,
            minutes=settings.tune_minutes,
            megabytes=settings.tune_mb,
            mirror=settings.tune_mirror,
        ),
        files,
    )


def _supervised(job: Path, told: Told, clicks: Callable[[], int]) -> None:
    """Run the job to its end, whatever that is. Raises TuningFailed, and what ``told`` raises."""
    process = start(job)
    answered = clicks()
    try:
        while process.poll() is None:
            answered, before = clicks(), answered
            if answered != before:
                pause(job)
            progress = read_progress(job)
            told(f"fine-tuning: {progress.sentence or progress.state.value}", progress.done)
            time.sleep(_LOOK)
        progress = read_progress(job)
    finally:
        _end(process, job)
    if progress.state is not TuningState.DONE or not (job / ADAPTER).is_file():
        said = progress.sentence if progress.state is not TuningState.DONE else "there is no adapter"
        raise TuningFailed(f"fine-tuning came to nothing: {said or f'its process ended with {process.returncode}'}")


def _end(process: subprocess.Popen[bytes], job: Path) -> None:
    if process.poll() is not None:
        return
    cancel(job)
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
