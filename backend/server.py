"""gunicorn as a library: one process that owns the weights, many threads that serve."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from backend.app import create_app
from backend.settings import BackendSettings
from sam3_core.engine import LocalSegmenter

_GRACE = 30  # seconds that requests under way get when the server is told to stop


class Server(BaseApplication):  # type: ignore[misc]
    """A gunicorn whose single worker makes the app after the fork.

    Weights loaded before a fork would leave CUDA unusable in the child, and a second worker would be a second copy of
    them; hence one worker, threads, and no preload.
    """

    def __init__(self, make_app: Callable[[], Flask], *, host: str, port: int, threads: int) -> None:
        self._make_app = make_app
        self._options: dict[str, Any] = {
            "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            "workers": 1,
            "worker_class": "gthread",
            "threads": threads,
            "preload_app": False,
            # Of gthread only the worker's main loop sends heartbeats; importing torch can hold it up for a while.
            "timeout": 300,
            "graceful_timeout": _GRACE,
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


def run(settings: BackendSettings, *, host: str, port: int, threads: int) -> None:
    """Serve until a signal ends it. The weights load in the background, in the worker; this call does not return."""
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    # Its warnings about repeated requests show whole addresses, with the signatures of presigned links.
    logging.getLogger("urllib3").setLevel(logging.ERROR)

    def make_app() -> Flask:
        return create_app(settings, LocalSegmenter(settings))

    Server(make_app, host=host, port=port, threads=threads).run()
