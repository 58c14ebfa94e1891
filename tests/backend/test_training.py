"""Fine-tuning as the teacher orders it: what it refuses, and that nothing is left of what came to nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from request_bodies import data_url

from backend.images import ImageReader
from backend.labeling import Plan, resolve_plan
from backend.learning import training
from backend.learning.courses import Cancelled
from backend.learning.evidence import Spot
from backend.learning.reviewed import Album, ReviewedImage
from backend.learning.training import TuningFailed, train
from backend.pictures import Pictures
from backend.settings import BackendSettings
from sam3_core import Mask
from sam3_core.demo.scenes import Scene, render_scene
from sam3_core.engine.weights import version_of
from sam3_core.learning.examples import Truth
from sam3_core.learning.folds import held_out
from sam3_core.learning.lessons import NOTHING_LEARNED
from sam3_core.tuning import PAUSE, Progress, TuningState, read_job, write_progress

PLAN = resolve_plan(
    '<View><Image name="image" value="$image"/><PolygonLabels name="out" toName="image">'
    '<Label value="Star" prompt="star; 星"/></PolygonLabels></View>'
)
DEMO = version_of("demo")


@pytest.fixture(scope="module")
def images() -> list[ReviewedImage]:
    scene: Scene = render_scene(3, objects=(2, 3), size=(100, 80))
    address = data_url(scene.encode())
    truth = {
        "Star": tuple(Truth(Mask.from_full(np.asarray(one.mask))) for one in scene.objects if one.shape == "star")
    }
    return [ReviewedImage(Spot("7", str(task), "image", 0), address, truth) for task in range(60)]


@pytest.fixture
def settings(tmp_path: Path) -> BackendSettings:
    glossary = tmp_path / "glossary.txt"
    glossary.write_text("星: star; asterisk\n", encoding="utf-8")
    return BackendSettings(store=tmp_path / "store.db", glossary=glossary, tune_mirror=False, tune_minutes=2)


def run(
    images: list[ReviewedImage],
    settings: BackendSettings,
    told: Callable[[str, float], None] = lambda *_: None,
    clicks: Callable[[], int] = lambda: 0,
    version: str = DEMO,
    plan: Plan = PLAN,
) -> training.Trained:
    album = Album(Pictures(ImageReader(settings), megabytes=16), None, 100)
    return train("7", images, plan, album, settings, NOTHING_LEARNED, version, told, clicks)


@pytest.mark.parametrize(
    ("changed", "count", "version", "said"),
    [
        ({"store": None}, 60, DEMO, "SAM3_STORE"),
        ({}, 60, "facebook/sam3", "SAM3_MODEL is demo"),
        ({}, 9, DEMO, "8 reviewed images"),
    ],
)
def test_what_cannot_be_trained_is_a_sentence(
    images: list[ReviewedImage],
    settings: BackendSettings,
    changed: dict[str, object],
    count: int,
    version: str,
    said: str,
) -> None:
    with pytest.raises(TuningFailed, match=said):
        run(images[:count], settings.model_copy(update=changed), version=version)


class Work:
    """Stands for the process: a script of a line, in a job's real folder."""

    def __init__(self, script: str, progress: Progress) -> None:
        self.script, self.progress = script, progress
        self.folder: Path | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self, folder: Path) -> subprocess.Popen[bytes]:
        self.folder, self.job = folder, read_job(folder)
        write_progress(folder, self.progress)
        self.process = subprocess.Popen([sys.executable, "-c", self.script], cwd=folder)
        return self.process


WRITES = "open('adapter.safetensors', 'wb').write(b'weights')"


def test_the_adapter_gets_a_name_of_its_own_and_the_job_is_tidied_up(
    images: list[ReviewedImage], settings: BackendSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(WRITES, Progress(TuningState.DONE, 1.0))
    monkeypatch.setattr(training, "start", work)
    folder = settings.adapters_folder
    assert folder is not None
    (folder / ".job-of-a-killed-server").mkdir(parents=True)
    trained = run(images, settings)
    assert [file.name for file in folder.iterdir()] == [f"{trained.adapter}.safetensors"]
    assert (folder / f"{trained.adapter}.safetensors").read_bytes() == b"weights"
    assert work.folder is not None
    assert not work.folder.exists()
    held = {image.group for image in images if held_out(image.group)}
    assert set(trained.tasks) == {image.group for image in images} - held
    assert len(work.job.images) == len(images) - len(held), "what it is judged by is not even in the folder"
    assert 0 < sum(image.held for image in work.job.images) < len(work.job.images) / 2
    assert {one.phrases for image in work.job.images for one in image.asked} == {("star", "asterisk")}
    assert not work.job.mirror
    trained.forget()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "progress", "said"),
    [
        ("raise SystemExit(1)", Progress(TuningState.FAILED, sentence="no memory"), "no memory"),
        ("import os; os.kill(os.getpid(), 9)", Progress(TuningState.TRAINING, sentence="epoch 2"), "came to nothing"),
        ("", Progress(TuningState.DONE), "there is no adapter"),
        (WRITES, Progress(TuningState.TRAINING), "came to nothing"),
    ],
)
def test_what_comes_to_nothing_leaves_nothing(
    images: list[ReviewedImage],
    settings: BackendSettings,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    progress: Progress,
    said: str,
) -> None:
    monkeypatch.setattr(training, "start", Work(script, progress))
    with pytest.raises(TuningFailed, match=said):
        run(images, settings)
    assert settings.adapters_folder is not None
    assert list(settings.adapters_folder.iterdir()) == []


def test_a_cancelled_training_ends_its_process(
    images: list[ReviewedImage], settings: BackendSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = "import os, time\nwhile not os.path.exists('cancel'): time.sleep(0.01)"
    work = Work(waits, Progress(TuningState.TRAINING, 0.5))
    monkeypatch.setattr(training, "start", work)

    def told(step: str, done: float) -> None:
        if done == 0.5:
            raise Cancelled("it was cancelled")

    with pytest.raises(Cancelled):
        run(images, settings, told)
    assert work.process is not None
    assert work.process.poll() == 0
    assert work.folder is not None
    assert not work.folder.exists()


def test_it_pauses_while_people_click(
    images: list[ReviewedImage], settings: BackendSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = f"import os, time\nwhile not os.path.exists({PAUSE!r}): time.sleep(0.01)\n" + WRITES
    work = Work(waits, Progress(TuningState.DONE, 1.0))
    monkeypatch.setattr(training, "start", work)
    began = time.monotonic()

    def clicks() -> int:
        quiet = time.monotonic() - began < 1.0
        assert work.folder is None or not quiet or not (work.folder / PAUSE).exists()
        return 0 if quiet else 1

    run(images, settings, clicks=clicks)
