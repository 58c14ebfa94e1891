"""The thin functions, in a process where torch cannot be imported, in front of a real server that has the weights.

They answer every golden request as the functions do that hold the weights themselves: byte for byte.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from function_context import Context, Event
from golden import PROMPTS, pictures
from server_twin import detector_request, interactor_request
from werkzeug.serving import make_server

from backend.app import create_app
from backend.settings import BackendSettings
from cvat_nuclio import handlers
from cvat_nuclio.detector import main as detector
from cvat_nuclio.interactor import main as interactor
from sam3_core import Segmenter

ROOT = Path(__file__).parents[2]
_PICTURES = pictures()
LABELS = [
    {"name": "round", "type": "mask", "prompt": "circle", "negative": "purple circle"},
    {"name": "square", "type": "polygon", "prompt": "white square; square", "threshold": 0.3},
    {"name": "frame", "type": "rectangle", "prompt": "circle", "top_k": 2},
    {"name": "there", "type": "tag", "prompt": "shape"},
    {"name": "absent", "type": "any", "prompt": "green star"},
]
_MODES: list[tuple[dict[str, str], list[str]]] = [
    ({}, list(_PICTURES)),
    ({"INTERACTOR": "exemplar"}, ["JPEG", "1 x 1"]),
    ({"REPLY": "mask"}, ["JPEG", "1 x 1"]),
]
"""Variables of an interactor, and the pictures that it gets."""

Calls = list[tuple[str, dict[str, str], list[Any]]]
"""Which function, its variables, and the bodies of its requests."""

_THIN = """
import json, os, sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "transformers", "safetensors", "flask", "cvat_sdk"}:
            raise ModuleNotFoundError(name + " is not installed here", name=name)

sys.meta_path.insert(0, Wall())
sys.path.insert(0, os.path.join("tests", "cvat"))
from function_context import Context, Event
from cvat_nuclio.detector import main as detector
from cvat_nuclio.interactor import main as interactor

answers = []
for name, variables, bodies in json.load(sys.stdin):
    os.environ.update({"SAM3_" + key: value for key, value in variables.items()})
    module = {"detector": detector, "interactor": interactor}[name]
    context = Context()
    module.init_context(context)
    assert not context.logger.of("error"), context.logger.lines
    responses = [module.handler(context, Event(body)) for body in bodies]
    answers.append([(response.status_code, response.content_type, response.body) for response in responses])
    for key in variables:
        del os.environ["SAM3_" + key]
assert not {"torch", "transformers"} & set(sys.modules)
print(json.dumps(answers))
"""


@pytest.fixture
def server(segmenter: Segmenter) -> Iterator[str]:
    """The address of our server, with the demo checkpoint."""
    settings = BackendSettings(basic_auth_user="me", basic_auth_password="pass:wörd")
    running = make_server("127.0.0.1", 0, create_app(settings, segmenter), threaded=True)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.port}"
    running.shutdown()
    thread.join()


def golden_calls() -> Calls:
    """Every golden request, and two that are none."""
    labels = {"LABELS": json.dumps(LABELS)}
    broken = {"image": "no picture at all", "pos_points": [[1, 1]], "neg_points": [], "obj_bbox": []}
    searches = [detector_request(one.data, threshold) for one in _PICTURES.values() for threshold in (None, 0.9)]
    calls: Calls = [("detector", labels, [*searches, broken, {}])]
    for variables, names in _MODES:
        some = [_PICTURES[name] for name in names]
        clicks = [interactor_request(one.data, **prompts.on(one)) for one in some for prompts in PROMPTS.values()]
        calls.append(("interactor", variables, [*clicks, broken, {}]))
    return calls


def answers_here(calls: Calls, segmenter: Segmenter) -> list[list[tuple[int, str, str]]]:
    """By the functions that hold the weights."""
    answers = []
    for name, variables, bodies in calls:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(handlers, "make_segmenter", lambda settings: segmenter)
            for key, value in variables.items():
                patch.setenv(f"SAM3_{key}", value)
            module, context = {"detector": detector, "interactor": interactor}[name], Context()
            module.init_context(context)
            responses = [module.handler(context, Event(body)) for body in bodies]
        answers.append([(one.status_code, one.content_type, one.body) for one in responses])
    return answers


def test_thin_functions_answer_every_golden_request_as_the_weights_would_here(
    server: str, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = golden_calls()
    with monkeypatch.context() as patch:
        for name, value in {"CORE_URL": server, "CORE_USER": "me", "CORE_PASSWORD": "pass:wörd"}.items():
            patch.setenv(f"SAM3_{name}", value)
        done = subprocess.run(
            [sys.executable, "-c", _THIN],
            input=json.dumps(calls),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    for (name, variables, bodies), there, here in zip(
        calls, json.loads(done.stdout), answers_here(calls, segmenter), strict=True
    ):
        assert len(there) == len(bodies)
        for number, (far, near) in enumerate(zip(there, here, strict=True)):
            assert tuple(far) == near, f"{name} {variables}, request {number}"
        assert [status for status, _, _ in here] == [200] * (len(bodies) - 1) + [400]
        assert sum(body not in ("[]", '{"shapes":[]}') for _, _, body in here) > 5, "something is found"
