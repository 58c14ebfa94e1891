"""One process of a fleet: in a session of its own, swept away with all that it started, and never an orphan."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Child:
    """A process that writes to our own output, and that ends when we do, however we end (on Linux).

    Start it from the main thread: the kernel's "parent" is the thread that forked.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        # A session of its own: Ctrl-C in the terminal reaches us alone, and we end our children in order.
        self._process = subprocess.Popen(
            command, env=dict(env), stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_follower()
        )
        self._swept = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number for one that a signal ended."""
        return self._process.poll()

    def ask_to_end(self) -> None:
        """SIGTERM: it answers what it works on, and ends."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def sweep(self) -> None:
        """End what is left of its whole group, by force: its port and its GPU are free afterwards."""
        if not self._swept:
            self._swept = True  # once: later the number may be another's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def how_it_ended(exit_code: int) -> str:
    """As a person would say it."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-exit_code).name}"
    return f"was ended by signal {-exit_code}"


def _follower() -> Callable[[], None] | None:
    """What a child does first: ask Linux for a SIGTERM when its parent dies, also by kill -9."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def follow() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return follow
