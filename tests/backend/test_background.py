"""Batches that outlive their request: answered in time, gone on with, stored once, joined, and ended in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from predictions_api import PredictionsStandIn, predictions_api
from request_bodies import CONFIG, predict_body
from scene_segmenter import VERSION, SceneSegmenter

from backend.app import EXTENSION, create_app
from backend.bodies import Task
from backend.model import Runtime, Sam3Backend
from backend.pieces import JobInfo
from backend.settings import BackendSettings
from sam3_core import Caller, EncodedImage, Lane
from sam3_core.demo.scenes import Scene
from sam3_core.errors import Busy, ModelUnavailable, NotReady

Result = dict[str, Any] | list[Any]


def until(what: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def hold(release: threading.Event) -> None:
    """Answer as usual, but later."""
    release.wait(30)


class Gate:
    """In front of the segmenter: lets so many searches through, the others wait. seen: how many came."""

    def __init__(self, oracle: SceneSegmenter) -> None:
        self._find, self._open, self.seen = oracle.find, threading.Semaphore(0), 0
        self.errors: list[Exception] = []
        oracle.find = self  # type: ignore[method-assign, assignment]

    def __call__(self, image: EncodedImage, *rest: Any, **more: Any) -> Any:
        self.seen += 1
        if self.errors:
            raise self.errors.pop()
        assert self._open.acquire(timeout=30)
        return self._find(image, *rest, **more)

    def let(self, count: int = 1000) -> None:
        self._open.release(count)


@pytest.fixture
def label_studio() -> Iterator[PredictionsStandIn]:
    with predictions_api() as site:
        yield site


@pytest.fixture
def gate(oracle: SceneSegmenter) -> Iterator[Gate]:
    gate = Gate(oracle)
    yield gate
    gate.let()  # threads of a test that failed


class House:
    """A runtime, and requests to it as Label Studio's project 1 makes them."""

    def __init__(
        self, oracle: SceneSegmenter, label_studio: PredictionsStandIn, scene: Scene, **settings: Any
    ) -> None:
        self.label_studio = label_studio
        label_studio.files["/data/upload/1/a.png"] = oracle.add(scene)
        said = {"label_studio_url": label_studio.url, "label_studio_api_key": label_studio.personal} | settings
        self.runtime = Runtime(BackendSettings(**said), oracle)

    def ask(self, numbers: range | list[int], seconds: float = 20, caller: Caller | None = None) -> list[Result]:
        tasks = [Task({"image": "/data/upload/1/a.png"}, number) for number in numbers]
        lane = Lane.CLICK if len(tasks) == 1 else Lane.BULK
        model = Sam3Backend("1", CONFIG, self.runtime)
        return model.predict(tasks, caller=caller or Caller.within(seconds, lane))

    @property
    def job(self) -> JobInfo:
        """The newest one."""
        return self.runtime.prelabeler.jobs()[0]

    def finished(self, state: str = "finished") -> JobInfo:
        until(lambda: self.job.state in ("finished", "stopped"))
        assert self.job.state == state, self.job
        return self.job


@pytest.fixture
def house(oracle: SceneSegmenter, label_studio: PredictionsStandIn, scenes: list[Scene]) -> House:
    return House(oracle, label_studio, scenes[0])


def given(results: list[Result]) -> list[bool]:
    """Which tasks were answered; the others got ``[]``, for which Label Studio stores nothing."""
    assert all(result == [] or (isinstance(result, dict) and result["result"]) for result in results)
    return [result != [] for result in results]


# ---- going on ----------------------------------------------------------------------------------------------------


def test_what_is_not_ready_in_time_is_stored_later(house: House, gate: Gate) -> None:
    gate.let(3)
    answered = given(house.ask(range(12), 1))
    assert sum(answered) == 3
    assert house.job.state == "going on"
    assert house.job.waiting == 9
    gate.let()
    job = house.finished()
    assert house.label_studio.tasks() == [number for number in range(12) if not answered[number]]
    assert {prediction["model_version"] for prediction in house.label_studio.stored} == {VERSION}
    assert all(prediction["result"] and prediction["project"] == 1 for prediction in house.label_studio.stored)
    assert (job.total, job.done, job.pushed, job.failed, job.waiting) == (12, 12, 9, 0, 0)
    assert gate.seen == 12


def test_a_client_that_hangs_up_loses_nothing(house: House, gate: Gate) -> None:
    here = threading.Event()
    here.set()
    caller = Caller(Lane.BULK, time.monotonic() + 60, here.is_set)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(house.ask, range(6), caller=caller)
        gate.let(3)
        until(lambda: gate.seen > 0)
        until(lambda: house.job.done == 3)
        here.clear()
        assert given(asked.result(10)) == [False] * 6
        gate.let()
    assert house.finished().pushed == 6
    assert house.label_studio.tasks() == list(range(6))


