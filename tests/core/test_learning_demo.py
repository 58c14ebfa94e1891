"""Learning from what the demo checkpoint really finds: what is worked out here is what a search then does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sam3_core import Concept, FindOptions, Mask, Segmenter
from sam3_core.demo.scenes import Scene
from sam3_core.learning.combine import Sheet, combined
from sam3_core.learning.examples import Candidate, Example, Heard, Truth
from sam3_core.learning.measure import Tally, tally
from sam3_core.learning.phrases import best_phrases
from sam3_core.learning.thresholds import best_threshold
from sam3_core.rules import Rules

PHRASES = ("thing", "circle", "red circle")
SEEDS = range(7)
SIZE, OBJECTS = (160, 120), (3, 5)


@pytest.fixture(scope="module")
def scenes(scene: Callable[..., Scene]) -> list[tuple[bytes, tuple[Truth, ...]]]:
    """Images, and the circles in them."""
    drawn = [scene(seed + 5_000, objects=OBJECTS, size=SIZE) for seed in SEEDS]
    return [
        (one.encode("PNG"), tuple(Truth(Mask.from_full(t.mask)) for t in one.objects if t.shape == "circle"))
        for one in drawn
    ]


@pytest.fixture(scope="module")
def examples(segmenter: Segmenter, scenes: list[tuple[bytes, tuple[Truth, ...]]]) -> list[Example]:
    """Each phrase asked alone, down to low scores."""
    options = FindOptions(rules=Rules(threshold=0.05, overlap=True))
    return [
        Example(
            f"task {number}",
            truth,
            {
                phrase: Heard(result.presence, tuple(Candidate(i.mask, i.score, i.feature) for i in result.instances))
                for phrase, result in zip(
                    PHRASES, segmenter.find(image, [Concept((one,)) for one in PHRASES], options), strict=True
                )
            },
        )
        for number, (image, truth) in enumerate(scenes)
    ]


@pytest.mark.parametrize("phrases", [("circle",), ("thing", "red circle"), PHRASES])
@pytest.mark.parametrize("threshold", [0.1, 0.5])
def test_candidates_together_are_what_a_search_with_all_phrases_finds(
    segmenter: Segmenter,
    scenes: list[tuple[bytes, tuple[Truth, ...]]],
    examples: list[Example],
    phrases: tuple[str, ...],
    threshold: float,
) -> None:
    told, searched = Tally(), Tally()
    for (image, truth), example in zip(scenes, examples, strict=True):
        rules = Rules(threshold=threshold, overlap=True)
        [result] = segmenter.find(image, [Concept(phrases)], FindOptions(rules=rules))
        searched += tally([instance.mask for instance in result.instances], truth)
        told += combined(example, phrases).tally(threshold)
    assert searched.hits > 0
    assert (told.hits, told.false, told.missed) == (searched.hits, searched.false, searched.missed)


def test_a_poor_wording_is_left_for_the_one_that_the_checkpoint_knows(examples: list[Example]) -> None:
    fit = best_phrases(examples, ["thing"], ["red circle", "circle"], default=0.5, learn_threshold=True)
    assert fit.phrases == ("circle",)
    better = best_threshold(examples, fit.phrases, default=0.5)
    assert better.f1 > Sheet.of(examples, ["thing"]).tally(0.5).f1 + 0.3
