"""What was predicted is there when its review arrives."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from test_database import together

from backend.database import Database
from backend.learning import predicted
from backend.learning.predicted import Predictions


def prediction(version: str, *names: str) -> dict[str, Any]:
    return {"result": [{"id": name} for name in names], "score": 0.5, "model_version": version}


def remembered(predictions: Predictions, project: str, task: str) -> list[tuple[str, list[str]]]:
    return [(one.version, [row["id"] for row in json.loads(one.result)]) for one in predictions.of(project, task)]


def test_the_newest_of_each_version_of_its_project_and_task() -> None:
    predictions = Predictions(Database(None))
    predictions.remember("1", "7", prediction("v1", "a"))
    predictions.remember("1", "7", prediction("v2", "b"))
    predictions.remember("1", "7", prediction("v1", "c", "d"))
    predictions.remember("1", "8", prediction("v1", "e"))
    predictions.remember("2", "7", prediction("v1"))
    assert remembered(predictions, "1", "7") == [("v1", ["c", "d"]), ("v2", ["b"])]
    assert remembered(predictions, "1", "8") == [("v1", ["e"])]
    assert remembered(predictions, "2", "7") == [("v1", [])]
    assert remembered(predictions, "12", "7") == []
    made = [one.made for one in predictions.of("1", "7")]
    assert made == sorted(made, reverse=True)


def test_a_project_keeps_its_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicted, "MOST_PER_PROJECT", 3)
    predictions = Predictions(Database(None))
    predictions.remember("2", "1", prediction("v", "other"))
    for task in range(10):
        predictions.remember("1", str(task), prediction("v", "a"))
    kept = [task for task in range(10) if predictions.of("1", str(task))]
    assert kept == [7, 8, 9]
    assert predictions.of("2", "1")


@pytest.mark.parametrize(
    "wrong", [{}, {"result": []}, {"result": [object()], "model_version": "v"}, {"result": [], "model_version": []}]
)
def test_what_cannot_be_kept_is_a_line_in_the_log(wrong: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    predictions = Predictions(Database(None))
    predictions.remember("1", "7", wrong)
    assert predictions.of("1", "7") == []
    assert "task 7 is not remembered" in caplog.text


def test_a_store_that_breaks_stops_no_prediction(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    predictions = Predictions(Database(tmp_path / "store"))
    with sqlite3.connect(tmp_path / "store") as database:
        database.execute("DROP TABLE predictions")
    predictions.remember("1", "7", prediction("v"))
    assert "not remembered" in caplog.text


REMEMBERER = """
import sys
from pathlib import Path
from backend.database import Database
from backend.learning.predicted import Predictions
predictions = Predictions(Database(Path(sys.argv[1])))
print("ready", flush=True)
sys.stdin.readline()
for task in range(15):
    predictions.remember("1", str(task), {"result": [], "model_version": sys.argv[2]})
"""


def test_two_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "store"
    together(REMEMBERER, [str(file), "a"], [str(file), "b"])
    predictions = Predictions(Database(file))
    assert all({one.version for one in predictions.of("1", str(task))} == {"a", "b"} for task in range(15))
