"""``sam3-prelabel evaluate``: what it reads is what others read, and what it measures is so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from taught_project import LABELS, config, region, task
from typer.testing import CliRunner

from backend.labeling import read_plan
from sam3_core import Concept, FindOptions, Mask
from sam3_core.demo.scenes import Scene
from sam3_core.encodings import coco
from sam3_core.engine import LocalSegmenter
from sam3_core.errors import InvalidInput, InvalidPrompt
from sam3_core.learning.measure import Tally
from sam3_prelabel import evaluate_command
from sam3_prelabel.cli import app
from sam3_prelabel.evaluate import evaluate, with_phrases
from sam3_prelabel.evaluate_coco import read_coco, read_segmentation
from sam3_prelabel.evaluate_label_studio import config_of, files_in, read_export
from sam3_prelabel.inputs import find_images
from sam3_prelabel.outputs import Results
from sam3_prelabel.predict import predict
from sam3_prelabel.prompts import read_prompts

SIZE = (40, 30)
LIMIT = 100.0


def square(x: int, y: int, side: int = 10) -> Mask:
    return Mask(np.ones((side, side), np.bool_), x, y, SIZE)


def content(*annotations: dict[str, Any], **image: Any) -> dict[str, Any]:
    """A COCO file of one picture and the labels a and b."""
    return {
        "images": [{"id": 7, "file_name": "a.png", "width": SIZE[0], "height": SIZE[1], **image}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [{"id": n, "image_id": 7, "category_id": 1, **one} for n, one in enumerate(annotations)],
    }


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, scene: Callable[..., Scene], segmenter: LocalSegmenter
) -> tuple[Path, Path]:
    """Pictures and what ``predict`` wrote about them: the folder and the COCO file."""
    root = tmp_path_factory.mktemp("evaluate")
    (root / "in").mkdir()
    for seed in (11, 12, 13):
        (root / "in" / f"{seed}.jpg").write_bytes(scene(seed, objects=(3, 5), long_side=(240, 320)).encode())
    prompts, _ = read_prompts(["circle;disc", "star", "dog"])
    with Results(root / "out", prompts, model="demo", max_megapixels=LIMIT) as results:
        for outcome in predict(segmenter, find_images([root / "in"], recursive=False), prompts, FindOptions()):
            results.add(outcome)
    return root / "in", root / "out" / "coco.json"


def run(monkeypatch: pytest.MonkeyPatch, segmenter: LocalSegmenter, *arguments: object) -> Any:
    """The command, on weights that are loaded already."""
    monkeypatch.setattr(evaluate_command, "load_segmenter", lambda settings, console: segmenter)
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_what_predict_wrote_is_found_again(
    exported: tuple[Path, Path], segmenter: LocalSegmenter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    images, file = exported
    out = tmp_path / "quality.json"
    phrases = ("--prompt", "circle=circle; disc")
    done = run(monkeypatch, segmenter, file, "--images", images, *phrases, "--json", out)
    assert done.exit_code == 0, done.output
    told = json.loads(out.read_text())
    found = len(json.loads(file.read_text())["annotations"])
    assert found > 3
    overall = told["overall"]
    assert (overall["truth"], overall["found"], overall["right"]) == (found, found, found)
    assert overall["f1"] == 1.0
    assert overall["mask_iou"] == pytest.approx(1.0)
    assert told["labels"]["dog"]["f1"] is None, "a share of nothing is no share"
    assert told["labels"]["dog"]["presence_accuracy"] == 1.0
    assert told["phrases"]["circle"] == ["circle", "disc"]
    assert (told["images"], told["failed"]) == (3, [])


def test_other_phrases_and_bad_entries_change_what_is_said(
    exported: tuple[Path, Path], segmenter: LocalSegmenter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    images, file = exported
    read = json.loads(file.read_text())
    read["images"].append({"id": 99, "file_name": "gone.jpg", "width": 3, "height": 3})
    read["images"].append({"id": 100, "file_name": "../out/coco.json", "width": 3, "height": 3})
    read["annotations"].append({"id": 500, "image_id": 12345, "category_id": 1, "bbox": [0, 0, 3, 3]})
    spoilt = tmp_path / "spoilt.json"
    spoilt.write_text(json.dumps(read))
    mapping = tmp_path / "phrases.yaml"
    mapping.write_text("circle: dog\nstar: [star]\n")
    out = tmp_path / "quality.json"
    done = run(monkeypatch, segmenter, spoilt, "--images", images, "--phrases", mapping, "--json", out)
    assert done.exit_code == 1, done.output
    assert "gone.jpg: there is no such file" in done.output
    assert "../out/coco.json: there is no such file" in done.output
    assert re.search(r"annotation \d+: there is no image_id 12345", done.output)
    told = json.loads(out.read_text())
    assert told["labels"]["circle"]["recall"] == 0.0, "nobody draws dogs"
    assert told["labels"]["star"]["f1"] == 1.0
    assert told["images"] == 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("{}", "lists of images, annotations and categories"),
        ("[1]", "a list of tasks"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "holds no image"),
        ('{"images": [], "annotations": [], "categories": []}', "there are no categories"),
        ('{"images": [], "annotations": [], "categories": [{"id": [], "name": "a"}]}', "needs an id and a name"),
    ],
)
def test_a_file_that_is_none_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    done = CliRunner().invoke(app, ["evaluate", str(file)])
    assert isinstance(done.exception, InvalidInput)
    assert sentence in str(done.exception)


ring = st.lists(st.floats(-10, 50, width=32), min_size=6, max_size=16).filter(lambda ring: len(ring) % 2 == 0)


@settings(max_examples=50)
@given(st.lists(ring, min_size=1, max_size=3))
def test_polygons_are_the_pixels_that_pycocotools_has(rings: list[list[float]]) -> None:
    official = COCO()
    official.dataset = {
        "images": [{"id": 1, "height": SIZE[1], "width": SIZE[0]}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": rings}],
        "categories": [{"id": 1, "name": "a"}],
    }
    official.createIndex()
    theirs = official.annToMask(official.anns[1]).astype(np.bool_)
    if not theirs.any():
        with pytest.raises(InvalidInput, match="no pixel"):
            read_segmentation(rings, SIZE)
        return
    assert np.array_equal(read_segmentation(rings, SIZE).full(), theirs)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"bbox": [1, 2, 3]},
        {"bbox": [1, 2, float("nan"), 3]},
        {"bbox": [100, 100, 3, 3]},
        {"segmentation": "car"},
        {"segmentation": [[1, 2, 3]]},
        {"segmentation": [[1, 2, 3, 4, "5", 6]]},
        {"segmentation": [[0, 0, 1e9, 0, 1e9, 1e9]]},
        {"segmentation": [[float("inf"), 0, 1, 0, 1, 1]]},
        {"segmentation": {"size": [3, 3], "counts": [9]}},
        {"segmentation": {"size": [30, 40], "counts": [5]}},
        {"segmentation": {"size": [30, 40], "counts": "~~~"}},
    ],
)
def test_an_entry_that_cannot_be_read_says_nothing_about_its_label(entry: dict[str, Any]) -> None:
    good = {"segmentation": coco.encode(square(2, 3)), "category_id": 2}
    shown = read_coco(content(entry, good), Path()).pictures[0].shown(SIZE)
    assert shown.unclear == {"a"}
    assert len(shown.problems) == 1
    assert sum(map(len, shown.truth.values())) == 1
    assert shown.truth["b"][0].iou(square(2, 3)) == 1.0


def test_boxes_are_compared_by_boxes_and_crowds_count_neither_way(segmenter: LocalSegmenter) -> None:
    crowd = {"segmentation": {"size": [30, 40], "counts": [600, 600]}, "iscrowd": 1}
    shown = read_coco(content({"bbox": [2, 3, 10, 10]}, crowd), Path()).pictures[0].shown(SIZE)
    (only,) = shown.truth["a"]
    cross = square(2, 3).full()
    cross[3:13, 2:12] = np.eye(10, dtype=np.bool_)
    assert only.around
    assert only.iou(Mask.from_full(cross)) == 1.0
    assert [mask.area for mask in shown.crowds["a"]] == [600]


def test_a_crowd_hides_false_alarms(scene: Callable[..., Scene], segmenter: LocalSegmenter, tmp_path: Path) -> None:
    picture = scene(11, objects=(3, 5), long_side=(240, 320))
    (tmp_path / "a.jpg").write_bytes(picture.encode())
    size = (picture.width, picture.height)
    whole = Mask.from_full(np.ones((size[1], size[0]), np.bool_))
    file = content(file_name="a.jpg", width=size[0], height=size[1])
    file["categories"] = [{"id": 1, "name": "shape"}]
    alone = evaluate(segmenter, read_coco(file, tmp_path), max_megapixels=LIMIT).overall
    assert alone.false > 0
    file["annotations"] = [
        {"id": 1, "image_id": 7, "category_id": 1, "iscrowd": 1, "segmentation": coco.encode(whole)}
    ]
    hidden = evaluate(segmenter, read_coco(file, tmp_path), max_megapixels=LIMIT).overall
    assert (hidden.hits, hidden.false, hidden.missed) == (0, 0, 0)
    assert (hidden.asked, hidden.right) == (1, 1), "a crowd is there"


def test_a_label_with_an_unreadable_object_is_not_measured_there(
    scene: Callable[..., Scene], segmenter: LocalSegmenter, tmp_path: Path
) -> None:
    picture = scene(11, objects=(3, 5), long_side=(240, 320))
    (tmp_path / "a.jpg").write_bytes(picture.encode())
    file = content({"segmentation": "?"}, file_name="a.jpg", width=picture.width, height=picture.height)
    file["categories"] = [{"id": 1, "name": "shape"}, {"id": 2, "name": "object"}]
    found = evaluate(segmenter, read_coco(file, tmp_path), max_megapixels=LIMIT)
    assert found.by_label["shape"] == Tally()
    assert found.by_label["object"].asked == 1
    assert [name for name, _ in found.failed] == ["a.jpg"]


def test_pictures_of_another_size_are_not_measured(tmp_path: Path, segmenter: LocalSegmenter, scene: Any) -> None:
    (tmp_path / "a.png").write_bytes(scene(11, objects=(3, 5), long_side=(240, 320)).encode("PNG"))
    found = evaluate(segmenter, read_coco(content(), tmp_path), max_megapixels=LIMIT)
    assert found.measured == 0
    assert "40 x 30 pixels" in found.failed[0][1]


def test_label_studio_exports_are_measured_with_and_without_a_config(
    scene: Callable[..., Scene], segmenter: LocalSegmenter, tmp_path: Path
) -> None:
    scenes = {number: scene(30 + number, objects=(2, 4), long_side=(240, 320)) for number in (1, 2)}
    tasks = [task(number, one, "", image=f"/data/upload/4/{number}%20x.jpg") for number, one in scenes.items()]
    for number, one in scenes.items():
        (tmp_path / f"{number} x.jpg").write_bytes(one.encode())
    skipped = {"id": 3, "data": {"image": "x"}, "annotations": [{"id": 1, "was_cancelled": True, "result": []}]}
    broken = {
        "id": 4,
        "data": {"image": "1 x.jpg"},
        "annotations": [{"id": 1, "result": [region("r", "circle", square(1, 1))]}],
    }
    odd = [{"id": 5, "data": {"else": "x"}, "annotations": [{"id": 1, "result": []}]}, "text"]
    export = [*tasks, skipped, broken, *odd]
    prompts = {"circle": ("disc", "circle")}
    asked = config().replace('<Label value="circle"/>', '<Label value="circle" prompt="disc; circle"/>')
    tallies = []
    for text in (asked, None):
        data = read_export(export, read_plan(text) if text else None, files_in(tmp_path))
        found = evaluate(
            segmenter,
            data if text else type(data)(with_phrases(data.prompts, prompts), data.pictures, data.problems),
            max_megapixels=LIMIT,
        )
        tallies.append({label: one for label, one in found.by_label.items() if one.hits + one.missed})
        assert found.measured == 2
        assert [name for name, _ in found.failed if name] == ["task 4"]
        assert sum("task" in reason for name, reason in found.failed if not name) == 2
    assert tallies[0] == tallies[1]
    there = sum(one.hits + one.missed for one in tallies[0].values())
    assert there == sum(len(one.objects) for one in scenes.values())
    assert sum(one.hits for one in tallies[0].values()) >= there / 2


def test_a_config_is_told_from_hostile_labels() -> None:
    label = "\"><script>&'x"
    export = [
        {"id": 1, "data": {"a b": "x.jpg", "n": "1"}, "annotations": [{"result": [region("r", label, square(1, 1))]}]}
    ]
    data = read_export(export, None, files_in(Path()))
    assert list(data.prompts) == [label]
    with pytest.raises(InvalidInput, match="which of their data"):
        config_of([{**export[0], "data": {"a": "x", "b": "y"}}])
    with pytest.raises(InvalidInput, match="none of its regions"):
        config_of([{"data": {"image": "x"}}])


def test_a_config_of_another_project_is_refused() -> None:
    export = [{"id": 1, "data": {"image": "x.jpg"}, "annotations": [{"result": [region("r", "car", square(1, 1))]}]}]
    with pytest.raises(InvalidInput, match="none of the export's regions"):
        read_export(export, read_plan(config()), files_in(Path()))
    empty = [{"id": 1, "data": {"image": "x.jpg"}, "annotations": [{"result": []}]}]
    assert len(read_export(empty, read_plan(config()), files_in(Path())).pictures) == 1, (
        "nothing is there, says a person"
    )


def test_labels_that_are_not_there_cannot_be_asked_for() -> None:
    data = read_coco(content(), Path())
    with pytest.raises(InvalidPrompt, match="no label 'c'"):
        with_phrases(data.prompts, {"c": ("x",)})
    changed = with_phrases(data.prompts, {"a": (" x ", "y")})
    assert changed["a"].concept == Concept(("x", "y"))
    assert LABELS[0] not in changed
