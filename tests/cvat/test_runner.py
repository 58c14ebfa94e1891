"""The runner against the twin of CVAT's server, through the real cvat-sdk: what it fills, notes and goes on with."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cvat_sdk import make_client
from cvat_server import CvatServer
from runner_work import go, per_frame, seven_frames, short_waits

from cvat_nuclio import patience
from cvat_nuclio.cvat_task import CvatTask, Frame
from cvat_nuclio.resume import Notes, Slice, read_notes, trace, write_notes
from cvat_nuclio.runner import Work, begin, fill
from sam3_core import Concept, Segmenter
from sam3_core.demo.scenes import Scene
from sam3_core.errors import InvalidInput


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    short_waits(monkeypatch)


@pytest.fixture
def server() -> Iterator[CvatServer]:
    with CvatServer() as server:
        yield server


@pytest.fixture
def work(server: CvatServer, segmenter: Segmenter, scene: Callable[..., Scene]) -> Iterator[Work]:
    with seven_frames(server, segmenter, scene) as work:
        yield work


@pytest.mark.parametrize("arrived", [True, False])
def test_a_crash_between_upload_and_note(server: CvatServer, work: Work, tmp_path: Path, arrived: bool) -> None:
    """The notes are set back to the moment after the slice was sent: the server has it, or has it not."""
    path = tmp_path / "notes.json"
    frames = work.task.frames()
    book, left = begin(work, frames, path)
    sent: list[Slice] = []
    noted = book.note

    def crash_at_second_slice(notes: Notes) -> None:
        if len(sent) == 2 and notes.pending is None:
            raise KeyboardInterrupt
        noted(notes)
        if notes.pending:
            sent.append(notes.pending)
            if len(sent) == 2 and not arrived:
                raise KeyboardInterrupt

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
    assert begin(work, frames, path, clear=True)[1] == left[2:]
    go(work, path, clear=True)
    assert per_frame(server, work).total() == earlier
    assert begin(work, frames, path, clear=True)[1] == frames, "what is done is begun anew"
    assert per_frame(server, work).total() == 0


def test_a_job_takes_its_frames_and_annotations(server: CvatServer, work: Work, tmp_path: Path) -> None:
    with make_client(server.url, access_token="of-the-twin") as client:
        number = server.add_job(work.task.id, 1, 4)
        job = replace(work, task=CvatTask(client, work.task.id, number))
        outcomes = go(job, tmp_path / "notes.json")
        assert [outcome.frame for outcome in outcomes] == [Frame(seed, f"{seed}.jpg") for seed in (1, 3, 4)]
        assert not any(outcome.problem for outcome in outcomes)
        patched = {request.path for request in server.requests if request.method == "PATCH"}
        assert patched == {f"/api/jobs/{number}/annotations/"}
        assert set(per_frame(server, work)) <= {1, 3, 4} != set()
        ground_truth = CvatTask(client, work.task.id, server.add_job(work.task.id, 0, 6, included=(2, 4, 6)))
        assert ground_truth.frames() == [Frame(4, "4.jpg"), Frame(6, "6.jpg")]
        with pytest.raises(InvalidInput, match=f"job {number} belongs to task {work.task.id}, not to task 7"):
            CvatTask(client, 7, number)
    rest = go(work, tmp_path / "notes.json")
    assert [outcome.frame.number for outcome in rest] == [0, 5, 6], "notes are the task's"


def test_other_options_for_some_frames_leave_the_others_as_they_were_noted(
    server: CvatServer, work: Work, tmp_path: Path
) -> None:
    path = tmp_path / "notes.json"
    first = go(work, path)
    other = replace(work, targets=work.targets[:1])
    frames = work.task.frames()
    book, left = begin(other, frames[:2], path, restart=True)
    list(fill(other, left, book))
    with pytest.raises(InvalidInput, match="4 of these 6 frames were filled with other labels"):
        begin(other, frames, path)
    with pytest.raises(InvalidInput, match="2 of these 6 frames were filled with other labels"):
        begin(work, frames, path)
    assert begin(other, frames[:2], path)[1] == begin(work, frames[2:], path)[1] == []
    assert len(first) == 6


def test_clearing_begins_anew_where_the_run_so_far_did_not_clear_the_same(
    server: CvatServer, work: Work, tmp_path: Path
) -> None:
    path = tmp_path / "notes.json"
    frames = work.task.frames()
    book, left = begin(work, frames, path)
    list(fill(work, left[:2], book))
    stored = per_frame(server, work)
    assert begin(work, frames, path, clear=True)[1] == frames
    assert per_frame(server, work) == Counter() != stored
    go(work, path, clear=True)
    with make_client(server.url, access_token="of-the-twin") as client:
        task = CvatTask(client, work.task.id, server.add_job(work.task.id, 0, 6))
        book, left = begin(replace(work, task=task), frames, path, clear=True)
        assert (len(left), per_frame(server, work)) == (6, Counter())
        list(fill(work, left[:3], book))
    assert len(begin(work, frames, path, clear=True)[1]) == 6, "a job was cleared, not the task"


@pytest.mark.parametrize("ago", [0, 3600])
def test_a_cut_off_runs_last_slice_is_waited_for_while_it_may_arrive(
    server: CvatServer, work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ago: int
) -> None:
    monkeypatch.setattr(patience, "STILL_AT_IT", 60.0)
    path, waits = tmp_path / "notes.json", list[float]()
    frames = work.task.frames()
    shapes = work.on(frames[0]).annotations
    traces = frozenset(trace(shape.to_dict()) for shape in shapes)
    pending = Slice(frames=(0,), traces=traces, sent=time.time() - ago)
    write_notes(path, Notes(server=work.task.server, task=work.task.id, plan=work.plan, pending=pending))

    def arrives(seconds: float) -> None:
        waits.append(seconds)
        work.task.add(shapes, traces)

    book, _ = begin(work, frames, path, waits=arrives)
    assert (book.notes.filled == {0}) is (ago == 0)
    assert len(waits) == (ago == 0)


@pytest.mark.parametrize("there", ["half of it", "drawn by hand", "all of it"])
def test_a_slice_has_arrived_when_all_of_it_is_there_and_came_from_a_model(
    server: CvatServer, work: Work, tmp_path: Path, there: str
) -> None:
    path = tmp_path / "notes.json"
    found = [work.on(frame).annotations for frame in work.task.frames()[:2]]
    shapes = [annotation for annotations in found for annotation in annotations]
    traces = frozenset(trace(shape.to_dict()) for shape in shapes)
    assert all(found)
    write_notes(
        path,
        Notes(
            server=work.task.server,
            task=work.task.id,
            plan=work.plan,
            pending=Slice(frames=(0, 1), traces=traces, sent=0.0),
        ),
    )
    if there == "drawn by hand":
        for shape in shapes:
            shape.source = "manual"
    work.task.add(found[0] if there == "half of it" else shapes, traces)
    book, left = begin(work, work.task.frames(), path)
    assert (book.notes.filled == {0, 1}) is (there == "all of it")
    assert (len(left) == 4) is (there == "all of it")
    assert book.notes.pending is None


def test_notes_of_another_task_or_of_other_options_are_not_gone_on_with(work: Work, tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    frames = work.task.frames()
    book, left = begin(work, frames, path)
    list(fill(work, left[:2], book))
    newer: Any = SimpleNamespace(info=lambda: SimpleNamespace(version="another"))
    for other_work in (replace(work, options=replace(work.options, across_iou=0.9)), replace(work, segmenter=newer)):
        with pytest.raises(InvalidInput, match=r"2 of these 6 .* other options or another model"):
            begin(other_work, frames, path)
        assert begin(other_work, frames[2:], tmp_path / "notes.json")[1] == frames[2:]
    notes = read_notes(path)
    assert notes is not None
    for other in ({"task": notes.task + 1}, {"server": "http://another"}):
        write_notes(path, notes.changed(**other))
        with pytest.raises(InvalidInput, match="another resume file"):
            begin(work, frames, path, restart=True)


def test_a_crash_before_the_clearing_is_made_good(
    server: CvatServer, work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "notes.json"
    frames = work.task.frames()
    go(work, tmp_path / "earlier.json")

    def crash(_: CvatTask) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(CvatTask, "clear", crash)
        with pytest.raises(KeyboardInterrupt):
            begin(work, frames, path, clear=True)
    assert per_frame(server, work).total() > 0
    begin(work, frames, path, clear=True)
    assert per_frame(server, work).total() == 0


def test_frames_in_which_nothing_is_found_are_done(work: Work, tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    nothing = replace(
        work, targets=tuple(replace(t, row=replace(t.row, concept=Concept(("hexagon",)))) for t in work.targets)
    )
    outcomes = go(nothing, path)
    assert [outcome.annotations for outcome in outcomes] == [()] * 6
    assert go(nothing, path) == []
