"""Several devices behind one port: real engines, killed and ended, and what the plan gives to whom."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from backend.settings import BackendSettings
from sam3_core import Concept, ConceptResult, ModelState
from sam3_core.demo.scenes import Scene
from sam3_core.engine import LocalSegmenter
from sam3_core.errors import BadSettings
from sam3_core.remote import RemoteSegmenter
from sam3_core.settings import CoreSettings
from sam3_prelabel.demo.process import free_port
from sam3_prelabel.fleet import FleetFailed, run_fleet
from sam3_prelabel.fleet_plan import Device, FleetPlan, Member, make_plan, read_devices
from sam3_prelabel.fleet_process import how_it_ended
from sam3_prelabel.fleet_serve import check_not_self, chosen_devices

ROOT = Path(__file__).parents[2]
CONCEPT = Concept(phrases=("red shape", "blue shape"))
SECRETS = {
    "SAM3_LABEL_STUDIO_URL": "http://studio:8080",
    "SAM3_LABEL_STUDIO_API_KEY": "the token",
    "SAM3_STORE": "/data/phrases.sqlite3",
    "SAM3_BASIC_AUTH_USER": "me",
    "SAM3_BASIC_AUTH_PASSWORD": "my secret",
    "HF_TOKEN": "hf_secret",
    "PATH": "/bin",
}


def exactly(results: Sequence[ConceptResult]) -> list[tuple[object, ...]]:
    """All that results say, to the last bit of every mask."""
    return [
        (
            result.presence,
            result.best_rejected,
            result.size,
            [
                (one.score, one.phrase, one.mask.x, one.mask.y, one.mask.bits.shape, one.mask.bits.tobytes())
                for one in result.instances
            ],
        )
        for result in results
    ]


def nearly(results: Sequence[ConceptResult], others: Sequence[ConceptResult]) -> None:
    """The same objects: what went through the model together with other work differs in the last bits."""
    for result, other in zip(results, others, strict=True):
        assert result.presence == pytest.approx(other.presence, abs=1e-3)
        for one, two in zip(result.instances, other.instances, strict=True):
            assert (one.phrase, one.score) == (two.phrase, pytest.approx(two.score, abs=1e-3))
            assert one.mask.iou(two.mask) > 0.99


def processes(group: int) -> dict[int, int]:
    """Parents by process of those that are alive and descend from it or did: Linux."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, state, parent = re.match(r"(\d+) \(.*\) (\S) (\d+)", status.read_text(), re.DOTALL).groups()  # type: ignore[union-attr]
        except OSError:
            continue
        if state != "Z":
            parents[int(pid)] = int(parent)
    found = {group}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: parents[pid] for pid in found if pid in parents}


def alive(pids: set[int]) -> set[int]:
    """Those of them that are no zombies."""
    return {pid for pid in pids if processes(pid)}


