"""What to ask of a scene: phrases, present and absent, and exemplar boxes, with their answers."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass

from sam3_core.demo.scenes import COLORS, SHAPES, phrase_matches
from tools.demo.words import OTHER_NOUNS


@dataclass(frozen=True)
class Question:
    """One concept asked of one scene: a phrase or exemplar boxes, and which objects are the answer."""

    phrase: str
    answer: tuple[int, ...]
    positive: tuple[int, ...] = ()
    negative: tuple[int, ...] = ()


def text_question(kinds: list[tuple[str, str]], rng: random.Random) -> Question:
    """A phrase for a scene of (colour, shape) objects: present three times in four, else absent, often narrowly."""
    present = rng.random() < 0.74
    phrase = _present_phrase(kinds, rng) if present else _absent_phrase(kinds, rng)
    return Question(phrase, tuple(i for i, kind in enumerate(kinds) if phrase_matches(phrase, *kind)))


def exemplar_question(kinds: list[tuple[str, str]], rng: random.Random) -> Question:
    """Boxes that show a concept: what all positives share (name, else shape, else colour, else being an object)."""
    first = rng.randrange(len(kinds))
    positive: tuple[int, ...] = (first,)
    draw = rng.random()
    color, shape = kinds[first]
    if draw < 0.2:
        same_shape = [i for i, kind in enumerate(kinds) if kind[1] == shape and kind[0] != color]
        same_color = [i for i, kind in enumerate(kinds) if kind[0] == color and kind[1] != shape]
        if same_shape and (rng.random() < 0.5 or not same_color):
            positive, color = (first, rng.choice(same_shape)), ""
        elif same_color:
            positive, shape = (first, rng.choice(same_color)), ""
    answer = tuple(i for i, (c, s) in enumerate(kinds) if color in ("", c) and shape in ("", s))
    others = [i for i in range(len(kinds)) if i not in answer]
    negative = (rng.choice(others),) if others and rng.random() < 0.2 else ()
    phrase = "visual" if rng.random() < 0.85 else _name_of(color, shape, rng)
    return Question(phrase, answer, positive, negative)


def _name_of(color: str, shape: str, rng: random.Random) -> str:
    noun = shape or rng.choice(("shape", "object", "thing"))
    if rng.random() < 0.15:
        noun = {"circle": rng.choice(("disc", "disk", "round shape"))}.get(noun, noun)
    return _worded(f"{color} {noun}".strip(), rng)


def _worded(phrase: str, rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.15:
        return phrase + "s"
    if draw < 0.22:
        return rng.choice(("a ", "the ")) + phrase
    return phrase


def _present_phrase(kinds: list[tuple[str, str]], rng: random.Random) -> str:
    color, shape = rng.choice(kinds)
    draw = rng.random()
    if draw < 0.52:
        return _name_of(color, shape, rng)
    if draw < 0.72:
        return _name_of("", shape, rng)
    if draw < 0.85:
        return _name_of(color, "", rng)
    if draw < 0.89:
        return color
    return _name_of("", "", rng)


def _absent_phrase(kinds: list[tuple[str, str]], rng: random.Random) -> str:
    """Mostly near misses: the colour of one object with the shape of another."""
    colors, shapes = {c for c, _ in kinds}, {s for _, s in kinds}
    draw = rng.random()
    if draw < 0.38:
        near = [(c, s) for c in sorted(colors) for s in sorted(shapes) if (c, s) not in kinds]
        if near:
            return _name_of(*rng.choice(near), rng)
    if draw < 0.55:
        return _name_of(rng.choice([c for c in COLORS if c not in colors] or ["pink"]), rng.choice(SHAPES), rng)
    if draw < 0.66 and len(shapes) < len(SHAPES):
        return _name_of("", rng.choice([s for s in SHAPES if s not in shapes]), rng)
    if draw < 0.74:
        return _name_of(rng.choice([c for c in COLORS if c not in colors] or ["grey"]), "", rng)
    noun = rng.choice(OTHER_NOUNS) if rng.random() < 0.75 else _gibberish(rng)
    if rng.random() < 0.3:
        return f"{rng.choice(COLORS)} {noun}"
    return _worded(noun, rng)


def _gibberish(rng: random.Random) -> str:
    return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(3, 10)))
