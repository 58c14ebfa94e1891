"""Several devices behind one port: a server process for each, a front before them, and who watches over all."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Sequence
from types import FrameType

import requests

from sam3_core.errors import Sam3Error
from sam3_core.remote import RemoteSegmenter
from sam3_core.types import ModelState
from sam3_prelabel.demo.process import direct_session
from sam3_prelabel.fleet_plan import FleetPlan, Member
from sam3_prelabel.fleet_process import Child, how_it_ended

logger = logging.getLogger(__name__)

_POLL = 0.2  # seconds between two looks at the processes
_LOOK = 1.0  # seconds between two looks at weights that load
_START = 120.0  # seconds until a process must answer; importing torch takes some
_DRAIN = 40.0  # seconds that a process gets to answer what it works on; its server allows 30
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds before one that ended is started again
_STEADY = 60.0  # seconds after which its next end counts as the first


class FleetFailed(Sam3Error):
    """A process of the fleet cannot start at all."""


class Stop:
    """Whether somebody asked us to end, by SIGTERM or SIGINT; asked twice, without waiting for anything."""

    def __init__(self) -> None:
        self.asked = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._count)

    def _count(self, number: int, frame: FrameType | None) -> None:
        self.asked += 1


class Watched:
    """A member of the fleet and its process, over all its lives. login: of an engine, to ask how its weights are."""

    def __init__(self, member: Member, login: tuple[str, str] | None = None) -> None:
        self._member = member
        self._far = None if login is None else RemoteSegmenter(member.url, user=login[0], password=login[1])
        self._pause = _FIRST_PAUSE
        self._again_at: float | None = None
        self._started = self._looked = 0.0
        self._failed = False
        self._child = self._start()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._child.exit_code

    def wait_until_it_answers(self, stop: Stop) -> None:
        """Raises FleetFailed when it ends before, or takes too long."""
        while not stop.asked and not self._answers():
            code = self._child.exit_code
            if code is not None:
                raise FleetFailed(
                    f"{self._member.name} cannot start: it {how_it_ended(code)}; the reason stands above"
                )
            if time.monotonic() > self._started + _START:
                raise FleetFailed(f"{self._member.name} cannot start: it gave no answer in {_START:.0f} s")
            time.sleep(_POLL)

    def look_after(self) -> None:
        """Start it again when it has ended, ever later; tell once when its weights are there, or cannot be."""
        now, code = time.monotonic(), self._child.exit_code
        if self._again_at is not None:
            if now >= self._again_at:
                self._child = self._start()
        elif code is not None:
            self._child.sweep()
            self._pause = _FIRST_PAUSE if now > self._started + _STEADY else self._pause
            logger.error("%s %s; it starts again in %g s", self, how_it_ended(code), self._pause)
            self._again_at, self._pause = now + self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        elif self._far is not None and now > self._looked + _LOOK:
            self._looked = self._tell(self._far, now)

    def ask_to_end(self) -> None:
        self._child.ask_to_end()

    def sweep(self) -> None:
        self._child.sweep()

    def __str__(self) -> str:
        return f"{self._member.name}, process {self._child.pid},"

    def _start(self) -> Child:
        self._started = self._looked = time.monotonic()
        self._again_at, self._failed = None, False
        return Child(self._member.command, self._member.env)

    def _answers(self) -> bool:
        """Whether its server runs, whatever its weights do."""
        with direct_session() as session:
            try:
                session.get(f"{self._member.url}/", timeout=2, allow_redirects=False)
            except requests.RequestException:
                return False
        return True

    def _tell(self, far: RemoteSegmenter, now: float) -> float:
        """Returns when it was looked at: now, or never again in this life."""
        info = far.info()
        if info.state is ModelState.READY:
            logger.info("%s is ready after %.0f s: %s, %s", self, now - self._started, info.version, info.dtype)
            return float("inf")
        if info.state is ModelState.FAILED and not self._failed and self._answers():
            logger.error("%s cannot work: %s", self, info.problem)
            self._failed = True
        return now


def run_fleet(plan: FleetPlan, report: Callable[[], None]) -> None:
    """Start everything, keep it alive, and end it in order when a signal asks for that.

    report: called once all engines run, before the front listens. Raises FleetFailed when one of them cannot start at
    all; nothing of the fleet is left after this call, however it ends.
    """
    stop = Stop()
    fleet: list[Watched] = []
    try:
        fleet += [Watched(engine, (plan.user, plan.password)) for engine in plan.engines]
        for engine in fleet:
            engine.wait_until_it_answers(stop)
        if not stop.asked:
            report()
            fleet.append(Watched(plan.front))
            fleet[-1].wait_until_it_answers(stop)
        while not stop.asked:
            for each in fleet:
                each.look_after()
            time.sleep(_POLL)
        _drain(fleet[len(plan.engines) :], stop)  # the front first: what it works on needs the engines
        _drain(fleet[: len(plan.engines)], stop)
    finally:
        for each in fleet:
            each.sweep()


def _drain(some: Sequence[Watched], stop: Stop) -> None:
    """Let them answer what they work on, unless somebody is in a hurry."""
    for each in some:
        each.ask_to_end()
    deadline = time.monotonic() + _DRAIN
    while stop.asked < 2 and time.monotonic() < deadline and any(each.exit_code is None for each in some):
        time.sleep(_POLL)
