"""The files ``predict`` writes, read back with the tools others will read them with."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image
from pycocotools.coco import COCO

from sam3_core import Concept, ConceptResult, Instance, Mask, Rules
from sam3_core.finish import DEFAULT_FINISH, Finish, Holes
from sam3_core.results import Removal
from sam3_prelabel.inputs import ImageFile
from sam3_prelabel.outputs import Results, folders_in
from sam3_prelabel.predict import Outcome
from sam3_prelabel.prompts import Prompt

SIZE = (64, 40)
PROMPTS = {
    "red circle": Prompt(Concept(("red circle", "disc"), negatives=("ball",))),
    "a/b: ümlaut": Prompt(Concept(("a/b: ümlaut",)), Finish(holes=Holes.FILLED).over(DEFAULT_FINISH)),
    "dog": Prompt(Concept(("dog",))),
}


def blob(seed: int) -> Instance:
    """A rectangle with a hole and a second part."""
    rng = np.random.default_rng(seed)
    bits = np.zeros((SIZE[1], SIZE[0]), np.bool_)
    x, y = int(rng.integers(0, 30)), int(rng.integers(0, 10))
    bits[y : y + 20, x : x + 24] = True
    bits[y + 6 : y + 12, x + 6 : x + 12] = False
    bits[y + 22 : y + 29, x + 26 : x + 33] = True
    return Instance(Mask.from_full(bits), float(rng.uniform(0.5, 1.0)), "red circle")


def outcome(name: str, *found: tuple[Instance, ...]) -> Outcome:
    file = io.BytesIO()
    Image.new("RGB", SIZE, (90, 120, 150)).save(file, "PNG")
    rules = Rules(threshold=0.5)
    results = tuple(ConceptResult(instances, 0.75, 0.25, rules, SIZE) for instances in found)
    return Outcome(ImageFile(Path(name), name), file.getvalue(), results)


def write(out: Path, *outcomes: Outcome) -> None:
    with Results(out, PROMPTS, model="test-1", max_megapixels=1.0) as results:
        for item in outcomes:
            results.add(item)


def mask_png(out: Path, path: str) -> np.ndarray:
    with Image.open(out / path) as image:
        assert image.mode == "L"
        assert image.size == SIZE
        return np.asarray(image)


def test_every_file_says_the_same(tmp_path: Path) -> None:
    first, second, third = blob(1), blob(2), blob(3)
    write(tmp_path, outcome("a/1.jpg", (first, second), (third,), ()), outcome("b/1.jpg", (), (), ()))
    record = json.loads((tmp_path / "results/a/1.jpg.json").read_text(encoding="utf-8"))
    assert (record["image"], record["width"], record["height"], record["model"]) == ("a/1.jpg", *SIZE, "test-1")
    assert [p["prompt"] for p in record["prompts"]] == list(PROMPTS)
    assert record["prompts"][0]["phrases"] == ["red circle", "disc"]
    assert [p["reason"] for p in record["prompts"]] == [
        "", "", "nothing found: presence 0.75, best score 0.25, threshold 0.50. Try a threshold of 0.25.",
    ]  # fmt: skip
    listed = [instance for prompt in record["prompts"] for instance in prompt["instances"]]
    coco = COCO(tmp_path / "coco.json")
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    for real, instance, annotation in zip((first, second, third), listed, annotations, strict=True):
        png = mask_png(tmp_path, instance["mask"])
        assert set(np.unique(png)) == {0, 255}
        assert ((png == 255) == real.mask.full()).all()
        assert (coco.annToMask(annotation) == real.mask.full()).all()
        assert annotation["area"] == instance["area"] == real.mask.area
        x, y, width, height = annotation["bbox"]
        assert [x, y, x + width, y + height] == instance["box"] == list(real.box)
        assert annotation["score"] == instance["score"] == real.score
    with Image.open(tmp_path / "overlays/a/1.jpg.png") as overlay:
        assert overlay.size == SIZE
        assert len(overlay.getcolors(10_000) or []) > 3, "instances are drawn"
    with Image.open(tmp_path / "overlays/b/1.jpg.png") as overlay:
        assert len(overlay.getcolors(10_000) or []) == 1


def test_coco_lists_images_without_instances_and_all_prompts(tmp_path: Path) -> None:
    write(tmp_path, outcome("1.jpg", (), (), ()), outcome("2.jpg", (blob(1),), (), ()))
    coco = COCO(tmp_path / "coco.json")
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == ["1.jpg", "2.jpg"]
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(PROMPTS)
    assert [annotation["image_id"] for annotation in coco.loadAnns(coco.getAnnIds())] == [2]


def test_polygons_have_their_parts_and_holes(tmp_path: Path) -> None:
    instance = blob(4)
    write(tmp_path, outcome("1.jpg", (instance,), (), ()))
    record = json.loads((tmp_path / "results/1.jpg.json").read_text(encoding="utf-8"))
    parts = record["prompts"][0]["instances"][0]["polygons"]
    assert [len(part["holes"]) for part in parts] == [1, 0]
    shape = shapely.union_all([shapely.Polygon(part["outer"], part["holes"]) for part in parts])
    y, x = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    filled = Mask.from_full(shapely.contains_xy(shape, x, y))
    assert filled.iou(instance.mask) >= 0.98


def test_polygons_are_drawn_as_their_prompt_wants_and_say_how_close_they_are(tmp_path: Path) -> None:
    instance = blob(4)
    write(tmp_path, outcome("1.jpg", (), (instance,), ()))
    record = json.loads((tmp_path / "results/1.jpg.json").read_text(encoding="utf-8"))
    parts = record["prompts"][1]["instances"][0]["polygons"]
    assert [part["holes"] for part in parts] == [[], []]
    assert all(0.98 <= part["iou"] <= 1 for part in parts)


def test_what_was_taken_away_and_what_a_person_should_know_is_written(tmp_path: Path) -> None:
    nothing = ConceptResult(
        (), 0.9, None, Rules(threshold=0.5), SIZE, 6, 112, ((Removal.SMALL, 3), (Removal.NEGATIVE, 1)), ("a note",)
    )
    write(tmp_path, replace(outcome("1.jpg"), results=(nothing, nothing, nothing)))
    (first, *_) = json.loads((tmp_path / "results/1.jpg.json").read_text(encoding="utf-8"))["prompts"]
    assert first["removed"] == {"small": 3, "negative": 1}
    assert (first["tiles"], first["notes"], first["negatives"]) == (6, ["a note"], ["ball"])
    assert first["reason"]


def test_a_second_run_leaves_no_masks_of_the_first(tmp_path: Path) -> None:
    write(tmp_path, outcome("1.jpg", (blob(1), blob(2)), (), ()))
    (tmp_path / "masks/1.jpg/mine.png").write_bytes(b"kept")
    write(tmp_path, outcome("1.jpg", (), (blob(3),), ()))
    assert sorted(p.name for p in (tmp_path / "masks/1.jpg").iterdir()) == ["000-a-b-mlaut.png", "mine.png"]


def test_what_is_done_is_kept_when_the_run_breaks_off(tmp_path: Path) -> None:
    def interrupted() -> None:
        with Results(tmp_path, PROMPTS, model="m", max_megapixels=1.0) as results:
            results.add(outcome("1.jpg", (blob(1),), (), ()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(COCO(tmp_path / "coco.json").getAnnIds()) == 1


def test_pictures_of_ours_are_named_as_such(tmp_path: Path) -> None:
    write(tmp_path, outcome("1.jpg", (blob(1),), (), ()))
    pictures = {path.parent for path in tmp_path.rglob("*.png")}
    assert all(any(path.is_relative_to(folder) for folder in folders_in(tmp_path)) for path in pictures)
