"""The functions' login at our server: what the settings say reaches it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from werkzeug.serving import make_server

from backend.app import create_app
from backend.settings import BackendSettings
from cvat_nuclio.segmenter import make_segmenter
from cvat_nuclio.settings import CvatSettings
from sam3_core import Segmenter
from sam3_core.demo.scenes import render_scene
from sam3_core.errors import Unauthorized
from sam3_core.settings import load_settings


@pytest.fixture
def server(segmenter: Segmenter) -> Iterator[str]:
    app = create_app(BackendSettings(api_token="a-token-of-ours"), segmenter)
    running = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.port}"
    running.shutdown()
    thread.join()


def test_the_token_of_the_settings_opens_the_server(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = render_scene(9, objects=(2, 4), size=(160, 120)).encode()
    monkeypatch.setenv("SAM3_CORE_URL", server)
    monkeypatch.setenv("SAM3_CORE_TOKEN", " a-token-of-ours\n")
    settings = load_settings(CvatSettings)
    assert "a-token-of-ours" not in repr(settings)
    make_segmenter(settings).warm(picture)
    monkeypatch.setenv("SAM3_CORE_TOKEN", "")
    with pytest.raises(Unauthorized):
        make_segmenter(load_settings(CvatSettings)).warm(picture)
