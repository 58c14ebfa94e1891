"""What an annotator sees on opening a pre-annotated task."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import open_task
from projects import Backend, Project

from sam3_prelabel.demo.client import LabelStudioClient
from sam3_prelabel.demo.label_studio import LabelStudioServer
from sam3_prelabel.demo.regions import read_regions
from sam3_prelabel.demo.world import LABEL_CONFIG, samples

pytestmark = pytest.mark.e2e


def test_the_editor_draws_what_is_stored(
    client: LabelStudioClient,
    backend: Backend,
    label_studio: LabelStudioServer,
    new_project: Callable[[str], Project],
    browser: Any,
    tmp_path: Path,
) -> None:
    """Set SCREENSHOTS to a folder to keep the picture."""
    project = new_project(LABEL_CONFIG)
    task, *_ = client.upload(project.id, {sample.name: sample.scene.encode() for sample in samples(4)})
    client.connect(project.id, backend.url)
    client.retrieve_predictions(project.id)
    (prediction,) = client.predictions(project.id)[task]
    stored = read_regions(prediction["result"])
    assert {region.kind for region in stored} == {"polygonlabels", "brushlabels"}

    drawn = open_task(browser, label_studio, project.id, task)
    picture = Path(os.environ.get("SCREENSHOTS") or tmp_path) / "label-studio.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    assert browser.save_screenshot(str(picture))

    assert [region["label"] for region in drawn] == [region.label for region in stored]
    for there, here in zip(drawn, stored, strict=True):
        width, height = here.instance.mask.frame
        percent = np.array(here.instance.box) / (width, height, width, height) * 100
        assert np.abs(np.array(there["box"]) - percent).max() < 0.5, here.label
