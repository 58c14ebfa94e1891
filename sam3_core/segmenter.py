"""The contract between the core and everything that uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sam3_core.types import (
    Concept,
    ConceptResult,
    FindOptions,
    Instance,
    ModelInfo,
    OutlineOptions,
    VisualPrompt,
)


class Segmenter(Protocol):
    """Turns prompts into masks. Adapters cannot tell whether the weights live here or in another process.

    Every method may be called from any thread. ``image`` is always the encoded file (JPEG, PNG, ...), as it
    came: implementations hash it first, so that a picture seen before is not decoded again.

    ``find`` and ``outline`` wait for weights that are still loading, for a bounded time, then raise NotReady;
    they raise ModelUnavailable when loading failed, BrokenImage or TooLarge for a bad picture, InvalidPrompt
    for a prompt that names nothing in it.
    """

    def info(self) -> ModelInfo:
        """What is loaded, at once and without waiting."""
        ...

    def find(self, image: bytes, concepts: Sequence[Concept], options: FindOptions = ...) -> list[ConceptResult]:
        """One result per concept, in order. An image with no match is a result with a reason, not an error."""
        ...

    def outline(self, image: bytes, prompt: VisualPrompt, options: OutlineOptions = ...) -> list[Instance]:
        """Readings of one visual prompt, best first; empty when the model sees no object there."""
        ...
