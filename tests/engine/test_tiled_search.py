"""Large images searched in tiles, with the demo checkpoint on rendered scenes and a small one that counts."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sam3_core.demo.scenes import Scene, SceneObject, render_scene
from sam3_core.engine import LocalSegmenter, local
from sam3_core.engine.tiles import tiles_of
from sam3_core.masks import Mask
from sam3_core.rules import Rules, Tiling
from sam3_core.settings import CoreSettings
from sam3_core.types import Box, Concept, Exemplar, FindOptions

SIZE = (1200, 900)
MOST = 12  # tiles of 353 x 347 pixels
SMALL = (110, 110, 110, 110, 60, 60, 60, 60)
ON, OFF = FindOptions(tiles=Tiling.ON), FindOptions(tiles=Tiling.OFF)

Found = dict[str, list[Mask]]


@pytest.fixture(scope="module")
def demo() -> LocalSegmenter:
    made = LocalSegmenter(CoreSettings(model="demo", device="cpu", max_tiles=MOST))
    made.wait_until_ready(120)
    return made


def draw(seed: int) -> Scene:
    return render_scene(seed, size=SIZE, objects=(1, 1), small=SMALL)


def search(demo: LocalSegmenter, scene: Scene, options: FindOptions) -> Found:
    names = sorted({item.name for item in scene.objects})
    results = demo.find(scene.encode("PNG"), [Concept((name,)) for name in names], options)
    return {name: [i.mask for i in result.instances] for name, result in zip(names, results, strict=True)}


def best(found: Found, item: SceneObject) -> float:
    truth = Mask.from_full(item.mask)
    return max((truth.iou(mask) for mask in found[item.name]), default=0.0)


def fits(item: SceneObject) -> bool:
    """Whether some tile shows all of it."""
    x0, y0, x1, y1 = item.box
    return any(t.x0 <= x0 and x1 <= t.x1 and t.y0 <= y0 and y1 <= t.y1 for t in tiles_of(SIZE, 112, Tiling.ON, MOST))


def test_tiles_find_what_vanishes_in_the_whole_image(demo: LocalSegmenter) -> None:
    whole, tiled = [], []
    for seed in (503, 508, 524):
        scene = draw(seed)
        small = [item for item in scene.objects[1:] if np.ptp(np.reshape(item.box, (2, 2)), axis=0).max() <= 60]
        coarse, fine = search(demo, scene, OFF), search(demo, scene, ON)
        whole += [best(coarse, item) for item in small]
        tiled += [best(fine, item) for item in small]
    assert len(whole) == 12
    assert np.mean(np.array(whole) > 0.5) < 0.5
    assert np.mean(np.array(tiled) > 0.5) > 0.95
    assert np.mean(tiled) > 0.85


@pytest.mark.parametrize(("seed", "place"), [(512, 0), (515, 0), (523, 1), (523, 2), (526, 0)])
def test_an_object_across_a_seam_comes_as_one(demo: LocalSegmenter, seed: int, place: int) -> None:
    scene = draw(seed)
    item = scene.objects[place]
    assert not fits(item)
    whole, tiled = search(demo, scene, OFF), search(demo, scene, ON)
    assert best(tiled, item) > 0.9
    assert best(tiled, item) >= best(whole, item)
    truth = Mask.from_full(item.mask)
    assert sum(truth.intersection(mask) > 0 for mask in tiled[item.name]) == 1


@pytest.mark.parametrize("seed", [507, 517])
def test_an_object_larger_than_a_tile_is_not_shredded(demo: LocalSegmenter, seed: int) -> None:
    scene = draw(seed)
    item = scene.objects[0]
    assert not fits(item)
    whole, tiled = search(demo, scene, OFF), search(demo, scene, ON)
    truth = Mask.from_full(item.mask)
    (before,) = [mask for mask in whole[item.name] if truth.intersection(mask)]
    (after,) = [mask for mask in tiled[item.name] if truth.intersection(mask)]
    assert np.array_equal(before.full(), after.full())
    assert truth.iou(after) > 0.9


def test_an_exemplar_works_in_the_tiles_that_show_it(demo: LocalSegmenter) -> None:
    scene = draw(508)
    item = scene.objects[5]
    truth = Mask.from_full(item.mask)
    concept = Concept(exemplars=(Exemplar(Box(*item.box)),))
    data = scene.encode("PNG")
    (whole,), (tiled,) = demo.find(data, [concept], OFF), demo.find(data, [concept], ON)
    assert max((truth.iou(i.mask) for i in whole.instances), default=0.0) < 0.5
    assert max(truth.iou(i.mask) for i in tiled.instances) > 0.8


def test_without_tiles_nothing_changes(demo: LocalSegmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = draw(503)
    asked = [Concept((name,)) for name in sorted({item.name for item in scene.objects})]
    plain = demo.find(scene.encode("PNG"), asked)
    on = demo.find(scene.encode("PNG"), asked, ON)
    assert [result.tiles for result in on] == [MOST] * len(asked)
    assert sum(len(result.instances) for result in plain) < sum(len(result.instances) for result in on)

    def never(*_: object) -> None:
        raise AssertionError("a tile")

    monkeypatch.setattr(LocalSegmenter, "_search_tiles", never)
    for options in (OFF, None):
        for before, after in zip(plain, demo.find(scene.encode("PNG"), asked, options), strict=True):
            assert (after.tiles, after.presence, after.best_rejected) == (0, before.presence, before.best_rejected)
            assert [i.score for i in after.instances] == [i.score for i in before.instances]
            for one, other in zip(after.instances, before.instances, strict=True):
                assert one.box == other.box
                assert np.array_equal(one.mask.bits, other.mask.bits)


def test_tiles_are_searched_once_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    demo = LocalSegmenter(CoreSettings(model="demo", device="cpu", max_tiles=MOST, tiles=Tiling.AUTO))
    demo.wait_until_ready(120)
    model = demo._ready(None).model
    seen: list[tuple[int, ...]] = []
    decoded = []
    embed, decode = model.embed, local.decode

    def counting(images: list[NDArray[np.uint8]], *rest: object) -> object:
        seen.extend(image.shape[1::-1] for image in images)
        return embed(images, *rest)

    monkeypatch.setattr(model, "embed", counting)
    monkeypatch.setattr(local, "decode", lambda *a, **k: decoded.append(1) or decode(*a, **k))
    image = draw(503).encode("PNG")
    concepts = [Concept(("red circle",)), Concept(("star",))]
    results = demo.find(image, concepts)
    tiles = tiles_of(SIZE, 112, Tiling.ON, MOST)
    assert seen == [SIZE, *(tile.size for tile in tiles)]
    assert len(decoded) == 1
    assert demo.info().cache.device.entries == 1  # the whole image
    assert [(result.tiles, result.resolution) for result in results] == [(MOST, 112)] * 2
    seen.clear()
    demo.find(image, concepts)
    assert seen == [tile.size for tile in tiles]


def test_exemplars_alone_cost_only_the_tiles_that_show_them(
    monkeypatch: pytest.MonkeyPatch, demo: LocalSegmenter
) -> None:
    model = demo._ready(None).model
    seen: list[tuple[int, ...]] = []
    embed = model.embed

    def counting(images: list[NDArray[np.uint8]], *rest: object) -> object:
        seen.extend(image.shape[1::-1] for image in images)
        return embed(images, *rest)

    monkeypatch.setattr(model, "embed", counting)
    image = draw(530).encode("PNG")
    demo.find(image, [Concept(exemplars=(Exemplar(Box(10, 10, 60, 60)),))], ON)
    assert seen == [SIZE, tiles_of(SIZE, 112, Tiling.ON, MOST)[0].size]


def test_the_best_candidates_of_all_tiles_compete(demo: LocalSegmenter) -> None:
    scene = draw(506)
    name = scene.objects[5].name
    asked = Concept((name,), rules=Rules(threshold=0.99, top_k=2))
    (result,) = demo.find(scene.encode("PNG"), [asked], ON)
    assert len(result.instances) == 2
    truths = [Mask.from_full(item.mask) for item in scene.objects]
    assert all(max(truth.iou(i.mask) for truth in truths) > 0.5 for i in result.instances)
