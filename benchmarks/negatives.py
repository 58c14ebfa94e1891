"""What negatives take away and what they leave: rendered scenes, the demo checkpoint, several margins.

    python -m benchmarks.negatives

prints one table. docs/benchmarks.md explains it.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.progress import track

from benchmarks.clicks import positive_number
from benchmarks.table import Row, markdown
from sam3_core import Box, Concept, ConceptResult, Exemplar, FindOptions, Instance, Mask
from sam3_core.demo.scenes import Scene, SceneObject, phrase_matches, render_scene
from sam3_core.engine.answers import Search, answers
from sam3_core.engine.found import found_in
from sam3_core.engine.model import Sam3
from sam3_core.engine.plan import Question, make_plan
from sam3_core.engine.weights import DEMO, find_weights
from sam3_core.rules import Rules

FIRST_SEED = 9_000_000
MARGINS = (0.0, 0.1, 0.2, FindOptions().negative_margin, 0.3, 0.5)


@dataclass(frozen=True, slots=True)
class Case:
    """One question to one scene.

    kind: how the negative lies to the phrase. plain, narrowed: the concept without and with the negative.
    wanted, unwanted: places of objects in the scene that are to stay and to go; others are no answer to either.
    """

    kind: str
    plain: Concept
    narrowed: Concept
    wanted: frozenset[int]
    unwanted: frozenset[int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=positive_number, default=120)
    asked = parser.parse_args()
    print(markdown(measure(range(FIRST_SEED, FIRST_SEED + asked.scenes))))


def measure(seeds: Sequence[int]) -> list[Row]:
    """A row per kind of negative and margin, shares in percent.

    gone: of the unwanted objects found without the negative, those not found with it. stay: of the wanted objects
    found without it, those still found. F1: of all answers against what is wanted, without and with the negative.
    """
    model = Sam3.load(find_weights(DEMO), "cpu", "float32")
    counts: dict[tuple[str, float], Counter[str]] = {}
    for seed in track(seeds, description="scenes"):
        scene = render_scene(seed, objects=(4, 9), long_side=(300, 700))
        cases = list(cases_of(scene, random.Random(seed)))
        masks = [Mask.from_full(thing.mask) for thing in scene.objects]
        for margin, results in _answers(model, scene, cases).items():
            for case, (plain, narrowed) in zip(cases, results, strict=True):
                tally = counts.setdefault((case.kind, margin), Counter())
                tally.update(_counted(case, masks, plain.instances, narrowed.instances))
    return [_row(kind, margin, tally) for (kind, margin), tally in sorted(counts.items())]


def _answers(
    model: Sam3, scene: Scene, cases: Sequence[Case]
) -> dict[float, list[tuple[ConceptResult, ConceptResult]]]:
    """By margin, each case's answers without and with the negative; the model is asked once for all of them."""
    vision, apart = model.embed([scene.image])[0], Rules(threshold=0.5, overlap=True)
    concepts = [concept for case in cases for concept in (case.plain, case.narrowed)]
    plan = make_plan(concepts, vision.size, FindOptions(apart))
    asked = [Question(vision, *one) for one in zip(plan.prompts, plan.floors, plan.counts, strict=True)]
    found = [found_in(one, vision.size) for one in model.detect(asked)]
    by_margin = {}
    for margin in MARGINS:
        results = answers(plan.steps, found, Search(vision.size), FindOptions(apart, negative_margin=margin))
        by_margin[margin] = list(zip(results[::2], results[1::2], strict=True))
    return by_margin


