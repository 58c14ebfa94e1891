"""Train the demo checkpoint from rendered scenes, both heads at once, on whatever this machine has.

    python -m tools.train_demo_model --minutes 120 --run runs/demo --out sam3_core/demo/checkpoint

The learning rate follows the clock, not the step count, so that the run ends well whenever it must. A stopped run
(Ctrl-C, SIGTERM) saves itself and goes on from `--run` when started again; `--start` begins a new schedule from an
earlier checkpoint's weights. On Linux, glibc's habit of giving freed memory back costs more than half of the time:

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 python -m tools.train_demo_model
"""

from __future__ import annotations

import argparse
import copy
import math
import random
import signal
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTokenizer, Sam3VideoModel

from sam3_core.demo.scenes import COLORS, SHAPES
from sam3_core.engine.losses import assign, mask_loss
from tools.demo.batches import EXEMPLARS, TEXTS, Batch, exemplars, make_batch, noise
from tools.demo.clicks import click_losses
from tools.demo.data import MAX_OBJECTS, SceneSet, load_or_render
from tools.demo.detection import ObjectHead, dense_loss, detection_losses
from tools.demo.forward import Decoded, Prompted, Seen, ask, decode, draw, see
from tools.demo.model import (
    IMAGE_SIZE,
    MASK_SIZE,
    QUERIES,
    build_config,
    build_model,
    build_tokenizer,
    save_checkpoint,
)
from tools.demo.questions import Question

BACKBONE_SHARE = 0.15
"""Of the time, spent on the backbone alone: queries learn little before the features tell a star from a square, and
without the heads a step costs a fifth."""


