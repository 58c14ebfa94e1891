"""Click embeddings and outlines against the stock classes, and what coordinates become on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_sam3 import IMAGE, picture, save_state
from transformers import Sam3Processor, Sam3TrackerModel, Sam3TrackerProcessor, Sam3TrackerVideoModel

from sam3_core.engine.clicks import MASK_LOGIT, make_click, mask_logits
from sam3_core.engine.loading import Parts, load_parts
from sam3_core.engine.model import Sam3
from sam3_core.errors import InvalidPrompt, Unsupported
from sam3_core.masks import Mask
from sam3_core.types import Box, Point, VisualPrompt

SIZE = (60, 44)
SIDE = 4 * IMAGE // 8


@pytest.fixture(scope="module")
def stock_tracker(checkpoint: Path) -> Sam3TrackerModel:
    """The stock click model; from its forward on given embeddings, not from its own way to them."""
    return Sam3TrackerModel.from_pretrained(checkpoint, dtype=torch.float32).eval()


def pixels(checkpoint: Path) -> torch.Tensor:
    return Sam3Processor.from_pretrained(checkpoint)(images=picture(), return_tensors="pt").pixel_values


def test_embeddings_are_the_video_classes(checkpoint: Path, sam3: Sam3) -> None:
    video = Sam3TrackerVideoModel.from_pretrained(checkpoint, dtype=torch.float32).eval()
    expected = video.get_image_embeddings(pixels(checkpoint))
    assert sam3.clicks is not None
    with torch.inference_mode():
        found = sam3.clicks.embeddings(sam3.embed([picture()])[0].tensors[0])
    assert [f.shape for f in found] == [e.shape for e in expected]
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)


def test_the_stock_click_path_drops_the_learned_vector(
    checkpoint: Path, sam3: Sam3, stock_tracker: Sam3TrackerModel
) -> None:
    """Why the engine builds embeddings itself; when this fails, transformers has mended it."""
    assert stock_tracker.no_memory_embedding.abs().max() > 0.1
    theirs = stock_tracker.get_image_embeddings(pixels(checkpoint))
    assert sam3.clicks is not None
    with torch.inference_mode():
        mine = sam3.clicks.embeddings(sam3.embed([picture()])[0].tensors[0])
    for level in (0, 1):
        torch.testing.assert_close(mine[level], theirs[level], atol=1e-5, rtol=0)
    lost = stock_tracker.no_memory_embedding.view(1, -1, 1, 1).expand_as(mine[2])
    torch.testing.assert_close(mine[2] - theirs[2], lost, atol=1e-5, rtol=0)


EARLIER = Mask(np.ones((20, 25), dtype=np.bool_), 10, 12, SIZE)
PROMPTS = {
    "point": VisualPrompt(points=(Point(20.5, 30.0),)),
    "points": VisualPrompt(points=(Point(20.5, 30.0), Point(50.0, 3.0, positive=False), Point(25, 31))),
    "box": VisualPrompt(box=Box(5, 6, 40.5, 33)),
    "box and point": VisualPrompt(points=(Point(20, 30, positive=False),), box=Box(5, 6, 40.5, 33)),
    "mask": VisualPrompt(mask=EARLIER),
    "mask and points": VisualPrompt(points=(Point(20.5, 30.0), Point(50.0, 3.0, positive=False)), mask=EARLIER),
}


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("name", PROMPTS)
def test_outlines_are_the_stock_decoders(
    name: str, several: bool, checkpoint: Path, sam3: Sam3, stock_tracker: Sam3TrackerModel
) -> None:
    prompt = PROMPTS[name]
    given = prompt.points
    if name == "mask":  # what stands for the clicks behind it
        (place,) = make_click(prompt, SIZE, IMAGE, SIDE).points
        given = (Point(float(place[0]) * SIZE[0] / IMAGE, float(place[1]) * SIZE[1] / IMAGE),)
    points = [[[[p.x, p.y] for p in given]]] if given else None
    labels = [[[int(p.positive) for p in given]]] if given else None
    boxes = [[list(prompt.box.xyxy)]] if prompt.box else None
    inputs = Sam3TrackerProcessor.from_pretrained(checkpoint)(
        images=picture(), input_points=points, input_labels=labels, input_boxes=boxes, return_tensors="pt"
    )
    masks = torch.from_numpy(mask_logits(prompt.mask, SIZE, SIDE))[None, None] if prompt.mask else None
    maps = sam3.click_maps(sam3.embed([picture()])[0])
    several = several or name == "point"
    assert sam3.clicks is not None
    with torch.inference_mode():
        expected = stock_tracker(
            image_embeddings=list(maps.tensors),
            input_points=inputs.get("input_points"),
            input_labels=inputs.get("input_labels"),
            input_boxes=inputs.get("input_boxes"),
            input_masks=masks,
            multimask_output=several,
        )
    order = expected.iou_scores[0, 0].argsort(descending=True)
    readings = sam3.trace(maps, prompt, several=several)
    assert readings.logits.shape == ((3 if several else 1), SIDE, SIDE)
    np.testing.assert_allclose(readings.scores, expected.iou_scores[0, 0][order], atol=1e-5)
    np.testing.assert_allclose(readings.logits, expected.pred_masks[0, 0][order], atol=3e-5)
    assert readings.presence == pytest.approx(float(expected.object_score_logits.sigmoid()), abs=1e-5)


def test_every_part_of_a_prompt_counts(sam3: Sam3) -> None:
    maps = sam3.click_maps(sam3.embed([picture()])[0])
    traced = [sam3.trace(maps, prompt, several=True).logits for prompt in PROMPTS.values()]
    assert all(np.abs(a - b).max() > 1e-3 for i, a in enumerate(traced) for b in traced[:i])


def test_one_point_alone_gets_three_readings(sam3: Sam3) -> None:
    maps = sam3.click_maps(sam3.embed([picture()])[0])
    counts = {name: len(sam3.trace(maps, prompt, several=False).scores) for name, prompt in PROMPTS.items()}
    assert counts == {**dict.fromkeys(PROMPTS, 1), "point": 3}
    scores = sam3.trace(maps, PROMPTS["point"], several=False).scores
    assert sorted(scores, reverse=True) == list(scores)
    assert (scores >= 0).all()
    assert (scores <= 1).all()


def test_a_detector_only_checkpoint_takes_no_clicks(checkpoint: Path, tmp_path: Path) -> None:
    for file in checkpoint.iterdir():
        if file.name != "model.safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_parts(checkpoint, "cpu", "float32").detector.state_dict()
    save_state({f"detector_model.{name}": tensor for name, tensor in state.items()}, tmp_path)
    model = Sam3.load(tmp_path, "cpu", "float32")
    with pytest.raises(Unsupported, match="only the detector"):
        model.click_maps(model.embed([picture()])[0])


def test_one_vision_backbone_serves_both_heads(sam3: Sam3, parts: Parts) -> None:
    """All storage that the heads' modules hold, each counted once, is the checkpoint: nothing is there twice."""
    assert parts.video is not None
    assert sam3.clicks is not None
    assert sam3.clicks._video.detector_model is parts.detector is sam3._heads.get("")._detector
    stored = {tensor.data_ptr() for tensor in parts.video.parameters()}
    assert {tensor.data_ptr() for tensor in parts.detector.vision_encoder.backbone.parameters()} < stored
    backbones = [m for m in parts.video.modules() if type(m).__name__ == "Sam3ViTModel"]
    assert len(backbones) == 1
    held = {id(p) for head in (sam3.clicks._video, sam3._heads.get("")._detector) for p in head.parameters()}
    assert held == {id(p) for p in parts.video.parameters()}


