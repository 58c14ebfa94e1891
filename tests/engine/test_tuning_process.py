"""Fine-tuning in its own process: whatever ends it, at whatever moment, the folder stays readable and no half adapter
is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tuning_jobs import make_job

from sam3_core.engine.adapters import adapted_detector
from sam3_core.engine.loading import Parts, load_parts
from sam3_core.engine.weights import DEMO_FOLDER
from sam3_core.tuning import ADAPTER, TuningState, read_job, read_progress, start


@pytest.fixture(scope="module")
def demo() -> Parts:
    return load_parts(DEMO_FOLDER, "cpu", "float32")


def _wait(what: Callable[[], bool]) -> None:
    """Until it is so; in an hour something hangs."""
    until = time.monotonic() + 3600
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def _gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def test_a_process_leaves_an_adapter_and_ends(tmp_path: Path, demo: Parts) -> None:
    make_job(tmp_path, images=2, held=0, epochs=2)
    process = start(tmp_path)
    _wait(lambda: read_progress(tmp_path).state is not TuningState.WAITING or process.poll() is not None)
    if sys.platform == "linux" and process.poll() is None:
        assert os.sched_getscheduler(process.pid) == os.SCHED_IDLE
        assert os.getpgid(process.pid) == process.pid  # a terminal's Ctrl-C does not reach it
    assert process.wait() == 0, (tmp_path / "log.txt").read_text()
    progress = read_progress(tmp_path)
    assert (progress.state, progress.done, progress.epoch) == (TuningState.DONE, 1, 2)
    adapted_detector(demo.detector, tmp_path / ADAPTER)


@pytest.mark.parametrize("moment", [TuningState.WAITING, TuningState.TRAINING])
def test_killed_at_any_moment_it_leaves_a_folder_that_can_be_read(tmp_path: Path, moment: TuningState) -> None:
    job = make_job(tmp_path, images=8, held=2, epochs=500)
    process = start(tmp_path)
    _wait(
        lambda: moment is TuningState.WAITING or read_progress(tmp_path).state is moment or process.poll() is not None
    )
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert read_progress(tmp_path).state in (moment, TuningState.TRAINING)
    assert len(read_job(tmp_path).images) == len(job.images)
    assert not (tmp_path / ADAPTER).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_ends_when_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    make_job(tmp_path, images=8, held=2, epochs=5000)
    script = (
        "import sys, threading\nfrom pathlib import Path\nfrom sam3_core.tuning import start\n"
        # Started in a thread that ends at once: that is no reason to end.
        "worker = threading.Thread(target=lambda: print(start(Path(sys.argv[1])).pid, flush=True))\n"
        "worker.start()\nworker.join()\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        _wait(lambda: read_progress(tmp_path).state is not TuningState.WAITING or _gone(child))
        assert not _gone(child)
        parent.kill()
    _wait(lambda: _gone(child))
    assert read_progress(tmp_path).state in (TuningState.ENCODING, TuningState.TRAINING)
    assert not (tmp_path / ADAPTER).exists()
