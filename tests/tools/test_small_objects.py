"""The benchmark of small objects counts what it says: a tiny run of the command, its scenes, and its sums."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.small_objects import GROUPS, Score, draw_scene, group_of
from sam3_core.masks import Mask
from sam3_core.results import Instance

ROOT = Path(__file__).parents[2]
FRAME = (400, 400)


def square(x: int, y: int, side: int, score: float = 0.9) -> Instance:
    return Instance(Mask(np.ones((side, side), dtype=np.bool_), x, y, FRAME), score)


def test_one_command_makes_the_table(tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    command = [
        sys.executable, "-m", "benchmarks.small_objects", "--scenes", "1", "--size", "1200x900", "--most", "12",
        "--device", "cpu", "--json", str(file),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    whole, tiled = json.loads(file.read_text())
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    assert (whole["searched"], whole["view"]) == ("whole", "1200x900")
    assert (tiled["searched"], tiled["view"]) == ("whole and 12 tiles", "353x347")
    assert whole["objects"] == tiled["objects"] > 8
    assert tiled["recall_48_to_96"] > whole["recall_48_to_96"]
    assert tiled["seconds"] > whole["seconds"] > 0
    assert tiled["IoU"] > 0.5


def test_a_model_that_cannot_be_had_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.small_objects", "--model", str(tmp_path), "--scenes", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_scenes_have_objects_of_every_size_clear_of_each_other() -> None:
    scene = draw_scene(3, (2400, 1800))
    assert np.array_equal(scene.image, draw_scene(3, (2400, 1800)).image)
    masks = [Mask.from_full(item.mask) for item in scene.objects]
    counts = {name: sum(group_of(mask) == name for mask in masks) for name in GROUPS}
    assert min(counts.values()) >= 8
    assert sum(counts.values()) == len(scene.objects)
    small = [mask for mask in masks if group_of(mask) != "larger"]
    assert all(one.intersection(other) == 0 for one in small for other in masks if one is not other)
    assert all(max(mask.bits.shape) > 8 for mask in small)
    for item, mask in zip(scene.objects, masks, strict=True):
        inside = scene.image[item.mask].mean(axis=0)
        if group_of(mask) == "under_24":
            x0, y0, x1, y1 = mask.box
            around = scene.image[max(y0 - 6, 0) : y1 + 6, max(x0 - 6, 0) : x1 + 6].reshape(-1, 3)
            assert np.abs(inside - np.median(around, axis=0)).max() > 15  # it can be seen


@pytest.mark.parametrize(
    ("side", "name"), [(23, "under_24"), (24, "24_to_48"), (48, "48_to_96"), (95, "48_to_96"), (399, "larger")]
)
def test_groups_go_by_the_longer_side(side: int, name: str) -> None:
    assert group_of(Mask(np.ones((4, side), dtype=np.bool_), 0, 0, FRAME)) == name


def test_an_object_is_found_once_by_the_most_similar_instance() -> None:
    score = Score()
    truth = [square(0, 0, 20).mask, square(100, 100, 40).mask, square(300, 0, 20).mask]
    score.add([square(0, 0, 18), square(0, 0, 20), square(100, 100, 10), square(104, 100, 40)], truth)
    row = score.row()
    assert score.objects["under_24"] == [1.0, 0.0]
    assert score.objects["24_to_48"] == pytest.approx([36 / 44])
    assert score.instances["under_24"] == [False, True, False]
    assert (row["recall_under_24"], row["recall_24_to_48"], row["recall_larger"]) == (0.5, 1.0, None)
    assert row["precision_under_24"] == pytest.approx(1 / 3)
    assert row["IoU"] == pytest.approx((1 + 36 / 44) / 2)
