"""What attributes of a labeling config's tags say. Bad values are ignored, with a line in the log."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from sam3_core.choices import Choices, read_choices

log = logging.getLogger(__name__)

Attributes = Mapping[str, str]

_EXEMPLARS: dict[str, bool | None] = {"": None, "false": None, "true": True, "positive": True, "negative": False}


_told: ContextVar[list[str] | None] = ContextVar("sam3_told", default=None)


@contextmanager
def told() -> Iterator[list[str]]:
    """What ``tell`` is given in the block, in this thread."""
    sentences: list[str] = []
    token = _told.set(sentences)
    try:
        yield sentences
    finally:
        _told.reset(token)


def tell(sentence: str) -> None:
    """Something in a labeling config that is not as its author meant it: a line in the log, and in what is shown."""
    log.warning("%s", sentence)
    sentences = _told.get()
    if sentences is not None:
        sentences.append(sentence)


def is_true(attributes: Attributes, name: str, default: bool = False) -> bool:
    """Whether an attribute says "true", in any case; ``default`` where it is missing."""
    text = attributes.get(name)
    return default if text is None else text.strip().lower() == "true"


def split_phrases(text: str | None) -> tuple[str, ...]:
    """The phrases of a text, between semicolons and line ends; empty ones dropped."""
    return tuple(part.strip() for part in re.split(r"[;\r\n]", text or "") if part.strip())


def split_words(text: str | None) -> tuple[str, ...]:
    """The words of a list, between commas; empty ones dropped."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def read_options(owner: str, attributes: Attributes, *, of_image: bool = False) -> Choices:
    """What a tag's attributes choose. of_image: whether it is an ``<Image>`` tag."""
    choices, wrong = read_choices(attributes, of_image=of_image)
    for sentence in wrong:
        tell(f"{owner}: {sentence}; it is ignored")
    return choices


def read_candidates(owner: str, attributes: Attributes) -> int:
    """``candidates``, 1..3; 1 where it is missing or no such number."""
    text = attributes.get("candidates")
    if text is None or text.strip() in ("1", "2", "3"):
        return int(text or 1)
    tell(f'{owner}: candidates="{text}" is not 1, 2 or 3 and is ignored')
    return 1


def read_exemplar(owner: str, attributes: Attributes, default: bool | None = None) -> bool | None:
    """``exemplar``: True, False for "negative", None for "false"; ``default`` where it says nothing."""
    text = attributes.get("exemplar")
    if text is None:
        return default
    known = text.strip().lower()
    if known not in _EXEMPLARS:
        tell(f'{owner}: exemplar="{text}" is not true, negative or false and is ignored')
        return default
    return _EXEMPLARS[known]