def test_an_opened_task_goes_on_too(house: House, gate: Gate) -> None:
    assert house.ask([5], 0.5) == [[]]
    gate.let()
    house.finished()
    assert house.label_studio.tasks() == [5]


def test_without_a_token_nobody_computes_what_nobody_can_receive(
    oracle: SceneSegmenter,
    label_studio: PredictionsStandIn,
    scenes: list[Scene],
    gate: Gate,
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House(oracle, label_studio, scenes[0], label_studio_api_key=None)
    label_studio.routes["/data/upload/1/a.png"] = lambda _: (200, {}, scenes[0].encode("PNG"))
    gate.let(3)
    assert sum(given(house.ask(range(12), 1))) == 3
    gate.let()
    job = house.finished("stopped")
    assert "no token" in job.sentence
    assert "SAM3_LABEL_STUDIO_API_KEY" in caplog.text
    assert (job.failed, job.pushed) == (9, 0)
    assert gate.seen <= 3 + 4  # those that were in flight
    assert not any("/api/" in path for path, _ in label_studio.requests)


def test_a_refused_token_ends_the_job_at_once(house: House, gate: Gate) -> None:
    assert given(house.ask(range(100), 0.5)) == [False] * 100
    house.label_studio.trouble = lambda method, task: (403, {}, b"")
    gate.let()
    job = house.finished("stopped")
    assert "answered 403 to a personal access token" in job.sentence
    assert job.failed == 100
    assert gate.seen < 40


def test_the_search_waits_for_label_studio(house: House, gate: Gate) -> None:
    """Masks take megabytes: only so many predictions wait to be stored."""
    release = threading.Event()
    house.label_studio.trouble = lambda method, task: hold(release)
    house.ask(range(60), 0.2)
    gate.let()
    until(lambda: house.job.done >= 16)
    time.sleep(0.5)
    assert house.job.done <= 16 + 4 + 2
    release.set()
    assert house.finished().pushed == 60


def test_bad_images_are_stored_as_what_they_are(house: House, gate: Gate) -> None:
    """As in an answer: an empty prediction; the reason is in the log."""
    tasks = [Task({"image": name}, number) for number, name in enumerate(("/data/upload/1/a.png", "/nothing.png"))]
    gone = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        caller = Caller(Lane.BULK, wanted=lambda: not gone.is_set())
        asked = pool.submit(Sam3Backend("1", CONFIG, house.runtime).predict, tasks, caller=caller)
        until(lambda: gate.seen == 1)
        gone.set()
        assert asked.result(10) == [[], []]
    gate.let()
    house.finished()
    assert {stored["task"]: bool(stored["result"]) for stored in house.label_studio.stored} == {0: True, 1: False}


# ---- Label Studio's troubles ---------------------------------------------------------------------------------------


def test_a_hiccup_is_tried_again_after_the_time_it_names(house: House, gate: Gate) -> None:
    troubles = [(503, {"Retry-After": "0"}, b""), (500, {}, b""), (429, {"Retry-After": "2"}, b"")]
    met: list[tuple[float, int]] = []

    def trouble(method: str, task: int) -> Any:
        met.append((time.monotonic(), task))
        return troubles.pop() if troubles else None

    house.label_studio.trouble = trouble
    house.ask([1, 2], 0.2)
    gate.let()
    assert house.finished().pushed == 2
    assert house.label_studio.tasks() == [1, 2]
    assert len(met) == 3 + 4
    (first, task), *later = met
    assert next(when for when, again in later if again == task) - first >= 2


def test_a_push_whose_answer_got_lost_is_not_repeated(house: House, gate: Gate) -> None:
    lost: list[int] = []

    def trouble(method: str, task: int) -> Any:
        if method == "POST" and task not in lost:
            lost.append(task)
            house.label_studio.stored.append({"task": task, "model_version": VERSION})
            return 502, {}, b""
        return None

    house.label_studio.trouble = trouble
    house.ask(range(3), 0.2)
    gate.let()
    assert house.finished().pushed == 3
    assert house.label_studio.tasks() == [0, 1, 2]


def test_a_task_that_is_gone_does_not_keep_the_others(house: House, gate: Gate) -> None:
    house.label_studio.trouble = lambda method, task: (400, {}, b"") if task == 2 else None
    house.ask(range(5), 0.2)
    gate.let()
    job = house.finished("stopped")
    assert (job.pushed, job.failed) == (4, 1)
    assert job.sentence.endswith("left open: tasks 2")
    assert house.label_studio.tasks() == [0, 1, 3, 4]


def test_a_label_studio_that_stays_away_is_given_up(
    oracle: SceneSegmenter, label_studio: PredictionsStandIn, scenes: list[Scene], gate: Gate
) -> None:
    house = House(oracle, label_studio, scenes[0], push_seconds=1.5)
    label_studio.trouble = lambda method, task: (500, {}, b"")
    house.ask(range(50), 0.2)
    gate.let()
    job = house.finished("stopped")
    assert "did not help" in job.sentence
    assert job.failed == 50
    assert "tasks 0, " in job.sentence
    assert job.sentence.endswith(", ...")
    assert oracle.calls < 30


# ---- pressed twice -------------------------------------------------------------------------------------------------


def test_a_second_press_joins_the_first(house: House, gate: Gate) -> None:
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(house.ask, range(8))
        until(lambda: gate.seen == 4)
        second = pool.submit(house.ask, range(10))
        until(lambda: len(house.runtime.prelabeler.jobs()) == 2)
        gate.let()
        answers = [given(one.result(20)) for one in (first, second)]
    assert gate.seen == 10
    both = [one + two for one, two in zip(answers[0], answers[1], strict=False)]
    assert both == [1] * 8  # each in one of the answers, or Label Studio would store it twice
    assert answers[1][8:] == [True, True]
    assert house.label_studio.stored == []


def test_a_second_press_while_the_first_goes_on(house: House, gate: Gate) -> None:
    first = given(house.ask(range(6), 0.3))
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(house.ask, range(6))
        time.sleep(0.2)
        gate.let()
        answered = given(second.result(20))
    house.finished()
    assert first == [False] * 6
    assert gate.seen == 6
    assert sorted(house.label_studio.tasks() + [n for n in range(6) if answered[n]]) == list(range(6))


def test_an_answer_is_left_to_the_label_studio_that_is_storing_it(house: House, gate: Gate) -> None:
    """It takes 0.17 s for each on SQLite, and a press in that time asks for the rest again."""
    gate.let()
    assert given(house.ask(range(6))) == [True] * 6
    assert given(house.ask(range(3, 9))) == [False] * 3 + [True] * 3
    assert gate.seen == 9


def test_other_images_another_plan_or_project_are_no_second_press(house: House, gate: Gate) -> None:
    gate.let()
    tasks = [Task({"image": "/data/upload/1/a.png"}, number) for number in range(2)]
    other = [Task({"image": "/data/upload/1/a.png?again"}, number) for number in range(2)]
    house.label_studio.files["/data/upload/1/a.png?again"] = house.label_studio.files["/data/upload/1/a.png"]
    plans = [("1", CONFIG, tasks), ("1", CONFIG, other), ("2", CONFIG, tasks)]
    plans += [
        ("1", CONFIG.replace('value="star"', 'value="star" top_k="1"'), tasks),
        ("", CONFIG, tasks),
        ("", CONFIG, tasks),
    ]
    for project, config, asked in plans:
        assert given(Sam3Backend(project, config, house.runtime).predict(asked)) == [True, True]
    assert gate.seen == 12


def test_whoever_opens_a_task_of_a_batch_need_not_wait_for_the_batch(
    house: House, gate: Gate, oracle: SceneSegmenter
) -> None:
    with ThreadPoolExecutor(2) as pool:
        batch = pool.submit(house.ask, range(50))
        until(lambda: gate.seen == 4)
        opened = pool.submit(house.ask, [49])
        until(lambda: gate.seen == 5)
        gate.let(5)
        assert given(opened.result(10)) == [True]
        gate.let()
        assert given(batch.result(20)) == [True] * 49 + [False]
    assert gate.seen == 50
    assert [caller.lane for caller in oracle.callers].count(Lane.CLICK) == 1


def test_two_people_who_open_a_task_both_see_it(house: House, gate: Gate) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(house.ask, [7]) for _ in range(2)]
        until(lambda: gate.seen == 1)
        time.sleep(0.2)
        gate.let()
        assert [given(one.result(10)) for one in both] == [[True], [True]]
    assert gate.seen == 1
    assert given(house.ask([7])) == [True]  # and again later


