"""The serving benchmark measures what it says: a tiny run of the command, and the two servers it compares with."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving import Clicks, Throughput, click_rows, throughput_rows
from benchmarks.serving_backend import OneAtATime, OneLane
from benchmarks.serving_load import Load, Send
from benchmarks.table import markdown
from sam3_core import Caller, Concept, Lane, Point, VisualPrompt

ROOT = Path(__file__).parents[2]


class Noting:
    """A segmenter that notes the lanes it is asked in, and how many are inside at once."""

    def __init__(self) -> None:
        self.lanes: list[Lane] = []
        self.inside = self.most = 0

    def find(self, *_: object, caller: Caller) -> list[Any]:
        self.lanes.append(caller.lane)
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.02)
        self.inside -= 1
        return []

    outline = find


def test_one_command_makes_both_tables(tmp_path: Path) -> None:
    file = tmp_path / "tables.json"
    command = [
        sys.executable, "-m", "benchmarks.serving", "--device", "cpu", "--clients", "1,4", "--images", "4",
        "--clicks", "3", "--rounds", "1", "--size", "160x120", "--json", str(file),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    tables = json.loads(file.read_text())
    rates, waits = tables["throughput"], tables["clicks"]
    assert done.stdout.count("\n") == len(rates) + len(waits) + 5
    assert [(row["request"], row["clients"]) for row in rates] == [
        ("/v1/find", "1"), ("/v1/find", "4"), ("/predict, 4 tasks", "1"), ("/predict, 4 tasks", "4"),
    ]  # fmt: skip
    for row in rates:
        assert row["images"] >= 4
        assert min(row["images_a_second"], row["one_at_a_time"], row["ratio"], row["cpu_ms"]) > 0
    # One client's images cannot share a pass: this is how it shows that the column counts what it says.
    assert rates[0]["images_in_a_vision_pass"] == 1 <= rates[1]["images_in_a_vision_pass"] <= 4
    assert [row["server"] for row in waits[::2]] == ["ours", "one-at-a-time", "one-lane"]
    for idle, busy in zip(waits[::2], waits[1::2], strict=True):
        assert idle["p50_to_idle"] == idle["p99_to_idle"] == 1
        assert idle["bulk_images_a_second"] is None
        assert busy["bulk_images_a_second"] > 0
        assert 0 < busy["p50"] <= busy["p90"] <= busy["p99"]


def test_one_at_a_time_lets_nobody_in_beside_another() -> None:
    inner = Noting()
    one = OneAtATime(inner)  # type: ignore[arg-type]
    asking = [
        threading.Thread(target=one.find, args=(b"", [Concept(("circle",))]) if n % 2 else (b"", []))
        for n in range(6)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert (len(inner.lanes), inner.most) == (6, 1)


def test_in_one_lane_a_click_is_bulk() -> None:
    inner = Noting()
    one = OneLane(inner)  # type: ignore[arg-type]
    one.outline(b"", VisualPrompt(points=(Point(1, 1),)))
    one.find(b"", [], caller=Caller(Lane.CLICK))
    assert inner.lanes == [Lane.BULK, Lane.BULK]


def test_ratios_are_medians_over_rounds_and_to_the_same_server(monkeypatch: pytest.MonkeyPatch) -> None:
    send = Send("/v1/find", 1, lambda session, url: None)
    ours = Throughput(send, 8, "ours", "", [10.0, 30.0, 20.0], images=60, cpu=3.0, passes=20, items=60)
    other = Throughput(send, 8, "one-at-a-time", "", [5.0, 10.0, 20.0], images=60, cpu=6.0, passes=60, items=60)
    (row,) = throughput_rows([ours, other])
    assert (row["images_a_second"], row["one_at_a_time"], row["ratio"]) == (20.0, 10.0, 2.0)
    assert (row["cpu_ms"], row["cpu_ms_one_at_a_time"], row["images_in_a_vision_pass"]) == (50.0, 100.0, 3.0)

    monkeypatch.setattr(Load, "clicker", lambda self, url: lambda times: [1.0] * times)
    load = Load(None, [], sound=True)  # type: ignore[arg-type]
    cases = [Clicks("ours", "", bulk, load, [value] * 9, [4.0] * bulk) for bulk, value in ((0, 10.0), (4, 30.0))]
    idle, busy = click_rows(cases)
    assert (idle["p50_to_idle"], busy["p50_to_idle"], busy["p99_to_idle"]) == (1.0, 3.0, 3.0)
    assert (idle["bulk_images_a_second"], busy["bulk_images_a_second"]) == (None, 4.0)
    assert len({line.count("|") for line in markdown([idle, busy]).splitlines()}) == 1
