"""Heads: the detector's prompt side with the checkpoint's own weights, and with fine-tuned ones beside it."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

from transformers import Sam3Model

from sam3_core.engine.adapters import adapted_detector
from sam3_core.engine.concepts import ConceptHead, Detection
from sam3_core.engine.plan import Question
from sam3_core.errors import ModelUnavailable, UnknownAdapter
from sam3_core.timing import stage
from sam3_core.types import is_adapter_name

logger = logging.getLogger(__name__)

_KEPT = 4
"""Adapters in memory. Each has its own copy of the modules that it changes; encoders and neck are shared by all."""


@dataclass(frozen=True, slots=True)
class _Version:
    """One state of an adapter's file: what is put in its place is read anew."""

    name: str
    changed: int
    bytes: int


class Heads:
    """The checkpoint's head, and those of the adapters used last. Callable from any thread but the device's.

    An adapter is read when a search first names it: by one of the threads that prepare pixels, while clicks and all
    other searches go on; only the searches that name it wait. What cannot be read is not remembered.
    """

    def __init__(self, detector: Sam3Model, own: ConceptHead, folder: Path | None, reading: Executor) -> None:
        """folder: holds ``<name>.safetensors`` each; None where there are none. reading: runs what reads them."""
        self._detector, self._own, self._folder, self._reading = detector, own, folder, reading
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Version, Future[ConceptHead]] = OrderedDict()

    def get(self, name: str) -> ConceptHead:
        """The adapter's head, the checkpoint's own for an empty name. Raises UnknownAdapter."""
        if not name:
            return self._own
        file, version = self._find(name)
        with self._lock:
            coming = self._kept.get(version)
            if coming is None:
                coming = self._kept[version] = self._reading.submit(self._read, file)
            self._kept.move_to_end(version)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        try:
            with stage("queue"):
                return coming.result()
        except ModelUnavailable as error:  # the model itself is well, and serves everything else
            raise UnknownAdapter(f"the fine-tuned weights {name!r} cannot be used: {error}") from None
        finally:
            if coming.exception() is not None:
                self._drop(version, coming)

    def _find(self, name: str) -> tuple[Path, _Version]:
        if self._folder is None or not is_adapter_name(name):
            raise UnknownAdapter(
                f"this server has no fine-tuned weights {name[:80]!r}: SAM3_ADAPTERS names the folder that holds them"
            )
        file = self._folder / f"{name}.safetensors"
        try:
            found = file.stat()
        except OSError:
            raise UnknownAdapter(
                f"there are no fine-tuned weights {name!r} in SAM3_ADAPTERS: train them again, or name others"
            ) from None
        return file, _Version(name, found.st_mtime_ns, found.st_size)

    def _read(self, file: Path) -> ConceptHead:
        head = self._own.adapted(adapted_detector(self._detector, file))
        logger.info("fine-tuned weights %s are loaded", file.stem)
        return head

    def _drop(self, version: _Version, failed: Future[ConceptHead]) -> None:
        with self._lock:
            if self._kept.get(version) is failed:
                del self._kept[version]


def detect_each(asked: Sequence[tuple[ConceptHead, Question]]) -> list[Detection]:
    """One Detection per question, each by its own head, in order; a head's questions in one pass."""
    found: dict[int, Detection] = {}
    for head in dict.fromkeys(head for head, _ in asked):
        places = [place for place, (one, _) in enumerate(asked) if one is head]
        found.update(zip(places, head.detect([asked[place][1] for place in places]), strict=True))
    return [found[place] for place in range(len(asked))]
