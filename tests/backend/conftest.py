"""What the backend's tests share: scenes with ground truth, an app and a client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import settings as hypothesis_settings
from scene_segmenter import SceneSegmenter

from backend.app import create_app
from backend.settings import BackendSettings
from sam3_core.demo.scenes import Scene, render_scene

# Examples are checked, not timed: the machine may be busy with something else.
hypothesis_settings.register_profile("unhurried", deadline=None)
hypothesis_settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    """Three small scenes with three or four objects each, none of them cut in parts by another."""
    return [
        render_scene(seed, objects=(2, 4), size=size)
        for seed, size in ((9, (160, 120)), (7, (90, 150)), (12, (200, 100)))
    ]


@pytest.fixture
def oracle() -> SceneSegmenter:
    """A segmenter that knows the scenes it is given."""
    return SceneSegmenter()


@pytest.fixture
def settings() -> BackendSettings:
    """Pictures may come from this machine, where tests put their servers."""
    return BackendSettings(allowed_hosts="public, 127.0.0.1")


@pytest.fixture
def app(settings: BackendSettings, oracle: SceneSegmenter) -> Flask:
    return create_app(settings, oracle)


@pytest.fixture
def client(app: Flask) -> Iterator[FlaskClient]:
    with app.test_client() as client:
        yield client
