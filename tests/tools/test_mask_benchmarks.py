"""The benchmark of masks measures what it says: a tiny run of the command, and the parts whose faults it hides."""

from __future__ import annotations

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.converter.brush import mask2rle
from PIL import Image

from backend.rle import brush_rle, mask_of_rle
from benchmarks import shapes
from benchmarks.encoders import SHAPES, stock_coco, stock_cvat_rle, stock_flat_crop, stock_png
from benchmarks.outlining import (
    FLOORS,
    RIVAL,
    SHARES,
    filled,
    free_polygons,
    measure_polygons,
    our_polygons,
    rival_polygons,
    stock_polygons,
)
from cvat_nuclio.masks import cvat_rle, flat_crop
from cvat_nuclio.masks import mask_of_rle as mask_of_cvat_rle
from sam3_core.encodings import coco, png
from sam3_core.logits import mask_from_logits
from sam3_core.masks import Mask

ROOT = Path(__file__).parents[2]
SIZE = (160, 120)

Run = tuple[str, dict[str, list[dict[str, Any]]]]
"""What the command prints, and its tables."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    file = tmp_path_factory.mktemp("masks") / "tables.json"
    command = [
        sys.executable, "-m", "benchmarks.masks", "--sizes", "64x48,160x120", "--instances", "6", "--rounds", "1",
        "--stock-instances", "3", "--masks", "8", "--side", "96", "--json", str(file),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(file.read_text())


def test_one_command_prints_a_table_for_each_part(run: Run) -> None:
    text, tables = run
    assert list(tables) == ["post-processing", "encoders", "polygons"]
    blocks = [block for block in text.split("\n\n") if block.startswith("|")]
    for block, table in zip(blocks, tables.values(), strict=True):
        lines = block.strip().splitlines()
        assert len(lines) == len(table) + 2
        assert len({line.count("|") for line in lines}) == 1
        assert all(row.keys() == table[0].keys() for row in table)


def test_both_sides_of_post_processing_find_the_same_masks(run: Run) -> None:
    ours, stock = run[1]["post-processing"]
    assert (ours["post-processing"], ours["instances_run"]) == ("ours", 6)
    assert (stock["post-processing"], stock["instances_run"]) == ("stock", 3)
    assert min(ours["seconds"], stock["seconds"]) > 0
    assert ours["speed_up"] == stock["seconds"] / ours["seconds"]
    assert ours["memory_ratio"] == stock["peak_MB"] / ours["peak_MB"]
    # Rounding aside, ours are the whole frame's stretched logits; the stock side stretches probabilities.
    assert ours["differing_from_full_frame_logits"] <= 1
    assert ours["differing_from_full_frame_logits"] <= ours["differing_pixels"] < 0.05 * ours["pixels_of_a_mask"]


def test_every_encoder_meets_every_mask(run: Run) -> None:
    table = run[1]["encoders"]
    assert [row["encoder"].split(",")[0] for row in table[:5]] == [
        "brush RLE", "COCO RLE", "PNG", "CVAT RLE", "CVAT flat crop",
    ]  # fmt: skip
    assert len(table) == 5 * len(SHAPES) * 2
    for row in table:
        assert min(row["ours_ms"], row["ours_from_frame_ms"], row["theirs_ms"]) > 0
        assert row["ratio"] == row["theirs_ms"] / row["ours_ms"]
        assert row["dense_by_ours"] == row["dense_kB"] / row["ours_kB"] > 1
    assert [row["dense_kB"] for row in table[:10]] == [table[0]["dense_kB"]] * 10
    assert table[0]["dense_kB"] == pytest.approx((3 * 64 * 48 + 2 * 48) / 1e3, rel=0.01)


def test_polygons_of_every_kind_and_method(run: Run) -> None:
    table = run[1]["polygons"]
    free = [f"ours, {floor:g}, no cap" for floor in FLOORS]
    methods = ["ours", *free, *(f"approxPolyDP {share:.1%}" for share in SHARES), RIVAL]
    kinds = [*shapes.KINDS, "all"]
    assert [(row["masks"], row["polygons"]) for row in table] == [(kind, name) for kind in kinds for name in methods]
    for row in table:
        assert row["number"] == (8 if row["masks"] == "all" else 2)
        assert 0 < row["worst_IoU"] <= row["mean_IoU"] <= 1
        assert row["median_vertices"] >= 3
        if row["polygons"] in free:
            assert row["worst_IoU"] >= FLOORS[free.index(str(row["polygons"]))]
        assert row["polygons"] != RIVAL or row["worst_IoU"] >= 0.98


def test_our_polygons_keep_their_promise_with_fewer_corners_than_the_strongest_rival() -> None:
    table = {(row["masks"], row["polygons"]): row for row in measure_polygons(40, 128)}
    for kind in shapes.KINDS:
        ours, rival = table[kind, "ours, 0.98, no cap"], table[kind, RIVAL]
        assert min(ours["worst_IoU"], rival["worst_IoU"]) >= 0.98
        assert ours["median_vertices"] < 0.9 * rival["median_vertices"]


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_compared_encodes_the_same_pixels(shape: str) -> None:
    bits = SHAPES[shape](np.random.default_rng(1), SIZE)
    mask, full = Mask.from_full(bits), bits.view(np.uint8) * np.uint8(255)
    for rle in (brush_rle(mask), mask2rle(full)):
        assert np.array_equal(mask_of_rle(rle, SIZE).full(), bits)
    for counts in (coco.encode(mask), stock_coco(full)):
        assert np.array_equal(coco.decode(counts).full(), bits)
    assert cvat_rle(mask) == stock_cvat_rle(full)
    assert np.array_equal(mask_of_cvat_rle(cvat_rle(mask), SIZE).full(), bits)
    assert flat_crop(mask) == stock_flat_crop(full)
    for file in (png.encode_ink(mask), stock_png(full)):
        assert np.array_equal(np.asarray(Image.open(BytesIO(file)).convert("RGBA"))[..., 3] > 0, bits)


@pytest.mark.parametrize("kind", shapes.KINDS)
def test_masks_are_what_their_kind_says(kind: str) -> None:
    rng = np.random.default_rng(5)
    for _ in range(10):
        bits = shapes.KINDS[kind](rng, (256, 256))
        padded = np.pad(bits, 1).astype(np.uint8)
        parts, holes = (cv2.connectedComponents(part, connectivity=4)[0] - 1 for part in (padded, 1 - padded))
        assert parts == 1
        assert holes - 1 == 0 or kind in ("holed", "thin")
        depth = float(cv2.distanceTransform(padded, cv2.DIST_L2, 5).max())
        assert (depth < 12) == (kind == "thin")
    assert kind != "jagged" or _edge(bits) > 1.2 * _edge(shapes.smooth(rng, (256, 256)))


def _edge(bits: np.ndarray) -> float:
    """The border's length by the square root of the area."""
    sides = np.count_nonzero(bits[1:] != bits[:-1]) + np.count_nonzero(bits[:, 1:] != bits[:, :-1])
    return float(sides / np.sqrt(np.count_nonzero(bits)))


