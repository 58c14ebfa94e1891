"""The interactor: what was clicked or boxed in a picture. Nuclio looks for both functions in this module."""

from __future__ import annotations

from cvat_nuclio.handlers import Context, Event, answer_interactor, start_interactor


def init_context(context: Context) -> None:
    """Once in each worker process."""
    start_interactor(context)


def handler(context: Context, event: Event) -> object:
    """Once for each request."""
    return answer_interactor(context, event)
