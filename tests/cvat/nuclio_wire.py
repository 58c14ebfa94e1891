"""Nuclio's processor for one function: it speaks its wire protocol to worker processes and keeps its limits.

Stands for the Go processor in a function's container. The wrapper is our twin; ``NUCLIO_WRAPPER=/path/to/
_nuclio_wrapper.py`` runs the same tests against Nuclio's own, where somebody has it.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import yaml

WRAPPER = Path(os.environ.get("NUCLIO_WRAPPER") or Path(__file__).with_name("nuclio_wrapper_twin.py"))
_READY_WITHIN = 120.0  # seconds; a worker loads its model in them


@dataclass(frozen=True)
class Limits:
    """The part of function.yaml that the processor enforces; seconds and bytes. Nuclio's own defaults."""

    workers: int = 1
    max_body: int = 4 << 20
    event_timeout: float | None = None
    availability_timeout: float = 10.0

    @classmethod
    def of_yaml(cls, path: Path) -> Limits:
        spec = yaml.safe_load(path.read_text())["spec"]
        (trigger,) = (trigger for trigger in spec["triggers"].values() if trigger["kind"] == "http")
        timeout = spec.get("eventTimeout")
        return cls(
            int(trigger.get("numWorkers", trigger.get("maxWorkers", 1))),
            int(trigger.get("attributes", {}).get("maxRequestBodySize", cls.max_body)),
            float(timeout.removesuffix("s")) if timeout else None,
            trigger.get("workerAvailabilityTimeoutMilliseconds", 10000) / 1000,
        )


@dataclass(frozen=True)
class Reply:
    """What Nuclio's client receives, and beside it what the worker logged for this event."""

    status: int
    body: bytes
    content_type: str = "text/plain"
    logs: tuple[dict[str, Any], ...] = ()

    @property
    def json(self) -> Any:
        """As CVAT reads it, but strict: NaN and its kin are not JSON. Raises ValueError."""
        return json.loads(self.body, parse_constant=_refuse)


class WorkerDied(Exception):
    pass


class NuclioFunction:
    """A deployed function: ``main:handler`` of a copy of the folder, in processes of their own. Context manager."""

    def __init__(self, folder: Path, limits: Limits, env: Mapping[str, str] | None = None) -> None:
        self._folder, self._limits, self._env = folder, limits, dict(env or {})
        self._free: queue.Queue[Worker] = queue.Queue()
        self._workers: list[Worker] = []

    def __enter__(self) -> NuclioFunction:
        self._root = Path(tempfile.mkdtemp(prefix="nuclio-"))
        shutil.copytree(self._folder, self._root / "opt")
        try:
            for number in range(self._limits.workers):
                self._free.put(self._started(number))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.stop()
        shutil.rmtree(self._root, ignore_errors=True)

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self._workers]

    def invoke(self, body: bytes, content_type: str = "application/json") -> Reply:
        """POST one event. 400 over the body limit, 503 when no worker gets free, 408 over the event timeout."""
        if len(body) > self._limits.max_body:
            return Reply(400, b"body size exceeds the given limit")
        try:
            worker = self._free.get(timeout=self._limits.availability_timeout)
        except queue.Empty:
            return Reply(503, b"no available workers")
        try:
            return worker.handle(body, content_type, self._limits.event_timeout)
        except TimeoutError:
            worker = self._respawned(worker)
            return Reply(408, b'{"error": "handler timed out"}', "application/json")
        except WorkerDied:
            worker = self._respawned(worker)
            return Reply(500, b"the worker has exited")
        finally:
            self._free.put(worker)

    def post(self, request: Any, content_type: str = "application/json") -> Reply:
        """As invoke, with the request as JSON."""
        return self.invoke(json.dumps(request).encode(), content_type)

    def _started(self, number: int) -> Worker:
        worker = Worker(self._root / "opt", number, self._env)
        self._workers.append(worker)
        worker.wait_ready()
        return worker

    def _respawned(self, worker: Worker) -> Worker:
        worker.stop()
        self._workers.remove(worker)
        return self._started(worker.number)


