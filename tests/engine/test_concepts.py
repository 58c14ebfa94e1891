"""The split forward against the stock one, and what it saves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_sam3 import IMAGE, QUERIES, picture
from transformers import Sam3Config, Sam3Processor
from transformers.models.sam3.modeling_sam3 import Sam3ImageSegmentationOutput

from sam3_core.engine.concepts import Detection, elements_per_image, elements_per_prompt
from sam3_core.engine.embeddings import Embedding
from sam3_core.engine.loading import Parts
from sam3_core.engine.model import Sam3
from sam3_core.engine.plan import EXEMPLARS_ONLY, Prompt, Question, make_plan
from sam3_core.types import Box, Concept, Exemplar, FindOptions

SIZE = (60, 44)
BOXES = [(4.0, 5.0, 30.0, 20.0), (31.5, 8.0, 55.0, 40.0), (0.0, 0.0, 60.0, 44.0)]
# (text, boxes as (xyxy, label)): text alone, with one, with a negative one, boxes alone.
ROWS: list[tuple[str, list[tuple[tuple[float, ...], int]]]] = [
    ("red dog", []),
    ("red dog", [(BOXES[0], 1)]),
    ("a very green thing", [(BOXES[1], 1), (BOXES[0], 0)]),
    (EXEMPLARS_ONLY, [(BOXES[2], 1), (BOXES[1], 1), (BOXES[0], 0)]),
    ("红", []),
]


@pytest.fixture
def processor(checkpoint: Path) -> Sam3Processor:
    return Sam3Processor.from_pretrained(checkpoint)


def detect(
    sam3: Sam3, view: Embedding, prompts: Sequence[Prompt], floors: Sequence[float], counts: Sequence[int]
) -> list[Detection]:
    """All in one pass."""
    return sam3.detect([Question(view, *one) for one in zip(prompts, floors, counts, strict=True)])


def prompts_of(rows: list[tuple[str, list[tuple[tuple[float, ...], int]]]]) -> list[Prompt]:
    """The same rows by the product's own planning."""
    concepts = [
        Concept(
            phrases=() if text == EXEMPLARS_ONLY else (text,),
            exemplars=tuple(Exemplar(Box(*box), bool(label)) for box, label in boxes),
        )
        for text, boxes in rows
    ]
    plan = make_plan(concepts, SIZE, FindOptions())
    return [plan.prompts[step.phrases[0][1]] for step in plan.steps]


def stock(parts: Parts, processor: Sam3Processor, image: np.ndarray) -> Sam3ImageSegmentationOutput:
    """The documented way: one row per prompt, a vision pass for each; the processor pads missing boxes with -10."""
    inputs = processor(
        images=[image] * len(ROWS),
        text=[text for text, _ in ROWS],
        input_boxes=[[list(box) for box, _ in boxes] or None for _, boxes in ROWS],
        input_boxes_labels=[[label for _, label in boxes] or None for _, boxes in ROWS],
        return_tensors="pt",
    )
    inputs.pop("original_sizes")
    with torch.inference_mode():
        return parts.detector(**inputs)


def assert_same(found: list[Detection], expected: Sam3ImageSegmentationOutput) -> None:
    presence = expected.presence_logits[:, 0].sigmoid()
    scores = expected.pred_logits.sigmoid() * presence[:, None]
    for row, detection in enumerate(found):
        order = scores[row].argsort(descending=True, stable=True)
        assert detection.presence == pytest.approx(float(presence[row]), abs=1e-5)
        np.testing.assert_allclose(detection.scores, scores[row][order], atol=1e-5)
        np.testing.assert_allclose(detection.logits, expected.pred_masks[row][order], atol=3e-5)


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_stock_forward(parts: Parts, processor: Sam3Processor, sam3: Sam3, batch: int, seed: int) -> None:
    image = picture(seed)
    expected = stock(parts, processor, image)
    sam3._detect.limit.broke(2 * batch)  # as if twice as many had found no memory
    found = detect(sam3, sam3.embed([image])[0], prompts_of(ROWS), [0.0] * len(ROWS), [0] * len(ROWS))
    assert max(sam3._detect.sizes) == min(batch, len(ROWS))
    assert len(found) == len(ROWS)
    assert_same(found, expected)
    # and the comparison can tell rows apart: every prompt gives other masks
    firsts = [detection.logits[0] for detection in found]
    assert all(np.abs(a - b).max() > 1e-3 for i, a in enumerate(firsts) for b in firsts[:i])


def test_a_text_prompt_carries_the_geometry_token(parts: Parts, processor: Sam3Processor, sam3: Sam3) -> None:
    """Without any box the stock forward leaves it out; with a padding box it is there, and so it is here."""
    image = picture()
    found = detect(sam3, sam3.embed([image])[0], [Prompt("red dog")], [0.0], [0])[0]
    inputs = processor(images=image, text="red dog", return_tensors="pt")
    inputs.pop("original_sizes")
    with torch.inference_mode():
        without = parts.detector(**inputs)
        padding = {"input_boxes": torch.full((1, 1, 4), -10.0), "input_boxes_labels": torch.full((1, 1), -10)}
        padded = parts.detector(**inputs, **padding)
    best = [float((o.pred_logits.sigmoid() * o.presence_logits.sigmoid()).max()) for o in (without, padded)]
    assert found.scores[0] == pytest.approx(best[1], abs=1e-5)
    assert abs(best[0] - best[1]) > 1e-4


