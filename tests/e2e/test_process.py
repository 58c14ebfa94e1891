"""Servers are watched while they start, and nothing of them is left when they are stopped."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

import pytest

from sam3_prelabel.demo.process import ServerFailed, ServerProcess, free_port, is_free

LISTEN = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"


def python(tmp_path: Path, code: str, *arguments: str) -> ServerProcess:
    return ServerProcess(
        "the server", [sys.executable, "-c", code, *arguments], env=os.environ, log=tmp_path / "logs" / "server.log"
    )


def test_its_children_end_with_it(tmp_path: Path) -> None:
    port = free_port()
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {LISTEN!r}, '{port}'])"
    with python(tmp_path, parent) as server:
        server.wait_until(lambda: not is_free(port), timeout=60)
    assert server.exit_code is not None
    deadline = time.monotonic() + 20
    while not is_free(port):
        assert time.monotonic() < deadline, "the child still listens"
        time.sleep(0.1)


def test_one_that_dies_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with (
        python(tmp_path, "print('starting'); raise SystemExit('no such database')") as server,
        pytest.raises(ServerFailed, match=r"the server ended with exit code 1 .*server\.log.*no such database"),
    ):
        server.wait_until(lambda: False, timeout=60)


def test_one_that_never_answers_is_given_up(tmp_path: Path) -> None:
    ticks: list[float] = []
    with (
        python(tmp_path, "import time; time.sleep(600)") as server,
        pytest.raises(ServerFailed, match="gave no answer in 1 s"),
    ):
        server.wait_until(lambda: False, timeout=1, tick=ticks.append)
    assert ticks == sorted(ticks)
    assert ticks
    assert server.exit_code is not None


def test_a_preferred_port_is_taken_only_when_free() -> None:
    port = free_port()
    assert free_port(port) == port
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
        assert free_port(port) != port
    assert not is_free(70_000)
