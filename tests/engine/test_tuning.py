"""Fine-tuning on the demo checkpoint: it learns, from the same forward that serves, and says what goes wrong."""

from __future__ import annotations

import copy
import itertools
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tuning_jobs import NEW, make_job

from sam3_core.demo.scenes import Scene
from sam3_core.engine.adapters import adapted_detector
from sam3_core.engine.concepts import ConceptHead
from sam3_core.engine.embeddings import Embedding
from sam3_core.engine.loading import Parts, load_parts
from sam3_core.engine.losses import Matches
from sam3_core.engine.maps import Neck
from sam3_core.engine.plan import Prompt
from sam3_core.engine.plan import Question as Asking
from sam3_core.engine.text import TextFeatures
from sam3_core.engine.tuning import __main__ as program
from sam3_core.engine.tuning import scoring, training
from sam3_core.engine.tuning.forward import Forward
from sam3_core.engine.tuning.questions import Ask, make_questions, mirrored
from sam3_core.engine.tuning.sights import Sights
from sam3_core.engine.weights import DEMO_FOLDER
from sam3_core.learning.examples import Truth
from sam3_core.masks import Mask
from sam3_core.tuning import ADAPTER, JOB, Asked, Progress, TuningJob, TuningState, cancel, read_progress


@pytest.fixture(scope="module")
def demo() -> Parts:
    return load_parts(DEMO_FOLDER, "cpu", "float32")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Progress]:
    """The program in this process, which neither gives way nor ends with its parent."""
    monkeypatch.setattr(program, "give_way", lambda: None)
    monkeypatch.setattr(program, "end_with", lambda parent: None)
    monkeypatch.setattr("sam3_core.engine.tuning.budget._limit_growth", lambda free: None)

    def work(folder: Path) -> Progress:
        monkeypatch.setattr(sys, "argv", ["tuning", str(folder)])
        code = program.main()
        progress = read_progress(folder)
        assert code == (0 if progress.state is TuningState.DONE else 1)
        assert (folder / ADAPTER).exists() is (progress.state is TuningState.DONE)
        assert "Traceback" not in progress.sentence
        return progress

    return work


def _go_on() -> None:
    pass


def _asks(scene: Scene, sights: Sights, named: dict[str, str]) -> list[Ask]:
    """Each phrase with the objects of the shape that it means."""
    number = sights.add(scene.image)
    asked = [
        Asked((phrase,), tuple(Truth(Mask.from_full(o.mask)) for o in scene.objects if o.shape == shape))
        for phrase, shape in named.items()
    ]
    return [Ask(q, q.phrases[0]) for q in make_questions(number, asked, sights.glance.cells)]


def test_training_sees_what_the_product_sees(demo: Parts, scene: Callable[..., Scene], tmp_path: Path) -> None:
    """Presence, scores and masks are those of the head that serves; a sight from a file is the same one."""
    picture, text = scene(907, objects=(3, 5), size=(160, 120)), TextFeatures(demo.detector, demo.tokenizer)
    sights = Sights(demo, tmp_path / "sights", 0)
    asks = _asks(picture, sights, {"star": "star", "square": "square", "red circle": "none"})
    assert len(list((tmp_path / "sights").iterdir())) == 1
    with torch.no_grad():
        forward = Forward(demo.detector, text, sights)
        answer = forward(asks)
        scores, order = (answer.logits[-1].sigmoid() * answer.presence[-1].sigmoid()[:, None]).sort(descending=True)
        masks = forward.masks(asks, answer, [0, 0, 2], [int(order[0, 0]), int(order[0, 1]), int(order[2, 0])])
        pixels = demo.images(picture.image, input_data_format="channels_last", return_tensors="pt").pixel_values
        view = Embedding((demo.detector.vision_encoder.backbone(pixels).last_hidden_state,), (160, 120))
        head = ConceptHead(demo.detector, text, Neck(demo.detector))
        detections = head.detect([Asking(view, Prompt(ask.phrase), 0.0, 2) for ask in asks])
    for row, detection in enumerate(detections):
        assert float(answer.presence[-1, row].sigmoid()) == pytest.approx(detection.presence, abs=1e-5)
        np.testing.assert_allclose(scores[row].numpy(), detection.scores, atol=1e-5)
    served = np.stack([detections[0].logits[0], detections[0].logits[1], detections[2].logits[0]])
    np.testing.assert_allclose(masks.numpy(), served, atol=1e-3)