def test_a_prompt_does_not_depend_on_its_neighbours(sam3: Sam3) -> None:
    embedding = sam3.embed([picture()])[0]
    prompts = prompts_of(ROWS)
    together = detect(sam3, embedding, prompts, [0.0] * len(prompts), [0] * len(prompts))
    backwards = detect(sam3, embedding, prompts[::-1], [0.0] * len(prompts), [0] * len(prompts))[::-1]
    for index, prompt in enumerate(prompts):
        alone = detect(sam3, embedding, [prompt], [0.0], [0])[0]
        for other in (together[index], backwards[index]):
            np.testing.assert_allclose(alone.scores, other.scores, atol=1e-5)
            np.testing.assert_allclose(alone.logits, other.logits, atol=3e-5)


def test_early_exit_changes_nothing_but_the_work(parts: Parts, sam3: Sam3) -> None:
    embedding = sam3.embed([picture()])[0]
    prompts = prompts_of(ROWS)
    everything = detect(sam3, embedding, prompts, [0.0] * len(prompts), [0] * len(prompts))
    floors = [float(e.scores[k]) if k < QUERIES else 1.0 for e, k in zip(everything, [2, 99, 0, 99, 5], strict=True)]
    rows: list[tuple[int, int]] = []
    hook = parts.detector.mask_decoder.register_forward_pre_hook(
        lambda _, __, kwargs: rows.append(kwargs["decoder_queries"].shape[:2]), with_kwargs=True
    )
    with hook:
        some = detect(sam3, embedding, prompts, floors, [0] * len(prompts))
    assert rows == [(3, 6)]  # three prompts with something kept, at most six queries each
    for detection, full, count in zip(some, everything, [3, 0, 1, 0, 6], strict=True):
        assert detection.logits.shape[0] == len(detection.scores) == count
        np.testing.assert_allclose(detection.scores, full.scores[:count], atol=1e-5)
        np.testing.assert_allclose(detection.logits, full.logits[:count], atol=3e-5)
        np.testing.assert_allclose(detection.rejected, full.scores[count:], atol=1e-5)
        assert detection.presence == pytest.approx(full.presence, abs=1e-5)


def test_the_mask_head_rests_when_nothing_is_kept(parts: Parts, sam3: Sam3) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the mask head ran")

    with parts.detector.mask_decoder.register_forward_pre_hook(never):
        found = detect(sam3, sam3.embed([picture()])[0], prompts_of(ROWS), [1.0] * len(ROWS), [0] * len(ROWS))
    assert [len(d.scores) for d in found] == [0] * len(ROWS)
    assert all(len(d.rejected) == QUERIES and d.rejected[0] > 0 for d in found)


def test_preprocessing_is_the_stock_processors(checkpoint: Path, parts: Parts, sam3: Sam3) -> None:
    image = picture(3, (301, 97))
    expected = Sam3Processor.from_pretrained(checkpoint)(images=image, return_tensors="pt").pixel_values
    assert expected.shape == (1, 3, IMAGE, IMAGE)
    seen: list[torch.Tensor] = []
    backbone = parts.detector.vision_encoder.backbone
    with backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0])):
        embedding = sam3.embed([image])[0]
    assert torch.equal(seen[0], expected)
    assert embedding.size == (301, 97)


def test_the_memory_formula_meets_what_was_measured() -> None:
    """0.24 to 0.27 GiB per prompt for facebook/sam3 in float32 (sizes are the config's defaults)."""
    assert 0.24 <= elements_per_prompt(Sam3Config()) * 4 / 2**30 <= 0.30
    assert 0.1 <= elements_per_image(Sam3Config()) * 4 / 2**30 <= 0.5


def test_prompts_for_several_images_go_through_one_pass(parts: Parts, processor: Sam3Processor, sam3: Sam3) -> None:
    """Every row against the stock forward of its own image, with rows of both images mixed."""
    images = [picture(0), picture(1)]
    sam3._vision.limit.most = sam3._detect.limit.most = 99
    views = sam3.embed(images)
    mixed = [Question(view, prompt, 0.0, 0) for prompt in prompts_of(ROWS) for view in views]
    found = sam3.detect(mixed)
    assert (sam3._vision.sizes, sam3._detect.sizes) == ({2: 1}, {len(mixed): 1})
    for number, image in enumerate(images):
        assert_same(found[number::2], stock(parts, processor, image))
    assert np.abs(found[0].logits[0] - found[1].logits[0]).max() > 1e-3  # and they are not the same
    some = sam3.detect([Question(views[0], mixed[0].prompt, 1.0, 0), Question(views[1], mixed[1].prompt, 1.0, 2)])
    assert [len(one.scores) for one in some] == [0, 2]  # the mask head sees rows of one image alone
    np.testing.assert_allclose(some[1].logits, found[1].logits[:2], atol=3e-5)
    for view, image in zip(views, images, strict=True):  # one after the other, too
        assert_same(
            detect(sam3, view, prompts_of(ROWS), [0.0] * len(ROWS), [0] * len(ROWS)), stock(parts, processor, image)
        )


def test_an_embedding_does_not_hold_its_neighbours_memory(sam3: Sam3) -> None:
    sam3._vision.limit.most = 99
    for one in sam3.embed([picture(0), picture(1), picture(2)]):
        assert one.tensors[0].untyped_storage().nbytes() == one.nbytes
