"""One server process: started in its own process group, watched until it answers, ended with all it started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from sam3_core.errors import Sam3Error

HOST = "127.0.0.1"
Tick = Callable[[float], None]
"""Called while waiting, with the seconds waited so far."""

_POLL = 0.25  # seconds between two looks
_GRACE = 10.0  # seconds between asking to end and killing


class ServerFailed(Sam3Error):
    """A server of the demo could not start, died or took too long; the sentence names its log."""


def no_tick(seconds: float) -> None:
    """The tick of somebody who does not watch."""


class ServerProcess:
    """A context manager around one process; its output goes to `log`.

    name: how sentences call it. env: its whole environment.
    """

    def __init__(self, name: str, command: Sequence[str | Path], *, env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = [str(part) for part in command]
        self._env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as out:
            # A session of its own: Ctrl-C in the terminal reaches us alone, and we end the group in order.
            self._process = subprocess.Popen(
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._running().poll()

    @property
    def pid(self) -> int:
        """The process' number, which is that of its group."""
        return self._running().pid

    def check(self) -> None:
        """Raises ServerFailed when it has ended."""
        if self.exit_code is not None:
            raise ServerFailed(f"{self.name} ended with exit code {self.exit_code}{self._last_words()}")

    def wait_until(self, ready: Callable[[], bool], *, timeout: float, tick: Tick = no_tick) -> None:
        """Wait until `ready` says yes. Raises ServerFailed if the process ends before, or after `timeout` seconds."""
        started = time.monotonic()
        while not ready():
            waited = time.monotonic() - started
            self.check()
            if waited > timeout:
                raise ServerFailed(f"{self.name} gave no answer in {timeout:.0f} s{self._last_words()}")
            tick(waited)
            time.sleep(_POLL)

    def wait_exit(self, *, timeout: float, tick: Tick = no_tick) -> None:
        """Wait until it has done its work. Raises ServerFailed for an exit code other than 0 or too long a wait."""
        self.wait_until(lambda: self.exit_code == 0, timeout=timeout, tick=tick)

    def stop(self) -> None:
        """End the whole group: politely first, by force after some seconds. Does nothing when it has ended."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        for sign, patience in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, _GRACE)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
                return

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").split("\n")
        last = [line.strip() for line in lines if line.strip()][-1:]
        return f" (see {self.log}){''.join(f'; it last said: {line[:300]}' for line in last)}"


def answers(url: str, *, timeout: float = 2.0) -> bool:
    """Whether a GET of `url` is a 2xx at this moment."""
    with direct_session() as session:
        try:
            return session.get(url, timeout=timeout).ok
        except requests.RequestException:
            return False


def direct_session() -> requests.Session:
    """An HTTP session that ignores proxy variables: these servers are on this machine."""
    session = requests.Session()
    session.trust_env = False
    return session


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True


def free_port(preferred: int = 0) -> int:
    """`preferred` if nothing listens there, else any free port."""
    if preferred and is_free(preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
