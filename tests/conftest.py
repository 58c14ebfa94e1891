"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest

from sam3_core.demo.scenes import Scene, render_scene
from sam3_core.settings import CoreSettings

if TYPE_CHECKING:
    from sam3_core.engine import LocalSegmenter


# Property tests run without a clock: a slow machine is not a wrong answer.
hypothesis.settings.register_profile(
    "no-clock", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("no-clock")


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    """A developer's own variables must not decide what the tests test."""
    ours = ("SAM3_", "LABEL_STUDIO_", "LOCAL_FILES_", "HF_TOKEN")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(ours) and name != "LABEL_STUDIO_VENV":
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def segmenter() -> LocalSegmenter:
    """The demo checkpoint, loaded, on the CPU in float32."""
    from sam3_core.engine import LocalSegmenter

    segmenter = LocalSegmenter(CoreSettings(model="demo", device="cpu", dtype="float32"))
    segmenter.wait_until_ready()
    return segmenter


@pytest.fixture(scope="session")
def scene() -> Callable[..., Scene]:
    """Scenes by seed, rendered once each: `scene(7, objects=(2, 4), size=(640, 480))`."""
    kept: dict[object, Scene] = {}

    def render(seed: int, **options: tuple[int, int]) -> Scene:
        key = (seed, *sorted(options.items()))
        if key not in kept:
            kept[key] = render_scene(seed, **options)
        return kept[key]

    return render