def test_boxes_have_the_median_that_is_said() -> None:
    answer = shapes.random_answer(1, 100, 200)
    boxes = np.array([mask_from_logits(logits, (400, 300)).bits.size for logits in answer.masks])
    assert 0.02 < np.median(boxes) / (400 * 300) < 0.04
    assert boxes.max() > 10 * boxes.min() > 0
    assert (answer.logits > 0).sum() == 100


@given(st.integers(0, 2**32 - 1))
def test_filling_takes_the_pixels_whose_centres_are_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ring = rng.uniform(-3, 23, (int(rng.integers(3, 9)), 2))
    expected = np.zeros((20, 20), dtype=bool)
    for row, column in np.ndindex(20, 20):
        expected[row, column] = _crossings(ring, column + 0.5, row + 0.5) % 2
    assert np.array_equal(filled([ring], (20, 20)), expected)


def _crossings(ring: np.ndarray, x: float, y: float) -> int:
    """Edges left of the point, at its height."""
    pairs = zip(ring, np.roll(ring, -1, axis=0), strict=True)
    return sum((y0 <= y) != (y1 <= y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x for (x0, y0), (x1, y1) in pairs)


def test_holes_stay_holes_on_both_sides() -> None:
    bits = np.zeros((60, 60), dtype=bool)
    bits[5:55, 5:55] = True
    bits[20:40, 20:40] = False
    for found in (
        our_polygons(bits),
        free_polygons(bits, 0.98),
        rival_polygons(bits, 0.98),
        stock_polygons(bits, 0.001),
    ):
        assert [len(rings) for rings in found] == [2]
        assert not filled(found[0], bits.shape)[30, 30]
    # Contours through the middle of the border's pixels, read as edges, lose half a pixel on each side.
    assert np.array_equal(filled(our_polygons(bits)[0], bits.shape), bits)
    assert filled(stock_polygons(bits, 0.001)[0], bits.shape).sum() < bits.sum()
