"""Our backend as a process of its own, as `sam3-prelabel serve` starts it."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from sam3_prelabel.demo.process import (
    HOST,
    ServerFailed,
    ServerProcess,
    Tick,
    direct_session,
    free_port,
    is_free,
    no_tick,
)

_START = 300.0  # seconds; real weights from a slow disk take minutes


class BackendServer:
    """The backend on 127.0.0.1 with its weights loaded, as a context manager. It takes the caller's settings over.

    label_studio: the address of the Label Studio it works for. token: what it reads the tasks' images with.
    log: the file for its log. port: default a free one.

    Entering raises ServerFailed when the port is taken, it does not start or cannot load its weights.
    """

    def __init__(
        self, label_studio: str, token: str, *, log: Path, port: int | None = None, tick: Tick = no_tick
    ) -> None:
        self.port = port or free_port()
        self.log = log
        self._tick = tick
        command = [sys.executable, "-m", "sam3_prelabel", "serve", "--host", HOST, "--port", str(self.port)]
        spared = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
        # Label Studio is on this machine, where a proxy could not reach it; libraries differ in which name they read.
        no_proxy = f"{spared},{HOST}" if spared else HOST
        env = dict(os.environ) | {
            "SAM3_LABEL_STUDIO_URL": label_studio,
            "SAM3_LABEL_STUDIO_API_KEY": token,
            "NO_PROXY": no_proxy,
            "no_proxy": no_proxy,
            "PYTHONUNBUFFERED": "1",
        }
        self._process = ServerProcess("the backend", command, env=env, log=log)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The server's process number, which is that of its group."""
        return self._process.pid

    def __enter__(self) -> Self:
        if not is_free(self.port):
            raise ServerFailed(f"port {self.port} for the backend is taken: end what listens there or name another")
        with ExitStack() as stack:
            stack.enter_context(self._process)
            self._process.wait_until(self._ready, timeout=_START, tick=self._tick)
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.stop()

    def status(self) -> str:
        """What its status page says, in a line."""
        with direct_session() as session:
            answer = session.get(f"{self.url}/status.json", timeout=10)
        answer.raise_for_status()
        told = answer.json()
        done, failures = sum(lane["device_done"] or 0 for lane in told["lanes"]), len(told["failures"])
        warnings = sum(len(project["warnings"]) + bool(project["problem"]) for project in told["projects"])
        return (
            f"{told['model']['state']} on {told['model']['device']}, {done} pieces of work done, "
            f"{failures} failures, {warnings} warnings about {len(told['projects'])} project(s)"
        )

    def check(self) -> None:
        """Raises ServerFailed when it has ended by itself."""
        self._process.check()

    def _ready(self) -> bool:
        with direct_session() as session:
            try:
                health = session.get(f"{self.url}/health", timeout=2)
                health.raise_for_status()
            except requests.RequestException:
                return False
        if health.json()["model_state"] == "failed":
            raise ServerFailed(f"the backend cannot load its weights: {health.json()['problem']}")
        return bool(health.json()["model_state"] == "ready")