def test_half_precision_keeps_the_places_of_clicks(checkpoint: Path, parts: Parts, sam3: Sam3) -> None:
    """At the full model's square, 1008 pixels wide, bfloat16 has steps of 4 pixels; clicks keep theirs."""
    half = Sam3.load(checkpoint, "cpu", "bfloat16")
    seen: dict[str, list[torch.Tensor]] = {"exact": [], "half": []}
    for name, model in (("exact", sam3), ("half", half)):
        assert model.clicks is not None
        decoder = model.clicks._tracker.mask_decoder
        encoder = model.clicks._tracker.prompt_encoder
        hooks = [
            encoder.register_forward_hook(lambda _, __, out, name=name: seen[name].append(out[0])),
            decoder.register_forward_pre_hook(
                lambda _, __, kwargs, name=name: seen[name].append(kwargs["sparse_prompt_embeddings"]),
                with_kwargs=True,
            ),
        ]
        maps = model.click_maps(model.embed([picture()])[0])
        step = 0.6 * IMAGE / 1008
        for x in (50.3, 50.3 + step):
            model.trace(maps, VisualPrompt(points=(Point(x * SIZE[0] / IMAGE, 20.0),)), several=False)
        model.trace(maps, VisualPrompt(points=(Point(20, 20),), box=Box(5.3, 6.1, 40.7, 33.3)), several=False)
        for hook in hooks:
            hook.remove()
    for exact, mine in zip(seen["exact"][::2], seen["half"][::2], strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, exact, atol=1e-5, rtol=0)
    first, second = seen["half"][1], seen["half"][3]
    assert first.dtype == torch.bfloat16
    assert not torch.equal(first, second)  # what the decoder gets still tells them apart
    exact_step = (seen["exact"][3] - seen["exact"][1]).abs().max()
    assert (second - first).abs().max() > exact_step / 2


def test_points_go_to_the_models_square() -> None:
    click = make_click(PROMPTS["points"], (120, 40), 60, SIDE)
    np.testing.assert_allclose(click.points, [[10.25, 45.0], [25.0, 4.5], [12.5, 46.5]])
    assert click.labels.tolist() == [1, 0, 1]
    box = make_click(PROMPTS["box"], (120, 40), 60, SIDE).box
    assert box is not None
    np.testing.assert_allclose(box, [2.5, 9.0, 20.25, 49.5])


