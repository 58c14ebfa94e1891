"""The runner's work on a task of the loopback CVAT server, for the tests of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cvat_sdk import make_client
from cvat_server import CvatServer

from cvat_nuclio import patience
from cvat_nuclio.cvat_task import CvatTask
from cvat_nuclio.labels import LabelRow, LabelType
from cvat_nuclio.runner import Outcome, Work, begin, fill
from cvat_nuclio.sdk_shapes import Target
from sam3_core import Concept, Segmenter
from sam3_core.demo.scenes import Scene


def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(patience, "_LONGEST_WAIT", 0.01)
    monkeypatch.setattr(patience, "STILL_AT_IT", 0.05)


@contextmanager
def seven_frames(server: CvatServer, segmenter: Segmenter, scene: Callable[..., Scene]) -> Iterator[Work]:
    """Work on a new task of seven frames, of which frame 2 is deleted."""
    pictures = [(f"{seed}.jpg", scene(seed, objects=(2, 4), size=(320, 240)).encode()) for seed in range(7)]
    number = server.add_task(pictures, [{"name": "circle"}, {"name": "star"}], deleted_frames=[2])
    with make_client(server.url, access_token="of-the-twin") as client:
        task = CvatTask(client, number)
        targets = tuple(
            Target(label, LabelRow(name, LabelType.MASK, Concept((name, "square"))))
            for label, name, _ in task.labels()
        )
        yield Work(task, segmenter, targets)


def go(work: Work, path: Path, **options: bool) -> list[Outcome]:
    frames = work.task.frames()
    book, left = begin(work, frames, path, **options)
    return list(fill(work, left, book, in_flight=2, slice_frames=2))


def per_frame(server: CvatServer, work: Work) -> Counter[int]:
    return Counter(shape["frame"] for shape in server.annotations(work.task.id)["shapes"])


def fail_patches(server: CvatServer, failures: list[tuple[int, bool]], *, late: float | None = None) -> None:
    """The next uploads fail one after the other, each with its status, before or after it was carried out."""
    real = server._respond

    def respond(method: str, target: str, headers: dict[str, str], body: Any) -> Any:
        if method == "PATCH" and failures:
            status, after = failures.pop(0)
            server.fail_next("/annotations", status, after=after, late=late)
        return real(method, target, headers, body)

    server._respond = respond  # type: ignore[method-assign]
