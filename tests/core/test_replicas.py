"""Several servers behind one Segmenter: who is asked, who is passed over, and what is never asked twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from http_servers import served
from hypothesis import given
from hypothesis import strategies as st
from replica_servers import INFO, Replica, eventually, refusal, replicas

from backend.app import create_app
from backend.settings import BackendSettings
from sam3_core import Box, Concept, EncodedImage, Instance, ModelState, VisualPrompt
from sam3_core.caller import Caller, Lane
from sam3_core.demo.scenes import Scene
from sam3_core.engine import LocalSegmenter
from sam3_core.errors import (
    BadSettings,
    Busy,
    Dropped,
    InvalidPrompt,
    ModelUnavailable,
    NotReady,
    OutOfMemory,
    OutOfTime,
    Sam3Error,
)
from sam3_core.load import LaneLoad, Load, MemoryLoad, PassLoad
from sam3_core.remote import RemoteSegmenter
from sam3_core.replicas import ReplicatedSegmenter, remote_segmenter
from sam3_core.settings import CoreSettings, load_settings
from sam3_core.totals import total_load
from sam3_core.wire.load import WireLoad

ROOT = Path(__file__).parents[2]
KEYS = [f"{number:032x}" for number in range(200)]
GONE = "http://127.0.0.1:1"


@contextmanager
def over(*servers: Replica | str, load_wait: float = 20.0, insist: bool = False) -> Iterator[ReplicatedSegmenter]:
    urls = [server if isinstance(server, str) else server.url for server in servers]
    segmenter = ReplicatedSegmenter(urls, seconds=20, load_wait=load_wait, insist=insist)
    try:
        yield segmenter
    finally:
        segmenter.close()


def image(key: str) -> EncodedImage:
    return EncodedImage.deferred(key, lambda: b"never sent: the key is known")


def home_of(segmenter: ReplicatedSegmenter, servers: list[Replica], key: str) -> int:
    """Which server an image goes to."""
    before = [server.asked for server in servers]
    segmenter.warm(image(key))
    changed = [number for number, server in enumerate(servers) if server.asked != before[number]]
    (one,) = changed
    return one


def nearly(some: Sequence[Instance], others: Sequence[Instance]) -> None:
    """The same but for the last bits: sums on several threads differ in them from time to time."""
    for one, other in zip(some, others, strict=True):
        assert (one.phrase, one.score) == (other.phrase, pytest.approx(other.score, abs=1e-5))
        assert one.mask.iou(other.mask) > 0.999


# ---- who is asked ------------------------------------------------------------------------------------------------


def test_an_image_has_one_replica_and_keeps_it() -> None:
    with replicas(3) as servers, over(*servers) as segmenter, over(*reversed(servers)) as other:
        homes = {key: home_of(segmenter, servers, key) for key in KEYS}
        assert min(list(homes.values()).count(number) for number in range(3)) > 30
        assert all(home_of(segmenter, servers, key) == home for key, home in homes.items())
        assert all(home_of(other, servers, key) == home for key, home in homes.items()), (
            "the order of addresses matters"
        )


def test_only_the_images_of_one_that_goes_move_and_they_come_back() -> None:
    with replicas(3) as servers, over(*servers) as segmenter:
        homes = {key: home_of(segmenter, servers, key) for key in KEYS[:60]}
        servers[1].stop()
        moved = {key: home_of(segmenter, servers, key) for key in homes}
        assert all(moved[key] == home for key, home in homes.items() if home != 1)
        assert {moved[key] for key, home in homes.items() if home == 1} == {0, 2}
        info = segmenter.info()
        assert info.state is ModelState.READY
        assert servers[1].url in info.problem
        servers[1].start()
        eventually(lambda: not segmenter.info().problem)
        assert all(home_of(segmenter, servers, key) == home for key, home in homes.items())


def test_one_that_loads_is_passed_over_until_it_is_ready() -> None:
    with replicas(2) as servers, over(*servers) as segmenter:
        servers[0].info["state"] = "loading"
        segmenter.info()
        eventually(lambda: {home_of(segmenter, servers, key) for key in KEYS[:20]} == {1})
        servers[0].info["state"] = "ready"
        eventually(lambda: {home_of(segmenter, servers, key) for key in KEYS[:20]} == {0, 1})


@pytest.mark.parametrize(
    "answer",
    [
        refusal(503, "not_ready", "5"),
        refusal(503, "model_unavailable"),
        refusal(503, "busy", "2"),
        refusal(401, "unauthorized"),
        (404, {}, b"<html>some other server</html>"),
    ],
)
def test_what_one_refuses_another_does(answer: object) -> None:
    with replicas(2) as servers, over(*servers) as segmenter:
        homes = {home_of(segmenter, servers, key): key for key in KEYS[:20]}
        servers[0].answer = lambda: answer  # type: ignore[assignment,return-value]
        before = servers[1].asked
        segmenter.warm(image(homes[0]))
        assert servers[1].asked == before + 1


# ---- what is nobody else's business --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (refusal(422, "invalid_prompt"), InvalidPrompt),
        (refusal(503, "out_of_time", "2"), OutOfTime),
        (refusal(503, "out_of_memory", "2"), OutOfMemory),
        (refusal(409, "dropped"), Dropped),
        ((500, {}, b'{"error": "a defect"}'), Sam3Error),
    ],
)
def test_errors_of_the_request_are_raised_and_asked_once(answer: object, raised: type[Sam3Error]) -> None:
    with replicas(3) as servers, over(*servers) as segmenter:
        for server in servers:
            server.answer = lambda: answer  # type: ignore[assignment,return-value]
        with pytest.raises(Sam3Error) as caught:
            segmenter.warm(image(KEYS[0]))
        assert type(caught.value) is raised
        assert sum(server.asked for server in servers) == 1


@pytest.mark.parametrize("answer", [None, (502, {}, b""), (504, {"Retry-After": "1"}, b""), (503, {}, b"")])
def test_what_may_be_at_work_is_not_sent_to_another(answer: object) -> None:
    with replicas(3) as servers, over(*servers) as segmenter:
        for server in servers:
            server.answer = lambda: answer  # type: ignore[assignment,return-value]
        with pytest.raises(NotReady) as caught:
            segmenter.warm(image(KEYS[0]))
        assert type(caught.value) is NotReady
        assert caught.value.retry_after
        assert sum(server.asked for server in servers) == 1


def test_what_died_with_its_server_is_sent_to_another() -> None:
    """Nobody works on it: nothing listens there any more."""
    with replicas(2) as servers, over(*servers) as segmenter:
        key = next(key for key in KEYS if home_of(segmenter, servers, key) == 0)

        servers[0].answer = servers[0].stop
        before = servers[1].asked
        segmenter.warm(image(key))
        assert servers[1].asked == before + 1


# ---- when nobody can -----------------------------------------------------------------------------------------------


def test_when_all_are_full_the_caller_hears_it_at_once_or_waits() -> None:
    with replicas(2) as servers:
        for server in servers:
            server.answer = lambda: refusal(503, "busy", "1")
        with over(*servers) as segmenter, pytest.raises(Busy) as caught:
            segmenter.warm(image(KEYS[0]))
        assert caught.value.retry_after == 1
        assert [server.asked for server in servers] == [1, 1]
        said = iter([refusal(503, "busy", "1")] * 2)
        for server in servers:
            server.answer = lambda: next(said, (200, {}, b'{"model":"m","image":{"key":"0","size":[1,1]}}'))
        with over(*servers, insist=True) as segmenter:
            segmenter.warm(image(KEYS[0]))
        servers[0].answer = servers[1].answer = lambda: refusal(503, "busy", "9")
        with over(*servers, insist=True) as segmenter, pytest.raises(Busy):
            segmenter.warm(image(KEYS[0]), caller=Caller.within(2))


def test_none_there_and_none_ready() -> None:
    with over(GONE) as segmenter:
        with pytest.raises(ModelUnavailable, match="cannot reach"):
            segmenter.warm(b"x")
        assert segmenter.info().state is ModelState.FAILED
    with replicas(2) as servers:
        for server in servers:
            server.info["state"] = "loading"
        with over(*servers, load_wait=0.3) as segmenter:
            with pytest.raises(NotReady, match="still loading"):
                segmenter.warm(b"x")
            assert segmenter.info().state is ModelState.LOADING
        with over(*servers) as segmenter:
            with pytest.raises(OutOfTime):
                segmenter.warm(b"x", caller=Caller.within(0.2))
            with pytest.raises(Dropped):
                segmenter.warm(b"x", caller=Caller(wanted=lambda: False))
        assert [server.asked for server in servers] == [0, 0]


def test_a_call_waits_for_the_first_one_that_gets_ready() -> None:
    with replicas(2) as servers, over(*servers, GONE) as segmenter:
        for server in servers:
            server.info["state"] = "loading"
        asked = iter([True] * 3)

        def wanted() -> bool:
            if next(asked, None) is None:
                servers[1].info["state"] = "ready"
            return True

        segmenter.warm(image(KEYS[0]), caller=Caller(wanted=wanted))
        assert [server.asked for server in servers] == [0, 1]


# ---- what is told --------------------------------------------------------------------------------------------------


def test_other_weights_are_not_used() -> None:
    with replicas(2) as servers, over(*servers) as segmenter:
        segmenter.info()
        servers[1].info["version"] = "other"
        eventually(lambda: "runs other" in segmenter.info().problem)
        assert segmenter.info().version == "m"
        assert {home_of(segmenter, servers, key) for key in KEYS[:20]} == {0}


def test_the_whole_is_told_as_one() -> None:
    tier = {"bytes": 5, "entries": 2, "evictions": 1}
    with replicas(2) as servers, over(*servers, GONE) as segmenter:
        for server in servers:
            server.info |= {"cache": {"hits": 3, "misses": 4, "device": tier, "host": tier}}
            server.info |= {"load": {"lanes": [{"lane": "click", "waiting": 2}, {"lane": "of tomorrow"}]}}
        eventually(lambda: segmenter.info().cache.hits == 6)
        info = segmenter.info()
        assert (info.version, info.state, info.device, info.dtype) == ("m", ModelState.READY, "2 x cpu", "float32")
        assert (info.cache.misses, info.cache.host.bytes, info.cache.device.evictions) == (8, 10, 2)
        assert info.load.lanes == (LaneLoad(Lane.CLICK, waiting=4),)
        assert "cannot reach" in info.problem
        assert info.can_outline


COUNTS = st.integers(0, 99)
LOADS = st.builds(
    Load,
    st.lists(st.builds(LaneLoad, st.sampled_from(Lane), COUNTS, COUNTS, COUNTS, COUNTS), max_size=3).map(tuple),
    st.lists(
        st.builds(
            PassLoad,
            st.sampled_from(["vision", "clicks"]),
            st.integers(0, 9).map(float),
            st.dictionaries(st.integers(1, 9), COUNTS).map(lambda sizes: tuple(sorted(sizes.items()))),
            COUNTS,
            COUNTS,
        ),
        max_size=3,
    ).map(tuple),
    st.builds(MemoryLoad, COUNTS, COUNTS, COUNTS),
)


@given(LOADS)
def test_a_load_survives_the_wire(load: Load) -> None:
    assert WireLoad.model_validate_json(WireLoad.of(load).text()).load() == load


@given(st.lists(LOADS, max_size=4))
def test_totals(loads: list[Load]) -> None:
    total = total_load(loads)
    assert len({lane.lane for lane in total.lanes}) == len(total.lanes)
    assert sum(lane.done for lane in total.lanes) == sum(lane.done for load in loads for lane in load.lanes)
    passes = [one for load in loads for one in load.passes]
    for kind in total.passes:
        same = [one for one in passes if one.kind == kind.kind]
        assert sum(count for _, count in kind.sizes) == sum(count for one in same for _, count in one.sizes)
        assert kind.limit == min((one.limit for one in same if one.limit), default=0)
    assert total.memory.total == sum(load.memory.total for load in loads)


# ---- real servers --------------------------------------------------------------------------------------------------


def test_answers_are_those_of_one_server(segmenter: LocalSegmenter, scene: Callable[..., Scene]) -> None:
    scenes = [scene(seed, objects=(2, 4), size=(320, 240)) for seed in range(500, 506)]
    concept, prompt = Concept(phrases=("red shape", "blue shape")), VisualPrompt(box=Box(20, 20, 200, 200))
    with (
        served(create_app(BackendSettings(), segmenter)) as one,
        served(create_app(BackendSettings(), segmenter)) as two,
    ):
        far, both = RemoteSegmenter(one), ReplicatedSegmenter([one, two])
        for picture in scenes:
            data = picture.encode()
            (one,), (other,) = far.find(data, [concept]), both.find(data, [concept])
            assert one.presence == pytest.approx(other.presence, abs=1e-5)
            nearly(one.instances, other.instances)
            nearly(far.outline(data, prompt), both.outline(data, prompt))
        assert both.find(scenes[0].encode(), []) == []
        both.close()


def test_addresses_choose_what_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM3_CORE_URL", " http://a:1/ , http://b:2 ,")
    settings = load_settings(CoreSettings)
    assert settings.core_urls == ("http://a:1", "http://b:2")
    assert isinstance(remote_segmenter(settings, seconds=1), ReplicatedSegmenter)
    one = load_settings(CoreSettings, core_url="http://a:1")
    assert isinstance(remote_segmenter(one, seconds=1), RemoteSegmenter)
    assert isinstance(remote_segmenter(one, seconds=1, insist=False), ReplicatedSegmenter)
    for wrong in ("http://a:1,http://a:1/", "http://a:1,b:2"):
        with pytest.raises(BadSettings, match="SAM3_CORE_URL"):
            load_settings(CoreSettings, core_url=wrong)
    with pytest.raises(BadSettings, match="SAM3_CORE_PASSWORD"):
        load_settings(CoreSettings, core_user="me")


def test_it_needs_no_torch_and_no_server() -> None:
    heavy = {"torch", "transformers", "msgspec", "flask", "prometheus_client"}
    script = f"import sam3_core.replicas, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert INFO["state"] == "ready"