class Trainer:
    """Holds the model, its smoothed copy, the optimiser and the clock of one run."""

    def __init__(self, run: Path, minutes: float, rate: float, seed: int, start: Path | None = None) -> None:
        self.run, self.budget, self.rate = run, minutes * 60, rate
        # Learning a vocabulary breaks ties as it likes, so weights stay with the one they were trained with.
        known = next((f for f in (run / "checkpoint", start) if f and f.exists()), None)
        self.tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(known) if known else build_tokenizer()
        torch.manual_seed(seed)
        self.model: Sam3VideoModel = build_model(build_config(self.tokenizer)).train()
        # A head over dense maps, for training only: each cell's colour and shape, and its object's box. It gives the
        # backbone a signal long before queries and objects have found each other.
        self.dense = torch.nn.Conv2d(self.width, len(COLORS) + len(SHAPES) + 1 + 4, 1)
        self.objects = ObjectHead(self.width)
        parameters = [*self.model.parameters(), *self.dense.parameters(), *self.objects.parameters()]
        self.optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.02, betas=(0.9, 0.98))
        self.smooth = copy.deepcopy(self.model).eval()
        self.step, self.spent = 0, 0.0
        self.alone = 0.0 if start else BACKBONE_SHARE
        self.rng = random.Random(seed)

    @property
    def width(self) -> int:
        return int(self.model.detector_model.config.vision_config.fpn_hidden_size)

    def train_step(self, batch: Batch) -> dict[str, float]:
        progress = min(self.spent / self.budget, 1.0)
        warmth = min((self.step + 1) / 300, 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * warmth * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        losses = self.losses(batch, progress)
        total = torch.stack(list(losses.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, 3.0)
        if torch.isfinite(norm):
            self.optimiser.step()
        self.step += 1
        keep = min(0.998, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            ours = list(self.smooth.parameters())
            torch._foreach_lerp_(ours, [p.detach() for p in self.model.parameters()], 1 - keep)
        return {name: float(value.detach()) for name, value in losses.items()}

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        seen = see(self.model, batch.pixels)
        losses = {
            "dense": dense_loss(self.dense(seen.maps[0]), batch),
            "object": self.objects.loss(seen.maps[-1], batch),
        }
        if progress < self.alone:
            return losses
        losses = {name: 0.3 * value for name, value in losses.items()}
        losses |= click_losses(self.model, seen, batch, self.rng)
        return losses | self.concept_losses(seen, batch)

    def concept_losses(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        questions = [q for asked in batch.questions for q in asked]
        per_image = TEXTS + EXEMPLARS
        rows = torch.arange(len(batch.questions)).repeat_interleave(per_image)
        ids, attention = self.tokens([q.phrase for q in questions])
        boxes, labels = exemplars(questions, rows, batch)
        detector = self.model.detector_model
        asked = ask(detector, seen, rows, ids, attention, boxes, labels)
        counts = torch.tensor([len(batch.kinds[int(row)]) for row in rows])
        real = torch.arange(MAX_OBJECTS)[None] < counts[:, None]
        noised = noise(batch.boxes[rows])
        decoded = decode(detector, asked, noised, real)
        answers = torch.zeros(len(questions), MAX_OBJECTS, dtype=torch.bool)
        for row, question in enumerate(questions):
            answers[row, list(question.answer)] = True
        losses = detection_losses(decoded, questions, answers, real, batch.boxes[rows])
        losses |= self.outline_losses(seen, asked, decoded, questions, batch, per_image)
        return losses

    def tokens(self, phrases: list[str]) -> tuple[Tensor, Tensor]:
        encoded = self.tokenizer(phrases, return_tensors="pt", padding=True, truncation=True, max_length=32)
        return encoded.input_ids, encoded.attention_mask

    def outline_losses(
        self, seen: Seen, asked: Prompted, decoded: Decoded, questions: list[Question], batch: Batch, per_image: int
    ) -> dict[str, Tensor]:
        """Masks for one question of each image, one that has an answer: the mask head is the dearest part."""
        chosen = []
        for image in range(len(batch.questions)):
            options = [r for r in range(image * per_image, (image + 1) * per_image) if questions[r].answer]
            chosen.append(self.rng.choice(options))
        last = decoded.logits.shape[0] - 1
        picked = torch.tensor(chosen)
        targets = [batch.boxes[int(asked.rows[r])][list(questions[r].answer)] for r in chosen]
        padded = torch.zeros(len(chosen), MAX_OBJECTS, 4)
        for i, boxes in enumerate(targets):
            padded[i, : len(boxes)] = boxes
        pairs = assign(
            decoded.logits[last][picked][:, :QUERIES].detach(),
            decoded.boxes[last][picked][:, :QUERIES].detach(),
            padded,
            [len(t) for t in targets],
        )
        # The matched queries draw, and so do the noised copies of the same objects.
        queries = torch.zeros(len(chosen), 2 * MAX_OBJECTS, dtype=torch.long)
        flat: list[tuple[int, int, int]] = []
        for i, (row, (own, order)) in enumerate(zip(chosen, pairs, strict=True)):
            answer = questions[row].answer
            slots = [(q, answer[t]) for q, t in zip(own, order, strict=True)]
            slots += [(QUERIES + t, t) for t in answer]
            for place, (query, thing) in enumerate(slots):
                queries[i, place] = query
                flat.append((i, place, thing))
        width = max(place for _, place, _ in flat) + 1
        hidden = decoded.hidden[last][picked[:, None], queries[:, :width]]
        masks, union = draw(self.model.detector_model, seen, asked, picked, hidden)
        pair, slot, drawn = torch.tensor(flat).unbind(1)
        images = asked.rows[picked]
        truth, boxes = batch.masks[images[pair], drawn], batch.boxes[images[pair], drawn]
        every = torch.stack(
            [batch.masks[int(asked.rows[r])][list(questions[r].answer)].sum(0).clamp(max=1) for r in chosen]
        )
        return {
            "mask": mask_loss(masks[pair, slot], truth, boxes).mean(),
            "union": 0.5 * mask_loss(union, every).mean(),
        }

    def save(self, out: Path | None) -> None:
        self.run.mkdir(parents=True, exist_ok=True)
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "dense": self.dense.state_dict(),
            "objects": self.objects.state_dict(),
            "smooth": self.smooth.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "spent": self.spent,
        }
        torch.save(state, self.run / "state.part")
        (self.run / "state.part").rename(self.run / "state.pt")
        for folder in {self.run / "checkpoint", out or self.run / "checkpoint"}:
            save_checkpoint(self.smooth, self.tokenizer, folder)

    def resume(self) -> None:
        if (self.run / "state.pt").exists():
            state = torch.load(self.run / "state.pt", weights_only=True)
            self.model.load_state_dict(state["model"])
            self.dense.load_state_dict(state["dense"])
            self.objects.load_state_dict(state["objects"])
            self.smooth.load_state_dict(state["smooth"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.spent = state["step"], state["spent"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="folder for state and log")
    parser.add_argument("--out", type=Path, help="folder for the checkpoint (default: inside the run)")
    parser.add_argument("--start", type=Path, help="checkpoint folder to begin from")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--scenes", type=int, default=24_000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    scenes = load_or_render(Path("runs/data"), options.scenes, IMAGE_SIZE, MASK_SIZE, first_seed=1_000_000)
    trainer = Trainer(options.run, options.minutes, options.rate, options.seed, options.start)
    if options.start:
        start = Sam3VideoModel.from_pretrained(options.start, dtype=torch.float32)
        trainer.model.load_state_dict(start.state_dict())
        trainer.smooth.load_state_dict(start.state_dict())
    trainer.resume()
    run(trainer, scenes, options.batch, options.out)


def run(trainer: Trainer, scenes: SceneSet, batch_size: int, out: Path | None) -> None:
    order: list[int] = []
    sums: dict[str, float] = {}
    saved = trainer.spent
    told_to_stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: told_to_stop.append(number))
    while trainer.spent < trainer.budget and not told_to_stop:
        began = time.monotonic()
        if len(order) < batch_size:
            order = list(range(len(scenes)))
            trainer.rng.shuffle(order)
        batch = make_batch(scenes, [order.pop() for _ in range(batch_size)], trainer.rng)
        for name, value in trainer.train_step(batch).items():
            sums[name] = 0.98 * sums.get(name, value) + 0.02 * value
        trainer.spent += time.monotonic() - began
        if trainer.step % 50 == 0:
            parts = "  ".join(f"{name} {value:.3f}" for name, value in sums.items())
            print(f"step {trainer.step}  {trainer.spent / 60:.1f} min  {parts}", flush=True)
        if trainer.spent - saved > 180:
            trainer.save(out)
            saved = trainer.spent
    trainer.save(out)


if __name__ == "__main__":
    main()
