"""The server under test: `sam3-prelabel serve` as a process, seen from outside."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tools.chaos.stand_in import SIGNATURE, TOKEN

API_TOKEN = "chaos-api-token-4711"
USER, PASSWORD = "chaos", "chaos-password-1234"
SECRETS = (API_TOKEN, PASSWORD, TOKEN, SIGNATURE)
"""None of them may be in the log."""
THREADS = 48
FETCH_SECONDS = 3.0
RECEIVE_SECONDS = 4.0
GRACE = 30.0
"""Seconds in which a server that was told to stop has to end: gunicorn's, in ``backend.server``."""

_START = 300.0


class ChaosFailed(Exception):
    """The storm could not be made, or the server did not come through it."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the working process holds. memory: MiB, resident."""

    memory: float
    threads: int
    sockets: int


class Serving:
    """The server, ready, as a context manager. folder: for its log, its store and its temporary files."""

    def __init__(self, label_studio: str, folder: Path) -> None:
        self.log, self.store, self.temporary = folder / "server.log", folder / "phrases.sqlite3", folder / "tmp"
        self.temporary.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        settings = {
            "LABEL_STUDIO_URL": label_studio,
            "LABEL_STUDIO_API_KEY": TOKEN,
            "API_TOKEN": API_TOKEN,
            "BASIC_AUTH_USER": USER,
            "BASIC_AUTH_PASSWORD": PASSWORD,
            "ALLOWED_HOSTS": "127.0.0.1",
            "STORE": str(self.store),
            # Small, so that a short run fills them: growth after that would be a leak, and some are refused.
            "CACHE_MB": "32",
            "IMAGE_CACHE_MB": "4",
            "MAX_REQUEST_MB": "2",
            "MAX_IMAGE_MB": "2",
            "MAX_MEGAPIXELS": "20",
            "MAX_CLICKS": "16",
            "MAX_BULK": "12",
            "FETCH_SECONDS": str(FETCH_SECONDS),
            "RECEIVE_SECONDS": str(RECEIVE_SECONDS),
            "SEND_SECONDS": str(RECEIVE_SECONDS),
            "PUSH_SECONDS": "20",
        }
        named = {f"SAM3_{name}": value for name, value in settings.items()}
        kept = {name: value for name, value in os.environ.items() if name in ("SAM3_MODEL", "SAM3_DEVICE")}
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("SAM3_", "LABEL_STUDIO_"))}
        folders = {"TMPDIR": str(self.temporary), "TORCHINDUCTOR_CACHE_DIR": str(folder / "torch")}
        others = {"NO_PROXY": "*", "no_proxy": "*", "PYTHONUNBUFFERED": "1"}
        self._environment = plain | kept | named | folders | others

    def __enter__(self) -> Self:
        command = [
            sys.executable,
            "-m",
            "sam3_prelabel",
            "serve",
            "--port",
            str(self.port),
            "--threads",
            str(THREADS),
        ]
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        try:
            self.wait_until(self.ready, _START, "it was not ready")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(GRACE + 15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def ask(self, path: str, timeout: float = 30.0) -> tuple[int, bytes]:
        """A GET with the login. Raises OSError or HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {API_TOKEN}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def status(self) -> Any:
        """What /status.json says."""
        return json.loads(self.ask("/status.json")[1])

    def ready(self) -> bool:
        """Whether /ready says yes now."""
        try:
            return self.ask("/ready")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def at_work(self) -> int:
        """Requests that have a place, whatever they wait for."""
        return sum(lane["at_work"] for lane in self.status()["lanes"])

    def idle(self) -> bool:
        """Whether nothing is left to do, in the background either."""
        status = self.status()
        waiting = sum(lane["at_work"] + (lane["device_waiting"] or 0) for lane in status["lanes"])
        return not waiting and all(job["state"] in ("finished", "stopped") for job in status["jobs"])

    def wait_until(self, true: Callable[[], bool], seconds: float, otherwise: str) -> None:
        """Look again and again. Raises ChaosFailed after so many seconds, or when the server ends."""
        until = time.monotonic() + seconds
        while not true():
            if self._process.poll() is not None:
                raise ChaosFailed(f"the server ended with {self._process.returncode}; see {self.log}")
            if time.monotonic() > until:
                raise ChaosFailed(f"{otherwise} within {seconds:.0f} s; see {self.log}")
            time.sleep(0.1)

    def worker(self) -> int:
        """The process that works: gunicorn's only child."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if len(children) != 1:
            raise ChaosFailed(f"the server has {len(children)} workers")
        return int(children[0])

    def footprint(self) -> Footprint:
        """Of the worker, now."""
        folder = Path(f"/proc/{self.worker()}")
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        targets = []
        for entry in (folder / "fd").iterdir():
            try:
                targets.append(str(entry.readlink()))
            except FileNotFoundError:  # closed meanwhile
                continue
        sockets = sum(target.startswith("socket:") for target in targets)
        return Footprint(int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"]), sockets)

    def terminate(self) -> None:
        """Ask it to end, as a container's runtime does."""
        self._process.send_signal(signal.SIGTERM)

    def wait_end(self, seconds: float) -> int | None:
        """Its exit code; None when it does not end in time."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