class Worker:
    """One wrapper process and its two sockets."""

    def __init__(self, folder: Path, number: int, env: Mapping[str, str]) -> None:
        self.number = number
        self._sockets = Path(tempfile.mkdtemp(prefix="worker-", dir=folder.parent))
        listening = [_listening(self._sockets / name) for name in ("event", "control")]
        self._errors = (self._sockets / "stderr").open("w+b")
        paths = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-u", str(WRAPPER), *_arguments(self._sockets, number)],
            cwd=folder,
            env={**os.environ, **env, "PYTHONPATH": paths},
            stdout=self._errors,
            stderr=self._errors,
        )
        self._listening = listening

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> None:
        """Raises WorkerDied, with what it printed, when init_context or the import fails: the deployment fails."""
        self._events, self._control = (self._accepted(listener) for listener in self._listening)
        self._lines = self._events.makefile("rb")
        self.start_logs: list[dict[str, Any]] = []
        self._until("s", time.monotonic() + _READY_WITHIN, self.start_logs)
        self._control.settimeout(_READY_WITHIN)
        message = json.loads(self._control.makefile("rb").readline())
        assert message == {"kind": "wrapperInitialized", "attributes": {"ready": "true"}}, message

    def handle(self, body: bytes, content_type: str, timeout: float | None) -> Reply:
        """Raises TimeoutError after timeout seconds, WorkerDied when the process ends."""
        deadline = time.monotonic() + (timeout or 600.0)
        message = msgpack.packb(_event(body, content_type), use_bin_type=True)
        self._events.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            self._events.sendall(struct.pack(">I", len(message)) + message)
        except (BrokenPipeError, ConnectionResetError):
            raise WorkerDied(self._printed()) from None
        logs: list[dict[str, Any]] = []
        answer = json.loads(self._until("r", deadline, logs))
        if not isinstance(answer, dict):
            return Reply(500, b"a batch of answers to a single event", logs=tuple(logs))
        content = answer["body"]
        decoded = base64.b64decode(content) if answer["body_encoding"] == "base64" else content.encode()
        return Reply(answer["status_code"], decoded, answer["content_type"], tuple(logs))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.close()
        for end in (*self._listening, *(getattr(self, name, None) for name in ("_events", "_control"))):
            if end is not None:
                end.close()

    def _until(self, kind: str, deadline: float, logs: list[dict[str, Any]]) -> bytes:
        """The rest of the first line of this kind; log lines on the way go to logs."""
        while True:
            self._events.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                line = self._lines.readline()
            except ConnectionResetError:
                line = b""
            if not line:
                raise WorkerDied(self._printed())
            if line[:1] == b"l":
                logs.append(json.loads(line[1:]))
            elif line[:1] == kind.encode():
                return line[1:]
            elif line[:1] != b"m":
                raise AssertionError(f"the wrapper wrote {line[:80]!r} where {kind!r} was due")

    def _accepted(self, listener: socket.socket) -> socket.socket:
        listener.settimeout(0.1)
        deadline = time.monotonic() + _READY_WITHIN
        while time.monotonic() < deadline:
            try:
                return listener.accept()[0]
            except TimeoutError:
                if self._process.poll() is not None:
                    raise WorkerDied(self._printed()) from None
        raise WorkerDied("the worker did not connect")

    def _printed(self) -> str:
        self._process.wait(5)
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")


def _arguments(sockets: Path, number: int) -> list[str]:
    named = {
        "--handler": "main:handler",
        "--event-socket-path": str(sockets / "event"),
        "--control-socket-path": str(sockets / "control"),
        "--platform-kind": "local",
        "--namespace": "nuclio",
        "--worker-id": str(number),
        "--trigger-kind": "http",
        "--trigger-name": "http",
    }
    return [*(word for pair in named.items() for word in pair), "--decode-event-strings"]


def _event(body: bytes, content_type: str) -> dict[str, Any]:
    return {
        "body": body,
        "content_type": content_type,
        "content-type": content_type,
        "trigger": {"kind": "http", "name": "http"},
        "fields": {},
        "headers": {"Content-Type": content_type},
        "id": "1",
        "method": "POST",
        "path": "/",
        "size": len(body),
        "timestamp": int(time.time()),
        "url": "http://localhost:8080/",
        "shard_id": 0,
        "num_shards": 0,
        "type": "",
        "type_version": "",
        "version": "",
        "offset": 0,
        "topic": "",
    }


def _listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)
    return listener


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
