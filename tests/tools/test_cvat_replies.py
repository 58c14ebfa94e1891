"""The benchmark of CVAT's replies measures what it says, on a tiny image."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cvat_sdk.masks import decode_mask

from benchmarks import cvat_replies
from cvat_nuclio.interaction import mask_reply, shapes_reply

ROOT = Path(__file__).parents[2]
SIZE = (160, 120)


def test_one_command_prints_and_writes_the_table(tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    command = [
        sys.executable, "-m", "benchmarks.cvat_replies", "--sizes", "160x120", "--objects", "1", "3", "--rounds", "1",
        "--json", str(file),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())
    assert [row["objects"] for row in rows[::3]] == [
        "1, usual",
        "3, usual",
        "1, large and smooth",
        "1, large and noisy",
    ]
    assert done.stdout.count("\n") == len(rows) + 2
    for row in rows:
        assert row["kB"] > 0
        if row["reply"].startswith("dense"):
            assert (row["smaller"], row["faster"]) == (1, 1)
            assert row["kB"] == pytest.approx((2 * 160 * 120 + 120 * 2) / 1e3, rel=0.01)


@pytest.mark.parametrize("subject", cvat_replies._subjects(SIZE, [1, 3]), ids=lambda subject: subject.name)
def test_all_forms_carry_the_same_objects(subject: cvat_replies.Subject) -> None:
    width, height = SIZE
    dense = np.zeros((height, width), bool)
    for one in subject.objects:
        dense |= one.mask.full()
    legacy: dict[str, Any] = mask_reply(subject.objects, SIZE)
    assert (np.array(legacy["mask"], bool) == dense).all()
    runs = shapes_reply(subject.objects)["shapes"]
    decoded = [decode_mask(shape["points"], image_width=width, image_height=height) for shape in runs]
    assert (np.logical_or.reduce(decoded) == dense).all()
    assert len(cvat_replies._items(subject.objects)) == len(subject.objects)
