"""The proof's own parts: its world, its reviewer and its judges. One that cannot fail proves nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.converter.brush import decode_rle
from label_studio_sdk.label_interface import LabelInterface

from backend.labeling import read_plan
from backend.rle import brush_rle
from sam3_core.learning.measure import Tally
from sam3_core.masks import Mask
from tools.learning import project, world
from tools.learning.course import ALL, CHEAP, NOTHING, TUNING, Run, Stage
from tools.learning.floors import Proof, missed
from tools.learning.marking import Marks, mark
from tools.learning.project import LABELS, MOON, STAR, STOP
from tools.learning.report import as_json, as_markdown, as_picture
from tools.learning.reviewer import drawn, prompt, work_on

Json = dict[str, Any]


@pytest.fixture(scope="module")
def samples() -> list[world.Sample]:
    return world.reviewed(8)


@pytest.fixture(scope="module")
def busy(samples: list[world.Sample]) -> world.Sample:
    """A picture with at least one object of each of two labels."""
    return next(one for one in samples if sum(bool(label.truth(one)) for label in LABELS) >= 2)


def right(sample: world.Sample) -> list[Json]:
    """A prediction that is right in everything."""
    chance = random.Random(1)
    regions = [drawn(label.value, mask, chance) for label in LABELS for mask in label.truth(sample)]
    return [region | {"score": 0.9, "id": f"ours-{n}"} for n, region in enumerate(regions)]


def moved(region: Json, columns: int) -> Json:
    """The region, shifted to the right as far as the picture goes."""
    (label,) = region["value"]["brushlabels"]
    width, height = region["original_width"], region["original_height"]
    full = decode_rle(region["value"]["rle"]).reshape(height, width, 4)[..., 3] > 127
    shifted = np.zeros_like(full)
    shifted[:, columns:] = full[:, :-columns]
    value = {"format": "rle", "rle": brush_rle(Mask.from_full(shifted)), "brushlabels": [label]}
    return region | {"value": value}


def test_the_world_has_crescents_and_the_demo_world_has_none(samples: list[world.Sample]) -> None:
    shapes = {shape for sample in samples for shape in sample.truth}
    assert shapes == {"circle", "square", "triangle", "star", world.CRESCENT}
    again = world.reviewed(2)
    assert [one.image for one in again] == [one.image for one in samples[:2]]
    assert not {one.image for one in world.unseen(8)} & {one.image for one in samples}


def test_label_studio_and_we_read_the_config_as_it_is_meant() -> None:
    config = project.config()
    LabelInterface(config).validate()
    (source,) = read_plan(config).sources
    assert [(label.value, label.concept.phrases) for label in source.labels] == [
        (label.value, label.phrases) for label in LABELS
    ]
    thresholds = {label.value: label.concept.rules.threshold for label in source.labels}
    assert thresholds == {"Stop": None, "Star": 0.97, "Moon": None}
    better = project.config({"Star": project.setting(STAR, ("star",), 0.7)})
    assert read_plan(better).sources[0].labels[1].concept.rules.threshold == 0.7


def test_what_is_right_is_left_as_it_is(busy: world.Sample) -> None:
    shown = right(busy)
    work = work_on(busy, shown, random.Random(0))
    assert sorted((one["id"], one["origin"]) for one in work.result) == [(one["id"], "prediction") for one in shown]
    assert all(one["value"] == shown[int(one["id"][5:])]["value"] for one in work.result)
    assert mark([busy], [work.result]).f1 == 1.0


def test_what_is_rough_is_redrawn_and_what_is_wrong_deleted_and_what_is_missing_drawn(busy: world.Sample) -> None:
    first, second, *rest = right(busy)
    x0, _, x1, _ = mask_at(busy, first).box
    rough = moved(first, max(1, round((x1 - x0) * 0.15)))
    wrong = second | {"id": "wrong", "value": second["value"] | {"brushlabels": [other(second)]}}
    work = work_on(busy, [rough, wrong, *rest], random.Random(0))
    by_id = {one["id"]: one for one in work.result}
    assert by_id[first["id"]]["origin"] == "prediction-changed"
    assert by_id[first["id"]]["value"]["rle"] == first["value"]["rle"]
    assert "wrong" not in by_id
    (made,) = [one for one in work.result if one["origin"] == "manual"]
    assert made["value"]["rle"] == second["value"]["rle"]
    assert mark([busy], [work.result]).f1 == 1.0
    assert work.seconds > work_on(busy, right(busy), random.Random(0)).seconds


def mask_at(sample: world.Sample, region: Json) -> Mask:
    (label,) = region["value"]["brushlabels"]
    masks = [mask for one in LABELS if one.value == label for mask in one.truth(sample)]
    return next(mask for mask in masks if brush_rle(mask) == region["value"]["rle"])


def other(region: Json) -> str:
    """A label under which nothing is where this region is."""
    return next(label.value for label in LABELS if label.value not in region["value"]["brushlabels"])


def test_a_prompt_left_over_is_no_object(busy: world.Sample) -> None:
    label = next(one for one in LABELS if one.truth(busy))
    region = prompt(label.value, label.truth(busy)[0], random.Random(0))
    assert region["is_positive"] is True
    assert mark([busy], [[*right(busy), region]]).f1 == 1.0


def test_marks_count_what_is_wrong(busy: world.Sample) -> None:
    shown = right(busy)
    less = mark([busy], [shown[1:]])
    assert sum(one.missed for _, one in less.labels) == 1
    more = mark([busy], [[*shown, shown[0] | {"score": 0.1}]])
    assert sum(one.false for _, one in more.labels) == 1


def marks(stop: int, star: int, moon: int) -> Marks:
    """So many hits of ten under each label, nothing false."""
    return Marks(tuple((one.value, Tally(n, 0, 10 - n)) for one, n in zip(LABELS, (stop, star, moon), strict=True)))


def stage(reviewed: int, version: str, found: Marks, *, trained: bool = False) -> Stage:
    return Stage(reviewed, trained, version, found, "", 1.0, 20.0)


START, BEST = marks(2, 0, 3), marks(8, 8, 3)


def proof(cheap: Marks, tuned: Marks, more: Sequence[Stage] = ()) -> Proof:
    first = stage(0, "base", START)
    every = {
        NOTHING.name: [first, stage(30, "base", START)],
        CHEAP.name: [first, stage(30, "base+1.1", cheap), *more],
        TUNING.name: [first, stage(100, "base", START), stage(100, "base+2.1", tuned, trained=True)],
    }
    runs = {name: Run(some, list({one.version: one.marks for one in some}.items())) for name, some in every.items()}
    return Proof(runs, BEST)


def test_floors_that_are_reached_say_nothing() -> None:
    assert missed(proof(marks(8, 7, 3), marks(2, 0, 6))) == []


def test_each_floor_can_be_missed() -> None:
    (recovery,) = missed(proof(marks(6, 5, 3), marks(2, 0, 6)))
    assert "recover" in recovery
    (lift,) = missed(proof(marks(8, 7, 3), marks(2, 0, 4)))
    assert MOON.value not in (STOP.value, STAR.value)
    assert "new concept" in lift
    worse = stage(100, "base+1.2", marks(7, 7, 3))
    (loss,) = missed(proof(marks(8, 7, 3), marks(2, 0, 6), [worse]))
    assert "base+1.2" in loss


def test_a_version_between_two_stages_may_not_lower_it_either() -> None:
    whole = proof(marks(8, 7, 3), marks(2, 0, 6))
    run = whole.runs[CHEAP.name]
    between = replace(run, versions=[*run.versions[:1], ("base+1.0", marks(1, 0, 3)), *run.versions[1:]])
    (loss,) = missed(replace(whole, runs=dict(whole.runs) | {CHEAP.name: between}))
    assert "base+1.0" in loss


def test_a_gain_after_the_thirtieth_task_is_too_late() -> None:
    late = proof(marks(2, 0, 3), marks(2, 0, 6), [stage(100, "base+1.2", marks(8, 8, 3))])
    assert late.recovered == 0.0


def test_the_tables_and_the_picture_hold_every_variant() -> None:
    whole = proof(marks(8, 7, 3), marks(2, 0, 6))
    text = as_markdown(whole)
    assert all(f"| {name} |" in text for name in (*whole.stages, "best fixed setting"))
    assert "| reviewed tasks | 0 | 30 | 100 | 100 + training |" in text
    told = as_json(whole, {STAR.value: STAR}, [], 1.0)
    assert told["recovered"] == whole.recovered
    assert told["best_fixed"]["settings"]["Star"]["phrases"] == ["star"]
    assert as_picture(whole).getcolors(1 << 20) is not None
    assert ALL.name not in whole.stages
