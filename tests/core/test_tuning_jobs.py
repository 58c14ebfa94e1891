"""The folder of a fine-tuning: what is written is what is read, and nothing else is taken for it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from sam3_core.engine.tuning import report
from sam3_core.errors import InvalidInput
from sam3_core.learning.examples import Truth
from sam3_core.masks import Mask
from sam3_core.tuning import (
    JOB,
    PROGRESS,
    Asked,
    Progress,
    TuningImage,
    TuningJob,
    TuningState,
    cancel,
    pause,
    read_job,
    read_progress,
    start,
    write_job,
    write_progress,
)


@st.composite
def _truths(draw: st.DrawFn) -> Truth:
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    bits = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    return Truth(Mask.from_full(np.array(bits).reshape(height, width)), draw(st.booleans()))


_asked = st.builds(
    Asked, st.lists(st.text(max_size=8), max_size=3).map(tuple), st.lists(_truths(), max_size=3).map(tuple)
)
_images = st.lists(st.tuples(st.lists(_asked, max_size=2).map(tuple), st.booleans()), max_size=3)


def _job(asked: tuple[Asked, ...] = (), **numbers: object) -> TuningJob:
    return TuningJob((TuningImage("a.jpg", asked),), "demo", **numbers)  # type: ignore[arg-type]


@settings(max_examples=30)
@given(_images, st.floats(0.01, 1e6), st.integers(1, 10**6))
def test_a_job_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, images: list[tuple[tuple[Asked, ...], bool]], minutes: float, rank: int
) -> None:
    folder = tmp_path_factory.mktemp("job")
    named = tuple(TuningImage(f"{n}.png", asked, held) for n, (asked, held) in enumerate(images))
    job = TuningJob(named, "demo", minutes=minutes, rank=rank)
    write_job(folder, job, {image.file: image.file.encode() for image in named})
    read = read_job(folder)
    assert (read.model, read.minutes, read.rank, read.rate) == (job.model, minutes, rank, job.rate)
    for ours, theirs in zip(read.images, job.images, strict=True):
        assert (folder / ours.file).read_bytes() == theirs.file.encode()
        assert (ours.file, ours.held) == (theirs.file, theirs.held)
        for mine, written in zip(ours.asked, theirs.asked, strict=True):
            assert mine.phrases == written.phrases
            for one, other in zip(mine.truth, written.truth, strict=True):
                assert one.around is other.around
                np.testing.assert_array_equal(one.mask.full(), other.mask.full())


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a.jpg", "/etc/passwd", "a/b.jpg", "a\\b.jpg", "a\0.jpg", JOB, PROGRESS, "cancel", "x.part"],
)
def test_an_image_cannot_be_written_elsewhere_or_over_the_folders_own_files(tmp_path: Path, name: str) -> None:
    job = TuningJob((TuningImage(name, ()),), "demo")
    with pytest.raises(InvalidInput, match="cannot be the name of an image"):
        write_job(tmp_path / "job", job, {name: b"x"})
    assert not (tmp_path / "job").exists()


def test_an_image_without_bytes_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"a\.jpg has no bytes"):
        write_job(tmp_path / "job", _job(), {})
    assert not (tmp_path / "job").exists()


def _broken() -> dict[str, object]:
    mask = {"size": [2, 2], "counts": "04", "around": False}
    good = {"file": "a.jpg", "held": False, "asked": [{"phrases": ["dog"], "truth": [mask]}]}
    first = {"images": [good]}
    return {
        "no object": [],
        "images": {"images": "a.jpg"},
        "an unknown field": first | {"surprise": 1},
        "a word for a number": first | {"epochs": "many"},
        "true for a number": first | {"epochs": True},
        "no epochs": first | {"epochs": 0},
        "a negative rate": first | {"rate": -1.0},
        "a path": {"images": [good | {"file": "../../a.jpg"}]},
        "counts": {"images": [good | {"asked": [{"phrases": [], "truth": [mask | {"counts": "0999"}]}]}]},
        "a size": {"images": [good | {"asked": [{"phrases": [], "truth": [mask | {"size": [10**6, 10**6]}]}]}]},
        "held as a word": {"images": [good | {"held": "yes"}]},
    }


@pytest.mark.parametrize("what", _broken())
def test_a_job_that_was_not_written_here_is_refused_with_a_sentence(tmp_path: Path, what: str) -> None:
    write_job(tmp_path, _job(), {"a.jpg": b"x"})
    stored, change = json.loads((tmp_path / JOB).read_text()), _broken()[what]
    (tmp_path / JOB).write_text(json.dumps(stored | change if isinstance(change, dict) else change))
    with pytest.raises(InvalidInput):
        read_job(tmp_path)


@pytest.mark.parametrize("text", [None, "", "{", '{"images": ', "\udcff"])
def test_a_folder_without_a_whole_job_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / JOB).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidInput):
        read_job(tmp_path)
    with pytest.raises(InvalidInput):
        start(tmp_path)


@pytest.mark.parametrize("number", ["minutes", "megabytes", "epochs", "patience", "rank", "rate", "batch", "threads"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_job_takes_amounts_only(number: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=number):
        _job(**{number: value})


def test_progress_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_progress(tmp_path) == Progress(TuningState.WAITING)
    for progress in (
        Progress(TuningState.TRAINING, 0.5, 3, 1.25, 2.5, 2.0, 17.5),
        Progress(TuningState.FAILED, sentence="“no” images\n"),
    ):
        write_progress(tmp_path, progress)
        assert read_progress(tmp_path) == progress
    (tmp_path / PROGRESS).write_text('{"state": "asleep"}')
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_progress(tmp_path)


def test_a_new_job_in_the_same_folder_is_not_the_old_one(tmp_path: Path) -> None:
    write_job(tmp_path, _job(), {"a.jpg": b"x"})
    write_progress(tmp_path, Progress(TuningState.DONE))
    (tmp_path / "adapter.safetensors").write_bytes(b"old")
    cancel(tmp_path)
    cancel(tmp_path)
    write_job(tmp_path, _job(rank=3), {"a.jpg": b"y"})
    assert read_job(tmp_path).rank == 3
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.jpg", JOB]
    assert read_progress(tmp_path).state is TuningState.WAITING


def test_a_pause_holds_the_work_up_for_a_moment_and_never_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(report.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(report.time, "time", lambda: now[0])
    monkeypatch.setattr(report.time, "sleep", sleep)
    told = report.Report(tmp_path)
    told.check()
    assert slept == [], "nobody asked for a pause"
    now[0] += 100.0
    pause(tmp_path)
    os.utime(tmp_path / "pause", (now[0], now[0]))
    told.check()
    assert 0.9 < sum(slept) < 1.2, "a moment"
    for _ in range(2000):  # people who never stop
        os.utime(tmp_path / "pause", (now[0] + 10, now[0] + 10))
        told.check()
        now[0] += 0.2
    working = now[0] - 1000.0 - sum(slept)
    assert 0.24 < working / (now[0] - 1000.0) < 0.7
    cancel(tmp_path)
    with pytest.raises(report.Cancelled):
        told.check()
