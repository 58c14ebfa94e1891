"""docs/openapi.yaml against the server: what is documented is there, what is there is documented."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from flask import Flask
from flask.testing import FlaskClient
from scene_segmenter import SceneSegmenter

from backend.app import create_app
from backend.settings import BackendSettings
from sam3_core import (
    Box,
    Concept,
    EncodedImage,
    Exemplar,
    FindOptions,
    Mask,
    OutlineOptions,
    Point,
    Rules,
    VisualPrompt,
)
from sam3_core.demo.scenes import Scene
from sam3_core.errors import ModelUnavailable, NotReady, UnknownAdapter, Unsupported
from sam3_core.prototypes import Prototypes
from sam3_core.rules import Area, Tiling
from sam3_core.wire import base, load, prompts, results
from sam3_core.wire.prompts import FindRequest, OutlineRequest, WireImage

SPEC = yaml.safe_load((Path(__file__).parents[2] / "docs" / "openapi.yaml").read_text(encoding="utf-8"))

MODELS: dict[str, type[base.Body]] = {
    "ImageByKey": prompts.WireImage,
    "Rle": base.WireRle,
    "Mask": base.WireMask,
    "Area": base.WireArea,
    "Rules": base.WireRules,
    "Exemplar": prompts.WireExemplar,
    "Drawn": prompts.WireDrawn,
    "Prototypes": prompts.WirePrototypes,
    "Concept": prompts.WireConcept,
    "FindOptions": prompts.WireFindOptions,
    "FindRequest": prompts.FindRequest,
    "Point": prompts.WirePoint,
    "VisualPrompt": prompts.WireVisualPrompt,
    "OutlineOptions": prompts.WireOutlineOptions,
    "OutlineRequest": prompts.OutlineRequest,
    "WarmRequest": prompts.WarmRequest,
    "SeenImage": results.SeenImage,
    "Instance": results.WireInstance,
    "Result": results.WireResult,
    "FindAnswer": results.FindAnswer,
    "OutlineAnswer": results.OutlineAnswer,
    "WarmAnswer": results.WarmAnswer,
    "CacheTier": results.WireCacheTier,
    "Cache": results.WireCache,
    "Lane": load.WireLane,
    "Pass": load.WirePass,
    "Load": load.WireLoad,
    "Info": results.InfoAnswer,
    "Failure": results.Failure,
}
LOOKS = Prototypes.of(np.eye(2, 3, dtype=np.float32), np.ones((1, 3), np.float32), 4.0, -1.0)
PLAIN = {"File", "Key", "Corners", "Size", "Pixel", "Count", "Share"}  # not objects
ALWAYS_WRITTEN = {"Result", "Cache", "CacheTier", "Info"}  # the reader is more lenient than the writer


def validate(value: object, schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema | {"components": SPEC["components"]}).validate(value)


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    for step in node.get("$ref", "#").split("/")[1:]:
        node = SPEC[step] if step == "components" else node[step]
    return node


# ---- the file itself ---------------------------------------------------------------------------------------------


def test_the_schemas_are_schemas_and_all_of_them_are_used() -> None:
    text = json.dumps(SPEC)
    for name, schema in SPEC["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert f"#/components/schemas/{name}" in text, name
    assert set(SPEC["components"]["schemas"]) == set(MODELS) | PLAIN


@pytest.mark.parametrize("name", MODELS)
def test_fields_are_those_of_the_code(name: str) -> None:
    """A field that is added, renamed or required in the code must be so in the file."""
    documented, model = SPEC["components"]["schemas"][name], MODELS[name]
    assert set(documented["properties"]) == set(model.model_fields)
    required = {field for field, info in model.model_fields.items() if info.is_required()}
    assert required <= set(documented.get("required", ()))
    if name not in ALWAYS_WRITTEN:
        assert required == set(documented.get("required", ()))
    strict = model.model_config["extra"] == "forbid" and name != "Rules"  # these are in answers too
    assert (documented.get("additionalProperties") is False) == strict


def test_routes_are_those_of_the_server(app: Flask) -> None:
    served = {
        (rule.rule, method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/v1")
    }
    assert served == {(path, method) for path, methods in SPEC["paths"].items() for method in methods}


# ---- requests as the client writes them --------------------------------------------------------------------------


def test_requests_of_our_client_are_documented(scenes: list[Scene]) -> None:
    mask = Mask.from_full(scenes[0].objects[0].mask)
    rules = Rules(0.1, 0.2, Area(3), Area(0.5, relative=True), 4, 5, True)
    concept = Concept(("a",), (Exemplar(Box(0, 0, 1, 1), False),), ("b",), rules, (mask, Box(1, 2, 3, 4)), LOOKS)
    find = FindRequest.of([concept], FindOptions(rules=rules, tiles=Tiling.AUTO, features=True))
    prompt = VisualPrompt((Point(1, 2, False),), Box(0, 0, 5, 5), mask)
    outline = OutlineRequest.of(prompt, OutlineOptions(3))
    for request, name in ((find, "FindRequest"), (outline, "OutlineRequest")):
        keyed = request.model_copy(update={"image": WireImage(key="0" * 32)})
        for one in (request, keyed):
            validate(json.loads(one.text()), {"$ref": f"#/components/schemas/{name}"})
    with pytest.raises(jsonschema.ValidationError):
        validate({"concepts": [{"phrase": "a"}]}, {"$ref": "#/components/schemas/FindRequest"})


# ---- answers of every status -------------------------------------------------------------------------------------

BODIES: dict[str, dict[str, Any]] = {
    "/v1/find": {"concepts": [{"phrases": ["shape"]}, {"phrases": ["zebra"]}]},
    "/v1/outline": {"prompt": {"box": [0, 0, 300, 300]}, "options": {"candidates": 3}},
    "/v1/warm": {},
}


def send(client: FlaskClient, path: str, file: bytes) -> Any:
    return client.post(path, data={"request": json.dumps(BODIES[path]), "image": (io.BytesIO(file), "a.png")})


def answers(oracle: SceneSegmenter, scenes: list[Scene]) -> Iterator[tuple[str, Any]]:
    """Each route with each status that it has."""
    client = create_app(BackendSettings(), oracle).test_client()
    guarded = create_app(BackendSettings(basic_auth_user="u", basic_auth_password="p"), oracle).test_client()
    small = create_app(BackendSettings(max_image_mb=1e-6), oracle).test_client()
    data = oracle.add(scenes[0])
    yield "/v1/info", client.get("/v1/info")
    yield "/v1/info", guarded.get("/v1/info")
    for path, body in BODIES.items():
        yield path, client.post(path, json=body | {"image": {"key": EncodedImage(data).key[::-1]}})
        yield path, send(client, path, data)
        yield path, client.post(path, json=body | {"image": {"key": EncodedImage(data).key}})
        yield path, client.post(path, data=b"{")
        yield path, guarded.post(path)
        yield path, send(small, path, data)
        yield path, send(client, path, b"no picture")
        unknown = UnknownAdapter("no such weights")
        busy, broken = NotReady("loading"), ModelUnavailable("no token")
        for error in (busy, broken, Unsupported("no clicks"), unknown, ValueError("x")):
            if path != {Unsupported: "/v1/outline", UnknownAdapter: "/v1/find"}.get(type(error), path):
                continue
            oracle.error = error
            yield path, send(client, path, data)
        oracle.error = None
    oracle.info = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    yield "/v1/info", client.get("/v1/info")


def test_every_answer_is_as_documented(oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    seen = set()
    for path, answer in answers(oracle, scenes):
        (operation,) = SPEC["paths"][path].values()
        status = str(answer.status_code)
        assert status in operation["responses"], (path, status, answer.text)
        documented = resolved(operation["responses"][status])
        validate(answer.json, documented["content"][answer.mimetype]["schema"])
        assert ("Retry-After" in answer.headers) <= ("Retry-After" in documented.get("headers", {}))
        seen.add((path, status))
    every = {
        (path, status)
        for path, methods in SPEC["paths"].items()
        for operation in methods.values()
        for status in operation["responses"]
    }
    assert seen == every


def test_answers_are_strictly_checked(client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    """The schemas are not so wide that anything passes."""
    answer = send(client, "/v1/find", oracle.add(scenes[0])).json
    schema = {"$ref": "#/components/schemas/FindAnswer"}
    validate(answer, schema)
    spoils: list[Callable[[Any], object]] = [
        lambda a: a.pop("model"),
        lambda a: a["image"].update(key="x"),
        lambda a: a["image"].update(size=[1]),
        lambda a: a["results"][0]["instances"][0].update(score=1.5),
        lambda a: a["results"][0]["instances"][0]["mask"].pop("x"),
        lambda a: a["results"][0]["instances"][0]["mask"]["rle"].update(counts=[1]),
        lambda a: a["results"][0]["rules"].update(min_area=5),
        lambda a: a["results"][0].pop("reason"),
    ]
    for spoil in spoils:
        copy = json.loads(json.dumps(answer))
        spoil(copy)
        with pytest.raises(jsonschema.ValidationError):
            validate(copy, schema)
