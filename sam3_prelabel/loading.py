"""A segmenter for a command, and what to say where a part of the product is not installed."""

from __future__ import annotations

from rich.console import Console

from backend.settings import BackendSettings
from sam3_core.errors import ModelUnavailable
from sam3_core.replicas import remote_segmenter
from sam3_core.segmenter import Segmenter
from sam3_core.types import ModelState
from sam3_prelabel import report


def load_segmenter(settings: BackendSettings, console: Console) -> Segmenter:
    """A segmenter, its weights loaded here or elsewhere, and a line on it.

    Raises ModelUnavailable when that cannot be.
    """
    segmenter: Segmenter
    if settings.core_url:
        segmenter = remote_segmenter(settings, seconds=settings.request_seconds)
    else:
        segmenter = _loaded_here(settings, console)
    info = segmenter.info()
    if info.state is ModelState.FAILED:
        raise ModelUnavailable(info.problem)
    report.say(console, f"{info.version} on {info.device}, {info.dtype}")
    return segmenter


def _loaded_here(settings: BackendSettings, console: Console) -> Segmenter:
    try:
        from sam3_core.engine import LocalSegmenter
    except ModuleNotFoundError as error:
        raise not_installed(error, "local") from None
    with console.status(f"loading {settings.model} ..."):
        segmenter = LocalSegmenter(settings)
        segmenter.wait_until_ready()
    return segmenter


def not_installed(error: ModuleNotFoundError, extra: str) -> ModelUnavailable:
    """What to raise where a part of the product is missing. extra: that brings it."""
    return ModelUnavailable(f"{error.name} is not installed; pip install 'sam3-prelabel[{extra}]' brings it")
