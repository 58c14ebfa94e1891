"""What an annotator typed: the phrases, and the labels they mean."""

from __future__ import annotations

from collections.abc import Iterable

from backend.attributes import split_phrases
from backend.bodies import ContextRegion
from backend.labeling import ImageSource, Label, Plan
from sam3_core import Concept
from sam3_core.errors import InvalidPrompt
from sam3_core.wording import readable

MAX_PHRASES = 64
"""In one request. A phrase costs a pass of the text encoder and a share of the decoder's memory."""


def typed_phrases(region: ContextRegion, plan: Plan) -> tuple[str, ...]:
    """The phrases of all rows of a ``TextArea`` that is there for prompts; none for other regions."""
    source = plan.source(region.to_name)
    if region.type != "textarea" or (source is not None and region.from_name in source.notes):
        return ()
    text = region.value.get("text")
    rows = text if isinstance(text, list) else [text]
    return tuple(phrase for row in rows if isinstance(row, str) for phrase in split_phrases(row))


def by_label(phrases: Iterable[str], source: ImageSource) -> list[tuple[Label, tuple[str, ...]]]:
    """The phrases of each label they mean, in the order of the labels' first phrase; see ``meant``.

    Raises InvalidPrompt for more than MAX_PHRASES.
    """
    phrases = tuple(phrases)
    if len(phrases) > MAX_PHRASES:
        raise InvalidPrompt(f"{len(phrases)} phrases at once are more than {MAX_PHRASES}")
    found: dict[str, tuple[Label, tuple[str, ...]]] = {}
    for phrase in phrases:
        label = meant(phrase, source)
        _, before = found.get(label.value, (label, ()))
        found[label.value] = (label, (*before, phrase))
    return list(found.values())


def meant(phrase: str, source: ImageSource) -> Label:
    """The label that a phrase names, by value, ``predicted_values`` or ``prompt``, in this order; else the first."""
    labels = source.labels
    for named in (_is_called, _is_named, _is_predicted, _is_looked_for):
        for label in labels:
            if named(label, phrase):
                return label
    return labels[0]


def concept_of(label: Label, phrases: Iterable[str]) -> Concept:
    """What to look for: the label's own phrases where it was named, else those typed, under the label's rules."""
    wanted: list[str] = []
    for phrase in phrases:
        wanted += label.concept.phrases if _is_named(label, phrase) else (phrase,)
    return Concept(tuple(wanted), negatives=label.concept.negatives, rules=label.concept.rules)


def _is_called(label: Label, phrase: str) -> bool:
    return phrase.lower() in (label.value.lower(), label.shown.lower())


def _is_named(label: Label, phrase: str) -> bool:
    return _is_one_of(phrase, (label.value, label.shown))


def _is_predicted(label: Label, phrase: str) -> bool:
    return _is_one_of(phrase, label.predicted)


def _is_looked_for(label: Label, phrase: str) -> bool:
    return _is_one_of(phrase, label.concept.phrases)


def _is_one_of(phrase: str, names: Iterable[str]) -> bool:
    """Whether the phrase is one of the names but for case, underscores and the like."""
    forms = {" ".join(phrase.lower().split()), readable(phrase)}
    return any(name and not forms.isdisjoint((name.lower(), readable(name))) for name in names)