def test_a_task_twice_in_one_request_is_answered_twice(house: House, gate: Gate) -> None:
    gate.let()
    assert given(house.ask([1, 2, 1])) == [True] * 3
    assert gate.seen == 2


# ---- the model's troubles ------------------------------------------------------------------------------------------


def test_weights_that_come_later_still_serve_a_batch(house: House, gate: Gate) -> None:
    gate.errors = [NotReady("the weights are still loading", retry_after=0.2) for _ in range(4)]
    with pytest.raises(NotReady):
        house.ask(range(6))
    gate.let()
    assert house.finished().pushed == 6
    assert house.label_studio.tasks() == list(range(6))


def test_weights_that_never_come_end_it(house: House, gate: Gate) -> None:
    gate.errors = [ModelUnavailable("no weights") for _ in range(100)]
    with pytest.raises(ModelUnavailable):
        house.ask(range(6))
    assert "no weights" in house.finished("stopped").sentence
    assert gate.seen <= 4


def test_a_full_line_is_tried_again_for_a_batch_and_told_to_a_person(house: House, gate: Gate) -> None:
    gate.let()
    gate.errors = [Busy("too many wait", retry_after=0.1) for _ in range(5)]
    assert given(house.ask(range(6))) == [True] * 6
    gate.errors = [Busy("too many wait", retry_after=0.1)]
    with pytest.raises(Busy):
        house.ask([9])


