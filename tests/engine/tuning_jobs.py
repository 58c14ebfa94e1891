"""Small fine-tuning jobs on rendered scenes, for the tests beside."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from sam3_core.demo.scenes import render_scene
from sam3_core.learning.examples import Truth
from sam3_core.masks import Mask
from sam3_core.tuning import Asked, TuningImage, TuningJob, write_job

NEW = "hexagon"
"""A word that the demo checkpoint takes for nothing that is there; here it means circles."""


def make_job(folder: Path, *, images: int = 4, held: int = 1, **numbers: Any) -> TuningJob:
    """Scenes in which circles are asked for by the new word, and squares by their own; kept out are the last
    ones, which show what the first ones show."""
    asked, files = [], {}
    for number in range(images):
        scene = render_scene(900 + number % max(images - held, 1), objects=(3, 5), size=(160, 120))
        concepts = tuple(
            Asked((phrase,), tuple(Truth(Mask.from_full(o.mask)) for o in scene.objects if o.shape == shape))
            for phrase, shape in ((NEW, "circle"), ("square", "square"))
        )
        files[f"{number}.jpg"] = scene.encode()
        asked.append(TuningImage(f"{number}.jpg", concepts, held=number >= images - held))
    job = TuningJob(tuple(asked), "demo", device="cpu", dtype="float32", megabytes=4096, epochs=3)
    job = dataclasses.replace(job, **numbers)
    write_job(folder, job, files)
    return job
