"""The loaded model behind numpy: embed pictures, detect concepts, trace one object. No tensor of a prompt leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sam3_core.caller import BULK, CLICK, Waits
from sam3_core.engine.clicks import ClickHead, Readings, make_click
from sam3_core.engine.concepts import ConceptHead, Detection, elements_per_image, elements_per_prompt
from sam3_core.engine.embeddings import Embedding
from sam3_core.engine.heads import Heads, detect_each
from sam3_core.engine.limits import BatchLimit
from sam3_core.engine.loading import Parts, load_parts
from sam3_core.engine.looks import look_width
from sam3_core.engine.maps import Neck
from sam3_core.engine.memory import is_fatal, is_out_of_memory, meter_of, pass_budget, release
from sam3_core.engine.passes import Device, I, O, Pass
from sam3_core.engine.plan import Question
from sam3_core.engine.scheduler import Scheduler
from sam3_core.engine.text import TextFeatures
from sam3_core.errors import Unsupported
from sam3_core.load import Load
from sam3_core.timing import stage
from sam3_core.types import VisualPrompt

_PREPARERS = 4


@dataclass(frozen=True, slots=True)
class Serving:
    """How the device is shared; ``CoreSettings`` explains each.

    spare_mb: device memory that is not for passes, because embeddings will fill it. on_broken: see ``Scheduler``.
    adapters: see ``Heads``.
    """

    pass_mb: int | None = None
    spare_mb: int = 0
    bulk_share: float = 0.2
    queue: int = 128
    on_broken: Callable[[str], None] | None = None
    adapters: Path | None = None


class Sam3:
    """One set of weights for text, exemplars and clicks; every pass runs in the scheduler's thread.

    Methods may be called from any other thread and raise, beside what they say, as ``Scheduler.do``.

    Stages (sam3_core.timing): ``decode`` for resizing and normalising, ``queue`` for the wait, ``vision`` for the
    encoder, ``model`` for the rest; a pass that several requests share counts in full for each. On CUDA ``model``
    ends with a copy that waits for all that was started before; ``vision`` only starts its work, so that a first
    prompt's ``model`` holds most of both.
    """

    def __init__(self, parts: Parts, serving: Serving = Serving()) -> None:
        self._parts = parts
        self._spare: Callable[[], None] | None = None
        # Every thread in which torch works on the CPU gets a team of as many as there are cores, and keeps it: the
        # server's many threads do not.
        self._preparing = ThreadPoolExecutor(_PREPARERS, thread_name_prefix="sam3-prepare")
        self.clicks = None if parts.video is None else ClickHead(parts.video)
        neck = Neck(parts.detector)
        concepts = ConceptHead(parts.detector, TextFeatures(parts.detector, parts.tokenizer), neck)
        self._neck = neck
        self._heads = Heads(parts.detector, concepts, serving.adapters, self._preparing)
        self._scheduler = Scheduler(
            Device(is_out_of_memory, is_fatal, self._free),
            bulk_share=serving.bulk_share,
            most_waiting=serving.queue,
            on_broken=serving.on_broken,
        )
        config, element = parts.detector.config, torch.finfo(parts.dtype).bits // 8
        budget = pass_budget(parts.device, serving.pass_mb, serving.spare_mb)
        self._meter = meter = meter_of(parts.device)
        limits = [
            BatchLimit(budget, n * element, meter) for n in (elements_per_image(config), elements_per_prompt(config))
        ]
        self._vision = self._pass("vision", "vision", self._encode, limits[0])
        self._detect = self._pass("concepts", "model", detect_each, limits[1])
        # Clicks are so short that company would only make them wait.
        self._click: Pass[Callable[[], Any], Any] = self._pass("clicks", "model", _call_each, BatchLimit(1, 1, meter))

    @classmethod
    def load(cls, folder: Path, device: str, dtype: str, serving: Serving = Serving()) -> Sam3:
        """Raises ModelUnavailable or BadSettings with a sentence."""
        return cls(load_parts(folder, device, dtype), serving)

    @property
    def device(self) -> str:
        return str(self._parts.device)

    @property
    def side(self) -> int:
        """The model sees ``side`` x ``side`` pixels of an image."""
        return int(self._parts.detector.config.vision_config.backbone_config.image_size)

    @property
    def look_width(self) -> int:
        """How many numbers ``Instance.feature`` has."""
        return look_width(self._parts.detector.config)

    @property
    def dtype(self) -> str:
        return str(self._parts.dtype).removeprefix("torch.")

    @property
    def broken(self) -> str:
        """Why the device does not work any more; empty while it does."""
        return self._scheduler.broken

    def load_now(self) -> Load:
        """How busy the device is at this moment."""
        return Load(self._scheduler.lanes(), self._scheduler.passes(), self._meter.load())

    def when_short(self, spare: Callable[[], None]) -> None:
        """What to call, in the device's thread, when memory is wanting: it gives up what can be made again."""
        self._spare = spare

    def close(self) -> None:
        """Take no more work. May be called twice."""
        self._scheduler.close()

    def require_clicks(self) -> ClickHead:
        """The click head; raises Unsupported for a detector-only checkpoint."""
        if self.clicks is None:
            raise Unsupported("this checkpoint holds only the detector: it finds concepts but takes no clicks")
        return self.clicks

    def embed(self, images: Sequence[NDArray[np.uint8]], caller: Waits = BULK) -> list[Embedding]:
        """An embedding for each image ``(H, W, 3)`` uint8 RGB, squashed to the model's square, aspect not kept."""
        with stage("decode"):
            pixels = list(self._preparing.map(self._prepare, images))
        hidden = self._scheduler.do(self._vision, pixels, caller)
        return [
            Embedding((one,), (image.shape[1], image.shape[0])) for one, image in zip(hidden, images, strict=True)
        ]

    def click_maps(self, vision: Embedding, caller: Waits = CLICK) -> Embedding:
        """What every click on the image starts from. Raises Unsupported for a detector-only checkpoint."""
        head = self.require_clicks()

        def work() -> Embedding:
            return Embedding(head.embeddings(vision.tensors[0]), vision.size)

        return self.alone(work, caller)

    def detect(self, questions: Sequence[Question], caller: Waits = BULK) -> list[Detection]:
        """One Detection per question, in order. Raises UnknownAdapter."""
        heads = {name: self._heads.get(name) for name in {question.adapter for question in questions}}
        asked = [(heads[question.adapter], question) for question in questions]
        return self._scheduler.do(self._detect, asked, caller)

    def trace(self, maps: Embedding, prompt: VisualPrompt, *, several: bool, caller: Waits = CLICK) -> Readings:
        """Readings of the prompt, best first: three for one point alone or when several are wanted, else one.

        maps: from ``click_maps``. Raises InvalidPrompt for a prompt outside the image.
        """
        head = self.require_clicks()
        with stage("model"):
            click = make_click(prompt, maps.size, head.image_side, head.mask_side)

        def work() -> Readings:
            return head.trace(maps.tensors, click, several=several or click.ambiguous)

        readings = self.alone(work, caller)
        order = np.argsort(-readings.scores, kind="stable")
        return Readings(readings.logits[order], readings.scores[order], readings.presence)

    def alone(self, work: Callable[[], O], caller: Waits = CLICK) -> O:
        """What the work returns, or raises; it has the device for itself, in its turn."""
        outcome: O = self._scheduler.do(self._click, [work], caller)[0]
        return outcome

    def _pass(
        self, name: str, stage_name: str, run: Callable[[Sequence[I]], Sequence[O]], limit: BatchLimit
    ) -> Pass[I, O]:
        return self._scheduler.add(Pass(name, stage_name, torch.inference_mode()(run), limit))

    def _prepare(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """``(H, W, 3)`` -> ``(1, 3, side, side)``, on the CPU."""
        pixels: torch.Tensor = self._parts.images(
            image, input_data_format="channels_last", return_tensors="pt"
        ).pixel_values
        return pixels

    def _encode(self, pixels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The vision encoder: ``(1, 3, side, side)`` each -> ``(1, N, C)`` each, in memory of its own."""
        batch = torch.cat(tuple(pixels)).to(self._parts.device, self._parts.dtype)
        hidden = self._parts.detector.vision_encoder.backbone(batch).last_hidden_state
        return [hidden] if len(pixels) == 1 else [one[None].clone() for one in hidden]

    def _free(self) -> None:
        self._neck.forget()
        if self._spare is not None:
            self._spare()
        release(self._parts.device)


def _call_each(works: Sequence[Callable[[], Any]]) -> list[Any]:
    return [work() for work in works]
