"""``sam3-prelabel cvat spec``: what it writes, read as CVAT and Nuclio read it, and by the function itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cvat_server import CvatServer
from function_context import Context, Script
from hypothesis import given
from hypothesis import strategies as st
from nuclio_wire import Limits
from typer.testing import CliRunner, Result
from yaml_twin import listed, parsed

from cvat_nuclio import handlers
from cvat_nuclio.handlers import start_detector
from cvat_nuclio.labels import LabelRow, LabelType, read_labels
from sam3_core import Concept, Rules
from sam3_core.errors import InvalidInput, ServerUnavailable
from sam3_core.finish import DEFAULT_FINISH, Fineness, Finish
from sam3_core.rules import Area
from sam3_prelabel.cli import app
from sam3_prelabel.cvat_spec import make_rows, write_yaml

BUNDLED = Path(__file__).parents[2] / "cvat_nuclio" / "detector"


def run(*arguments: str, good: bool = True) -> Result:
    done = CliRunner().invoke(app, ["cvat", "spec", *arguments])
    if good:
        assert done.exit_code == 0, done.output
    return done


def refused(*arguments: str) -> str:
    """The sentence."""
    done = run(*arguments, good=False)
    assert isinstance(done.exception, InvalidInput | ServerUnavailable), done.output
    return str(done.exception)


def variables(text: str) -> dict[str, str]:
    return {one["name"]: one["value"] for one in yaml.safe_load(text)["spec"]["env"]}


def rows_of(text: str) -> tuple[LabelRow, ...]:
    """As the function reads them."""
    return read_labels(variables(text)["SAM3_LABELS"], Path("nowhere.yaml"))


def test_labels_with_phrases_negatives_and_options() -> None:
    text = run(
        "--label", "bus=yellow school bus; bus", "--label", "person", "--type", "polygon",
        "--negative", "bus=toy bus", "--negative", "drawing", "--set", "bus:threshold=0.4", "--set", "min-area=0.5%",
        "--set", "fineness=high",
    ).stdout  # fmt: skip
    function = parsed(yaml.safe_load(text))
    assert (function.id, function.kind, function.version) == ("sam3-detector", "detector", 2)
    assert [(label["name"], label["type"]) for label in function.labels] == [
        ("bus", "polygon"),
        ("person", "polygon"),
    ]
    area = Area(0.005, relative=True)
    finish = Finish(Fineness.HIGH, min_area=area).over(DEFAULT_FINISH)
    bus = Concept(
        ("yellow school bus", "bus"), negatives=("toy bus", "drawing"), rules=Rules(threshold=0.4, min_area=area)
    )
    person = Concept(("person",), negatives=("drawing",), rules=Rules(min_area=area))
    assert rows_of(text) == (
        LabelRow("bus", LabelType.POLYGON, bus, finish),
        LabelRow("person", LabelType.POLYGON, person, finish),
    )


@pytest.mark.parametrize("gpu", [False, True])
def test_all_else_is_the_bundled_file(gpu: bool, tmp_path: Path) -> None:
    name = "function-gpu.yaml" if gpu else "function.yaml"
    out = tmp_path / "new" / name
    run("--label", "bus", "--out", str(out), *["--gpu"] * gpu)
    written, bundled = (yaml.safe_load(path.read_text()) for path in (out, BUNDLED / name))
    assert variables(out.read_text()).items() >= {one["name"]: one["value"] for one in bundled["spec"]["env"]}.items()
    for document in (written, bundled):
        del document["metadata"]["annotations"]["spec"], document["spec"]["env"]
    assert written == bundled
    assert Limits.of_yaml(out) == Limits.of_yaml(BUNDLED / name)
    assert listed(out).labels[0]["name"] == "bus"
    assert out.read_text().count("#") == (BUNDLED / name).read_text().count("#")  # comments stay


@pytest.mark.parametrize("name", ["function.yaml", "buses.yaml", "function-gpu.yaml"])
def test_what_is_written_starts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / name
    run("--label", "bus=coach", "--out", str(out))
    assert (tmp_path / "main.py").read_text() == (BUNDLED / "main.py").read_text()
    for variable, value in variables(out.read_text()).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(handlers, "make_segmenter", lambda settings: Script())
    context = Context()
    start_detector(context, tmp_path)
    bus = LabelRow("bus", LabelType.MASK, Concept(("coach",)), scored=True)
    assert context.user_data.sam3.labels == (bus,)
    assert not context.logger.of("warn")


def test_a_main_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("# mine\n")
    run("--label", "bus", "--out", str(tmp_path / "function.yaml"))
    assert (tmp_path / "main.py").read_text() == "# mine\n"


def test_the_server_that_holds_the_weights() -> None:
    text = run("--label", "bus", "--core-url", "http://gpu:9090").stdout
    assert variables(text)["SAM3_CORE_URL"] == "http://gpu:9090"
    assert text.count("SAM3_CORE_URL") == 1 + (BUNDLED / "function.yaml").read_text().count("which SAM3_CORE_URL")


NAMES = st.text(min_size=1).filter(lambda name: name.strip() and "=" not in name and name.isprintable())


@given(st.lists(NAMES, min_size=1, max_size=4, unique_by=str.strip), st.booleans())
def test_every_name_survives_yaml_and_the_shell(names: list[str], gpu: bool) -> None:
    rows: list[dict[str, Any]] = make_rows([f"{name}=thing" for name in names])
    text = write_yaml(rows, gpu=gpu)
    assert [label["name"] for label in parsed(yaml.safe_load(text)).labels] == [name.strip() for name in names]
    value = variables(text)["SAM3_LABELS"]
    assert json.loads(value) == rows
    # Nuclio writes --env SAM3_LABELS='...' for a shell.
    assert "'" not in value
    assert "\n" not in value


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no labels"),
        (["--label", "=bus"], "NAME=PHRASES"),
        (["--label", "bus= "], "NAME=PHRASES"),
        (["--label", "bus", "--label", "bus=coach"], "twice"),
        (["--label", "bus", "--set", "bus:threshold=4"], "threshold"),
        (["--label", "bus", "--set", "car:threshold=0.4"], "car"),
        (["--label", "bus", "--set", "tiles=on"], "SAM3_TILES"),
        (["--label", "bus", "--negative", "car=toy"], "car"),
        (["--label", "bus", "--gpu", "--core-url", "http://x"], "choose one"),
        (["--from-task", "1", "--from-project", "1"], "not both"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(arguments: list[str], said: str) -> None:
    assert said in refused(*arguments)


@pytest.fixture
def server() -> Iterator[CvatServer]:
    with CvatServer() as running:
        yield running


def login(server: CvatServer) -> list[str]:
    return ["--server-host", server.host, "--server-port", str(server.port), "--auth", "user:password"]


LABELS = [
    {"name": "bus", "type": "polygon"}, {"name": "road", "type": "mask"}, {"name": "car", "type": "any"},
    {"name": "wet", "type": "tag"}, {"name": "lane", "type": "polyline"},
]  # fmt: skip


@pytest.mark.parametrize("place", ["task", "project"])
def test_labels_come_from_cvat(server: CvatServer, place: str) -> None:
    number = server.add_task([], LABELS) if place == "task" else server.add_project(LABELS)
    done = run(f"--from-{place}", str(number), "--label", "bus=yellow bus", *login(server))
    rows = rows_of(done.stdout)
    assert [(row.name, str(row.type), row.concept.phrases) for row in rows] == [
        ("bus", "polygon", ("yellow bus",)), ("road", "mask", ("road",)), ("car", "mask", ("car",)),
        ("wet", "tag", ("wet",)),
    ]  # fmt: skip
    assert "'lane' is left out" in done.stderr


def test_what_cvat_does_not_have(server: CvatServer) -> None:
    number = server.add_task([], LABELS)
    assert "'van'" in refused("--from-task", str(number), "--label", "van", *login(server))
    assert "task 999: 404" in refused("--from-task", "999", *login(server))
    assert "project 999: 404" in refused("--from-project", "999", *login(server))