def test_a_few_images_are_learned_by_heart(demo: Parts, scene: Callable[..., Scene], tmp_path: Path) -> None:
    """A word for nothing comes to mean circles, and squares stay squares: gradients reach what they should."""
    detector = copy.deepcopy(demo.detector)
    sights = Sights(demo, tmp_path, 10**9)
    named = {NEW: "circle", "square": "square"}
    scenes = (scene(seed, objects=(3, 5), size=(160, 120)) for seed in (900, 901))
    asks = [ask for one in scenes for ask in _asks(one, sights, named)]
    adapters = training.put_adapters(detector, 8)
    learning = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    assert len(learning) == 2 * len(adapters)
    forward = Forward(detector, TextFeatures(detector, demo.tokenizer), sights)
    torch.manual_seed(1)
    run = training.Training(forward, learning, TuningJob((), "demo", epochs=20, rate=3e-3), lambda share: None)
    new = [ask for ask in asks if ask.phrase == NEW]
    before = scoring.score(forward, new, 8, _go_on).f1
    losses = [epoch.loss for epoch in run.epochs([(ask.question,) for ask in asks], [])]
    after = scoring.score(forward, asks, 8, _go_on).f1
    assert before < 0.2
    assert after > 0.8
    assert losses[0] is None
    assert losses[-1] < 0.5 * losses[1]  # type: ignore[operator]


def test_a_pass_holds_any_questions_together(demo: Parts, scene: Callable[..., Scene], tmp_path: Path) -> None:
    """Loss and F1 of the images kept out do not depend on which of them are judged together."""
    sights = Sights(demo, tmp_path, 10**9)
    named = {"star": "star", "square": "square", "circle": "circle", "dog": "none"}
    asks = [ask for seed in (900, 901) for ask in _asks(scene(seed, objects=(3, 5), size=(160, 120)), sights, named)]
    present = sorted(asks, key=lambda ask: -ask.count)
    forward = Forward(demo.detector, TextFeatures(demo.detector, demo.tokenizer), sights)
    whole = scoring.score(forward, present, 8, _go_on)
    assert 0.5 < whole.f1 <= 1
    for batch in (2, 3, 5):
        parts = scoring.score(forward, present, batch, _go_on)
        assert parts.f1 == whole.f1
        assert parts.loss == pytest.approx(whole.loss, rel=0.1)


def test_instances_count_once_and_only_where_they_lie_right() -> None:
    covers = torch.zeros(2, 8, 8)
    covers[0, :4, :4], covers[1, 4:, 4:] = 1, 1
    right, other, wrong = covers[0] * 8 - 4, covers[1] * 8 - 4, torch.full((8, 8), -4.0)
    wrong[0, 7] = 4
    hits = scoring._hits_of_one
    assert hits(torch.stack([right, right, other]), covers) == (2, 2)  # a copy is no second instance
    assert hits(torch.stack([right, wrong]), covers) == (1, 2)
    assert hits(torch.stack([wrong]), covers[:0]) == (0, 1)


def test_the_mirror_image_is_asked_the_same(demo: Parts, scene: Callable[..., Scene], tmp_path: Path) -> None:
    picture, sights = scene(905, objects=(3, 5), size=(160, 120)), Sights(demo, tmp_path, 10**9)
    shapes = {o.shape: o.shape for o in picture.objects}
    flipped = Scene(
        np.ascontiguousarray(picture.image[:, ::-1]),
        tuple(type(o)(o.color, o.shape, o.mask[:, ::-1], o.box) for o in picture.objects),
        0,
    )
    for ours, theirs in zip(_asks(picture, sights, shapes), _asks(flipped, sights, shapes), strict=True):
        question = mirrored(ours.question, 1)
        torch.testing.assert_close(question.boxes, theirs.question.boxes)
        torch.testing.assert_close(question.covers, theirs.question.covers, atol=1, rtol=0)


