"""`sam3-prelabel demo`, which is what `make demo` runs, from outside: a process, its exit code and what it leaves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3_prelabel.demo.backend import BackendServer
from sam3_prelabel.demo.label_studio import VENV_VARIABLE
from sam3_prelabel.demo.process import ServerFailed, free_port, is_free
from sam3_prelabel.demo.world import samples

REPOSITORY = Path(__file__).parents[2]


class Demo:
    """The demo in a process of its own; `arguments` follow the command."""

    def __init__(self, folder: Path, *arguments: str, venv: Path) -> None:
        self.output = folder / "demo-output"
        self.log = folder / "demo.log"
        self.ports = free_port(), free_port()
        command = [sys.executable, "-m", "sam3_prelabel", "demo", "--output", str(self.output)]
        ports = ["--label-studio-port", str(self.ports[0]), "--backend-port", str(self.ports[1])]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, *ports, *arguments],
                cwd=REPOSITORY,
                env=os.environ | {VENV_VARIABLE: str(venv), "COLUMNS": "200"},
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def wait_for(self, words: str, timeout: float = 240) -> None:
        """Wait until it says so."""
        deadline = time.monotonic() + timeout
        while words not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.2)

    def said(self) -> str:
        return self.log.read_text()

    def end(self, sign: signal.Signals | None = None) -> int:
        """Its exit code, after a signal."""
        if sign is not None:
            self.process.send_signal(sign)
        return self.process.wait(60)


@pytest.mark.e2e
def test_it_annotates_draws_what_is_stored_and_ends_on_ctrl_c(label_studio_venv: Path, tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--images", "2", venv=label_studio_venv)
    demo.wait_for("Ctrl-C")
    assert not any(is_free(port) for port in demo.ports)
    assert demo.end(signal.SIGINT) == 0
    assert all(is_free(port) for port in demo.ports)

    said = demo.said()
    assert f"http://127.0.0.1:{demo.ports[0]}/projects/1/data" in said
    assert "demo@example.com" in said
    for sample in samples(2):
        picture = np.array(Image.open(demo.output / "overlays" / Path(sample.name).with_suffix(".png")))
        assert picture.shape == sample.scene.image.shape
        assert (picture != sample.scene.image).any()


@pytest.mark.e2e
def test_sigterm_in_the_middle_leaves_nothing_behind(label_studio_venv: Path, tmp_path: Path) -> None:
    demo = Demo(tmp_path, venv=label_studio_venv)
    demo.wait_for("Starting the SAM 3 backend")
    assert demo.end(signal.SIGTERM) == 128 + signal.SIGTERM
    assert all(is_free(port) for port in demo.ports)
    assert "Traceback" not in demo.said()


@pytest.mark.e2e
def test_weights_that_cannot_be_loaded_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "nowhere"
    monkeypatch.setenv("SAM3_MODEL", str(missing))
    server = BackendServer("http://127.0.0.1:1", "token", log=tmp_path / "backend.log")
    with pytest.raises(ServerFailed, match=f"cannot load its weights: .*{missing}"), server:
        pass
    assert is_free(server.port)


def test_without_label_studio_it_says_what_to_do(tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--once", venv=tmp_path / "missing")
    assert demo.end() == 1
    assert "run `make label-studio`" in demo.said()
    assert "Traceback" not in demo.said()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        demo = Demo(tmp_path, "--once", "--label-studio-port", str(port), venv=tmp_path)
        assert demo.end() == 1
    assert f"port {port} for Label Studio is taken" in demo.said()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "demo-output" / "label-studio" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    program = tmp_path / "venv" / "bin" / "label-studio"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\ntouch "$DATABASE_NAME"\n')
    program.chmod(0o755)
    demo = Demo(tmp_path, "--once", venv=tmp_path / "venv")
    assert demo.end() == 1
    assert "holds other files" in demo.said()
    assert mine.read_text() == "years of work"
