"""The demo scenes: exact masks, visible objects and a grammar that means what it says."""

from __future__ import annotations

import hashlib
import io

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sam3_core.demo import painting, scenes
from sam3_core.demo.scenes import COLORS, SHAPES, Scene, known_words, phrase_matches, render_scene

SEEDS = range(100)


@pytest.fixture(scope="module")
def rendered() -> list[Scene]:
    return [render_scene(seed, objects=(1, 12), long_side=(300, 500)) for seed in SEEDS]


def test_same_arguments_give_the_same_scene() -> None:
    first, again = render_scene(7), render_scene(7)
    assert np.array_equal(first.image, again.image)
    assert [item.name for item in first.objects] == [item.name for item in again.objects]
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(first.objects, again.objects, strict=True))
    other = render_scene(8)
    assert other.image.shape != first.image.shape or not np.array_equal(other.image, first.image)


def test_the_world_is_the_one_that_the_checkpoint_was_trained_on(rendered: list[Scene]) -> None:
    """What is added for other worlds must not move a single shape of this one."""
    found = [[(item.name, item.box) for item in scene.objects] for scene in rendered[:20]]
    assert hashlib.sha256(repr(found).encode()).hexdigest()[:16] == "0c132f63771248e3"


def test_strange_shapes_are_drawn_among_the_known_ones_and_named_by_no_noun() -> None:
    def bar(_: np.random.Generator) -> NDArray[np.float64]:
        return np.array([(0.9, 0.2), (-0.9, 0.2), (-0.9, -0.2), (0.9, -0.2)])

    drawn = [render_scene(seed, objects=(3, 6), size=(160, 120), strange={"bar": bar}) for seed in range(20)]
    assert {item.shape for scene in drawn for item in scene.objects} == {*SHAPES, "bar"}
    bars = {item.name for scene in drawn for item in scene.matching("thing") if item.shape == "bar"}
    assert bars
    assert not any(item.shape == "bar" for scene in drawn for shape in SHAPES for item in scene.matching(shape))


def test_global_random_state_plays_no_part() -> None:
    np.random.seed(1)
    cv2.setRNGSeed(1)
    first = render_scene(3).image
    np.random.seed(2)
    cv2.setRNGSeed(2)
    assert np.array_equal(first, render_scene(3).image)


def test_sizes(rendered: list[Scene]) -> None:
    for scene in rendered:
        assert scene.image.dtype == np.uint8
        assert scene.image.shape == (scene.height, scene.width, 3)
        assert 300 <= max(scene.width, scene.height) <= 500
        assert 0.5 <= scene.width / scene.height <= 2
    assert {scene.width > scene.height for scene in rendered} == {True, False}
    fixed = render_scene(1, size=(320, 240))
    assert (fixed.width, fixed.height) == (320, 240)


@pytest.mark.parametrize("bounds", [(1, 1), (1, 6), (5, 5), (7, 12), (12, 12)])
def test_object_counts_keep_to_their_bounds(bounds: tuple[int, int]) -> None:
    counts = [len(render_scene(seed, objects=bounds, size=(160, 120)).objects) for seed in SEEDS]
    assert min(counts) >= bounds[0]
    assert max(counts) <= bounds[1]
    assert len(set(counts)) == bounds[1] - bounds[0] + 1


def test_every_name_occurs(rendered: list[Scene]) -> None:
    names = {item.name for scene in rendered for item in scene.objects}
    assert names == {f"{color} {shape}" for color in COLORS for shape in SHAPES}


def test_masks_are_disjoint_and_boxes_hold_them_tightly(rendered: list[Scene]) -> None:
    for scene in rendered:
        assert np.sum([item.mask for item in scene.objects], axis=0).max() == 1
        for item in scene.objects:
            assert item.mask.dtype == np.bool_
            assert item.mask.shape == (scene.height, scene.width)
            rows, columns = np.nonzero(item.mask)
            assert item.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_objects_stay_inside_and_mostly_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    outlines: list[NDArray[np.float64]] = []
    paint = painting.paint_shape

    def spy(*args: object) -> None:
        outlines.append(args[4])  # type: ignore[arg-type]
        paint(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(scenes, "paint_shape", spy)
    overlaps = 0
    for seed in SEEDS:
        outlines.clear()
        scene = render_scene(seed, objects=(4, 12), long_side=(300, 500))
        for outline, item in zip(outlines, scene.objects, strict=True):
            whole = float(cv2.contourArea(outline.astype(np.float32)))
            canvas = np.zeros((scene.height, scene.width), np.uint8)
            cv2.fillPoly(canvas, [np.rint((outline - 0.5) * 16).astype(np.int32)], 1, shift=4)
            in_frame = int(canvas.sum())
            assert in_frame >= 0.90 * whole
            assert item.mask.sum() >= 0.65 * whole
            assert item.mask.sum() <= 1.05 * whole
            overlaps += item.mask.sum() < 0.93 * in_frame
    assert overlaps > 50


def test_objects_stand_out_from_what_surrounds_them(rendered: list[Scene]) -> None:
    ring = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (13, 13))
    for scene in rendered:
        taken = np.any([item.mask for item in scene.objects], axis=0)
        taken = cv2.dilate(taken.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        lab = cv2.cvtColor(scene.image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        for item in scene.objects:
            around = (cv2.dilate(item.mask.astype(np.uint8), ring) > 0) & ~taken
            if around.sum() >= 50:
                distance = np.linalg.norm(lab[item.mask].mean(axis=0) - lab[around].mean(axis=0))
                assert distance > 18, (scene.seed, item.name, distance)


@pytest.mark.parametrize(
    "phrase",
    [
        "red circle", "red circles", "Red  CIRCLE", "a red circle", "the red circles", "red_circle",
        "red disc", "red disks", "red round shape", "round shapes", "circle", "disk", "red",
        "red shape", "red objects", "red thing", "shape", "an object", "things",
    ],
)  # fmt: skip
def test_phrases_that_name_a_red_circle(phrase: str) -> None:
    assert phrase_matches(phrase, "red", "circle")


@pytest.mark.parametrize(
    "phrase",
    [
        "", " ", "a", "the", "dog", "red dog", "pink circle", "blue circle", "red square", "stars",
        "circle red", "red red circle", "reds", "round", "red round", "box", "a the circle",
        "red circle and star", "blue",
    ],
)  # fmt: skip
def test_phrases_that_do_not_name_a_red_circle(phrase: str) -> None:
    assert not phrase_matches(phrase, "red", "circle")


def test_known_words_spell_every_phrase() -> None:
    words = known_words()
    assert len(set(words)) == len(words)
    assert {*COLORS, *SHAPES, "stars", "round", "shape", "disks", "the", "things"} <= set(words)
    assert not {"box", "dog", ""} & set(words)


def test_matching_selects_by_phrase(rendered: list[Scene]) -> None:
    for scene in rendered:
        assert scene.matching("objects") == list(scene.objects)
        assert scene.matching("dog") == []
        assert [i.name for i in scene.matching("red star")] == [i.name for i in scene.objects if i.name == "red star"]


def test_encode_round_trip() -> None:
    scene = render_scene(5, size=(320, 240))
    png = np.asarray(Image.open(io.BytesIO(scene.encode("PNG"))))
    assert np.array_equal(png, scene.image)
    jpeg = Image.open(io.BytesIO(scene.encode()))
    assert jpeg.format == "JPEG"
    assert jpeg.size == (320, 240)
    assert np.abs(np.asarray(jpeg).astype(int) - scene.image).mean() < 6
    assert len(scene.encode("JPEG", quality=30)) < len(scene.encode())
