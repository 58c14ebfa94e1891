"""``serve --devices``: from the words of the command line to a fleet that runs."""

from __future__ import annotations

import contextlib
import os
import socket
from urllib.parse import urlsplit

from rich.console import Console

from backend.logs import set_up_logs
from backend.settings import BackendSettings
from sam3_core.errors import BadSettings
from sam3_prelabel import report
from sam3_prelabel.fleet import run_fleet
from sam3_prelabel.fleet_plan import Device, make_plan, read_devices


def chosen_devices(devices: str, device: str | None, settings: BackendSettings) -> list[Device]:
    """What ``--devices`` names. Raises BadSettings where something else says where the weights are."""
    if settings.core_url:
        raise BadSettings("--devices loads weights here, SAM3_CORE_URL says that other servers hold them: choose one")
    if device is not None:
        raise BadSettings("--device names one device, --devices several: choose one of the two")
    return read_devices(devices)


def check_not_self(settings: BackendSettings, port: int) -> None:
    """Raises BadSettings where the weights are to be had from the very server that is about to start.

    That happens where one file of variables serves the CVAT functions and the server.
    """
    for url in settings.core_urls:
        parts = urlsplit(url)
        if (parts.port or {"http": 80}.get(parts.scheme, 443)) == port and _is_here(parts.hostname or ""):
            raise BadSettings(f"SAM3_CORE_URL names this server itself (port {port}): unset it where the weights are")


def _is_here(host: str) -> bool:
    """Whether it is an address of this machine: only those can be bound."""
    with contextlib.suppress(OSError):
        for family, _, _, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM):
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.bind(address)
                return True
    return False


def serve_fleet(
    devices: list[Device], settings: BackendSettings, *, host: str, port: int, threads: int, quiet: bool
) -> None:
    """Run until a signal ends it. Raises FleetFailed when a process cannot start at all."""
    set_up_logs(settings.log)
    console = Console()

    def show() -> None:
        if not quiet:
            report.show_start(console, settings, host=host, port=port, threads=threads, devices=devices)

    if not quiet:
        report.say(console, f"starting {len(devices)} engines, a process with weights of its own each ...")
    run_fleet(make_plan(settings, devices, host=host, port=port, threads=threads, environ=os.environ), show)
