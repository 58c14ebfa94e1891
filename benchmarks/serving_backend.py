"""The other side of the serving comparison: the same server, with the ways taken out in which it shares the model.

    python -m benchmarks.serving_backend --port 9091 --way one-at-a-time

Two ways to do without: *one-at-a-time*, a lock around the model, so that one image after the other goes through all
of it, which is what a server does that does nothing about it; and *one-lane*, our scheduler with clicks and bulk in
the same line. Routes, fetching, settings and the encoding of answers are those of `sam3-prelabel serve`.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from backend.app import create_app
from backend.logs import set_up_logs
from backend.segmenter import make_segmenter
from backend.server import Server
from backend.settings import BackendSettings
from sam3_core import Caller, Concept, ConceptResult, EncodedImage, Instance, Lane, ModelInfo, Segmenter, VisualPrompt
from sam3_core.settings import load_settings
from sam3_core.timing import stage
from sam3_core.types import FindOptions, OutlineOptions
from sam3_prelabel.demo.process import HOST, ServerProcess, answers, free_port

ONE_AT_A_TIME, ONE_LANE = "one-at-a-time", "one-lane"
_START = 300.0  # seconds
_BULK, _CLICK = Caller(Lane.BULK), Caller(Lane.CLICK)


class OneAtATime:
    """A Segmenter that does one thing at a time, from the file to the masks."""

    def __init__(self, inner: Segmenter) -> None:
        self._inner = inner
        self._lock = threading.Lock()

    def info(self) -> ModelInfo:
        return self._inner.info()

    def find(
        self,
        image: bytes | EncodedImage,
        concepts: Sequence[Concept],
        options: FindOptions | None = None,
        *,
        caller: Caller = _BULK,
    ) -> list[ConceptResult]:
        with self._turn():
            return self._inner.find(image, concepts, options or FindOptions(), caller=caller)

    def outline(
        self,
        image: bytes | EncodedImage,
        prompt: VisualPrompt,
        options: OutlineOptions | None = None,
        *,
        caller: Caller = _CLICK,
    ) -> list[Instance]:
        with self._turn():
            return self._inner.outline(image, prompt, options or OutlineOptions(), caller=caller)

    def warm(self, image: bytes | EncodedImage, *, caller: Caller = _BULK) -> None:
        with self._turn():
            self._inner.warm(image, caller=caller)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with stage("queue"):
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()


class OneLane:
    """A Segmenter whose work all waits in the same lane."""

    def __init__(self, inner: Segmenter) -> None:
        self._inner = inner

    def info(self) -> ModelInfo:
        return self._inner.info()

    def find(
        self,
        image: bytes | EncodedImage,
        concepts: Sequence[Concept],
        options: FindOptions | None = None,
        *,
        caller: Caller = _BULK,
    ) -> list[ConceptResult]:
        return self._inner.find(image, concepts, options or FindOptions(), caller=replace(caller, lane=Lane.BULK))

    def outline(
        self,
        image: bytes | EncodedImage,
        prompt: VisualPrompt,
        options: OutlineOptions | None = None,
        *,
        caller: Caller = _CLICK,
    ) -> list[Instance]:
        return self._inner.outline(image, prompt, options or OutlineOptions(), caller=replace(caller, lane=Lane.BULK))

    def warm(self, image: bytes | EncodedImage, *, caller: Caller = _BULK) -> None:
        self._inner.warm(image, caller=replace(caller, lane=Lane.BULK))


_WAYS: dict[str, type[OneAtATime] | type[OneLane]] = {ONE_AT_A_TIME: OneAtATime, ONE_LANE: OneLane}


@contextmanager
def other_backend(way: str, label_studio: str, token: str, folder: Path) -> Iterator[str]:
    """This module as a process, with the environment's settings; its address once it is ready."""
    port = free_port()
    command = [sys.executable, "-m", __name__, "--port", str(port), "--way", way]
    environment = os.environ | {
        "SAM3_LABEL_STUDIO_URL": label_studio, "SAM3_LABEL_STUDIO_API_KEY": token, "NO_PROXY": HOST, "no_proxy": HOST,
    }  # fmt: skip
    url = f"http://{HOST}:{port}"
    with ServerProcess(f"the {way} backend", command, env=environment, log=folder / f"{way}.log") as process:
        process.wait_until(lambda: answers(f"{url}/ready"), timeout=_START)
        yield url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--way", choices=tuple(_WAYS), required=True)
    options = parser.parse_args()
    settings, way = load_settings(BackendSettings), _WAYS[options.way]
    set_up_logs(settings.log)
    Server(
        lambda: create_app(settings, way(make_segmenter(settings))),
        host=HOST,
        port=options.port,
        threads=64,
        receive_seconds=settings.receive_seconds,
        send_seconds=settings.send_seconds,
    ).run()


if __name__ == "__main__":
    main()
