"""One annotator's connection to a backend, with a clock on it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sam3_core.errors import Sam3Error
from sam3_prelabel.demo.process import direct_session

STAGES = ("parse", "fetch", "decode", "queue", "vision", "model", "masks", "encode")
"""What our server tells about; see ``sam3_core.timing``."""

_MODEL = ("vision", "model")


class BenchmarkFailed(Sam3Error):
    """What was measured did not do what it should; figures of it would mean nothing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. total: milliseconds from before it was sent until the whole answer was there.
    stages: milliseconds by name, as the server tells them; empty for servers that do not."""

    total: float
    stages: dict[str, float]

    @property
    def ours(self) -> float:
        """All but the model's work and the waiting for it."""
        return self.total - sum(self.stages.get(name, 0.0) for name in (*_MODEL, "queue"))

    @property
    def other(self) -> float:
        """What the server spent outside of the stages it names."""
        return self.stages.get("total", 0.0) - sum(self.stages.get(name, 0.0) for name in STAGES)

    @property
    def outside(self) -> float:
        """What the server's clock does not see: sockets, HTTP parsing, the client."""
        return self.total - self.stages.get("total", 0.0)


class Annotator:
    """A keep-alive HTTP session of its own. Not for several threads."""

    def __init__(self, url: str, *, stages: bool = True) -> None:
        self._url = url + "/predict"
        self._stages = stages
        self._session = direct_session()
        self._session.headers["Content-Type"] = "application/json"

    def click(self, body: bytes) -> Sample:
        """Raises BenchmarkFailed when the answer holds no region."""
        sample, regions = self.ask(body)
        if not regions:
            raise BenchmarkFailed(f"{self._url} answered a click without a region; its log has the reason")
        return sample

    def ask(self, body: bytes) -> tuple[Sample, list[dict[str, Any]]]:
        """Any /predict of one task; the regions of its answer come along."""
        started = time.perf_counter()
        answer = self._session.post(self._url, data=body, timeout=300)
        total = (time.perf_counter() - started) * 1e3
        if answer.status_code != 200:
            raise BenchmarkFailed(f"{self._url} answered {answer.status_code}: {answer.text[:300]}")
        stages = parse_server_timing(answer.headers.get("Server-Timing", ""))
        if self._stages and "total" not in stages:
            raise BenchmarkFailed(f"{self._url} answers without a Server-Timing header that has a total")
        result: list[dict[str, Any]] = answer.json()["results"][0]["result"]
        return Sample(total, stages), result


def parse_server_timing(header: str) -> dict[str, float]:
    """Milliseconds by metric (https://www.w3.org/TR/server-timing/), those with a plain ``dur`` alone."""
    stages = {}
    for metric in header.split(","):
        name, *parameters = (part.strip() for part in metric.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key == "dur":
                stages[name] = float(value)
    return stages
