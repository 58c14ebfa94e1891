"""The runner against the twin of CVAT's server, through the real cvat-sdk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cvat_sdk import make_client
from cvat_server import CvatServer

from cvat_nuclio import patience
from cvat_nuclio.cvat_task import CvatTask
from cvat_nuclio.labels import LabelRow, LabelType
from cvat_nuclio.resume import Slice, alone, read_notes
from cvat_nuclio.runner import Outcome, Work, begin, fill
from cvat_nuclio.sdk_shapes import Target
from sam3_core import Concept, Segmenter
from sam3_core.demo.scenes import Scene
from sam3_core.engine import LocalSegmenter
from sam3_core.errors import InvalidInput, ServerUnavailable
from sam3_core.settings import CoreSettings


@pytest.fixture(scope="module")
def segmenter() -> Iterator[Segmenter]:
    segmenter = LocalSegmenter(CoreSettings())
    segmenter.wait_until_ready()
    yield segmenter
    segmenter.close()


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(patience, "_LONGEST_WAIT", 0.01)


@pytest.fixture
def server() -> Iterator[CvatServer]:
    with CvatServer() as server:
        yield server


@pytest.fixture
def work(server: CvatServer, segmenter: Segmenter, scene: Callable[..., Scene]) -> Iterator[Work]:
    """A task of seven frames, of which frame 2 is deleted."""
    pictures = [(f"{seed}.jpg", scene(seed, objects=(2, 4), size=(320, 240)).encode()) for seed in range(7)]
    number = server.add_task(pictures, [{"name": "circle"}, {"name": "star"}], deleted_frames=[2])
    with make_client(server.url, access_token="of-the-twin") as client:
        task = CvatTask(client, number)
        targets = tuple(
            Target(label, LabelRow(name, LabelType.MASK, Concept((name, "square"))))
            for label, name, _ in task.labels()
        )
        yield Work(task, segmenter, targets)


def go(work: Work, path: Path, **options: bool) -> list[Outcome]:
    frames = work.task.frames()
    book, left = begin(work, frames, path, **options)
    return list(fill(work, left, book, in_flight=2, slice_frames=2))


def per_frame(server: CvatServer, work: Work) -> Counter[int]:
    return Counter(shape["frame"] for shape in server.annotations(work.task.id)["shapes"])


@pytest.mark.parametrize(("status", "after"), [(502, False), (502, True), (0, False), (0, True), (429, False)])
def test_uploads_that_fail_for_a_moment_arrive_once(
    server: CvatServer, work: Work, tmp_path: Path, status: int, after: bool
) -> None:
    server.fail_next("/annotations", status, times=1, after=after)
    server.fail_next("/data/", 503, times=2)
    outcomes = go(work, tmp_path / "notes.json")
    found = Counter({outcome.frame.number: len(outcome.annotations) for outcome in outcomes if outcome.annotations})
    assert [outcome.frame.number for outcome in outcomes] == [0, 1, 3, 4, 5, 6]
    assert per_frame(server, work) == found
    assert found.total() > 3
    assert go(work, tmp_path / "notes.json") == []


@pytest.mark.parametrize("arrived", [True, False])
def test_a_crash_between_upload_and_note(server: CvatServer, work: Work, tmp_path: Path, arrived: bool) -> None:
    """The notes are set back to the moment after the slice was sent: the server has it, or has it not."""
    path = tmp_path / "notes.json"
    frames = work.task.frames()
    book, left = begin(work, frames, path)
    sent: list[Slice] = []
    noted = book.note

    def crash_at_second_slice(**changes: object) -> None:
        if len(sent) == 2 and "done" in changes:
            raise KeyboardInterrupt
        if isinstance(pending := changes.get("pending"), Slice):
            sent.append(pending)
            if len(sent) == 2 and not arrived:
                noted(**changes)
                raise KeyboardInterrupt
        noted(**changes)

    book.note = crash_at_second_slice  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        list(fill(work, left, book, in_flight=1, slice_frames=2))
    notes = read_notes(path)
    assert notes is not None
    assert notes.pending == sent[1]
    before = per_frame(server, work)
    assert any(before[frame] for frame in sent[1].frames) is arrived
    with make_client(server.url, access_token="of-the-twin") as client:
        again = replace(work, task=CvatTask(client, work.task.id))
        done = [outcome.frame.number for outcome in go(again, path)]
    assert (set(sent[1].frames) <= set(done)) is not arrived
    shapes = [str((shape["frame"], shape["points"])) for shape in server.annotations(work.task.id)["shapes"]]
    assert len(shapes) == len(set(shapes)) > 3


def test_a_slice_that_cvat_refuses_costs_only_the_frame_it_refuses(
    server: CvatServer, work: Work, tmp_path: Path
) -> None:
    server.fail_next("/annotations", 400, times=2)
    outcomes = go(work, tmp_path / "notes.json")
    failed = [outcome for outcome in outcomes if outcome.problem]
    assert [outcome.frame.number for outcome in failed] == [0]
    assert "does not take" in failed[0].problem
    assert per_frame(server, work)[1] == len(outcomes[1].annotations) > 0
    assert [outcome.frame.number for outcome in go(work, tmp_path / "notes.json")] == [0]


def test_a_server_that_stays_away_ends_the_run_with_a_sentence(
    server: CvatServer, work: Work, tmp_path: Path
) -> None:
    frames = work.task.frames()
    book, left = begin(work, frames, tmp_path / "notes.json")
    server.fail_next("/data/", 502, times=1000)
    with pytest.raises(ServerUnavailable, match="502"):
        list(fill(work, left, book))


def test_other_options_do_not_lie_over_an_earlier_run_unasked(server: CvatServer, work: Work, tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    first = go(work, path)
    stored = per_frame(server, work)
    other = replace(work, targets=work.targets[:1])
    with pytest.raises(InvalidInput, match="--clear-existing"):
        go(other, path)
    assert per_frame(server, work) == stored
    go(other, path, clear=True)
    assert {shape["label_id"] for shape in server.annotations(work.task.id)["shapes"]} == {other.targets[0].label_id}
    assert len(go(other, path, restart=True)) == len(first)


def test_clearing_happens_at_a_runs_start_and_not_when_it_goes_on(
    server: CvatServer, work: Work, tmp_path: Path
) -> None:
    path = tmp_path / "notes.json"
    frames = work.task.frames()
    go(work, tmp_path / "earlier.json")
    earlier = per_frame(server, work).total()
    book, left = begin(work, frames, path, clear=True)
    assert per_frame(server, work).total() == 0
    list(fill(work, left[:2], book))
    go(work, path, clear=True)
    assert per_frame(server, work).total() == earlier


def test_two_runs_at_once_are_one_too_many(tmp_path: Path) -> None:
    with (
        alone(tmp_path / "notes.json"),
        pytest.raises(InvalidInput, match="another run"),
        alone(tmp_path / "notes.json"),
    ):
        pass


def test_a_job_takes_its_frames_and_annotations(server: CvatServer, work: Work, tmp_path: Path) -> None:
    with make_client(server.url, access_token="of-the-twin") as client:
        job = CvatTask(client, work.task.id, work.task.id)
        outcomes = go(replace(work, task=job), tmp_path / "notes.json")
    assert [outcome.frame.name for outcome in outcomes] == [f"{seed}.jpg" for seed in (0, 1, 3, 4, 5, 6)]
    assert not any(outcome.problem for outcome in outcomes)
    patched = {request.path for request in server.requests if request.method == "PATCH"}
    assert patched == {f"/api/jobs/{work.task.id}/annotations/"}
