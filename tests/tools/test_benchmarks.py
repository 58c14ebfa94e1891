"""The benchmark measures what it says: a tiny run from end to end, and the parts whose faults a table would hide."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from label_studio_sdk.converter.brush import decode_rle
from transformers import Sam3ImageProcessor, Sam3VideoConfig

from benchmarks.bodies import click_body, opened_body, stored_region
from benchmarks.cases import Case
from benchmarks.client import BenchmarkFailed, Sample, parse_server_timing
from benchmarks.full_size import measure_full_size, write_random_checkpoint
from benchmarks.photos import PhotoServer, render_photo
from benchmarks.reencoding_backend import StockModel, create_app
from benchmarks.table import markdown, rows
from sam3_core import Point, VisualPrompt
from sam3_core.demo.scenes import render_scene
from sam3_core.engine import LocalSegmenter
from sam3_core.engine.weights import DEMO_FOLDER
from sam3_core.images import decode
from sam3_core.settings import CoreSettings

ROOT = Path(__file__).parents[2]
SIZE = (320, 240)


def test_one_command_makes_the_whole_table(tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    command = [
        sys.executable, "-m", "benchmarks.clicks", "--device", "cpu",
        "--clicks", "2", "--sizes", "320x240", "--annotators", "2", "--json", str(file),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    table = json.loads(file.read_text())
    assert done.stdout.count("\n") == len(table) + 2
    found = {row["case"]: row for row in table}
    big = next(name for name in found if "masks along" in name)
    assert list(found) == [
        "first click on an image", "repeat click", "repeat click, polygon", "first click in an opened task", big,
        "2 clicking at once", "click, re-encoding backend",
    ]  # fmt: skip
    for row in table:
        assert row["image"] == "320x240"
        assert row["clicks"] >= 1
        assert 0 < row["p50"] <= row["p90"] <= row["p99"]
    # What is called new is new to the model, and what is called known is not: no vision pass, no decoding.
    assert found["first click on an image"]["vision"] > 0 < found["first click on an image"]["decode"]
    for name in ("repeat click", big, "first click in an opened task", "2 clicking at once"):
        assert found[name]["vision"] == found[name]["decode"] == 0 < found[name]["model"], name
        assert 0 < found[name]["share"] < 1
    assert found["repeat click"]["ratio"] == 1
    assert found["click, re-encoding backend"]["ours"] is None
    assert found["2 clicking at once"]["per_second"] > 0


def test_a_variant_is_another_file_with_the_same_pixels() -> None:
    photo = render_photo(1, SIZE)
    first, second = photo.variant(1), photo.variant(2)
    assert len({photo.data, first, second}) == 3
    assert np.array_equal(decode(first, max_megapixels=1), decode(photo.data, max_megapixels=1))


def test_clicks_lie_inside_the_objects_they_name() -> None:
    scene, photo, rng = render_scene(2, objects=(4, 6), size=SIZE), render_photo(2, SIZE), np.random.default_rng(0)
    for spot, thing in zip(photo.spots, scene.objects, strict=True):
        places = [spot.click(rng) for _ in range(50)]
        assert all(thing.mask[int(y / 100 * SIZE[1]), int(x / 100 * SIZE[0])] for x, y in places)
        assert len(set(places)) == 50
        assert spot.label == thing.shape


def test_the_photo_server_has_uploads_under_both_addresses() -> None:
    with PhotoServer() as server:
        address = server.add("a.jpg", b"picture")
        for path in (address, "/storage-data/uploaded/?filepath=upload/1/a.jpg"):
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(server.url + path) as answer:
                assert answer.read() == b"picture"


def test_bodies_are_what_label_studio_sends() -> None:
    """The keys that contract tests of the backend rely on, and megabytes where masks are stored."""
    region = stored_region(1, [0, 1, 2], "star", SIZE)
    clicked = json.loads(click_body(3, "/data/upload/1/a.jpg", (10.0, 20.0), "star", SIZE, stored=[region]))
    opened = json.loads(opened_body(3, "/data/upload/1/a.jpg"))
    assert clicked["params"]["context"]["result"][0]["value"]["keypointlabels"] == ["star"]
    assert (
        clicked["tasks"][0]["annotations"][0]["result"] == clicked["tasks"][0]["predictions"][0]["result"] == [region]
    )
    assert opened["params"]["context"] is None
    assert opened["tasks"][0]["data"] == clicked["tasks"][0]["data"]


def test_the_reencoding_backend_outlines_what_is_clicked(tmp_path: Path) -> None:
    """Slow but right: a comparison with a broken one would be worth nothing."""
    scene, photo, rng = render_scene(2, objects=(4, 6), size=SIZE), render_photo(2, SIZE), np.random.default_rng(0)
    with PhotoServer() as server:
        client = create_app(StockModel(DEMO_FOLDER, "cpu"), server.url, "token", tmp_path).test_client()
        address, ious = server.add("a.jpg", photo.data), []
        for spot, thing in zip(photo.spots, scene.objects, strict=True):
            body = click_body(1, address, spot.click(rng), spot.label, SIZE)
            region = client.post("/predict", data=body, content_type="application/json").json["results"][0]["result"][
                0
            ]
            mask = decode_rle(region["value"]["rle"]).reshape(SIZE[1], SIZE[0], 4)[..., 3] > 0
            ious.append((mask & thing.mask).sum() / (mask | thing.mask).sum())
            assert region["value"]["brushlabels"] == [thing.shape]
    assert np.mean(ious) > 0.7


def test_a_row_parts_a_click_into_the_model_s_time_and_ours() -> None:
    stages = parse_server_timing(
        "parse;dur=1, queue;dur=5, vision;dur=20;desc=x, model;dur=4, masks;dur=2, total;dur=35"
    )
    case = Case("repeat click", SIZE, lambda number: [Sample(40.0, stages)] * number)
    case.run(3)
    silent = Case("click, re-encoding backend", SIZE, lambda number: [Sample(400.0, {})])
    silent.run(1)
    told, untold = rows([case, silent])
    assert (told["ours"], told["share"], told["other"], told["outside"]) == (11.0, 11 / 40, 3.0, 5.0)
    assert (told["p50"], told["ratio"], untold["ratio"], untold["ours"]) == (40.0, 1.0, 10.0, None)
    lines = markdown([told, untold]).splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_full_size_refuses_a_cpu_that_nobody_asked_for() -> None:
    with pytest.raises(BenchmarkFailed, match="--device cpu"):
        measure_full_size([SIZE], 1, None)


def test_the_random_checkpoint_loads_and_answers(tmp_path: Path) -> None:
    """With the demo's dimensions in place of the full ones."""
    config, images = Sam3VideoConfig.from_pretrained(DEMO_FOLDER), Sam3ImageProcessor.from_pretrained(DEMO_FOLDER)
    write_random_checkpoint(tmp_path, config, images)
    segmenter = LocalSegmenter(CoreSettings(model=str(tmp_path), device="cpu"))
    segmenter.wait_until_ready()
    photo = render_photo(1, SIZE)
    found = segmenter.outline(photo.data, VisualPrompt(points=(Point(9, 9),)))
    assert all(instance.mask.frame == SIZE for instance in found)
    segmenter.close()
