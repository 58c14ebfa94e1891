"""The loaded model behind numpy: embed a picture, detect concepts, trace one object. No tensor of a prompt leaves."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sam3_core.engine.clicks import ClickHead, make_click
from sam3_core.engine.concepts import ConceptHead, Detection
from sam3_core.engine.embeddings import Embedding
from sam3_core.engine.loading import Parts, load_parts
from sam3_core.engine.plan import Prompt
from sam3_core.engine.text import TextFeatures
from sam3_core.errors import Unsupported
from sam3_core.types import VisualPrompt


class Sam3:
    """One set of weights for text, exemplars and clicks; one caller at a time on the device, the rest wait."""

    def __init__(self, parts: Parts, prompt_bytes: int) -> None:
        self._parts = parts
        self._lock = threading.Lock()
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
    def dtype(self) -> str:
        return str(self._parts.dtype).removeprefix("torch.")

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """One vision pass. image: ``(H, W, 3)`` uint8 RGB; it is squashed to the model's square, aspect not kept."""
        pixels = self._parts.images(image, input_data_format="channels_last", return_tensors="pt").pixel_values
        with self._lock, torch.inference_mode():
            pixels = pixels.to(self._parts.device, self._parts.dtype)
            hidden = self._parts.detector.vision_encoder.backbone(pixels).last_hidden_state
        return Embedding(hidden, (image.shape[1], image.shape[0]))

    def detect(self, embedding: Embedding, prompts: Sequence[Prompt], floors: Sequence[float]) -> list[Detection]:
        """One Detection per prompt, in order; floors as in ``ConceptHead.detect``."""
        with self._lock, torch.inference_mode():
            return self.concepts.detect(embedding.hidden, prompts, floors)

    def trace(
        self, embedding: Embedding, prompt: VisualPrompt, *, several: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Candidates ``(c, h, w)`` mask logits and ``(c,)`` predicted IoU, best first.

        Three of them for one point alone or when several are wanted, else one. Raises Unsupported for a
        detector-only checkpoint, InvalidPrompt for a prompt outside the image.
        """
        if self.clicks is None:
            raise Unsupported("this checkpoint holds only the detector: it finds concepts but takes no clicks")
        click = make_click(prompt, embedding.size, self.clicks.image_side, self.clicks.mask_side)
        with self._lock, torch.inference_mode():
            logits, iou = self.clicks.trace(embedding.hidden, click, several=several or click.ambiguous)
        order = np.argsort(-iou, kind="stable")
        return logits[order], iou[order]
