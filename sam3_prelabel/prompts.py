"""Prompts of the command line: what to find, what it is not, and the options chosen for all or one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sam3_core.choices import OPEN, OPTIONS, Choices, read_choices
from sam3_core.errors import InvalidPrompt
from sam3_core.finish import DEFAULT_FINISH, Finish
from sam3_core.types import Concept


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one ``--prompt`` looks for, and how what it finds is drawn (nothing left open)."""

    concept: Concept
    finish: Finish = DEFAULT_FINISH


def read_prompts(
    prompts: Sequence[str], negatives: Sequence[str] = (), chosen: Sequence[str] = ()
) -> tuple[dict[str, Prompt], Choices]:
    """Prompts by name, and the options chosen for all of them.

    prompts: ``;`` separates synonyms, and the first one is the name. negatives: ``phrases`` for all prompts, or
    ``name=phrases`` for one. chosen: ``option=value`` or ``name:option=value``, which wins.
    Raises InvalidPrompt for a prompt without a word, a name that comes twice or is none, and a wrong option.
    """
    read = [Concept(phrases=tuple(prompt.split(";"))) for prompt in prompts]
    names = [concept.phrases[0] for concept in read]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidPrompt(f"the prompt {twice!r} is given twice")
    general, own = read_options(chosen, names)
    found: dict[str, Prompt] = {}
    for name, concept in zip(names, read, strict=True):
        choices = own.get(name, OPEN).over(general)
        refused = tuple(negatives_of(name, negatives, names))
        found[name] = Prompt(
            replace(concept, negatives=refused, rules=choices.rules), choices.finish.over(DEFAULT_FINISH)
        )
    return found, general


def negatives_of(name: str, negatives: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """The phrases that are negative for a prompt. Raises InvalidPrompt for those of a prompt that is not there."""
    for negative in negatives:
        owner, mark, phrases = negative.rpartition("=")
        if mark and owner.strip() not in names:
            raise InvalidPrompt(f"--negative {negative!r}: there is no prompt {owner.strip()!r}")
        if not mark or owner.strip() == name:
            yield from phrases.split(";")


def read_options(chosen: Sequence[str], names: Sequence[str] = ()) -> tuple[Choices, dict[str, Choices]]:
    """``option=value`` for everything, and ``name:option=value`` by name. Raises InvalidPrompt for what is wrong."""
    given: dict[str, dict[str, object]] = {}
    for one in chosen:
        place, mark, value = one.partition("=")
        owner, _, option = place.rpartition(":")
        owner, option = owner.strip(), option.strip().replace("-", "_")
        if not mark or option not in OPTIONS:
            raise InvalidPrompt(f"--set {one!r} is not OPTION=VALUE with an option of {', '.join(OPTIONS)}")
        if owner and owner not in names:
            raise InvalidPrompt(f"--set {one!r}: there is no prompt {owner!r}")
        given.setdefault(owner, {})[option] = value.strip()
    read: dict[str, Choices] = {}
    for owner, options in given.items():
        read[owner], wrong = read_choices(options, of_image=not owner)
        if wrong:
            raise InvalidPrompt(f"--set {wrong[0]}")
    return read.pop("", OPEN), read
