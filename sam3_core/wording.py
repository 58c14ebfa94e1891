"""Wording: what the model is asked for a phrase as a person wrote it.

SAM 3's text encoder was trained on English. Other Latin words still come near something; other scripts reach it as
meaningless pieces of letters, without any error. So phrases are looked up in a glossary, then translated where a
translation model is there, and what is left in another script gets a note.
"""

from __future__ import annotations

import logging
import re
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sam3_core.errors import BadSettings, Sam3Error

log = logging.getLogger(__name__)

_KEPT = 1024  # phrases whose wording is remembered
_COLONS = ":："


@dataclass(frozen=True, slots=True)
class Worded:
    """asked: the phrases that stand for the written one, at least one. notes: sentences about them for a person."""

    asked: tuple[str, ...]
    notes: tuple[str, ...] = ()


Wording = Callable[[str], Worded]


def as_written(phrase: str) -> Worded:
    """The phrase itself."""
    return Worded((phrase,))


def read_glossary(path: Path) -> dict[str, tuple[str, ...]]:
    """A glossary file: UTF-8, one ``phrase: English phrase; synonym`` a line; ``#`` starts a comment line.

    Returns English phrases by ``glossary_key``. Raises BadSettings, with the line, for what cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"SAM3_GLOSSARY: {path} cannot be read: {error}") from None
    glossary: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        place = min((line.index(colon) for colon in _COLONS if colon in line), default=len(line))
        key = glossary_key(line[:place])
        asked = tuple(" ".join(part.split()) for part in line[place + 1 :].split(";") if part.strip())
        if not key or not asked:
            raise BadSettings(
                f"SAM3_GLOSSARY: line {number} of {path} is not like `公交车: bus`: {line.strip()!r:.80}"
            )
        if key in glossary:
            raise BadSettings(f"SAM3_GLOSSARY: line {number} of {path} gives {line[:place].strip()!r:.80} once more")
        glossary[key] = asked
    return glossary


def glossary_key(phrase: str) -> str:
    """What phrases are compared by: no difference in case, width and kind of characters (NFKC), or spaces."""
    return " ".join(unicodedata.normalize("NFKC", phrase).casefold().split())


def readable(name: str) -> str:
    """A label's name as a noun phrase in lower case: ``school_bus`` and ``School-Bus_2`` become ``school bus``.

    A number at the end goes only where its punctuation marks it as an id (``_2``, ``#2``, ``(2)``, ``[2]``), so that
    ``formula 1`` and ``T-34`` keep theirs.
    """
    text = re.sub(r"(?<=\w)\s*(?:_\d+|#\d+|\(\d+\)|\[\d+\])\s*$", "", name.strip())
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    text = re.sub(r"[_\s]+|(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})", " ", text)
    return " ".join(text.split()).lower() or name.strip()


def is_latin(text: str) -> bool:
    """Whether all its letters are Latin; digits and signs are no letters."""
    return all(unicodedata.name(char, "").startswith("LATIN") for char in text if char.isalpha())


class Words:
    """A ``Wording``. Callable from any thread; a phrase is translated and warned about once."""

    def __init__(
        self,
        glossary: Mapping[str, tuple[str, ...]],
        translate: Callable[[str], str] | None = None,
        *,
        translate_latin: bool = False,
    ) -> None:
        """glossary: from ``read_glossary``. translate: to English; what it raises becomes a note.

        translate_latin: whether it gets phrases in Latin letters too; they may be English already.
        """
        self._glossary = glossary
        self._translate = translate
        self._translate_latin = translate_latin
        self._known: OrderedDict[str, Worded] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, phrase: str) -> Worded:
        """What is asked for a phrase."""
        with self._lock:
            if phrase in self._known:
                self._known.move_to_end(phrase)
                return self._known[phrase]
        worded = self._worded(phrase)
        for note in worded.notes:
            log.warning("%s", note)
        with self._lock:
            self._known[phrase] = worded
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return worded

    def _worded(self, phrase: str) -> Worded:
        if asked := self._glossary.get(glossary_key(phrase)):
            return Worded(asked)
        if self._translate is None or (is_latin(phrase) and not self._translate_latin):
            return Worded((phrase,), _warnings(phrase))
        try:
            english = " ".join(self._translate(phrase).split())
        except Sam3Error as error:
            return Worded((phrase,), (f"{phrase!r} could not be translated: {error}", *_warnings(phrase)))
        if not english:
            return Worded((phrase,), (f"{phrase!r} could not be translated", *_warnings(phrase)))
        changed = glossary_key(english) != glossary_key(phrase)
        notes = (f"{phrase!r} was translated: {english!r}",) if changed else ()
        return Worded((english,), notes + _warnings(english))


def _warnings(phrase: str) -> tuple[str, ...]:
    if is_latin(phrase):
        return ()
    return (
        f"{phrase!r} is not in Latin letters, and the model was trained on English: write an English prompt, "
        "or add the phrase to the glossary (SAM3_GLOSSARY)",
    )