@pytest.mark.parametrize(("x", "y"), [(-1.5, 10), (10, -1.01), (61.01, 10), (10, 45.2), (6000, 10)])
def test_a_point_outside_the_image_is_refused(x: float, y: float) -> None:
    with pytest.raises(InvalidPrompt, match="outside the image of 60x44"):
        make_click(VisualPrompt(points=(Point(x, y),)), SIZE, IMAGE, SIDE)


@pytest.mark.parametrize(("x", "place"), [(-1.0, 0.0), (60.9, 64.0), (60.0, 64.0), (0.0, 0.0)])
def test_a_point_on_the_border_is_taken(x: float, place: float) -> None:
    assert make_click(VisualPrompt(points=(Point(x, 11),)), SIZE, IMAGE, SIDE).points.tolist() == [[place, 16.0]]


def test_a_mask_brings_the_point_it_lacks() -> None:
    """A click in its middle; not where a negative one lies; none where a positive point or a box says enough."""
    scale = np.array([IMAGE / SIZE[0], IMAGE / SIZE[1]])

    def places(**prompt: object) -> tuple[list[list[float]], list[int]]:
        click = make_click(VisualPrompt(mask=EARLIER, **prompt), SIZE, IMAGE, SIDE)
        return (click.points / scale).tolist(), click.labels.tolist()

    (alone,), labels = places()
    assert labels == [1]
    assert alone == pytest.approx([22.5, 22.0], abs=2)
    beside, labels = places(points=(Point(50, 40),))
    assert (beside[0], labels) == (alone, [1, 1])
    assert beside[1] == pytest.approx([50, 40], abs=1e-3)
    away, labels = places(points=(Point(22.5, 22, positive=False),))
    assert labels == [1, 0]
    assert 10 < away[0][0] < 35
    assert 12 < away[0][1] < 32
    assert np.hypot(away[0][0] - 22.5, away[0][1] - 22.0) > 4
    assert places(points=(Point(12, 14), Point(50, 40)))[1] == [1, 1]
    assert places(box=Box(5, 6, 40, 33)) == ([], [])
    assert places(points=(Point(50, 40, positive=False),), box=Box(5, 6, 40, 33))[1] == [0]


def test_a_mask_smaller_than_a_cell_has_a_place_too() -> None:
    dot = Mask(np.ones((1, 1), dtype=np.bool_), 1234, 567, (4000, 3000))
    click = make_click(VisualPrompt(mask=dot), (4000, 3000), IMAGE, SIDE)
    assert (click.points / [IMAGE / 4000, IMAGE / 3000]).tolist()[0] == pytest.approx([1234, 567], abs=4000 / SIDE)


def test_a_box_is_clipped_and_one_outside_refused() -> None:
    box = make_click(VisualPrompt(box=Box(-100, 22, 30, 1000)), SIZE, IMAGE, SIDE).box
    assert box is not None
    np.testing.assert_allclose(box, [0, 32, 32, 64])
    for outside in (Box(60, 0, 70, 10), Box(-20, 0, -5, 10), Box(0, 44, 10, 50)):
        with pytest.raises(InvalidPrompt, match="lies outside"):
            make_click(VisualPrompt(box=outside), SIZE, IMAGE, SIDE)


def test_masks_of_another_picture_and_empty_ones_are_refused() -> None:
    with pytest.raises(InvalidPrompt, match=r"\(60, 44\).*\(61, 44\)"):
        mask_logits(EARLIER, (61, 44), SIDE)
    with pytest.raises(InvalidPrompt, match="empty"):
        mask_logits(Mask(np.zeros((3, 3), dtype=np.bool_), 0, 0, SIZE), SIZE, SIDE)


@given(
    left=st.integers(0, 90), top=st.integers(0, 90), width=st.integers(1, 110), height=st.integers(1, 110)
)  # fmt: skip
def test_mask_logits_measure_cover(left: int, top: int, width: int, height: int) -> None:
    """Each cell's logit is the share of it that the mask covers: together they hold the mask's area."""
    bits = np.ones((min(height, 200 - top), min(width, 200 - left)), dtype=np.bool_)
    logits = mask_logits(Mask(bits, left, top, (200, 200)), (200, 200), 50)
    assert logits.shape == (50, 50)
    assert np.abs(logits).max() <= MASK_LOGIT + 1e-5
    cover = logits / (2 * MASK_LOGIT) + 0.5
    assert cover.sum() * 16 == pytest.approx(bits.sum(), rel=0.01, abs=2)
    inner = cover[-(-top // 4) : (top + bits.shape[0]) // 4, -(-left // 4) : (left + bits.shape[1]) // 4]
    np.testing.assert_allclose(inner, 1, atol=1e-6)
