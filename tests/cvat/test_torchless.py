"""The thin functions, in a process where torch cannot be imported, in front of a real server that has the weights."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from backend.app import create_app
from backend.settings import BackendSettings
from cvat_nuclio.detection import detect
from cvat_nuclio.interaction import outline, read_prompts, shapes_reply
from cvat_nuclio.labels import read_labels
from sam3_core import EncodedImage, FindOptions, Segmenter
from sam3_core.demo.scenes import Scene

ROOT = Path(__file__).parents[2]
LABELS = '[{"name": "thing", "prompt": "circle; square; star; triangle"}]'

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
for module, bodies in zip((detector, interactor), json.load(sys.stdin)):
    context = Context()
    module.init_context(context)
    assert not context.logger.of("error"), context.logger.lines
    answers.append([module.handler(context, Event(body)).body for body in bodies])
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


def test_thin_functions_answer_as_the_weights_would_here(
    server: str, segmenter: Segmenter, scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = scene(9, objects=(2, 4), size=(200, 150))
    data, (x0, y0, x1, y1) = drawn.encode("PNG"), drawn.objects[0].box
    body = {"image": base64.b64encode(data).decode()}
    prompts = {"obj_bbox": [[x0, y0], [x1, y1]], "pos_points": [], "neg_points": []}
    for name, value in {
        "CORE_URL": server, "CORE_USER": "me", "CORE_PASSWORD": "pass:wörd", "LABELS": LABELS,
    }.items():  # fmt: skip
        monkeypatch.setenv(f"SAM3_{name}", value)
    done = subprocess.run(
        [sys.executable, "-c", _THIN],
        input=json.dumps([[body, body], [body | prompts, body | prompts]]),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, outlined = json.loads(done.stdout)
    rows = read_labels(LABELS, ROOT / "cvat_nuclio" / "detector" / "function.yaml")
    image = EncodedImage(data)
    items = detect(segmenter, image, rows, FindOptions()).items
    assert items
    assert [json.loads(answer) for answer in found] == [items] * 2
    shapes = shapes_reply(outline(segmenter, image, read_prompts(prompts, (200, 150))).instances)
    assert [json.loads(answer) for answer in outlined] == [shapes] * 2