def test_a_task_for_which_there_is_never_room_is_left_open(house: House, gate: Gate) -> None:
    gate.let()
    gate.errors = [Busy("no room", retry_after=0.01) for _ in range(12)]
    answered = given(house.ask([1, 2]))
    assert answered == [False, False]
    assert house.label_studio.stored == []


# ---- beside each other, and the end --------------------------------------------------------------------------------


def test_as_many_tasks_at_once_as_set(
    oracle: SceneSegmenter, label_studio: PredictionsStandIn, scenes: list[Scene], gate: Gate
) -> None:
    house = House(oracle, label_studio, scenes[0], tasks_in_flight=3)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(house.ask, range(start, start + 9)) for start in (0, 100)]
        until(lambda: len(house.runtime.prelabeler.jobs()) == 2 and gate.seen == 3)
        time.sleep(0.3)
        assert gate.seen == 3
        gate.let(7)
        until(lambda: gate.seen == 10)
        until(lambda: sum(job.done for job in house.runtime.prelabeler.jobs()) == 7)
        assert min(job.done for job in house.runtime.prelabeler.jobs()) >= 2  # in turn
        gate.let()
        assert all(all(given(one.result(20))) for one in both)


def test_no_thread_is_left_when_nothing_is_to_do(house: House, gate: Gate) -> None:
    before = set(threading.enumerate())
    gate.let()
    house.ask(range(8))
    until(lambda: not any(one.name == "sam3-bulk" for one in set(threading.enumerate()) - before))


def test_a_server_that_ends_answers_stores_what_is_ready_and_says_what_is_left(
    house: House, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()
    house.label_studio.trouble = lambda method, task: hold(release)
    house.ask(range(100, 110), 0.2)
    gate.let(4)
    until(lambda: house.job.done >= 4)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(house.ask, range(10))
        until(lambda: len(house.runtime.prelabeler.jobs()) == 2)
        ended = pool.submit(house.runtime.prelabeler.stop, 20.0)
        assert given(waiting.result(10)) == [False] * 10  # at once, not at its deadline
        with pytest.raises(Busy):
            house.ask(range(2))
        release.set()
        gate.let()  # those in flight
        ended.result(15)
    assert len(house.label_studio.stored) >= 4
    jobs = [job for job in house.runtime.prelabeler.jobs() if job.project == "1"]
    assert {job.state for job in jobs} == {"stopped"}
    stored = len(house.label_studio.stored)
    assert "the server" in caplog.text
    assert f"{10 - stored} of 10 tasks are left open: the server was stopped" in caplog.text
    seen = gate.seen
    time.sleep(0.2)
    assert gate.seen == seen


def test_the_end_does_not_wait_for_a_label_studio_that_hangs(house: House, gate: Gate) -> None:
    release = threading.Event()
    house.label_studio.trouble = lambda method, task: hold(release)
    house.ask(range(3), 0.2)
    gate.let()
    until(lambda: house.job.done == 3)
    house.runtime.prelabeler.stop(0.5)
    assert not release.is_set()
    release.set()


def test_five_thousand_tasks_hold_addresses_only(house: House, gate: Gate) -> None:
    """The request's body, with what people drew in it, is not kept by tasks that wait."""
    app = create_app(house.runtime.settings, house.runtime.segmenter)
    extra = {"annotations": [], "predictions": [{"result": ["x" * 100]}]}
    tasks = [{"id": n, "data": {"image": "/data/upload/1/a.png", "other": "y" * 100}} | extra for n in range(5000)]
    app.extensions[EXTENSION].settings.__dict__["request_seconds"] = 0.5
    answer = app.test_client().post("/predict", json=predict_body(tasks)).json
    assert answer["results"] == [[]] * 5000
    background = app.extensions[EXTENSION].prelabeler._background
    (job,) = background._jobs.all()
    assert all(piece.task.data == {"image": "/data/upload/1/a.png"} for piece in job.pieces)
    assert all(bytes(piece.task.predictions) == b"[]" for piece in job.pieces)
    app.extensions[EXTENSION].prelabeler.stop(0)
