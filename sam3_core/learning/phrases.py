"""Which wording of a concept the model understands best: proposed wordings, and the choice among those tried."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sam3_core.learning.combine import Sheet
from sam3_core.learning.examples import Example
from sam3_core.learning.thresholds import fit_threshold
from sam3_core.wording import glossary_key, is_latin, readable

LEAST_GAIN, THIN_GAIN = 0.02, 1.0
"""Another wording must be better by this much F1, and about an object more: LEAST_GAIN + THIN_GAIN / objects. A
further phrase must add LEAST_GAIN."""

MOST_PHRASES, MOST_VARIANTS = 6, 8

_ARTICLES = {"a", "an", "the", "some", "any", "all", "every", "each"}
_IRREGULAR = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "child": "children",
    "foot": "feet",
    "tooth": "teeth",
    "goose": "geese",
    "mouse": "mice",
    "leaf": "leaves",
    "knife": "knives",
    "shelf": "shelves",
    "wolf": "wolves",
    "calf": "calves",
    "loaf": "loaves",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "bus": "buses",
    "gas": "gases",
    "lens": "lenses",
}
_SINGULAR = {plural: singular for singular, plural in _IRREGULAR.items()}
_UNCHANGED = {"sheep", "fish", "deer", "aircraft", "scissors", "glasses", "trousers", "series", "species"}
_LINKS = {"of", "with", "in", "on", "at", "for", "from", "and", "or", "without", "under", "over", "near", "to"}


@dataclass(frozen=True, slots=True)
class PhraseScore:
    """What a combination would have given on the reviewed images. threshold: 0..1, at which ``f1`` was reached."""

    phrases: tuple[str, ...]
    f1: float
    threshold: float


@dataclass(frozen=True, slots=True)
class PhraseFit:
    """phrases: those to ask, the asked ones where nothing did clearly better. threshold: to go with them; None where
    none was to be learned. tried: the asked ones first, then in the order in which they were tried."""

    phrases: tuple[str, ...]
    threshold: float | None
    tried: tuple[PhraseScore, ...]


_Scored = Callable[[tuple[str, ...]], PhraseScore]


def best_phrases(
    examples: Sequence[Example],
    asked: Sequence[str],
    offered: Sequence[str],
    *,
    default: float,
    learn_threshold: bool,
) -> PhraseFit:
    """The combination of asked and offered phrases that did best: the best single one and the asked ones together,
    each with what helps it added, and what does not help dropped, one at a time.

    F1 is at the threshold that would be learned for the combination, or at the default. Each phrase has to earn its
    place, and another combination has to be better than the asked one by more than thin data could pretend, see
    ``LEAST_GAIN``. Phrases that were not tried in every example cannot be compared and are left out; where an asked
    one was not, nothing is learned.
    """
    home = tuple(dict.fromkeys(asked))
    tried: dict[frozenset[str], PhraseScore] = {}

    def scored(phrases: tuple[str, ...]) -> PhraseScore:
        names = frozenset(phrases)
        if names not in tried:
            tried[names] = _score(examples, phrases, default, learn_threshold)
        return tried[names]

    own = scored(home)
    known = [one for one in dict.fromkeys((*home, *offered)) if all(one in example.found for example in examples)]
    ends = [own]
    if examples and set(home) <= set(known):
        single = max((scored((one,)) for one in known), key=_f1, default=own)
        ends += [_pruned(_grown(start, known, scored), scored) for start in (own, single)]
    best = max(ends, key=_f1)
    objects = sum(len(example.truth) for example in examples)
    if best.f1 <= own.f1 + LEAST_GAIN + THIN_GAIN / max(objects, 1):
        best = own
    return PhraseFit(best.phrases, best.threshold if learn_threshold else None, tuple(tried.values()))


def variants(label: str, phrases: Sequence[str]) -> tuple[str, ...]:
    """Wordings of a label that may be worth trying, at most 8, the likeliest first, none of them asked already.

    Its readable name, and of each English-looking phrase: without its article, in the other number (one or many), its
    noun with the first word before it, and its noun alone.
    """
    sources = [words for text in (readable(label), *phrases) if is_latin(text) and (words := _words(text))]
    ways = (_plain, _other_number, _shorter, _noun)
    proposed = [way(words) for way in ways for words in sources]
    seen = {glossary_key(phrase) for phrase in phrases}
    kept: list[str] = []
    for wording in proposed:
        if (key := glossary_key(wording)) not in seen:
            seen.add(key)
            kept.append(wording)
    return tuple(kept[:MOST_VARIANTS])


def _grown(start: PhraseScore, known: Sequence[str], scored: _Scored) -> PhraseScore:
    """With phrases added while one more is worth it."""
    while len(start.phrases) < MOST_PHRASES:
        longer = [scored((*start.phrases, one)) for one in known if one not in start.phrases]
        best = max(longer, key=_f1, default=start)
        if best.f1 <= start.f1 + LEAST_GAIN:
            break
        start = best
    return start


def _pruned(start: PhraseScore, scored: _Scored) -> PhraseScore:
    """Without the phrases that are not worth it."""
    while len(start.phrases) > 1:
        shorter = [scored(tuple(one for one in start.phrases if one != left)) for left in start.phrases]
        best = max(shorter, key=_f1)
        if best.f1 < start.f1 - LEAST_GAIN:
            break
        start = best
    return start


def _score(
    examples: Sequence[Example], phrases: tuple[str, ...], default: float, learn_threshold: bool
) -> PhraseScore:
    sheet = Sheet.of(examples, phrases)
    if not learn_threshold:
        return PhraseScore(phrases, sheet.tally(default).f1, default)
    fit = fit_threshold(sheet, default)
    return PhraseScore(phrases, fit.f1, fit.threshold)


def _f1(score: PhraseScore) -> float:
    return score.f1


def _words(text: str) -> list[str]:
    """Without the article in front."""
    words = text.split()
    return words[1:] if len(words) > 1 and words[0].lower() in _ARTICLES else words


def _head(words: Sequence[str]) -> int:
    """The place of the noun that the others describe: the last one, or the one before `of`, `with` and their like."""
    return next((place - 1 for place, word in enumerate(words) if place and word.lower() in _LINKS), len(words) - 1)


def _plain(words: Sequence[str]) -> str:
    return " ".join(words)


def _other_number(words: Sequence[str]) -> str:
    head = _head(words)
    return " ".join([*words[:head], _turned(words[head]), *words[head + 1 :]])


def _shorter(words: Sequence[str]) -> str:
    head = _head(words)
    return " ".join([words[0], words[head]] if head else [words[0]])


def _noun(words: Sequence[str]) -> str:
    return words[_head(words)]


def _turned(noun: str) -> str:
    """A noun's plural, or the singular of a plural, by the rules that fit most English nouns."""
    word = noun.lower()
    if word in _UNCHANGED or not word.isalpha():
        return noun
    if word in _IRREGULAR or word in _SINGULAR:
        return _IRREGULAR.get(word) or _SINGULAR[word]
    if re.search(r"[^s]s$", word) and not re.search(r"(us|is)$", word):
        return _one(noun)
    if re.search(r"[^aeiou]y$", word):
        return noun[:-1] + "ies"
    return noun + ("es" if re.search(r"(s|x|z|ch|sh)$", word) else "s")


def _one(noun: str) -> str:
    """The singular of a regular plural."""
    if re.search(r"[^aeiou]ies$", noun) and len(noun) > 4:
        return noun[:-3] + "y"
    return noun[:-2] if re.search(r"(sses|xes|zzes|ches|shes)$", noun) else noun[:-1]
