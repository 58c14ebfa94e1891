"""The real model's size without its weights: random ones, which take as long and find nothing that means anything."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import Sam3ImageProcessor, Sam3VideoConfig, Sam3VideoModel

from benchmarks.cases import REPEAT, Case, Size
from benchmarks.client import BenchmarkFailed, Sample
from benchmarks.photos import Photo, Spot, render_photo
from benchmarks.table import Row, rows
from sam3_core import EncodedImage, Point, VisualPrompt
from sam3_core.engine import LocalSegmenter
from sam3_core.engine.loading import choose_device
from sam3_core.engine.weights import DEMO_FOLDER
from sam3_core.settings import CoreSettings, load_settings
from sam3_core.timing import collected

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def measure_full_size(sizes: Sequence[Size], clicks: int, device: str | None) -> list[Row]:
    """First and repeat clicks through LocalSegmenter, in this process. device: None asks for a GPU.

    Raises BenchmarkFailed where there is none and the CPU was not asked for by name: a click takes it half a minute.
    """
    if device is None and choose_device("auto").type == "cpu":
        raise BenchmarkFailed(
            "--full-size is meant for a GPU and there is none here; --device cpu runs it all the same"
        )
    with tempfile.TemporaryDirectory(prefix="sam3-full-size-") as folder:
        write_random_checkpoint(Path(folder), Sam3VideoConfig(), Sam3ImageProcessor())
        segmenter = LocalSegmenter(load_settings(CoreSettings, model=folder, device=device))
        try:
            segmenter.wait_until_ready()
            return rows([case for size in sizes for case in _cases(segmenter, render_photo(0, size), clicks)])
        finally:
            segmenter.close()


def write_random_checkpoint(folder: Path, config: Sam3VideoConfig, images: Sam3ImageProcessor) -> None:
    """A checkpoint folder in the layout of facebook/sam3, weights in bfloat16, with the demo's tokenizer.

    The model's state as it is, not ``save_pretrained``: in transformers 5.23 that writes tracker names which only one
    of the classes reads back.
    """
    model = Sam3VideoModel._from_config(config, dtype=torch.bfloat16)
    config.save_pretrained(folder)
    images.save_pretrained(folder)
    for name in _TOKENIZER:
        shutil.copy(DEMO_FOLDER / name, folder / name)
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, folder / "model.safetensors")


def _cases(segmenter: LocalSegmenter, photo: Photo, clicks: int) -> list[Case]:
    """A new image for each first click, and the repeat clicks on the last of them."""
    first = Case("first click, in process", photo.size, lambda number: [])
    repeat = Case(REPEAT, photo.size, lambda number: [])
    rng = np.random.default_rng(0)
    for number in range(-1, max(1, clicks // 4)):  # the first warms up and does not count
        image = EncodedImage(photo.variant(number))
        samples = [_click(segmenter, image, spot, rng, photo.size) for spot in photo.spots]
        if number >= 0:
            first.samples.append(samples[0])
            repeat.samples += samples[1:]
    return [first, repeat]


def _click(
    segmenter: LocalSegmenter, image: EncodedImage, spot: Spot, rng: np.random.Generator, size: Size
) -> Sample:
    x, y = spot.click(rng)
    prompt = VisualPrompt(points=(Point(x / 100 * size[0], y / 100 * size[1]),))
    started = time.perf_counter()
    with collected() as stages:
        segmenter.outline(image, prompt)
    total = (time.perf_counter() - started) * 1e3
    return Sample(total, {name: seconds * 1e3 for name, seconds in stages.items()} | {"total": total})
