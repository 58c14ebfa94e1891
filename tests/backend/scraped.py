"""What a scrape of /metrics says, and a device that is busy."""

from __future__ import annotations

from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from sam3_core import Lane
from sam3_core.load import LaneLoad, Load, MemoryLoad, PassLoad

LOAD = Load(
    (LaneLoad(Lane.CLICK, 1, 20, 3, 4), LaneLoad(Lane.BULK, 50, 60, 7, 8)),
    (PassLoad("vision", 2.5, ((1, 10), (4, 5)), 16, 2), PassLoad("clicks")),
    MemoryLoad(3 << 30, 4 << 30, 8 << 30),
)


def metrics(client: FlaskClient, name: str) -> dict[frozenset[tuple[str, str]], float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {frozenset(s.labels.items()): s.value for family in families for s in family.samples if s.name == name}


def metric(client: FlaskClient, name: str, **labels: str) -> float:
    return metrics(client, name)[frozenset(labels.items())]
