"""What a fleet consists of: which devices, and what each of its processes is told."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from backend.settings import BackendSettings
from sam3_core.errors import BadSettings
from sam3_core.settings import CoreSettings, variables_of
from sam3_prelabel.demo.process import HOST, free_port

_SPARE_THREADS = 8  # of an engine, over the work it may be given: for those who ask how it stands
_ENGINES_READ = frozenset(
    {"SAM3_MAX_REQUEST_MB", "SAM3_MAX_IMAGE_MB", "SAM3_IMAGE_CACHE_MB", "SAM3_REQUEST_SECONDS", "SAM3_LOG"}
)
_FIND_TIMEOUT = 120.0  # seconds


@dataclass(frozen=True, slots=True)
class Device:
    """name: as ``SAM3_DEVICE`` takes it. what: the card's name and memory, where known."""

    name: str
    what: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """One process: how sentences call it, its command line and its whole environment."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    url: str


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """The engines, each with its device and weights of its own, and the front before them.

    user, password: what the engines ask for; made up for this run.
    """

    engines: tuple[Member, ...]
    front: Member
    user: str
    password: str


def read_devices(text: str) -> list[Device]:
    """``auto``, which finds every GPU of this machine, or devices between commas. Raises BadSettings."""
    if text.strip() != "auto":
        names = [name.strip() for name in text.split(",")]
        if not all(names):
            raise BadSettings(f"--devices {text!r}: name devices between commas, as in cuda:0,cuda:1, or say auto")
        if "auto" in names:
            raise BadSettings(f"--devices {text!r}: auto stands for all GPUs; it cannot be one of several devices")
        return [Device(name) for name in names]
    command = [sys.executable, "-m", "sam3_core.engine.devices"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=_FIND_TIMEOUT, check=True).stdout
    except (subprocess.SubprocessError, OSError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1]
        raise BadSettings(
            f"--devices auto cannot find the GPUs here: {said}; name them, as in cuda:0,cuda:1"
        ) from None
    cards = [line.split("\t") for line in found.splitlines()]
    return [Device(name, f"{what}, {int(size) / (1 << 30):.0f} GiB") for name, what, size in cards]


def make_plan(
    settings: BackendSettings,
    devices: list[Device],
    *,
    host: str,
    port: int,
    threads: int,
    environ: Mapping[str, str],
) -> FleetPlan:
    """settings: of the whole; what the command line said is in them. environ: what the members inherit from."""
    user, password = "fleet", secrets.token_urlsafe(24)
    chosen = {"SAM3_MODEL": settings.model, "SAM3_DTYPE": settings.dtype}
    if settings.adapters_folder is not None:  # the front makes what is in it, the engines search with it
        chosen["SAM3_ADAPTERS"] = str(settings.adapters_folder)
    # All that the front takes in may meet in one engine, where the others are away.
    clicks, bulk = settings.max_clicks, settings.max_bulk * settings.tasks_in_flight
    limits = {"SAM3_MAX_CLICKS": str(clicks), "SAM3_MAX_BULK": str(bulk)}
    engines = tuple(
        _engine(
            f"engine {number} ({device.name})",
            clicks + bulk + _SPARE_THREADS,
            _engine_environment(environ, device, len(devices))
            | chosen
            | limits
            | {"SAM3_DEVICE": device.name, "SAM3_BASIC_AUTH_USER": user, "SAM3_BASIC_AUTH_PASSWORD": password},
        )
        for number, device in enumerate(devices, start=1)
    )
    env = {name: value for name, value in environ.items() if name.upper() != "SAM3_CORE_TOKEN"} | chosen
    env |= {"SAM3_CORE_URL": ",".join(engine.url for engine in engines)}
    env |= {"SAM3_CORE_USER": user, "SAM3_CORE_PASSWORD": password}
    if settings.basic_auth_user and settings.basic_auth_password:
        env["SAM3_BASIC_AUTH_USER"] = settings.basic_auth_user
        env["SAM3_BASIC_AUTH_PASSWORD"] = settings.basic_auth_password
    return FleetPlan(
        engines, Member("the front", _serve(host, port, threads), env, _near(host, port)), user, password
    )


def _engine(name: str, threads: int, env: Mapping[str, str]) -> Member:
    port = free_port()
    return Member(name, _serve(HOST, port, threads), env, f"http://{HOST}:{port}")


def _serve(host: str, port: int, threads: int) -> tuple[str, ...]:
    where = ("--host", host, "--port", str(port), "--threads", str(threads))
    return (sys.executable, "-m", "sam3_prelabel", "serve", *where, "--quiet")


def _engine_environment(environ: Mapping[str, str], device: Device, engines: int) -> dict[str, str]:
    """Of ours, without what is the front's: an engine has no store, no token and no files of Label Studio."""
    own = variables_of(BackendSettings) - variables_of(CoreSettings) - _ENGINES_READ
    env = {name: value for name, value in environ.items() if name.upper() not in own}
    env["SAM3_LOAD_WAIT"] = "0"  # one that still loads is passed over at once; the front waits for all
    if device.name == "cpu":
        env.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // engines)))
    return env


def _near(host: str, port: int) -> str:
    """Where the front is reached from here."""
    if host in ("0.0.0.0", "::", ""):
        host = "::1" if host == "::" else HOST
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
