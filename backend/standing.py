"""How the model stands, for those who may not wait: Label Studio gives /health one second, come what may."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from sam3_core import ModelInfo, ModelState, Segmenter

log = logging.getLogger(__name__)

_PATIENCE = 0.02  # seconds; a segmenter in this process answers in a hundredth of it
_FIRST = 2.0  # seconds; Label Studio gives /setup three
_SILENT = 10.0  # seconds without an answer after which a model does not count as ready


@dataclass(frozen=True, slots=True)
class Standing:
    """The newest answer of ``Segmenter.info``. age: seconds since it was given, infinite before the first."""

    info: ModelInfo
    age: float

    @property
    def ready(self) -> bool:
        """Whether prompts are answered now."""
        return self.info.state is ModelState.READY and self.age < _SILENT

    @property
    def sentence(self) -> str:
        """How it stands, for a person."""
        if self.age >= _SILENT and self.info.state is not ModelState.LOADING:
            return "the model has not said how it stands for some time; see the log, then restart the server"
        return {
            ModelState.READY: "the weights are loaded and prompts are answered",
            ModelState.LOADING: "the weights are still loading; prompts wait for them",
            ModelState.FAILED: self.info.problem or "the model does not work; see the log",
        }[self.info.state]


class Informant:
    """Asks the segmenter in the background, one question at a time. Callable from any thread.

    A segmenter in another process is asked over the network, and one that is broken may never answer: nobody but the
    thread here waits for either.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._asker = ThreadPoolExecutor(1, thread_name_prefix="sam3-info")
        self._asked: Future[None] | None = None
        self._lock = threading.Lock()
        self._info = ModelInfo("unknown", ModelState.LOADING, "unknown", "unknown", can_outline=False)
        self._since = float("-inf")

    def standing(self, patience: float = _PATIENCE) -> Standing:
        """The newest answer there is after ``patience`` seconds at most."""
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = self._asker.submit(self._ask)
            asked = self._asked
        wait([asked], patience)
        return Standing(self._info, time.monotonic() - self._since)

    def info(self) -> ModelInfo:
        """What ``standing`` says of the model."""
        return self.standing().info

    def version(self) -> str:
        """Names the weights. Known as soon as the model answered once; then nobody waits for it again."""
        return (self._info if self._since > float("-inf") else self.standing(_FIRST).info).version

    def _ask(self) -> None:
        try:
            self._info = self._segmenter.info()
            self._since = time.monotonic()
        except Exception:  # whatever it is: the last answer grows old, and /ready says so
            log.exception("the model could not be asked how it stands")
