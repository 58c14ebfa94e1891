"""Thin functions in processes of their own, over Nuclio's wire, in front of one real server that has the weights."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import request
from golden import PROMPTS, pictures
from nuclio_wire import Limits, NuclioFunction
from server_twin import detector_request, interactor_request
from werkzeug.serving import make_server

from backend.app import create_app
from backend.settings import BackendSettings
from sam3_core import ConceptResult, EncodedImage, Segmenter
from sam3_core.errors import Busy, NotReady, OutOfMemory, Sam3Error

_ROOM = Path(__file__).parents[2] / "cvat_nuclio"
_LABELS = '[{"name": "thing", "type": "mask", "prompt": "circle"}]'
_PICTURE = pictures()["JPEG"]
_OTHER = pictures()["palette"]


class Server:
    """Ours, with the demo checkpoint. uploads: bytes of each request's body. troubles: raised by searches of images
    with these keys, one after the other."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.uploads: list[int] = []
        self.troubles: dict[str, list[Sam3Error]] = {}
        app = create_app(BackendSettings(), _Troubled(segmenter, self.troubles))
        app.before_request(lambda: self.uploads.append(request.content_length or 0))
        self._server = make_server("127.0.0.1", 0, app, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Server:
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Troubled:
    """A segmenter whose searches of some images fail first, as often as errors are left for them."""

    def __init__(self, segmenter: Segmenter, troubles: dict[str, list[Sam3Error]]) -> None:
        self._segmenter, self._troubles = segmenter, troubles

    def __getattr__(self, name: str) -> Any:
        return getattr(self._segmenter, name)

    def find(self, image: bytes | EncodedImage, *asked: Any, **options: Any) -> list[ConceptResult]:
        if left := self._troubles.get(EncodedImage.of(image).key):
            raise left.pop(0)
        return self._segmenter.find(image, *asked, **options)


@pytest.fixture(scope="module")
def server(segmenter: Segmenter) -> Iterator[Server]:
    with Server(segmenter) as running:
        yield running


@pytest.fixture(scope="module")
def functions(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, NuclioFunction]]:
    """The detector and the interactor, as their shipped files have them but for the address."""
    with ExitStack() as stack:
        running = {}
        for kind in ("detector", "interactor"):
            folder = tmp_path_factory.mktemp(kind)
            shutil.copytree(_ROOM / kind, folder, dirs_exist_ok=True)
            env = {"SAM3_CORE_URL": server.address, "SAM3_LABELS": _LABELS, "SAM3_BUDGET_SECONDS": "8"}
            function = NuclioFunction(folder, Limits.of_yaml(folder / "function.yaml"), env)
            running[kind] = stack.enter_context(function)
        yield running


def test_a_picture_is_sent_once_for_both_functions(functions: dict[str, NuclioFunction], server: Server) -> None:
    """Detect, then click to mend: the click's request carries a name of the picture and no picture."""
    server.uploads.clear()
    assert functions["detector"].post(detector_request(_PICTURE.data)).json
    assert len([size for size in server.uploads if size > len(_PICTURE.data)]) == 1
    server.uploads.clear()
    for prompts in (PROMPTS["+"], PROMPTS["+-"], PROMPTS["box"]):
        reply = functions["interactor"].post(interactor_request(_PICTURE.data, **prompts.on(_PICTURE)))
        assert len(reply.json["shapes"]) == 1
    assert len(server.uploads) == 3
    assert max(server.uploads) < 1000


@pytest.mark.parametrize("error", [Busy, NotReady, OutOfMemory])
def test_a_server_in_trouble_for_a_moment_costs_no_frame(
    functions: dict[str, NuclioFunction], server: Server, error: type[Busy]
) -> None:
    calm = functions["detector"].post(detector_request(_PICTURE.data)).json
    server.troubles[EncodedImage(_PICTURE.data).key] = [error("for a moment", retry_after=1)] * 2
    assert functions["detector"].post(detector_request(_PICTURE.data)).json == calm
    assert calm


def test_a_server_that_stays_busy_is_told_as_such(functions: dict[str, NuclioFunction], server: Server) -> None:
    """Frames that nobody looked at must not look like frames without objects; CVAT shows the status, the log why."""
    key = EncodedImage(_OTHER.data).key
    server.troubles[key] = [Busy("others are first", retry_after=60)]
    reply = functions["detector"].post(detector_request(_OTHER.data))
    del server.troubles[key]
    assert reply.status == 503
    assert "others are first" in reply.json["error"]
    assert "others are first" in "\n".join(record["message"] for record in reply.logs)
    assert functions["detector"].post(detector_request(_OTHER.data)).json
