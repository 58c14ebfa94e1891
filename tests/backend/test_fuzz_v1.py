"""docs/openapi.yaml as a source of good and bad requests: every answer is one that the file knows, none a defect."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import yaml
from flask.testing import FlaskClient
from fuzzing import LONG, check, examples
from hypothesis import given
from hypothesis import strategies as st
from scene_segmenter import SceneSegmenter
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from backend.app import create_app
from backend.settings import BackendSettings
from sam3_core import EncodedImage, Segmenter
from sam3_core.demo.scenes import render_scene

SPEC = yaml.safe_load((Path(__file__).parents[2] / "docs" / "openapi.yaml").read_text(encoding="utf-8"))
SCHEMA = schemathesis.openapi.from_dict(SPEC)
OPERATIONS = {operation.ok().label: operation.ok() for operation in SCHEMA.get_all_operations()}
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
PICTURE = render_scene(9, objects=(2, 4), size=(160, 120))
DATA = SceneSegmenter().add(PICTURE)
KEY = EncodedImage(DATA).key


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    """An app that holds one picture, by its key."""
    segmenter: Segmenter = SceneSegmenter()
    if LONG:
        from sam3_core.engine import LocalSegmenter

        segmenter = LocalSegmenter(BackendSettings(device="cpu"))
        segmenter.wait_until_ready()
    else:
        segmenter.add(PICTURE)  # type: ignore[attr-defined]
    client = create_app(BackendSettings(), segmenter).test_client()
    sent = {"request": "{}", "image": (io.BytesIO(DATA), "a.png")}
    assert client.post("/v1/warm", data=sent).status_code == 200
    return client


def _send(client: FlaskClient, case: Case) -> Any:
    request = requests.Request(**case.as_transport_kwargs(base_url="http://localhost")).prepare()
    body = request.body.encode() if isinstance(request.body, str) else request.body
    return client.open(request.path_url, method=request.method, data=body, headers=dict(request.headers))


@pytest.mark.parametrize("known", [True, False], ids=["a picture that is there", "any picture"])
@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("label", OPERATIONS)
def test_what_the_file_describes_and_what_it_does_not(
    client: FlaskClient, caplog: pytest.LogCaptureFixture, label: str, mode: GenerationMode, known: bool
) -> None:
    """known: the requests name the picture that is there, so that they get past the door."""

    @examples(20)
    @given(data=st.data())
    def send(data: st.DataObject) -> None:
        case = data.draw(OPERATIONS[label].as_strategy(generation_mode=mode))
        if known and isinstance(case.body, dict):
            parts = case.body.get("request") if case.media_type == "multipart/form-data" else case.body
            if isinstance(parts, dict):
                parts["image"] = {"key": KEY}
                case.body = parts
                case.media_type = "application/json"
        answer = _send(client, case)
        check(answer, caplog)
        case.validate_response(answer, checks=CHECKS)

    if label.startswith("GET") and mode is GenerationMode.NEGATIVE:
        pytest.skip("there is nothing in it to get wrong")
    send()