def test_a_rectangle_teaches_the_box_and_no_outline(demo: Parts, scene: Callable[..., Scene], tmp_path: Path) -> None:
    picture, sights = scene(905, objects=(3, 5), size=(160, 120)), Sights(demo, tmp_path, 10**9)
    number = sights.add(picture.image)
    first = picture.objects[0]
    drawn = Asked((first.shape,), (Truth(Mask.from_full(first.mask), around=True),))
    forward = Forward(demo.detector, TextFeatures(demo.detector, demo.tokenizer), sights)
    asks = [Ask(make_questions(number, [drawn], sights.glance.cells)[0], first.shape)]
    losses = scoring.losses(forward, asks, drawn=8, rng=random.Random(0))
    assert float(losses["mask"]) == 0
    assert float(losses["box"]) > 0
    nothing = Matches(*(torch.zeros(0, dtype=torch.long) for _ in range(3)))
    assert float(scoring._mask_loss(forward, asks, forward(asks), nothing, {0})) == 0


def test_a_job_becomes_an_adapter(
    run: Callable[[Path], Progress], demo: Parts, tmp_path: Path, scene: Callable[..., Scene]
) -> None:
    """In spite of an image that is none, and one whose masks are another's."""
    make_job(tmp_path, images=4, held=1, epochs=8)
    (tmp_path / "1.jpg").write_bytes(b"no picture")
    (tmp_path / "2.jpg").write_bytes(scene(7, objects=(2, 4), size=(200, 120)).encode())
    progress = run(tmp_path)
    assert progress.state is TuningState.DONE, progress
    assert progress.done == 1
    assert "2 images could not be used" in progress.sentence
    assert progress.best is not None
    adapted = adapted_detector(demo.detector, tmp_path / ADAPTER)
    assert adapted is not demo.detector


def test_cancelled_it_ends_and_leaves_no_adapter(
    run: Callable[[Path], Progress], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job(tmp_path, images=2, epochs=500)
    steps = itertools.count()
    plain = training.Training._step

    def step(self: training.Training, asks: list[Ask], share: float) -> float:
        if next(steps) == 2:
            cancel(tmp_path)
        return plain(self, asks, share)

    monkeypatch.setattr(training.Training, "_step", step)
    assert run(tmp_path).state is TuningState.CANCELLED
    assert next(steps) == 3


def test_when_the_time_is_over_the_best_so_far_is_the_result(run: Callable[[Path], Progress], tmp_path: Path) -> None:
    make_job(tmp_path, images=2, held=0, epochs=10_000, minutes=0.02)
    progress = run(tmp_path)
    assert progress.state is TuningState.DONE
    assert 1 <= progress.epoch < 100


def test_what_goes_wrong_is_said_in_a_sentence(
    run: Callable[[Path], Progress], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job(tmp_path, images=1, held=0, megabytes=1)
    assert "the 1 MiB that it may take" in run(tmp_path).sentence
    make_job(tmp_path, images=2, held=2)
    assert "no image to learn from" in run(tmp_path).sentence
    make_job(tmp_path, images=1, held=0)
    (tmp_path / "0.jpg").unlink()
    assert "none could be used" in run(tmp_path).sentence
    make_job(tmp_path, images=1, held=0, model=str(tmp_path / "missing"))
    assert "there is no folder" in run(tmp_path).sentence
    make_job(tmp_path, images=1, held=0, device="cuda:77")
    assert "cannot be used here" in run(tmp_path).sentence
    (tmp_path / JOB).write_text("{")
    assert "no fine-tuning job" in run(tmp_path).sentence
    make_job(tmp_path, images=1, held=0)
    monkeypatch.setattr(training.Training, "_step", lambda *_: 1 / 0)
    assert "ZeroDivisionError" in run(tmp_path).sentence


def test_what_is_not_installed_is_named(
    run: Callable[[Path], Progress], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job(tmp_path, images=1, held=0)
    monkeypatch.setitem(sys.modules, "peft", None)
    for name in ("work", "training"):
        monkeypatch.delitem(sys.modules, f"sam3_core.engine.tuning.{name}", raising=False)
    progress = run(tmp_path)
    assert progress.state is TuningState.FAILED
    assert "peft" in progress.sentence
    assert "sam3-prelabel[local,train]" in progress.sentence
