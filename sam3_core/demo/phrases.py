"""The grammar of the demo world: which phrases name which coloured shapes."""

from __future__ import annotations

COLORS: tuple[str, ...] = ("red", "green", "blue", "yellow", "orange", "purple", "white", "black")
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star")

_ARTICLES = ("a", "an", "the")
_ANY_SHAPE = ("shape", "object", "thing")
_SYNONYMS = {"disc": "circle", "disk": "circle", "round shape": "circle"}
_NOUNS = {**{shape: shape for shape in SHAPES}, **_SYNONYMS, **dict.fromkeys(_ANY_SHAPE, "")}
# Nouns with their plurals; the value is the shape meant, or "" where every shape is.
_MEANING = _NOUNS | {noun + "s": shape for noun, shape in _NOUNS.items()}


def phrase_matches(phrase: str, color: str, shape: str) -> bool:
    """Whether `phrase` names an object of this `color` and `shape`.

    Understood are "<color>", "<noun>" and "<color> <noun>", where the noun is a shape, one of its
    synonyms, or "shape", "object", "thing" for any shape; nouns may be plural. Case, a leading
    article and underscores for spaces make no difference. Any other phrase matches nothing.
    """
    words = phrase.lower().replace("_", " ").split()
    if words and words[0] in _ARTICLES:
        del words[0]
    if not words:
        return False
    if words[0] in COLORS and words.pop(0) != color:
        return False
    return not words or _MEANING.get(" ".join(words)) in ("", shape)


def known_words() -> tuple[str, ...]:
    """Every word of the grammar, lower case, sorted and without repeats (for the tokenizer)."""
    nouns = {word for noun in _MEANING for word in noun.split()}
    return tuple(sorted({*_ARTICLES, *COLORS, *nouns}))
