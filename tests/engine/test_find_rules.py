"""Rules, negatives, what is drawn and several concepts at once, asked of the demo checkpoint."""

from __future__ import annotations

import pytest

from sam3_core.demo.scenes import Scene, render_scene
from sam3_core.engine import LocalSegmenter
from sam3_core.masks import Mask
from sam3_core.results import ConceptResult, Removal
from sam3_core.rules import Area, Rules
from sam3_core.settings import CoreSettings
from sam3_core.types import Box, Concept, Exemplar, FindOptions


@pytest.fixture(scope="module")
def demo() -> LocalSegmenter:
    made = LocalSegmenter(CoreSettings(model="demo", device="cpu"))
    made.wait_until_ready(120)
    return made


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Two red circles and a red triangle, two blue circles and an orange one; the model finds each by its name."""
    return render_scene(920_182, objects=(4, 6), long_side=(300, 400))


def found(result: ConceptResult, scene: Scene) -> list[str]:
    """The names of the objects that instances cover, sorted; what covers none is called nothing."""
    names = []
    for instance in result.instances:
        near = [thing.name for thing in scene.objects if instance.mask.iou(Mask.from_full(thing.mask)) > 0.5]
        names += near or ["nothing"]
    return sorted(names)


def ask(demo: LocalSegmenter, scene: Scene, *concepts: Concept, **options: object) -> list[ConceptResult]:
    return demo.find(scene.encode("PNG"), concepts, FindOptions(**options))


def test_a_negative_phrase_takes_a_part_of_a_concept(demo: LocalSegmenter, scene: Scene) -> None:
    apart = Rules(overlap=True)
    plain, narrowed, untouched = ask(
        demo,
        scene,
        Concept(("red shape",)),
        Concept(("red shape",), negatives=("red circle",)),
        Concept(("red circle",), negatives=("red triangle", "blue circle")),
        rules=apart,
    )
    assert found(plain, scene) == ["red circle", "red circle", "red triangle"]
    assert found(narrowed, scene) == ["red triangle"]
    assert dict(narrowed.removed)[Removal.NEGATIVE] == 2
    assert found(untouched, scene) == ["red circle"] * 2


def test_a_negative_exemplar_takes_its_likes(demo: LocalSegmenter, scene: Scene) -> None:
    one, other = (
        next(thing for thing in scene.objects if thing.name == name) for name in ("red circle", "blue circle")
    )
    shown, unwanted = Exemplar(Box(*one.box)), Exemplar(Box(*other.box), positive=False)
    plain, narrowed = ask(
        demo,
        scene,
        Concept(("circle",)),
        Concept(("circle",), exemplars=(shown, unwanted)),
        rules=Rules(overlap=True),
    )
    assert found(plain, scene).count("blue circle") == 2
    assert "blue circle" not in found(narrowed, scene)
    assert found(narrowed, scene).count("red circle") == 2


def test_two_labels_share_the_objects_out(demo: LocalSegmenter, scene: Scene) -> None:
    concepts = (Concept(("circle",)), Concept(("blue shape",)))
    circles, blues = ask(demo, scene, *concepts)
    assert (
        sorted(found(circles, scene) + found(blues, scene))
        == ["blue circle"] * 2 + ["orange circle"] + ["red circle"] * 2
    )
    assert sum(dict(result.removed).get(Removal.ELSEWHERE, 0) for result in (circles, blues)) == 2
    both = ask(demo, scene, *concepts, rules=Rules(overlap=True))
    assert [len(found(result, scene)) for result in both] == [5, 2]


def test_what_was_accepted_is_not_suggested_again(demo: LocalSegmenter, scene: Scene) -> None:
    (first,) = ask(demo, scene, Concept(("red circle",)))
    one, other = first.instances
    (second,) = ask(demo, scene, Concept(("red circle",), drawn=(one.mask,)))
    assert [instance.box for instance in second.instances] == [other.box]
    (third,) = ask(demo, scene, Concept(("red circle",), drawn=(one.mask, Box(*other.box))))
    assert third.instances == ()
    assert third.reason.endswith("2 over the threshold 0.50, but left out: 2 annotated already.")


def test_top_k_shows_candidates_for_a_phrase_that_the_model_does_not_know(demo: LocalSegmenter, scene: Scene) -> None:
    unsure, candidates = ask(
        demo,
        scene,
        Concept(("pink thing",), rules=Rules(threshold=0.9)),
        Concept(("pink thing",), rules=Rules(threshold=0.9, top_k=3)),
        rules=Rules(overlap=True),
    )
    assert unsure.instances == ()
    assert "Try " in unsure.reason
    assert len(candidates.instances) == 3
    assert all(instance.score < candidates.threshold for instance in candidates.instances)
    assert candidates.best_rejected == unsure.best_rejected


def test_synonyms_are_one_concept_and_the_phrase_that_won_is_told(demo: LocalSegmenter, scene: Scene) -> None:
    (result,) = ask(demo, scene, Concept(("blue square", "Red Circle", "red triangle")))
    assert found(result, scene) == ["red circle", "red circle", "red triangle"]
    for instance in result.instances:
        (name,) = found(ConceptResult((instance,), 1, None, Rules(), result.size), scene)
        assert instance.phrase.lower() == name


def test_areas_and_limits(demo: LocalSegmenter, scene: Scene) -> None:
    concept = Concept(("circle",))
    (every,) = ask(demo, scene, concept)
    (two,) = ask(demo, scene, concept, rules=Rules(max_instances=2))
    assert [instance.box for instance in two.instances] == [instance.box for instance in every.instances[:2]]
    (none,) = ask(demo, scene, concept, rules=Rules(max_area=Area(0.01, relative=True)))
    assert none.instances == ()
    assert "5 larger than the largest area. Try a largest area over 1%." in none.reason
