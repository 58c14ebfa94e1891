"""Our function.yaml files, read as CVAT and Nuclio read them. Line 1 of the contract's checklist."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from nuclio_wire import Limits
from yaml_twin import button_works, listed

from cvat_nuclio.labels import read_labels
from cvat_nuclio.settings import CvatSettings

_ROOM = Path(__file__).parents[2] / "cvat_nuclio"
FILES = sorted(_ROOM.glob("*/function*.yaml"))
_CVAT_TIMEOUT = 120.0  # seconds; CVAT_NUCLIO_DEFAULT_TIMEOUT
_PLUGIN_OF_SAM1 = "pth-facebookresearch-sam-vit-h"


def _named(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


every_file = pytest.mark.parametrize("path", FILES, ids=_named)


def _document(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


def test_each_kind_has_a_thin_and_a_gpu_file() -> None:
    assert [_named(path) for path in FILES] == [
        f"{kind}/{name}" for kind in ("detector", "interactor") for name in ("function-gpu.yaml", "function.yaml")
    ]


@every_file
def test_cvat_lists_it(path: Path) -> None:
    function = listed(path)
    assert function.kind == path.parent.name
    assert re.fullmatch("[a-z0-9-]+", function.id)
    assert function.id != _PLUGIN_OF_SAM1
    assert function.version >= 2
    assert function.description
    assert button_works(function)


@every_file
def test_nothing_is_switched_off_by_a_word(path: Path) -> None:
    notes = _document(path)["metadata"]["annotations"]
    for key in ("startswith_box", "startswith_box_optional"):
        assert notes.get(key, "true") == "true", f"{key} is on whatever it says"


@every_file
def test_limits_fit_cvats(path: Path) -> None:
    limits = Limits.of_yaml(path)
    assert limits.workers == 1, "each worker is a copy of the model"
    assert limits.max_body == 256 << 20
    assert limits.event_timeout is not None
    assert limits.event_timeout > _CVAT_TIMEOUT > CvatSettings.model_fields["budget_seconds"].default
    assert limits.availability_timeout >= 60
    assert _document(path)["spec"]["readinessTimeoutSeconds"] >= 600


@every_file
def test_the_handler_and_its_start_are_in_main(path: Path) -> None:
    """Nuclio looks init_context up in the module where the handler was defined."""
    spec = _document(path)["spec"]
    assert (spec["handler"], spec["runtime"]) == ("main:handler", "python:3.11")
    defined = {node.name for node in ast.parse((path.parent / "main.py").read_text()).body if hasattr(node, "name")}
    assert {"handler", "init_context"} <= defined


@every_file
def test_every_variable_is_a_setting(path: Path) -> None:
    known = {f"SAM3_{name.upper()}" for name in CvatSettings.model_fields}
    variables = _document(path)["spec"].get("env", [])
    ours = [each["name"] for each in variables if each["name"].startswith("SAM3_")]
    assert set(ours) <= known
    assert all(isinstance(each["value"], str) for each in variables), "Docker's variables are strings"


@every_file
def test_only_the_gpu_file_asks_for_a_gpu_and_torch(path: Path) -> None:
    spec = _document(path)["spec"]
    gpu = path.name == "function-gpu.yaml"
    assert (spec.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", 0) > 0) is gpu
    assert spec["build"]["baseImage"] == ("cvat.sam3.base.gpu" if gpu else "cvat.sam3.base")
    assert any(each["name"] == "SAM3_CORE_URL" for each in spec["env"]) is not gpu


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name == "detector"], ids=_named)
def test_the_shipped_labels_can_be_read(path: Path) -> None:
    function = listed(path)
    assert [row.name for row in read_labels(None, path)] == [label["name"] for label in function.labels]
    for label in function.labels:
        assert all(attribute["input_type"] == "text" for attribute in label["attributes"]), (
            "numbers are whole in CVAT"
        )


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name == "interactor"], ids=_named)
def test_the_interactor_takes_every_prompt(path: Path) -> None:
    ui = listed(path).ui
    assert (ui["min_pos_points"], ui["min_neg_points"]) == (0, 0)
    assert ui["startswith_box_optional"] is True
    assert ui["startswith_box"] is False


def test_cvat_lists_what_our_command_writes(tmp_path: Path) -> None:
    out = tmp_path / "function.yaml"
    words = ["--label", "bus=yellow school bus; bus", "--label", 'quo"te: #1', "--negative", "bus=toy bus"]
    command = [sys.executable, "-m", "sam3_prelabel", "cvat", "spec", *words, "--set", "bus:threshold=0.4"]
    subprocess.run([*command, "--core-url", "http://gpu:9090", "--out", str(out)], check=True, timeout=60)
    function = listed(out)
    assert [label["name"] for label in function.labels] == ["bus", 'quo"te: #1']
    assert Limits.of_yaml(out) == Limits.of_yaml(_ROOM / "detector/function.yaml")
    assert (tmp_path / "main.py").is_file()
