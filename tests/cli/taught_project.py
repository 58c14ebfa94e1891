"""A store with a project that reviewers taught: rendered scenes, predictions with faults, annotations without."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from backend.database import Database
from backend.learning.courses import Courses
from backend.learning.predicted import Predictions
from backend.learning.reviews import Reviews
from backend.learning.versions import Versions
from sam3_core import Mask
from sam3_core.demo.scenes import Scene
from sam3_core.encodings import png
from sam3_core.learning.lessons import Calibration, Lesson, Lessons

PROJECT = 12
BASE = "sam3-demo-1"
LABELS = ("circle", "square", "triangle", "star")
CONFIG = '<View><Image name="img" value="$image"/><BitmaskLabels name="mask" toName="img">{}</BitmaskLabels></View>'

EVIDENCE: dict[str, Any] = {
    "tasks": 9,
    "steps": [
        {
            "step": "thresholds",
            "promoted": True,
            "why": "better for circle",
            "before": 0.61,
            "after": 0.74,
            "low": 0.02,
            "mean": 0.13,
            "high": 0.2,
            "labels": {
                "circle": {
                    "before": {"f1": 0.5, "precision": 0.5, "recall": 0.5},
                    "after": {"f1": 0.8, "precision": 0.8, "recall": 0.8},
                    "threshold": [0.5, 0.31],
                    "phrases": [["circle"], ["disc", "circle"]],
                    "tried": [[["disc"], 0.7], [["ball"], 0.1]],
                }
            },
        },
        {
            "step": "calibration",
            "promoted": True,
            "why": "scores foretell acceptance better for circle",
            "labels": {"circle": {"log_loss": [0.69, 0.51], "shown": 40, "promoted": True}},
        },
        {"step": "memory", "promoted": False, "why": "the examples say nothing new", "labels": {}},
    ],
    "total": {"before": 0.61, "after": 0.74, "low": 0.02, "mean": 0.13, "high": 0.2, "promoted": True},
}


def config(labels: tuple[str, ...] = LABELS) -> str:
    """A labeling config with these labels, escaped."""
    escaped = (label.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;") for label in labels)
    return CONFIG.format("".join(f'<Label value="{label}"/>' for label in escaped))


def region(name: str, label: str, mask: Mask, score: float | None = None) -> dict[str, Any]:
    """As Label Studio has it: a bitmask, a PNG of the picture's size."""
    address = "data:image/png;base64," + base64.b64encode(png.encode(mask)).decode("ascii")
    made: dict[str, Any] = {
        "id": name,
        "type": "bitmasklabels",
        "from_name": "mask",
        "to_name": "img",
        "original_width": mask.frame[0],
        "original_height": mask.frame[1],
        "value": {"imageDataURL": address, "bitmasklabels": [label]},
    }
    return made if score is None else {**made, "score": score}


def address(scene: Scene) -> str:
    """The picture itself as an address."""
    return "data:image/jpeg;base64," + base64.b64encode(scene.encode()).decode("ascii")


def task(
    number: int, scene: Scene, version: str, *, image: str = "", rename: Mapping[str, str] = {}
) -> dict[str, Any]:
    """A reviewed task. What was predicted goes through faults by turns: none, a smaller mask, and none at all; and
    each third task has one object that nobody sees. version: empty for one without a prediction."""
    theirs, ours = [], []
    for index, item in enumerate(scene.objects):
        mask, label = Mask.from_full(item.mask), rename.get(item.shape, item.shape)
        name = f"r{number}-{index}"
        theirs.append(region(name, label, mask))
        fault = (number + index) % 4
        if fault == 1:
            smaller = cv2.erode(item.mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=3)
            ours.append(region(name, label, Mask.from_full(smaller) if smaller.sum() else mask, 0.7))
        elif fault != 3:
            ours.append(region(name, label, mask, 0.9))
    if number % 3 == 0:
        label = rename.get(LABELS[0], LABELS[0])
        ours.append(
            region(f"r{number}-x", label, Mask(np.ones((40, 40), np.bool_), 5, 5, (scene.width, scene.height)), 0.55)
        )
    made = f"2026-03-{number % 28 + 1:02d}T10:00:00.000000Z"
    prediction = {"id": 1000 + number, "model_version": version, "created_at": made, "result": ours}
    annotation = {
        "id": 500 + number,
        "task": number,
        "created_at": made,
        "updated_at": made.replace("10:00", "10:05"),
        "lead_time": 4000.0 if number == 2 else 60.0 - 40.0 * bool(version) + number,
        "parent_prediction": 1000 + number if version else None,
        "result": theirs,
    }
    return {
        "id": number,
        "data": {"image": image or address(scene)},
        "annotations": [annotation],
        "predictions": [prediction] if version else [],
    }


def reviewed_tasks(scene: Callable[..., Scene], count: int) -> Iterator[dict[str, Any]]:
    """The first third without a prediction, the second with the base version, the last with the first promotion."""
    for number in range(1, count + 1):
        version = ("", BASE, f"{BASE}+{PROJECT}.1")[min(2, (number - 1) * 3 // count)]
        yield task(number, scene(40 + number, objects=(2, 4), long_side=(240, 320)), version)


def taught(path: Path, tasks: list[dict[str, Any]], labels: tuple[str, ...] = LABELS, title: str = "Shapes") -> Path:
    """A store with reviews, two promotions of which the first serves, and a course that ended."""
    database = Database(path)
    reviews, versions = Reviews(database, Predictions(database)), Versions(database)
    reviews.replace(str(PROJECT), config(labels), title, json.loads(json.dumps(tasks)))
    first = Lesson((labels[0],), phrases=("disc", labels[0]), threshold=0.31, calibration=Calibration(1.2, -0.1))
    versions.promote(str(PROJECT), BASE, Lessons.of({labels[0]: first}), EVIDENCE)
    versions.promote(str(PROJECT), BASE, Lessons.of({labels[0]: replace(first, adapter="p12-abc")}), {"tasks": 12})
    versions.use(str(PROJECT), "1")
    courses = Courses(database)
    courses.begin(str(PROJECT))
    courses.end(str(PROJECT), "better on reviewed tasks: F1 0.610 to 0.740")
    database.close()
    return path
