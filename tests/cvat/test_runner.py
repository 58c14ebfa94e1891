"""The runner against the twin of CVAT's server, through the real cvat-sdk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cvat_sdk import make_client
from cvat_server import CvatServer

from cvat_nuclio import patience
from cvat_nuclio.cvat_task import CvatTask
from cvat_nuclio.labels import LabelRow, LabelType
from cvat_nuclio.resume import Notes, Slice, read_notes, trace, write_notes
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
    fail_patches(server, [(400, False)] * 2)
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


def test_a_job_takes_its_frames_and_annotations(server: CvatServer, work: Work, tmp_path: Path) -> None:
    with make_client(server.url, access_token="of-the-twin") as client:
        job = CvatTask(client, work.task.id, work.task.id)
        outcomes = go(replace(work, task=job), tmp_path / "notes.json")
    assert [outcome.frame.name for outcome in outcomes] == [f"{seed}.jpg" for seed in (0, 1, 3, 4, 5, 6)]
    assert not any(outcome.problem for outcome in outcomes)
    patched = {request.path for request in server.requests if request.method == "PATCH"}
    assert patched == {f"/api/jobs/{work.task.id}/annotations/"}


@pytest.mark.parametrize(("status", "times"), [(524, 1), (500, 3)])
def test_an_upload_that_was_stored_under_an_error_is_not_sent_again(
    server: CvatServer, work: Work, tmp_path: Path, status: int, times: int
) -> None:
    """A proxy that does not wait, and an error that follows the storing of the last try."""
    book, left = begin(work, work.task.frames()[:2], tmp_path / "notes.json")
    fail_patches(server, [(status, tried == times - 1) for tried in range(times)])
    outcomes = list(fill(work, left, book, slice_frames=2))
    found = Counter({outcome.frame.number: len(outcome.annotations) for outcome in outcomes if outcome.annotations})
    assert not any(outcome.problem for outcome in outcomes)
    assert per_frame(server, work) == found != Counter()
    assert book.notes.done == {0, 1}


def fail_patches(server: CvatServer, failures: list[tuple[int, bool]]) -> None:
    """The next uploads fail one after the other, each with its status, before or after it was carried out."""
    real = server._respond

    def respond(method: str, target: str, headers: dict[str, str], body: Any) -> Any:
        if method == "PATCH" and failures:
            status, after = failures.pop(0)
            server.fail_next("/annotations", status, after=after)
        return real(method, target, headers, body)

    server._respond = respond  # type: ignore[method-assign]


def test_urllib3_does_not_try_uploads_again_by_itself(server: CvatServer, work: Work, tmp_path: Path) -> None:
    server.fail_next("/data/", 503, times=1)
    work.task.picture(work.task.frames()[0])
    server.fail_next("/data/", 502, times=1000)
    work.task.patience.end()
    before = len(server.requests)
    with pytest.raises(ServerUnavailable, match="answers 502"):
        work.task.picture(work.task.frames()[0])
    assert [request.status for request in server.requests[before:]].count(502) == 1


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
            server=work.task.server, task=work.task.id, plan=work.plan, pending=Slice(frames=(0, 1), traces=traces)
        ),
    )
    if there == "drawn by hand":
        for shape in shapes:
            shape.source = "manual"
    work.task.add(found[0] if there == "half of it" else shapes, traces)
    book, left = begin(work, work.task.frames(), path)
    assert (book.notes.done == {0, 1}) is (there == "all of it")
    assert (len(left) == 4) is (there == "all of it")
    assert book.notes.pending is None


def test_what_cvat_refuses_is_not_pending(server: CvatServer, work: Work, tmp_path: Path) -> None:
    book, left = begin(work, work.task.frames()[:1], tmp_path / "notes.json")
    fail_patches(server, [(400, False)])
    assert [bool(outcome.problem) for outcome in fill(work, left, book)] == [True]
    notes = read_notes(tmp_path / "notes.json")
    assert notes is not None
    assert (notes.pending, notes.done) == (None, frozenset())


def test_notes_of_another_task_or_of_other_options_are_not_gone_on_with(work: Work, tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    frames = work.task.frames()
    begin(work, frames, path)
    newer: Any = SimpleNamespace(info=lambda: SimpleNamespace(version="another"))
    for other_work in (replace(work, options=replace(work.options, across_iou=0.9)), replace(work, segmenter=newer)):
        with pytest.raises(InvalidInput, match="other options or another model"):
            begin(other_work, frames, path)
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
