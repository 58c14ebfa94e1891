"""What Nuclio hands to a function, in this process; the real thing is in nuclio_wire. And segmenters that tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from sam3_core import (
    Caller,
    Concept,
    ConceptResult,
    EncodedImage,
    FindOptions,
    Instance,
    ModelInfo,
    ModelState,
    VisualPrompt,
)
from sam3_core.caller import BULK, CLICK
from sam3_core.rules import DEFAULT_RULES


@dataclass
class Response:
    """nuclio-sdk's, with its arguments."""

    headers: dict[str, str] | None = None
    body: Any = None
    content_type: str | None = None
    status_code: int = 200


@dataclass
class Logger:
    """lines: level and text of each."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def info(self, message: str) -> None:
        self.lines.append(("info", message))

    def warn(self, message: str) -> None:
        self.lines.append(("warn", message))

    def error(self, message: str) -> None:
        self.lines.append(("error", message))

    def of(self, level: str) -> str:
        return "\n".join(text for at, text in self.lines if at == level)


class Context:
    """A worker's context."""

    Response = Response

    def __init__(self) -> None:
        self.user_data = SimpleNamespace()
        self.logger = Logger()


@dataclass(frozen=True)
class Event:
    """A request: what JSON says, or bytes."""

    body: Any


class Script:
    """A ``Segmenter`` that answers with what it is given, where the model is not the point, and notes what is asked.

    found: instances by a concept's first phrase, "" for exemplars alone. outlined: for each call the next one.
    error: raised instead.
    """

    def __init__(
        self,
        found: dict[str, Sequence[Instance]] | None = None,
        outlined: Sequence[Sequence[Instance]] = (),
        error: Exception | None = None,
    ) -> None:
        self.found = found or {}
        self.outlined = list(outlined)
        self.error = error
        self.searches: list[tuple[tuple[Concept, ...], FindOptions]] = []
        self.prompts: list[VisualPrompt] = []
        self.callers: list[Caller] = []

    def info(self) -> ModelInfo:
        return ModelInfo("script", ModelState.READY, "cpu", "float32")

    def find(
        self,
        image: bytes | EncodedImage,
        concepts: Sequence[Concept],
        options: FindOptions | None = None,
        *,
        caller: Caller = BULK,
    ) -> list[ConceptResult]:
        self._asked(caller)
        self.searches.append((tuple(concepts), options or FindOptions()))
        return [self._result(concept) for concept in concepts]

    def outline(
        self,
        image: bytes | EncodedImage,
        prompt: VisualPrompt,
        options: object = None,
        *,
        caller: Caller = CLICK,
    ) -> list[Instance]:
        self._asked(caller)
        self.prompts.append(prompt)
        return list(self.outlined.pop(0))

    def warm(self, image: bytes | EncodedImage, *, caller: Caller = BULK) -> None:
        self._asked(caller)

    def _asked(self, caller: Caller) -> None:
        self.callers.append(caller)
        caller.check()
        if self.error:
            raise self.error

    def _result(self, concept: Concept) -> ConceptResult:
        instances = tuple(self.found.get(concept.phrases[0] if concept.phrases else "", ()))
        return ConceptResult(instances, 0.25, 0.125, concept.rules.over(DEFAULT_RULES), (20, 10))