def eventually(look: Callable[[], bool], log: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, log.read_text()[-4000:]
        time.sleep(0.1)


@contextmanager
def fleet(log: Path, devices: str = "cpu,cpu", **variables: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The command, as a user starts it, and its address."""
    port = free_port()
    command = [sys.executable, "-m", "sam3_prelabel", "serve", "--devices", devices, "--port", str(port)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables}
    with log.open("wb") as out, subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT) as server:
        try:
            yield server, f"http://127.0.0.1:{port}"
        finally:
            left = set(processes(server.pid))
            if server.poll() is None:
                server.terminate()
                server.wait(100)
    assert not alive(left), "something outlived the command"


def ready(far: RemoteSegmenter) -> bool:
    info = far.info()
    return info.state is ModelState.READY and not info.problem and info.device == "2 x cpu"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_fleet_lives_and_ends(tmp_path: Path, segmenter: LocalSegmenter, scene: Callable[..., Scene]) -> None:
    """Its answers are a single server's; an engine that is killed comes back; nothing is left in the end."""
    log = tmp_path / "log"
    pictures = [scene(seed, objects=(2, 4), size=(320, 240)).encode() for seed in range(500, 508)]
    alone_with_it = [segmenter.find(data, [CONCEPT]) for data in pictures]
    expected = [exactly(results) for results in alone_with_it]
    with fleet(log) as (server, url):
        far = RemoteSegmenter(url)
        eventually(lambda: server.poll() is not None or ready(far), log)
        assert [exactly(far.find(data, [CONCEPT])) for data in pictures] == expected
        assert any(found for result in expected for *_, found in result)
        said = log.read_text()
        assert re.search(rf"at {url}\n  model +demo.*\n  devices cpu, dtype auto\n +cpu, dtype auto\n", said)

        tree = processes(server.pid)
        children = sorted(pid for pid, parent in tree.items() if parent == server.pid)
        assert len(children) == 3
        for pid in tree:
            assert b"fleet" not in (Path("/proc") / str(pid) / "cmdline").read_bytes(), "a login on a command line"
        victim = next(pid for pid in children if b"127.0.0.1\0--port\0" + url.rpartition(":")[2].encode()
                      not in (Path("/proc") / str(pid) / "cmdline").read_bytes())  # fmt: skip
        with ThreadPoolExecutor(4) as pool:
            under_way = [pool.submit(far.find, data, [CONCEPT]) for data in pictures * 12]
            eventually(lambda: sum(one.done() for one in under_way) > 4, log)
            os.kill(victim, signal.SIGKILL)
            for one, alone in zip(under_way, alone_with_it * 12, strict=True):
                nearly(one.result(), alone)
        assert "was ended by SIGKILL; it starts again in 1 s" in log.read_text()
        eventually(lambda: ready(far), log)
        for data, alone in zip(pictures, alone_with_it, strict=True):
            nearly(far.find(data, [CONCEPT]), alone)

        everybody = set(processes(server.pid))
        assert len(everybody) == 7  # and a worker each
        with ThreadPoolExecutor(4) as pool:
            last = [pool.submit(far.find, data, [CONCEPT]) for data in pictures]
            eventually(lambda: any(one.done() for one in last), log)
            server.send_signal(signal.SIGTERM)
            finished = [one for one in last if one.exception() is None]
        assert server.wait(100) == 0
        assert finished
        assert alive(everybody) == set()
    assert "Traceback" not in log.read_text()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel of Linux ends them")
def test_engines_do_not_outlive_a_watcher_that_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with fleet(log) as (server, url):
        far = RemoteSegmenter(url)
        eventually(lambda: server.poll() is not None or ready(far), log)
        everybody = set(processes(server.pid))
        server.kill()
        server.wait(10)
        eventually(lambda: not alive(everybody), log)


def test_an_engine_that_cannot_start_ends_it_all() -> None:
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    lives = Member("engine 1 (cpu)", (sys.executable, "-c", "import time; time.sleep(600)"), os.environ, "http://a:1")
    fails = Member("engine 2 (cpu)", (sys.executable, "-c", "raise SystemExit(3)"), os.environ, "http://127.0.0.1:1")
    try:
        with pytest.raises(FleetFailed, match=r"engine 2 \(cpu\) cannot start: it ended with exit code 3"):
            run_fleet(FleetPlan((fails, lives), fails, "me", "secret"), lambda: pytest.fail("nothing to report"))
    finally:
        signal.signal(signal.SIGTERM, handlers[0])
        signal.signal(signal.SIGINT, handlers[1])
    assert not [pid for pid, parent in processes(os.getpid()).items() if parent == os.getpid()]


# ---- the plan ------------------------------------------------------------------------------------------------------


def test_each_member_is_told_what_it_needs_and_no_more() -> None:
    settings = BackendSettings(model="facebook/sam3", basic_auth_user="you", basic_auth_password="your secret")
    devices = [Device("cuda:0", "a card"), Device("cuda:1")]
    plan = make_plan(settings, devices, host="0.0.0.0", port=9090, threads=32, environ=SECRETS)
    assert len(plan.password) > 20
    for engine, device in zip(plan.engines, devices, strict=True):
        assert engine.env["SAM3_DEVICE"] == device.name
        assert engine.env["SAM3_MODEL"] == "facebook/sam3"
        assert engine.env["HF_TOKEN"] == "hf_secret"
        assert (engine.env["SAM3_BASIC_AUTH_USER"], engine.env["SAM3_BASIC_AUTH_PASSWORD"]) == (
            plan.user,
            plan.password,
        )
        assert not {"SAM3_LABEL_STUDIO_URL", "SAM3_LABEL_STUDIO_API_KEY", "SAM3_STORE"} & engine.env.keys()
        assert "127.0.0.1" in engine.command
    assert plan.front.env["SAM3_CORE_URL"] == ",".join(engine.url for engine in plan.engines)
    assert (plan.front.env["SAM3_CORE_USER"], plan.front.env["SAM3_CORE_PASSWORD"]) == (plan.user, plan.password)
    assert plan.front.env["SAM3_BASIC_AUTH_PASSWORD"] == "your secret"
    assert plan.front.env["SAM3_STORE"] == SECRETS["SAM3_STORE"]
    assert plan.front.url == "http://127.0.0.1:9090"
    words = " ".join(word for member in (*plan.engines, plan.front) for word in member.command)
    assert not any(secret in words for secret in (plan.password, "secret", "token"))


def test_every_member_can_read_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing they are told is unknown to them, and an engine never asks other engines."""
    plan = make_plan(
        BackendSettings(), [Device("cpu"), Device("cpu")], host="::", port=1, threads=1, environ=os.environ
    )
    assert plan.front.url == "http://[::1]:1"
    assert plan.engines[0].env["OMP_NUM_THREADS"] == str(max(1, (os.cpu_count() or 1) // 2))
    for member in (*plan.engines, plan.front):
        code = "from sam3_prelabel.cli import *; print(load_settings(BackendSettings).core_urls)"
        done = subprocess.run(
            [sys.executable, "-c", code], env=dict(member.env), cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert (done.stdout != "()\n") is (member is plan.front)


def test_devices_as_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_devices(" cuda:0 , cuda:1") == [Device("cuda:0"), Device("cuda:1")]
    for wrong in ("cuda:0,", "", "auto,cpu"):
        with pytest.raises(BadSettings, match="--devices"):
            read_devices(wrong)
    with pytest.raises(BadSettings, match="--device names one"):
        chosen_devices("cpu,cpu", "cpu", BackendSettings())
    with pytest.raises(BadSettings, match="SAM3_CORE_URL"):
        chosen_devices("cpu,cpu", None, BackendSettings(core_url="http://gpu:9090"))


def test_auto_finds_the_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert len(read_devices("auto")) == torch.cuda.device_count()
    told = "cuda:0\tBig Card\t85899345920\n"
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, told))
    assert read_devices("auto") == [Device("cuda:0", "Big Card, 80 GiB")]


def test_a_server_is_not_its_own_engine() -> None:
    for url in ("http://127.0.0.1:9090", "http://localhost:9090", "http://gpu:9090,http://127.0.0.1:9090/"):
        with pytest.raises(BadSettings, match="this server itself"):
            check_not_self(BackendSettings(core_url=url), 9090)
    for url in ("http://127.0.0.1:9091", "http://192.0.2.1:9090", "http://nowhere.invalid:9090"):
        check_not_self(BackendSettings(core_url=url), 9090)
    check_not_self(BackendSettings(), 9090)


def test_ends_as_a_person_says_them() -> None:
    assert how_it_ended(3) == "ended with exit code 3"
    assert how_it_ended(-9) == "was ended by SIGKILL"
    assert how_it_ended(-250) == "was ended by signal 250"
    assert CoreSettings().core_urls == ()
