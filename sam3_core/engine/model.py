"""The loaded model behind numpy: embed a picture, detect concepts, trace one object. No tensor of a prompt leaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sam3_core.caller import BULK, Caller
from sam3_core.engine.clicks import ClickHead, Readings, make_click
from sam3_core.engine.concepts import ConceptHead, Detection
from sam3_core.engine.embeddings import Embedding
from sam3_core.engine.loading import Parts, load_parts
from sam3_core.engine.plan import Prompt
from sam3_core.engine.text import TextFeatures
from sam3_core.engine.turns import Turns
from sam3_core.errors import Unsupported
from sam3_core.timing import stage
from sam3_core.types import VisualPrompt


class Sam3:
    """One set of weights for text, exemplars and clicks; one caller at a time on the device, the rest wait.

    A caller is checked when its turn has come: if nobody waits any more, the turn passes on.

    Stages (sam3_core.timing): ``decode`` for resizing and normalising, ``queue`` for the wait, ``vision`` for the
    encoder, ``model`` for the rest. On CUDA ``model`` ends with a copy that waits for all that was started before;
    ``vision`` only starts its work, so that a first prompt's ``model`` holds most of both.
    """

    def __init__(self, parts: Parts, prompt_bytes: int) -> None:
        self._parts = parts
        self._turns = Turns()
        text = TextFeatures(parts.detector, parts.tokenizer)
        self.concepts = ConceptHead(parts.detector, text, prompt_bytes)
        self.clicks = None if parts.video is None else ClickHead(parts.video)

    @classmethod
    def load(cls, folder: Path, device: str, dtype: str, prompt_bytes: int) -> Sam3:
        """Raises ModelUnavailable or BadSettings with a sentence."""
        return cls(load_parts(folder, device, dtype), prompt_bytes)

    @property
    def device(self) -> str:
        return str(self._parts.device)

    @property
    def side(self) -> int:
        """The model sees ``side`` x ``side`` pixels of an image."""
        return int(self._parts.detector.config.vision_config.backbone_config.image_size)

    @property
    def dtype(self) -> str:
        return str(self._parts.dtype).removeprefix("torch.")

    def require_clicks(self) -> ClickHead:
        """The click head; raises Unsupported for a detector-only checkpoint."""
        if self.clicks is None:
            raise Unsupported("this checkpoint holds only the detector: it finds concepts but takes no clicks")
        return self.clicks

    def embed(self, image: NDArray[np.uint8], caller: Caller = BULK) -> Embedding:
        """One vision pass. image: ``(H, W, 3)`` uint8 RGB; it is squashed to the model's square, aspect not kept."""
        with stage("decode"):
            pixels = self._parts.images(image, input_data_format="channels_last", return_tensors="pt").pixel_values
        with self._turns.turn(caller), torch.inference_mode(), stage("vision"):
            pixels = pixels.to(self._parts.device, self._parts.dtype)
            hidden = self._parts.detector.vision_encoder.backbone(pixels).last_hidden_state
        return Embedding((hidden,), (image.shape[1], image.shape[0]))

    def click_maps(self, vision: Embedding, caller: Caller = BULK) -> Embedding:
        """What every click on the image starts from. Raises Unsupported for a detector-only checkpoint."""
        head = self.require_clicks()
        with self._turns.turn(caller), torch.inference_mode(), stage("model"):
            return Embedding(head.embeddings(vision.tensors[0]), vision.size)

    def detect(
        self,
        vision: Embedding,
        prompts: Sequence[Prompt],
        floors: Sequence[float],
        counts: Sequence[int],
        caller: Caller = BULK,
    ) -> list[Detection]:
        """One Detection per prompt, in order; floors and counts as in ``ConceptHead.detect``."""
        with self._turns.turn(caller), torch.inference_mode(), stage("model"):
            return self.concepts.detect(vision.tensors[0], prompts, floors, counts)

    def trace(self, maps: Embedding, prompt: VisualPrompt, *, several: bool, caller: Caller = BULK) -> Readings:
        """Readings of the prompt, best first: three for one point alone or when several are wanted, else one.

        maps: from ``click_maps``. Raises InvalidPrompt for a prompt outside the image.
        """
        head = self.require_clicks()
        with stage("model"):
            click = make_click(prompt, maps.size, head.image_side, head.mask_side)
        with self._turns.turn(caller), torch.inference_mode(), stage("model"):
            readings = head.trace(maps.tensors, click, several=several or click.ambiguous)
        order = np.argsort(-readings.scores, kind="stable")
        return Readings(readings.logits[order], readings.scores[order], readings.presence)
