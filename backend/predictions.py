"""What goes back for a task: its regions, the score that orders tasks, and why there are none."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from backend.regions import Region, mean_score

log = logging.getLogger(__name__)

_telling = threading.Lock()

Prediction = dict[str, Any]

_NOTES = 1000  # told ones that are remembered


class Nothing:
    """Why there is nothing, in sentences for a person: by label, or for the whole task."""

    def __init__(self) -> None:
        self._of_labels: dict[str, list[str]] = {}
        self._problems: list[str] = []

    def add(self, label: str, reason: str, page: int | None = None) -> None:
        """A label found nothing. page: its number, from 0 as in ``item_index``, where a task has a list of images."""
        self._of_labels.setdefault(label, []).append(_on(page, reason))

    def fail(self, problem: str, page: int | None = None) -> None:
        """No label was looked for."""
        self._problems.append(_on(page, problem))

    @property
    def meta(self) -> dict[str, Any]:
        """``{"nothing": {label: reason}, "problem": sentence}``, without what is empty."""
        reasons = {label: "; ".join(dict.fromkeys(told)) for label, told in self._of_labels.items()}
        problem = "; ".join(self._problems)
        return ({"nothing": reasons} if reasons else {}) | ({"problem": problem} if problem else {})

    def __str__(self) -> str:
        """The labels' reasons, for a line in the log."""
        return "; ".join(f"{label!r}: {reason}" for label, reason in self.meta.get("nothing", {}).items())


def prediction(regions: Sequence[Region], version: str, nothing: Nothing) -> Prediction:
    """The regions of a task as Label Studio takes them.

    ``meta`` says why there is nothing. Label Studio 1.23 drops it from what it stores; it hands it on where it shows
    the whole answer: to the editor's interactive call, and under Settings, Model, Send Test Request.
    """
    answer: Prediction = {"result": list(regions), "score": mean_score(regions), "model_version": version}
    return answer | ({"meta": nothing.meta} if nothing.meta else {})


def tell_once(note: str) -> None:
    """A warning that many tasks would repeat."""
    with _telling:  # a cache alone lets several threads through at the first time
        _tell(note)


@lru_cache(maxsize=_NOTES)
def _tell(note: str) -> None:
    log.warning("%s", note)


def _on(page: int | None, sentence: str) -> str:
    return sentence if page is None else f"page {page}: {sentence}"
