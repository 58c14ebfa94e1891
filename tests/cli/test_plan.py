"""``sam3-prelabel plan``: what a labeling config asks for, and where each value comes from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sam3_core.choices import OPTIONS
from sam3_prelabel import cli

CONFIG = """
<View>
  <Image name="photo" value="$picture" min_area="0.1%" tiles="auto"/>
  <PolygonLabels name="outline" toName="photo" fineness="low" top_k="1">
    <Label value="car"/>
    <Label value="bus" prompt="bus; coach" negative_prompt="toy [b]bus"/>
    <Label value="sign" threshold="0.3" allow_overlap="true" top_k="2"/>
  </PolygonLabels>
  <BrushLabels name="mask" toName="photo"><Label value="car" remember_prompt="true"/></BrushLabels>
</View>
"""
DEFAULTS = {
    "threshold": 0.5,
    "presence": 0.0,
    "min_area": "0 px",
    "max_area": None,
    "max_instances": None,
    "top_k": 0,
    "allow_overlap": False,
    "fineness": "medium",
    "max_vertices": 500,
    "holes": "bridged",
    "parts": "all",
}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config on disk; settings are the defaults."""
    for variable in [name for name in os.environ if name.startswith("SAM3_")]:
        monkeypatch.delenv(variable)
    path = tmp_path / "config.xml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command in this process; its exit code, stdout and stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sam3-prelabel", "plan", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), *capsys.readouterr()

    return run


def told(plan: Any, *arguments: str | Path) -> dict[str, Any]:
    code, out, _ = plan(*arguments, "--json")
    assert code == 0
    (image,) = json.loads(out)
    return dict(image)


def held(image: dict[str, Any], tag: str, label: str) -> dict[str, tuple[Any, str]]:
    (found,) = [one for one in image["labels"] if (one["tag"], one["label"]) == (tag, label)]
    return {name: (held["value"], held["from"]) for name, held in found["options"].items()}


def test_every_label_with_every_option_and_its_origin(plan: Any, config: Path) -> None:
    image = told(plan, config)
    assert (image["image"], image["data"]) == ("photo", "picture")
    assert image["options"] == {"tiles": {"value": "auto", "from": "image tag"}}
    assert [(one["tag"], one["type"], one["label"], one["phrases"], one["negatives"]) for one in image["labels"]] == [
        ("outline", "polygonlabels", "car", ["car"], []),
        ("outline", "polygonlabels", "bus", ["bus", "coach"], ["toy [b]bus"]),
        ("outline", "polygonlabels", "sign", ["sign"], []),
        ("mask", "brushlabels", "car", ["car"], []),
    ]
    assert [one["remembers"] for one in image["labels"]] == [False, False, False, True]
    default = {name: (value, "default") for name, value in DEFAULTS.items()} | {"min_iou": (0.98, "fineness")}
    assert {*default, "tiles"} == set(OPTIONS)
    assert held(image, "mask", "car") == default | {"min_area": ("0.1%", "image tag")}
    on_tag: dict[str, tuple[Any, str]] = {"min_area": ("0.1%", "image tag"), "top_k": (1, "tag")}
    on_tag |= {"fineness": ("low", "tag"), "min_iou": (0.9, "fineness")}
    assert held(image, "outline", "bus") == default | on_tag
    on_label = {"threshold": (0.3, "label"), "allow_overlap": (True, "label"), "top_k": (2, "label")}
    assert held(image, "outline", "sign") == default | on_tag | on_label


def test_requests_extra_parameters_and_settings_have_their_place(
    plan: Any, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAM3_THRESHOLD", "0.4")
    monkeypatch.setenv("SAM3_TILES", "on")
    image = told(plan, config, "--extra-params", '{"presence": 0.2, "min_area": 7, "tiles": "off"}')
    assert held(image, "mask", "car")["threshold"] == (0.4, "SAM3_THRESHOLD")
    assert held(image, "outline", "sign")["threshold"] == (0.3, "label")
    assert held(image, "outline", "sign")["presence"] == (0.2, "extra parameters")
    assert held(image, "outline", "sign")["min_area"] == ("0.1%", "image tag")
    image = told(plan, config, "--set", "threshold=0.6", "--set", "min_area=9", "--set", "tiles=off")
    assert image["options"]["tiles"] == {"value": "off", "from": "request"}
    assert held(image, "outline", "sign")["threshold"] == (0.6, "request")
    assert held(image, "outline", "sign")["min_area"] == ("9 px", "request")
    config.write_text(CONFIG.replace(' tiles="auto"', ""), encoding="utf-8")
    assert told(plan, config)["options"]["tiles"] == {"value": "on", "from": "SAM3_TILES"}


def test_tables_for_a_person(plan: Any, config: Path) -> None:
    code, out, _ = plan(config, "--set", "parts=largest")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert "image photo (task data 'picture'): tiles auto (image tag)" in out
    assert ["bus", "outline", "(polygonlabels)", "bus;", "coach", "toy", "[b]bus"] in lines
    assert lines.count(["option", "value", "from"]) == 3  # car and bus of the outline share theirs
    assert lines.count(["parts", "largest", "request"]) == 3
    assert ["threshold", "0.3", "label"] in lines
    assert ["max_area", "no", "limit", "default"] in lines
    assert ["allow_overlap", "true", "label"] in lines


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("<View/>", "no Image tag"),
        ('<View><Image name="i" value="$i"/></View>', "no PolygonLabels"),
        ("<View>", "cannot be read"),
        ('<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><View>&f;</View>', "DOCTYPE"),
        (b"\xff\xfe<\x00", "is not text in UTF-8"),
        (None, "No such file"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_config_with_nothing_to_fill_says_why(
    plan: Any, config: Path, content: str | bytes | None, sentence: str, options: list[str]
) -> None:
    config.unlink()
    if content is not None:
        config.write_bytes(content.encode() if isinstance(content, str) else content)
    code, out, err = plan(config, *options)
    assert (code, out) == (2, "")
    assert sentence in " ".join(err.split())
    assert "Traceback" not in err


@pytest.mark.parametrize("chosen", ["threshold", "threshold=2", "colour=red", "car:threshold=0.4", "tiles=maybe"])
def test_a_wrong_choice_is_a_sentence(plan: Any, config: Path, chosen: str) -> None:
    code, _, err = plan(config, "--set", chosen)
    assert code == 2
    assert "--set" in err
    assert "Traceback" not in err


def test_a_wrong_attribute_is_told_too(config: Path) -> None:
    config.write_text(CONFIG.replace('threshold="0.3"', 'threshold="most"'), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "sam3_prelabel", "plan", config],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0
    assert "label 'sign': threshold=\"most\" is not a number between 0 and 1; it is ignored" in done.stderr
