"""Where the work stands, told to whoever reads the job's folder; and whether it is still wanted."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sam3_core.tuning import CANCEL, PAUSE, Progress, TuningState, write_progress

if TYPE_CHECKING:
    from sam3_core.engine.tuning.training import Epoch

_EVERY = 0.5  # seconds between two writings, at least
_HELD = 1.0  # seconds for which a pause holds
_LOOK = 0.05  # seconds between two looks whether it still does
_MOST_HELD = 0.75  # of the time; with people who never stop, the work would never end


class Cancelled(Exception):
    """Nobody wants the work any more."""


class Report:
    """The progress in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._began, self._written = folder, time.monotonic(), 0.0
        self._progress = Progress(TuningState.WAITING)
        self._held = 0.0

    def check(self) -> None:
        """Wait while the folder says that others need the machine. Raises Cancelled when it says so."""
        began = time.monotonic()
        before = self._held
        while True:
            if (self._folder / CANCEL).exists():
                raise Cancelled
            now = time.monotonic()
            self._held = before + now - began
            if not self._is_paused() or self._held > _MOST_HELD * (now - self._began):
                return
            time.sleep(_LOOK)

    def _is_paused(self) -> bool:
        try:
            return time.time() - (self._folder / PAUSE).stat().st_mtime < _HELD
        except FileNotFoundError:
            return False

    def tell(self, state: TuningState, *, done: float | None = None, sentence: str = "") -> None:
        """Write it down, at once where the state is a new one."""
        new = state is not self._progress.state
        share = self._progress.done if done is None else done
        self._progress = replace(self._progress, state=state, done=share, sentence=sentence)
        if new or time.monotonic() - self._written > _EVERY:
            self._write()

    def epoch(self, epoch: Epoch, best: Epoch) -> None:
        """Write down what an epoch came to, and the best one so far."""
        held, least = (None if one.held is None else one.held.loss for one in (epoch, best))
        self._progress = replace(self._progress, epoch=epoch.number, loss=epoch.loss, held_out=held, best=least)
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        write_progress(self._folder, replace(self._progress, seconds=self._written - self._began))
