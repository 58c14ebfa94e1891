"""The segmenter of the server: the weights in this process, or other servers that hold them."""

from __future__ import annotations

import logging
import os
import signal

from backend.settings import BackendSettings
from sam3_core import Segmenter
from sam3_core.engine import LocalSegmenter
from sam3_core.replicas import remote_segmenter

log = logging.getLogger(__name__)


def make_segmenter(settings: BackendSettings) -> Segmenter:
    """With ``core_url`` a client of those servers, without it the weights, which begin to load.

    Where all servers are too busy, our own caller is told so at once. Raises BadSettings for what is no address.
    """
    if settings.core_url:
        return remote_segmenter(settings, seconds=settings.request_seconds, insist=False)
    settings = settings.model_copy(update={"adapters": settings.adapters_folder})
    return LocalSegmenter(settings, on_broken=_end_worker)


def _end_worker(problem: str) -> None:
    """A device that broke stays broken for this process: gunicorn ends it in order, and starts another."""
    log.error("%s: ending this worker", problem)
    os.kill(os.getpid(), signal.SIGTERM)
