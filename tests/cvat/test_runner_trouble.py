"""The runner where CVAT, the model or a picture fails: the twin of CVAT's server, through the real cvat-sdk."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cvat_server import CvatServer
from runner_work import fail_patches, go, per_frame, seven_frames, short_waits

from cvat_nuclio import patience
from cvat_nuclio.cvat_task import Frame
from cvat_nuclio.resume import read_notes
from cvat_nuclio.runner import Outcome, Work, begin, fill
from sam3_core import Concept, ConceptResult, EncodedImage, FindOptions, Segmenter
from sam3_core.demo.scenes import Scene
from sam3_core.errors import (
    BrokenImage,
    Busy,
    InvalidPrompt,
    ModelUnavailable,
    NotReady,
    OutOfMemory,
    Sam3Error,
    ServerUnavailable,
    Unauthorized,
)


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
    notes = read_notes(tmp_path / "notes.json")
    assert notes is not None
    assert notes.pending is None
    assert go(work, tmp_path / "notes.json") == []


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
    assert book.notes.filled == {0, 1}


@pytest.mark.parametrize("status", [504, 524, 0])
def test_an_upload_that_is_stored_after_its_error_is_not_sent_again(
    server: CvatServer, work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """Nobody waited for it, but CVAT was still at it."""
    monkeypatch.setattr(patience, "STILL_AT_IT", 60.0)
    book, left = begin(work, work.task.frames()[:2], tmp_path / "notes.json")
    fail_patches(server, [(status, False)], late=0.3)
    outcomes = list(fill(work, left, book, slice_frames=2))
    assert not any(outcome.problem for outcome in outcomes)
    assert per_frame(server, work) == {one.frame.number: len(one.annotations) for one in outcomes}
    assert [request.method for request in server.requests].count("PATCH") == 1


def test_urllib3_does_not_try_uploads_again_by_itself(server: CvatServer, work: Work, tmp_path: Path) -> None:
    server.fail_next("/data/", 503, times=1)
    work.task.picture(work.task.frames()[0])
    server.fail_next("/data/", 502, times=1000)
    work.task.patience.end()
    before = len(server.requests)
    with pytest.raises(ServerUnavailable, match="answers 502"):
        work.task.picture(work.task.frames()[0])
    assert [request.status for request in server.requests[before:]].count(502) == 1


def test_what_cvat_refuses_is_not_pending(server: CvatServer, work: Work, tmp_path: Path) -> None:
    book, left = begin(work, work.task.frames()[:1], tmp_path / "notes.json")
    fail_patches(server, [(400, False)])
    assert [bool(outcome.problem) for outcome in fill(work, left, book)] == [True]
    notes = read_notes(tmp_path / "notes.json")
    assert notes is not None
    assert (notes.pending, notes.filled) == (None, frozenset())


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("place", ["/data/", "/annotations"])
def test_a_login_that_ends_ends_the_run(
    server: CvatServer, work: Work, tmp_path: Path, status: int, place: str
) -> None:
    book, left = begin(work, work.task.frames(), tmp_path / "notes.json")
    server.fail_next(place, status, times=1000)
    with pytest.raises(ServerUnavailable, match=rf"{status}.*--auth says who asks"):
        list(fill(work, left, book))
    assert book.notes.filled == frozenset()


class Troubled:
    """A segmenter that finds as another does, but for the pictures that raise something each time."""

    def __init__(self, real: Segmenter, trouble: dict[str, Sam3Error]) -> None:
        self.info = real.info
        self._real = real
        self._trouble = trouble

    def find(self, image: EncodedImage, concepts: Sequence[Concept], options: FindOptions) -> Sequence[ConceptResult]:
        if error := self._trouble.get(image.key):
            raise error
        return self._real.find(image, concepts, options)


def troubled(work: Work, frame: Frame, error: Sam3Error) -> Work:
    """The same work, in which searching one frame always raises this."""
    key = EncodedImage(work.task.picture(frame)).key
    return replace(work, segmenter=Troubled(work.segmenter, {key: error}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error",
    [
        ModelUnavailable("as told"),
        Unauthorized("as told"),
        InvalidPrompt("as told"),
        NotReady("as told", retry_after=0.01),
        Busy("as told", retry_after=0.01),
        ServerUnavailable("as told"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_no_other_frame_would_mend_ends_the_run_and_those_who_wait(
    work: Work, tmp_path: Path, error: Sam3Error
) -> None:
    frames = work.task.frames()
    book, left = begin(work, frames, tmp_path / "notes.json")
    outcomes = fill(troubled(work, frames[3], error), left, book, in_flight=2, slice_frames=2)
    assert [next(outcomes).frame, next(outcomes).frame] == frames[:2]
    with pytest.raises(type(error), match="as told"):
        next(outcomes)
    assert book.notes.filled == {0, 1}
    tries = []

    def fail() -> None:
        tries.append(1)
        raise NotReady("loading", retry_after=0.01)

    with pytest.raises(NotReady):
        work.task.patience(fail)
    assert len(tries) == 1, "who waits gives up"


@pytest.mark.parametrize(
    "error", [BrokenImage("as told"), OutOfMemory("as told", retry_after=0.01), Sam3Error("as told")], ids=repr
)
def test_what_is_one_frames_problem_leaves_the_others_be(
    server: CvatServer, work: Work, tmp_path: Path, error: Sam3Error
) -> None:
    path = tmp_path / "notes.json"
    frames = work.task.frames()
    outcomes = go(troubled(work, frames[1], error), path)
    assert [outcome.problem for outcome in outcomes] == ["", "as told", "", "", "", ""]
    assert [per_frame(server, work)[frame.number] for frame in frames] == [len(one.annotations) for one in outcomes]
    assert [outcome.frame for outcome in go(work, path)] == [frames[1]]


def test_a_picture_that_cvat_does_not_give_is_its_frames_problem(
    server: CvatServer, work: Work, tmp_path: Path
) -> None:
    book, left = begin(work, work.task.frames(), tmp_path / "notes.json")
    server.fail_next("/data/", 404)
    first, *rest = fill(work, left, book, in_flight=1)
    assert "CVAT does not give the picture: 404" in first.problem
    assert not any(outcome.problem for outcome in rest)


def test_several_frames_are_worked_on_at_once_but_not_all(work: Work, tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=60)
    frames = work.task.frames()
    asked: list[Frame] = []

    def picture(data: bytes) -> EncodedImage:
        together.wait()
        return EncodedImage(data)

    def in_turn() -> Iterator[Frame]:
        for frame in frames:
            asked.append(frame)
            yield frame

    book, _ = begin(work, frames, tmp_path / "notes.json")
    outcomes = fill(replace(work, picture=picture), in_turn(), book, in_flight=3, slice_frames=2)
    seen: list[Outcome] = [next(outcomes), *outcomes]
    assert [outcome.frame for outcome in seen] == asked == frames

    asked.clear()
    slow = fill(work, in_turn(), book, in_flight=1, slice_frames=1)
    next(slow)
    assert asked == frames[:2], "frames are not read ahead without bound"
    assert len([next(slow), *slow]) == 5


def test_slices_are_as_long_as_asked_and_frames_are_told_when_searched(
    server: CvatServer, work: Work, tmp_path: Path
) -> None:
    told: list[int] = []
    stored_then: list[int] = []
    book, left = begin(work, work.task.frames(), tmp_path / "notes.json")

    def seen(outcome: Outcome) -> None:
        told.append(outcome.frame.number)
        stored_then.append(len(book.notes.filled))

    list(fill(work, left, book, slice_frames=4, seen=seen))
    assert told == [0, 1, 3, 4, 5, 6]
    assert stored_then == [0, 0, 0, 0, 4, 4]
    uploads = [request.body["shapes"] for request in server.requests if request.method == "PATCH"]
    assert [
        {shape["frame"] for shape in upload} <= frames
        for upload, frames in zip(uploads, ({0, 1, 3, 4}, {5, 6}), strict=True)
    ] == [True, True]