def cases_of(scene: Scene, rng: random.Random) -> Iterator[Case]:
    """Eleven pairs of phrases about random objects of the scene, and negative exemplars of three of them."""
    things = scene.objects
    one, two, three, four, other = (rng.choice(things) for _ in range(5))
    pairs = {
        "phrase: a kind of it": [
            ("shape", one.name),
            (f"{one.color} shape", one.name),
            (one.shape, one.name),
            ("shape", f"{two.color} shape"),
            ("shape", two.shape),
        ],
        "phrase: overlapping it": [(f"{three.color} shape", three.shape), (three.shape, f"{three.color} shape")],
        "phrase: apart from it": [
            (four.name, f"{four.color} {other.shape}"),
            (four.name, f"{other.color} {four.shape}"),
            (four.shape, other.shape),
            (f"{four.color} shape", f"{other.color} shape"),
        ],
    }
    for kind, phrases in pairs.items():
        for phrase, negative in phrases:
            unwanted = frozenset(place for place, thing in enumerate(things) if _is(thing, negative))
            case = _case(kind, things, Concept((phrase,), negatives=(negative,)), unwanted)
            if not kind.endswith("apart from it") or (four.shape, four.color) != (other.shape, other.color):
                yield case
    for shown in rng.sample(things, 3):
        box = Exemplar(Box(*shown.box), positive=False)
        alike = frozenset(place for place, thing in enumerate(things) if thing.name == shown.name)
        for phrase in ("shape", shown.shape):
            yield _case("exemplar beside a phrase", things, Concept((phrase,), exemplars=(box,)), alike)
        if one.name != shown.name:
            likes = frozenset(place for place, thing in enumerate(things) if thing.name == one.name)
            positive = Exemplar(Box(*one.box))
            plain, narrowed = Concept(exemplars=(positive,)), Concept(exemplars=(positive, box))
            yield Case("exemplar beside another", plain, narrowed, likes, alike)


def _case(kind: str, things: Sequence[SceneObject], narrowed: Concept, unwanted: frozenset[int]) -> Case:
    (phrase,) = narrowed.phrases
    wanted = frozenset(place for place, thing in enumerate(things) if _is(thing, phrase)) - unwanted
    return Case(kind, Concept((phrase,)), narrowed, wanted, unwanted)


def _is(thing: SceneObject, phrase: str) -> bool:
    return phrase_matches(phrase, thing.color, thing.shape)


def _counted(
    case: Case, masks: Sequence[Mask], plain: Sequence[Instance], narrowed: Sequence[Instance]
) -> Counter[str]:
    before, after = _found(plain, masks), _found(narrowed, masks)
    return Counter(
        unwanted=len(before & case.unwanted),
        gone=len((before - after) & case.unwanted),
        wanted=len(before & case.wanted),
        stay=len(before & after & case.wanted),
        right_before=len(before & case.wanted),
        right_after=len(after & case.wanted),
        # twice the hits, and what is false or missed: the denominator of F1
        all_before=len(plain) + len(case.wanted),
        all_after=len(narrowed) + len(case.wanted),
    )


def _found(instances: Sequence[Instance], masks: Sequence[Mask]) -> frozenset[int]:
    """Which objects are found: each instance, best first, takes the one it overlaps most, at IoU 0.5 or more."""
    left = dict(enumerate(masks))
    for instance in instances:
        overlaps = {place: instance.mask.iou(mask) for place, mask in left.items()}
        best = max(overlaps, key=overlaps.__getitem__, default=-1)
        if best >= 0 and overlaps[best] >= 0.5:
            del left[best]
    return frozenset(range(len(masks))) - left.keys()


def _row(kind: str, margin: float, tally: Counter[str]) -> Row:
    return {
        "negative": kind,
        "margin": f"{margin:g}",
        "unwanted": tally["unwanted"],
        "gone_%": 100 * tally["gone"] / max(tally["unwanted"], 1),
        "wanted": tally["wanted"],
        "stay_%": 100 * tally["stay"] / max(tally["wanted"], 1),
        "F1_without_%": 200 * tally["right_before"] / max(tally["all_before"], 1),
        "F1_with_%": 200 * tally["right_after"] / max(tally["all_after"], 1),
    }


if __name__ == "__main__":
    main()
