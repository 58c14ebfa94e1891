"""The contract between the core and everything that uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sam3_core.caller import Caller
from sam3_core.images import EncodedImage
from sam3_core.results import ConceptResult, Instance
from sam3_core.types import Concept, FindOptions, ModelInfo, OutlineOptions, VisualPrompt


class Segmenter(Protocol):
    """Turns prompts into masks. Adapters cannot tell whether the weights live here or in another process.

    Every method may be called from any thread. ``image`` is always the encoded file (JPEG, PNG, ...), as it
    came: implementations hash it first, so that a picture seen before is not decoded again. Callers that ask
    about one picture many times pass the same ``EncodedImage``, which is hashed once.

    ``find``, ``outline`` and ``warm`` wait for weights that are still loading, for a bounded time, then raise
    NotReady; they raise ModelUnavailable when loading failed, BrokenImage or TooLarge for a bad picture,
    InvalidPrompt for a prompt that names nothing in it.

    ``caller`` says in which lane the work waits for the device, how long and for whom; without one ``outline`` waits
    among the clicks, the others with the bulk, for as long as it takes. Raises Busy at once when too many wait
    already, OutOfTime or Dropped when the time is spent or nobody waits any more by the time of a turn, OutOfMemory
    for what the device cannot hold.
    """

    def info(self) -> ModelInfo:
        """What is loaded, at once and without waiting."""
        ...

    def find(
        self,
        image: bytes | EncodedImage,
        concepts: Sequence[Concept],
        options: FindOptions = ...,
        *,
        caller: Caller = ...,
    ) -> list[ConceptResult]:
        """One result per concept, in order. An image with no match is a result with a reason, not an error."""
        ...

    def outline(
        self,
        image: bytes | EncodedImage,
        prompt: VisualPrompt,
        options: OutlineOptions = ...,
        *,
        caller: Caller = ...,
    ) -> list[Instance]:
        """Readings of one visual prompt, best first; empty when the model sees no object there."""
        ...

    def warm(self, image: bytes | EncodedImage, *, caller: Caller = ...) -> None:
        """Encode the image now, for all kinds of prompts, so that the first one is answered like a later one."""
        ...
