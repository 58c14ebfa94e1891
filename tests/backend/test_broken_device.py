"""A GPU that stops working, in a real process: the worker ends, another one takes over."""

from __future__ import annotations

import time
from pathlib import Path

import requests
from request_bodies import CONFIG, data_url, predict_body
from test_gunicorn import server

from sam3_core.demo.scenes import render_scene

# The demo checkpoint on a CPU, which fails with CUDA's words while a file is there. The new worker removes it.
PROGRAM = """
import os, pathlib, sys, torch
import backend.server
from backend.settings import BackendSettings
from sam3_core.engine.concepts import ConceptHead
torch.set_num_threads(1)
broken, detect = pathlib.Path(os.environ["BROKEN"]), ConceptHead.detect

def fragile(self, questions):
    if broken.exists() and broken.read_text() == str(os.getpid()):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\\nfor debugging ...")
    return detect(self, questions)

ConceptHead.detect = fragile
backend.server.run(BackendSettings(), host="127.0.0.1", port=int(sys.argv[1]), threads=8)
"""


def test_the_worker_of_a_broken_device_is_replaced(tmp_path: Path) -> None:
    log, broken = tmp_path / "log", tmp_path / "broken"
    scene = render_scene(9, objects=(2, 4), size=(160, 120))
    body = predict_body([{"id": 1, "data": {"image": data_url(scene.encode())}}], CONFIG)
    with server(PROGRAM, log, SAM3_DEVICE="cpu", BROKEN=str(broken)) as (url, process):
        good = requests.post(f"{url}/predict", json=body, timeout=60)
        assert good.ok, good.text
        (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        broken.write_text(worker)
        bad = requests.post(f"{url}/predict", json=body, timeout=60)
        if bad.status_code == 503:
            assert "illegal memory access" in bad.json()["error"]
            assert "debugging" not in bad.json()["error"]
        else:  # the end of the worker came first: it answers with what is there, and the task stays open
            assert bad.json() == {"results": [[]]}
        again = _ask_until_good(url, body)
        assert again.json()["results"][0]["result"]
        (other,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert other != worker
        assert process.poll() is None
    assert "ending this worker" in log.read_text()


def _ask_until_good(url: str, body: object) -> requests.Response:
    """The new worker loads the weights first."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            answer = requests.post(f"{url}/predict", json=body, timeout=60)
        except requests.ConnectionError:
            answer = None
        if answer is not None and answer.ok:
            return answer
        assert answer is None or answer.status_code == 503, answer.text
        time.sleep(0.2)
    raise AssertionError("the server did not come back")
