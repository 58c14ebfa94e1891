"""``sam3-prelabel predict`` as a user runs it: a real process, the demo checkpoint, rendered scenes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from sam3_core import Mask
from sam3_core.demo.scenes import COLORS, SHAPES, Scene

PROMPTS = ["black circle", "star", "triangle;triangles", "dog"]
SEEDS = (11, 12, 13, 14)


def cli(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sam3_prelabel", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "SAM3_DEVICE": "cpu", **variables},
    )


@dataclass(frozen=True)
class Run:
    scenes: dict[str, Scene]
    out: Path
    process: subprocess.CompletedProcess[str]

    def record(self, name: str) -> dict[str, Any]:
        return dict(json.loads((self.out / "results" / f"{name}.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, scene: Callable[..., Scene]) -> Run:
    """Two folders with scenes of the same file names, and two files that are no pictures."""
    root = tmp_path_factory.mktemp("predict")
    scenes = {}
    for index, seed in enumerate(SEEDS):
        name = f"{'left' if index % 2 else 'right'}/{index // 2}.jpg"
        scenes[name] = scene(seed, objects=(3, 5), long_side=(300, 500))
        (root / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "in" / name).write_bytes(scenes[name].encode())
    whole = scenes["left/0.jpg"].encode()
    (root / "in" / "cut off.jpg").write_bytes(whole[: len(whole) // 3])
    (root / "in" / "text.png").write_text("no picture")
    prompts = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
    process = cli("predict", root / "in", "--recursive", "--json", *prompts, "--out", root / "out")
    return Run(scenes, root / "out", process)


def test_bad_images_are_named_and_the_others_done(run: Run) -> None:
    assert run.process.returncode == 1, run.process.stderr
    summary = json.loads(run.process.stdout)
    assert summary["images"] == len(SEEDS) + 2
    assert {failed["image"] for failed in summary["failed"]} == {"cut off.jpg", "text.png"}
    for failed in summary["failed"]:
        assert f"{failed['image']}: {failed['reason']}" in run.process.stderr
        assert not (run.out / "results" / f"{failed['image']}.json").exists()
    assert sorted(p.relative_to(run.out / "results").as_posix() for p in run.out.glob("results/**/*.json")) == sorted(
        f"{name}.json" for name in run.scenes
    )
    assert "Traceback" not in run.process.stderr
    assert "demo" in summary["model"]


def test_what_is_there_is_found(run: Run) -> None:
    expected = found = 0
    for name, scene in run.scenes.items():
        for prompt in run.record(name)["prompts"]:
            masks = [np.asarray(Image.open(run.out / i["mask"])) == 255 for i in prompt["instances"]]
            for item in scene.matching(prompt["prompt"]):
                truth = Mask.from_full(item.mask)
                expected += 1
                found += any(truth.iou(Mask.from_full(mask)) >= 0.5 for mask in masks)
    assert expected >= 4, "the scenes must show what the prompts ask for"
    assert found / expected >= 0.7


def test_what_is_not_there_is_not_found_and_the_reason_is_told(run: Run) -> None:
    for name in run.scenes:
        dog = run.record(name)["prompts"][PROMPTS.index("dog")]
        assert dog["instances"] == []
        assert dog["reason"].startswith("nothing found: presence 0.")
        assert f"{name}: dog: {dog['reason']}" in run.process.stderr


def test_summary_json_and_coco_count_alike(run: Run) -> None:
    summary = json.loads(run.process.stdout)
    coco = COCO(run.out / "coco.json")
    names = {category["id"]: category["name"] for category in coco.loadCats(coco.getCatIds())}
    assert list(names.values()) == list(summary["prompts"]) == ["black circle", "star", "triangle", "dog"]
    for number, name in names.items():
        annotations = coco.loadAnns(coco.getAnnIds(catIds=[number]))
        records = [run.record(image)["prompts"][number - 1]["instances"] for image in run.scenes]
        assert len(annotations) == summary["prompts"][name]["instances"] == sum(map(len, records))
    for image in coco.loadImgs(coco.getImgIds()):
        pngs = [i["mask"] for prompt in run.record(image["file_name"])["prompts"] for i in prompt["instances"]]
        for path, annotation in zip(pngs, coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]])), strict=True):
            assert ((np.asarray(Image.open(run.out / path)) == 255) == coco.annToMask(annotation)).all()
        with Image.open(run.out / "overlays" / f"{image['file_name']}.png") as overlay:
            assert overlay.size == (image["width"], image["height"])


def test_all_good_is_code_0_and_limits_hold(tmp_path: Path, scene: Callable[..., Scene]) -> None:
    crowd = scene(21, objects=(5, 6), size=(500, 400))
    (tmp_path / "crowd.jpg").write_bytes(crowd.encode())
    done = cli("predict", tmp_path / "crowd.jpg", "-p", "shape", "-o", tmp_path / "o", "--set", "max_instances=2")
    assert done.returncode == 0, done.stderr
    assert "crowd.jpg" not in done.stdout, "an image in which something was found is no news"
    record = json.loads((tmp_path / "o/results/crowd.jpg.json").read_text())
    scores = [instance["score"] for instance in record["prompts"][0]["instances"]]
    assert len(scores) == 2
    assert scores == sorted(scores, reverse=True)
    strict = cli("predict", tmp_path / "crowd.jpg", "-p", "shape", "-o", tmp_path / "o", "--threshold", "1")
    assert strict.returncode == 0, strict.stderr
    assert "threshold 1.00" in strict.stdout


def test_words_of_the_demo_world_are_known() -> None:
    """The prompts above stand and fall with these names."""
    assert {"black"} <= set(COLORS)
    assert {"circle", "star", "triangle"} <= set(SHAPES)
