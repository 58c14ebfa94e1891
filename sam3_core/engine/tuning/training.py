"""The training itself: adapters into the detector, epochs over the questions, the best epoch kept."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear
from torch import Tensor
from transformers import Sam3Model

from sam3_core.engine.adapters import Change
from sam3_core.engine.tuning.forward import Forward
from sam3_core.engine.tuning.questions import Ask, Question, Views
from sam3_core.engine.tuning.scoring import Score, losses, score
from sam3_core.tuning import TuningJob

SCALE = 2.0
"""What the adapters' product counts; peft's alpha over rank."""

# Between phrase and image: what reads the phrase, finds objects by it and says how much they are meant.
TARGETS = (
    r"(detr_encoder|detr_decoder)\.layers\.\d+\.(\w+\.[qkvo]_proj|mlp\.fc[12])"
    r"|detr_decoder\.(presence_head|box_head)\.layer\d"
    r"|dot_product_scoring\.(text_mlp\.layer\d|text_proj|query_proj)"
)

_DRAWN = 0.25  # of a step's questions get masks
_LAST_RATE = 0.05  # of the first
_NORM = 1.0


@dataclass(frozen=True, slots=True)
class Epoch:
    """number: from 1 on, 0 is before training. loss: mean of the training questions, None for number 0."""

    number: int
    loss: float | None
    held: Score | None


def put_adapters(detector: Sam3Model, rank: int) -> dict[str, Linear]:
    """Adapters of this rank in place of the layers they change; those alone learn. By the layer's name."""
    config = LoraConfig(r=rank, lora_alpha=int(SCALE * rank), target_modules=TARGETS, lora_dropout=0.0)
    inject_adapter_in_model(config, detector)
    adapters = {name: module for name, module in detector.named_modules() if isinstance(module, Linear)}
    for one in adapters.values():  # peft makes them in the weights' dtype, whose steps are too coarse to learn in
        one.lora_A.float()
        one.lora_B.float()
    return adapters


def changes_of(adapters: dict[str, Linear]) -> dict[str, Change]:
    """What the adapters add to their layers, without the scale."""
    return {
        name: Change(one.lora_A["default"].weight, one.lora_B["default"].weight) for name, one in adapters.items()
    }


class Training:
    """One run; ``epochs`` does the work."""

    def __init__(
        self, forward: Forward, parameters: Sequence[Tensor], job: TuningJob, check: Callable[[float], None]
    ) -> None:
        """check: called before each step with the share that is done, 0..1; what it raises ends the run."""
        self._forward, self._job, self._check = forward, job, check
        self._parameters = list(parameters)
        self._optimiser = torch.optim.AdamW(self._parameters, lr=job.rate, weight_decay=0.01)
        self._rng = random.Random(job.seed)
        self._began = time.monotonic()

    @property
    def share(self) -> float:
        """Of the time, 0..1."""
        return min((time.monotonic() - self._began) / (60 * self._job.minutes), 1.0)

    def epochs(self, questions: Sequence[Views], held: Sequence[Question]) -> Iterator[Epoch]:
        """The state before training, then each epoch, until they or the time are over."""
        kept_out = [Ask(question, phrase) for question in held for phrase in question.phrases]
        yield Epoch(0, None, self._score(kept_out, 0))
        for number in range(1, self._job.epochs + 1):
            loss = self._epoch(questions, number - 1)
            yield Epoch(number, loss, self._score(kept_out, number))
            if self.share >= 1:
                return

    def _score(self, asks: Sequence[Ask], epochs: int) -> Score | None:
        """After so many epochs."""
        if not asks:
            return None
        done = max(self.share, epochs / self._job.epochs)
        return score(self._forward, asks, 2 * self._job.batch, lambda: self._check(done))

    def _epoch(self, questions: Sequence[Views], before: int) -> float:
        """Every question once, of one of its views, by one of its phrases; cut short when the time is over."""
        views = [self._rng.choice(one) for one in questions]
        asks = [Ask(question, self._rng.choice(question.phrases)) for question in views]
        self._rng.shuffle(asks)
        total, done = 0.0, 0
        for start in range(0, len(asks), self._job.batch):
            share = max(self.share, (before + start / len(asks)) / self._job.epochs)
            self._check(share)
            if self.share >= 1 and done:
                break
            some = asks[start : start + self._job.batch]
            total, done = total + len(some) * self._step(some, share), done + len(some)
        return total / done

    def _step(self, asks: Sequence[Ask], share: float) -> float:
        rate = self._job.rate * (_LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * share)))
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        drawn = math.ceil(_DRAWN * len(asks))
        loss = torch.stack(list(losses(self._forward, asks, drawn=drawn, rng=self._rng).values())).sum()
        self._optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, _NORM)
        if torch.isfinite(norm):
            self._optimiser.step()
        return float(loss.detach())
