"""The segmenter of a function: another process that holds the weights, or this one."""

from __future__ import annotations

from importlib.util import find_spec

from cvat_nuclio.settings import CvatSettings
from sam3_core import Segmenter
from sam3_core.errors import BadSettings
from sam3_core.replicas import remote_segmenter


def make_segmenter(settings: CvatSettings) -> Segmenter:
    """With ``core_url`` a client of those servers, which needs no torch; without it the weights in this process.

    Raises BadSettings where neither can be.
    """
    if settings.core_url:
        return remote_segmenter(settings, seconds=settings.budget_seconds)
    if find_spec("torch") is None:
        raise BadSettings(
            "torch is not installed here, so the weights must be elsewhere: SAM3_CORE_URL names the server that "
            "holds them (or install 'sam3-prelabel[local]', as the image of function-gpu.yaml has it)"
        )
    from sam3_core.engine import LocalSegmenter

    return LocalSegmenter(settings)
