"""The class under label-studio-ml 2.x: its base class and its ``init_app``.

label-studio-ml 2.x is not on PyPI, so a stand-in of its contract is always tested, as read in its source: the check
of ``init_app``, a new object per request, and what its routes call on it. Where the real one is installed, it is too.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from request_bodies import CONFIG, data_url, predict_body
from scene_segmenter import VERSION, SceneSegmenter

from sam3_core.demo.scenes import render_scene

MODEL = """
class LabelStudioMLBase:
    def __init__(self, project_id=None, label_config=None):
        raise AssertionError("the base's constructor keeps its state in a file")
    def get(self, key):
        raise AssertionError("the base's store is a file")
    set = set_extra_params = get
"""
API = """
from flask import Flask, jsonify, request
from .model import LabelStudioMLBase
server = Flask("label_studio_ml")
def init_app(model_class):
    if not issubclass(model_class, LabelStudioMLBase):
        raise ValueError("no LabelStudioMLBase")
    def make(data, config):
        return model_class(project_id=str(data["project"]).split(".", 1)[0], label_config=config)
    @server.post("/setup")
    def setup():
        data = request.json
        model = make(data, data["schema"])
        if data["extra_params"]:
            model.set_extra_params(data["extra_params"])
        return jsonify({"model_version": model.get("model_version")})
    @server.post("/predict")
    def predict():
        data = request.json
        params = data.get("params", {})
        context = params.pop("context", {})
        model = make(data, data["label_config"])
        return jsonify({"results": model.predict(data["tasks"], context=context, **params)})
    @server.post("/webhook")
    def webhook():
        data = request.json
        event = data.pop("action")
        model = model_class(str(data["project"]["id"]), label_config=data["project"]["label_config"])
        return jsonify({"result": model.fit(event, data), "status": "ok"}), 201
    return server
"""
# Runs in a process of its own: the base class is chosen when backend.model is imported.
PROGRAM = """
import json, sys
import sam3_core.engine
from scene_segmenter import SceneSegmenter
from sam3_core.demo.scenes import render_scene
oracle = SceneSegmenter()
oracle.add(render_scene(9, objects=(2, 4), size=(160, 120)))
sam3_core.engine.LocalSegmenter = lambda settings, **_: oracle
from label_studio_ml.api import init_app
from backend.model import Sam3Backend
client = init_app(model_class=Sam3Backend).test_client()
for path, body in json.load(sys.stdin):
    answer = client.post(path, json=body)
    print(json.dumps([answer.status_code, answer.json]))
"""


@pytest.fixture(params=["stand-in", "installed"])
def package(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """Folders to put on the path so that label_studio_ml can be imported."""
    if request.param == "installed":
        if importlib.util.find_spec("label_studio_ml") is None:
            pytest.skip("label-studio-ml is not installed")
        return []
    folder = tmp_path / "label_studio_ml"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "model.py").write_text(MODEL)
    (folder / "api.py").write_text(API)
    return [str(tmp_path)]


def serve(package: list[str], tmp_path: Path, calls: list[tuple[str, Any]]) -> list[tuple[int, Any]]:
    here = Path(__file__).parent
    path = os.pathsep.join([*package, str(here), str(here.parents[1]), *sys.path])
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(calls),
        env={**os.environ, "PYTHONPATH": path, "MODEL_DIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return [tuple(json.loads(line)) for line in run.stdout.splitlines() if line.startswith("[")]


def test_setup_predict_and_fit_under_init_app(package: list[str], tmp_path: Path) -> None:
    scene = render_scene(9, objects=(2, 4), size=(160, 120))
    image = data_url(SceneSegmenter().add(scene))
    setup = {"project": "1.5", "schema": CONFIG, "hostname": "", "access_token": "", "extra_params": {"a": 1}}
    strict = setup | {"project": "1", "extra_params": {"threshold": 0.99}}
    tasks = [{"id": 1, "data": {"image": image}}, {"id": 2, "data": {"image": data_url(b"broken")}}]
    lenient = predict_body(tasks[:1])
    lenient["params"]["threshold"] = 0.1
    event = {"action": "ANNOTATION_CREATED", "annotation": {"id": 1}, "project": {"id": 1, "label_config": CONFIG}}
    answers = serve(
        package,
        tmp_path,
        [
            ("/setup", setup),
            ("/predict", predict_body(tasks)),
            ("/predict", predict_body(tasks[:1], context={"result": []})),
            ("/predict", predict_body(tasks[:1], config="<View/>")),
            ("/webhook", event),
            ("/setup", strict),
            ("/predict", predict_body(tasks[:1])),
            ("/predict", lenient),
        ],
    )
    assert [status for status, _ in answers] == [200, 200, 200, 200, 201, 200, 200, 200]
    setup_answer, predicted, empty, nothing, fitted, _, strictly, leniently = (body for _, body in answers)
    assert setup_answer == {"model_version": VERSION}
    first, second = predicted["results"]
    assert (first["model_version"], len(first["result"])) == (VERSION, len(scene.objects))
    bare = {"result": [], "score": 0.0, "model_version": VERSION}
    assert second == bare | {"meta": {"problem": "the bytes are no picture"}}
    assert empty["results"] == [bare]
    assert nothing["results"][0]["meta"]["problem"].startswith("the labeling config has no Image tag")
    assert strictly["results"][0]["result"] == []
    assert leniently["results"][0]["result"] == first["result"]
    assert fitted == {"result": {"event": "ANNOTATION_CREATED", "annotations": 1}, "status": "ok"}
