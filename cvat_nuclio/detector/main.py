"""The detector: every object of every label of a picture. Nuclio looks for both functions in this module."""

from __future__ import annotations

from pathlib import Path

from cvat_nuclio.handlers import Context, Event, answer_detector, start_detector


def init_context(context: Context) -> None:
    """Once in each worker process."""
    start_detector(context, Path(__file__).parent)


def handler(context: Context, event: Event) -> object:
    """Once for each request."""
    return answer_detector(context, event)
