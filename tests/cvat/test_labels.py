"""The detector's labels: the table, the spec, and what is wrong with either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import cvat_nuclio
from cvat_nuclio.labels import LabelRow, LabelType, read_labels, read_spec, undeclared
from sam3_core import Concept, Rules
from sam3_core.errors import BadSettings
from sam3_core.finish import DEFAULT_FINISH, Fineness, Finish, Parts
from sam3_core.rules import Area

SCORE = {"name": "score", "input_type": "text", "values": []}
NOWHERE = Path("nowhere.yaml")


def spec_file(folder: Path, labels: Any, name: str = "function.yaml") -> Path:
    path = folder / name
    text = labels if isinstance(labels, str) else json.dumps(labels)
    path.write_text(f"metadata:\n  annotations:\n    type: detector\n    spec: |\n      {text}\nspec: {{}}\n")
    return path


def one(row: dict[str, Any]) -> LabelRow:
    (read,) = read_labels(json.dumps([row]), NOWHERE)
    return read


def test_a_name_alone_is_what_is_looked_for() -> None:
    assert one({"name": "yellow bus"}) == LabelRow("yellow bus", LabelType.ANY, Concept(("yellow bus",)))


def test_a_name_of_underscores_is_asked_in_words() -> None:
    row = one({"name": "SchoolBus_2"})
    assert (row.name, row.concept.phrases) == ("SchoolBus_2", ("school bus",))


def test_a_row_with_everything() -> None:
    row = one(
        {
            "name": "bus", "type": "polygon", "prompt": "yellow school bus; bus ;", "negative": "toy bus; bus stop",
            "threshold": 0.4, "presence": "0.2", "min_area": "0.5%", "max_area": 900, "max_instances": 3, "top_k": 1,
            "allow_overlap": True, "fineness": "high", "max_vertices": 40, "parts": "largest",
        }
    )  # fmt: skip
    rules = Rules(0.4, 0.2, Area(0.005, relative=True), Area(900), 3, 1, True)
    finish = Finish(Fineness.HIGH, None, 40, Area(0.005, relative=True), None, Parts.LARGEST).over(DEFAULT_FINISH)
    concept = Concept(("yellow school bus", "bus"), negatives=("toy bus", "bus stop"), rules=rules)
    assert row == LabelRow("bus", LabelType.POLYGON, concept, finish)


def test_a_blank_prompt_leaves_the_name() -> None:
    assert one({"name": "bus", "prompt": " ; "}).concept.phrases == ("bus",)


def test_a_table_in_a_file_is_the_same(tmp_path: Path) -> None:
    table = json.dumps([{"name": "公交车", "prompt": "bus"}, {"name": "car"}], ensure_ascii=False)
    path = tmp_path / "labels.json"
    path.write_text(table, encoding="utf-8")
    assert read_labels(str(path), NOWHERE) == read_labels(table, NOWHERE)
    assert read_labels("labels.json", tmp_path / "function.yaml") == read_labels(table, NOWHERE)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[", "not JSON"),
        ('{"name": "bus"}', "not a list"),
        ("[]", "no labels"),
        ("/no/such/file.json", "/no/such/file.json"),
        ("x" * 5000, "neither a JSON list nor a file"),
        ('["bus"]', "object with a name"),
        ('[{"type": "mask"}]', "object with a name"),
        ('[{"name": " "}]', "object with a name"),
        ('[{"name": 5}]', "object with a name"),
        ('[{"name": "bus", "treshold": 0.4}]', "unknown 'treshold'"),
        ('[{"name": "bus", "threshold": 4}]', "'bus': threshold="),
        ('[{"name": "bus", "threshold": NaN}]', "'bus': threshold="),
        ('[{"name": "bus", "tiles": "on"}]', "'bus': tiles="),
        ('[{"name": "bus", "type": "skeleton"}]', "'bus': the type"),
        ('[{"name": "bus", "prompt": ["bus"]}]', "'bus': prompt is text"),
        ('[{"name": "bus"}, {"name": "bus", "type": "tag"}]', "'bus' is there twice"),
    ],
)
def test_what_is_wrong_with_a_table_is_a_sentence(table: str, said: str) -> None:
    with pytest.raises(BadSettings) as raised:
        read_labels(table, NOWHERE)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_a_table_the_spec_names_the_labels(tmp_path: Path) -> None:
    spec = spec_file(tmp_path, [{"name": "bus", "type": "tag", "attributes": [SCORE]}, {"name": "car", "id": 4}])
    assert read_labels(None, spec) == (
        LabelRow("bus", LabelType.TAG, Concept(("bus",)), scored=True),
        LabelRow("car", LabelType.ANY, Concept(("car",)), scored=False),
    )


def test_a_table_takes_types_and_scores_from_the_spec(tmp_path: Path) -> None:
    spec = spec_file(tmp_path, [{"name": "bus", "type": "polygon", "attributes": [SCORE]}, {"name": "car"}])
    table = json.dumps([{"name": "bus", "prompt": "coach"}, {"name": "car", "type": "tag"}, {"name": "van"}])
    rows = read_labels(table, spec)
    assert [(row.name, row.type, row.scored) for row in rows] == [
        ("bus", "polygon", True), ("car", "tag", False), ("van", "any", False),
    ]  # fmt: skip
    assert undeclared(rows, spec) == ["van"]
    assert undeclared(rows, NOWHERE) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[{]", "no label list"),
        ('{"name": "bus"}', "not a list of labels"),
        ('[{"type": "mask"}]', "not a list of labels"),
        ("[]", "no labels"),
        ('[{"name": "hand", "type": "skeleton"}]', "'hand': the type"),
    ],
)
def test_what_is_wrong_with_a_spec_is_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadSettings, match=r"function\.yaml") as raised:
        read_labels(None, spec_file(tmp_path, text))
    assert said in str(raised.value)


@pytest.mark.parametrize("text", ["", "a: [", "- 1", "metadata: 5"])
def test_a_yaml_without_a_spec_is_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "function.yaml"
    path.write_text(text)
    with pytest.raises(BadSettings, match="no label list"):
        read_spec(path)


def test_a_missing_yaml_is_a_sentence() -> None:
    with pytest.raises(BadSettings, match="SAM3_SPEC"):
        read_labels(None, NOWHERE)


@pytest.mark.parametrize("name", ["function.yaml", "function-gpu.yaml"])
def test_the_bundled_specs_are_read(name: str) -> None:
    rows = read_labels(None, Path(*cvat_nuclio.__path__) / "detector" / name)
    assert rows
    assert all(row.scored and row.type is LabelType.MASK for row in rows)
