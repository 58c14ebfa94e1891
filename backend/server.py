"""gunicorn as a library: one process that owns the weights, many threads that serve."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from backend.app import EXTENSION, create_app
from backend.logs import set_up_logs
from backend.segmenter import make_segmenter
from backend.settings import BackendSettings
from backend.worker import patient

_GRACE = 30  # seconds that requests under way get when the server is told to stop
_LAST = 25.0  # seconds of these for predictions that are still to be stored, and a training that is to end


class Server(BaseApplication):  # type: ignore[misc]
    """A gunicorn whose single worker makes the app after the fork.

    Weights loaded before a fork would leave CUDA unusable in the child, and a second worker would be a second copy of
    them; hence one worker, threads, and no preload.
    """

    def __init__(
        self,
        make_app: Callable[[], Flask],
        *,
        host: str,
        port: int,
        threads: int,
        receive_seconds: float,
        send_seconds: float,
    ) -> None:
        self._make_app = make_app
        self._options: dict[str, Any] = {
            "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            "workers": 1,
            "worker_class": patient(receive_seconds=receive_seconds, send_seconds=send_seconds),
            "threads": threads,
            "preload_app": False,
            # Of gthread only the worker's main loop sends heartbeats; importing torch can hold it up for a while.
            "timeout": 300,
            "graceful_timeout": _GRACE,
            "post_worker_init": _end_in_order,
            "keepalive": 5,
            "accesslog": None,
            "loglevel": "warning",
            "proc_name": "sam3-prelabel",
            # gunicorn 24+ opens a control socket in the home folder, where two servers would quarrel over it.
            "control_socket_disable": True,
        }
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._make_app()


def _end_in_order(worker: Any) -> None:
    """When the worker is told to stop, batches are answered with what is there, and what is ready is stored."""
    runtime = worker.wsgi.extensions[EXTENSION]
    gunicorns = signal.getsignal(signal.SIGTERM)

    def end(number: int, frame: FrameType | None) -> None:
        # Not a daemon: the process waits for it.
        threading.Thread(target=runtime.stop, args=(_LAST,), name="sam3-stop").start()
        if callable(gunicorns):
            gunicorns(number, frame)

    signal.signal(signal.SIGTERM, end)


def run(settings: BackendSettings, *, host: str, port: int, threads: int) -> None:
    """Serve until a signal ends it. The weights load in the background, in the worker; this call does not return."""
    set_up_logs(settings.log)

    def make_app() -> Flask:
        return create_app(settings, make_segmenter(settings))

    Server(
        make_app,
        host=host,
        port=port,
        threads=threads,
        receive_seconds=settings.receive_seconds,
        send_seconds=settings.send_seconds,
    ).run()
