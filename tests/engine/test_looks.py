"""Features of instances and what prototypes make of them, with the demo checkpoint on rendered scenes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam3_core.demo.scenes import Scene, render_scene
from sam3_core.engine import LocalSegmenter
from sam3_core.engine.looks import looks
from sam3_core.engine.maps import Maps
from sam3_core.errors import InvalidPrompt
from sam3_core.masks import Mask
from sam3_core.prototypes import Prototypes
from sam3_core.results import ConceptResult, Instance
from sam3_core.rules import Rules, Tiling
from sam3_core.types import Concept, FindOptions

SHOWN = FindOptions(rules=Rules(overlap=True), features=True)
SCENES = range(640_000, 640_016)


def name_of(instance: Instance, scene: Scene) -> str:
    near = [one.shape for one in scene.objects if instance.mask.iou(Mask.from_full(one.mask)) > 0.5]
    return near[0] if near else "nothing"


def masks(result: ConceptResult) -> list[tuple[float, bytes]]:
    return [(one.score, one.mask.bits.tobytes()) for one in result.instances]


@pytest.fixture(scope="module")
def seen(segmenter: LocalSegmenter) -> tuple[tuple[Scene, ConceptResult], ...]:
    """Everything in some scenes, with features."""
    scenes = [render_scene(seed, objects=(4, 6), long_side=(300, 400)) for seed in SCENES]
    return tuple((one, segmenter.find(one.encode("PNG"), [Concept(("shape",))], SHOWN)[0]) for one in scenes)


def features_of(seen: tuple[tuple[Scene, ConceptResult], ...], shape: str) -> np.ndarray:
    found = [i.feature for scene, result in seen for i in result.instances if name_of(i, scene) == shape]
    return np.array(found, np.float32)


def test_kinds_are_told_apart(seen: tuple[tuple[Scene, ConceptResult], ...]) -> None:
    features = {shape: features_of(seen, shape) for shape in ("circle", "square", "star", "triangle")}
    assert min(map(len, features.values())) >= 6
    for shape, some in features.items():
        assert some.shape[1] == 128
        assert np.linalg.norm(some, axis=1) == pytest.approx(1, abs=1e-3)
        others = np.concatenate([other for name, other in features.items() if name != shape])
        own = (some @ some.T)[np.triu_indices(len(some), 1)]
        assert own.mean() > (some @ others.T).mean() + 0.3, shape


def test_the_feature_is_the_masks_whatever_was_asked(segmenter: LocalSegmenter) -> None:
    scene = render_scene(920_182, objects=(4, 6), long_side=(300, 400))
    image = scene.encode("PNG")
    apart = [Concept(("red circle",)), Concept(("circle",)), Concept(("red circle",), negatives=("star",))]
    one, other, narrowed = segmenter.find(image, apart, SHOWN)
    assert len(one.instances) == 2
    for instance in one.instances:
        near = max(other.instances, key=lambda o: o.mask.iou(instance.mask))
        assert near.mask.iou(instance.mask) > 0.85
        assert float(near.feature @ instance.feature) > 0.99
    assert [i.feature.tobytes() for i in narrowed.instances] == [i.feature.tobytes() for i in one.instances]
    plain = segmenter.find(image, apart, FindOptions(rules=SHOWN.rules))
    assert all(i.feature is None for result in plain for i in result.instances)
    assert [masks(result) for result in plain] == [masks(one), masks(other), masks(narrowed)]


def test_what_tiles_show_has_features_too(segmenter: LocalSegmenter) -> None:
    scene = render_scene(640_100, objects=(2, 3), size=(300, 260), small=(18.0, 18.0, 18.0))
    options = FindOptions(rules=SHOWN.rules, tiles=Tiling.ON, features=True)
    (result,) = segmenter.find(scene.encode("PNG"), [Concept(("shape",))], options)
    assert result.tiles > 1
    assert len(result.instances) >= 3
    assert all(i.feature is not None and i.feature.shape == (128,) for i in result.instances)


def test_the_rejected_kind_sinks_and_the_accepted_rises(
    segmenter: LocalSegmenter, seen: tuple[tuple[Scene, ConceptResult], ...]
) -> None:
    """Learned from some scenes, seen in others: of all circles and stars that "shape" finds only the stars stay, and
    stars that were under the threshold come up."""
    learned, fresh = seen[:10], seen[10:]
    judge = Prototypes.of(features_of(learned, "star"), features_of(learned, "circle"), 20.0)
    counted = {False: dict[str, int](), True: dict[str, int]()}
    for scene, before in fresh:
        for lifted, result in (
            (False, before),
            (True, segmenter.find(scene.encode("PNG"), [Concept(("shape",), prototypes=judge)], SHOWN)[0]),
        ):
            for instance in result.instances:
                name = name_of(instance, scene)
                counted[lifted][name] = counted[lifted].get(name, 0) + 1
    assert counted[False]["circle"] >= 4
    assert counted[False]["star"] >= 4
    assert counted[True].get("circle", 0) == 0
    assert counted[True]["star"] == counted[False]["star"]


def test_what_was_under_the_threshold_comes_up(segmenter: LocalSegmenter) -> None:
    scene = render_scene(SCENES[0], objects=(4, 6), long_side=(300, 400))
    image, high = scene.encode("PNG"), Rules(threshold=0.97)
    before, everything = segmenter.find(
        image, [Concept(("shape",), rules=high), Concept(("shape",), rules=Rules(threshold=0.1))], SHOWN
    )
    missed = [i for i in everything.instances if i.score < 0.97]
    assert missed, "the scene has nothing under the threshold"
    judge = Prototypes.of(np.array([i.feature for i in missed]), np.zeros((0, 128), np.float32), 8.0)
    (after,) = segmenter.find(image, [Concept(("shape",), rules=high, prototypes=judge)], SHOWN)
    assert len(after.instances) > len(before.instances)
    assert all(any(i.mask.iou(m.mask) > 0.9 for i in after.instances) for m in missed)
    assert all(i.score >= 0.97 for i in after.instances)
    assert after.presence == before.presence
    assert after.best_rejected is None or after.best_rejected < 0.97


def test_all_rejected_is_a_reason_with_the_best_score(segmenter: LocalSegmenter) -> None:
    scene = render_scene(SCENES[0], objects=(4, 6), long_side=(300, 400))
    image = scene.encode("PNG")
    (found,) = segmenter.find(image, [Concept(("shape",))], SHOWN)
    judge = Prototypes.of(np.zeros((0, 128), np.float32), np.array([i.feature for i in found.instances]), 30.0)
    (nothing,) = segmenter.find(image, [Concept(("shape",), prototypes=judge)])
    assert not nothing.instances
    assert nothing.best_rejected is not None
    assert nothing.best_rejected < 0.1
    assert nothing.reason.startswith("nothing found")
    plain, sunk = segmenter.find(image, [Concept(("shape",)), Concept(("shape",), prototypes=judge)])
    assert [i.score for i in plain.instances] == pytest.approx([i.score for i in found.instances], abs=1e-4)
    assert all(i.feature is None for i in plain.instances)
    assert not sunk.instances, "each of two concepts with one phrase is judged by its own prototypes"


def test_top_k_takes_the_most_alike(segmenter: LocalSegmenter, seen: tuple[tuple[Scene, ConceptResult], ...]) -> None:
    scene = next(s for s, r in seen if {"star", "circle"} <= {name_of(i, s) for i in r.instances})
    judge = Prototypes.of(features_of(seen, "star"), features_of(seen, "circle"), 20.0, -30.0)
    rules = Rules(top_k=1)
    (result,) = segmenter.find(scene.encode("PNG"), [Concept(("shape",), rules=rules, prototypes=judge)], SHOWN)
    assert [name_of(i, scene) for i in result.instances] == ["star"]
    assert result.instances[0].score < 0.5


def test_prototypes_of_another_model_are_refused_even_where_nothing_is_found(segmenter: LocalSegmenter) -> None:
    image = render_scene(1).encode("PNG")
    for width in (64, 129):
        with pytest.raises(InvalidPrompt, match=f"of {width} numbers do not fit this model's 128"):
            segmenter.find(image, [Concept(("zebra",), prototypes=Prototypes(width, b"", b"", 1.0))])


def test_means_under_masks() -> None:
    """Against a loop over cells; a mask smaller than a coarse cell gets that cell, of one without a cell there are
    zeros."""
    rng = np.random.default_rng(3)
    fine, coarse = (torch.from_numpy(rng.normal(size=(2, 3, n, n)).astype(np.float32)) for n in (8, 4))
    maps = Maps((fine, coarse), torch.zeros(2, 3, 4, 4))
    bits = rng.random((40, 8, 8)) < 0.3
    bits[0], bits[1] = False, False
    bits[1, 5, 2] = True
    found = looks(maps, 1, torch.from_numpy(np.where(bits, 0.5, -0.5).astype(np.float32))).numpy()
    assert not found[0].any()
    for mask, feature in zip(bits[1:], found[1:], strict=True):
        cells = np.argwhere(mask)
        means = [fine[1].numpy()[:, cells[:, 0], cells[:, 1]].mean(axis=1)]
        means += [coarse[1].numpy()[:, cells[:, 0] // 2, cells[:, 1] // 2].mean(axis=1)]
        expected = np.concatenate([mean / np.linalg.norm(mean) for mean in means]) / np.sqrt(2)
        assert feature == pytest.approx(expected, abs=1e-3)
    assert looks(maps, 0, torch.zeros(0, 8, 8)).shape == (0, 6)
