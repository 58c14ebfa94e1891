"""The process that fine-tuning runs in gives way to all others, and ends with its parent. Without torch."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time

_POLL = 0.5  # seconds


def give_way() -> None:
    """Run only when nobody else wants the processor, as far as this system lets one say so."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(19)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def end_with(parent: int) -> None:
    """End at once, wherever the work is, when the process that started this one is gone.

    Watched, because Linux' own PR_SET_PDEATHSIG goes by the thread that started the process, and threads end.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
