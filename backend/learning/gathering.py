"""Evidence: each wording of each label, asked alone of each reviewed image, down to low scores."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from backend.labeling import ImageSource, Label, Plan
from backend.learning.evidence import Evidence
from backend.learning.reviewed import Album, ReviewedImage
from sam3_core import Caller, Concept, EncodedImage, FindOptions, Lane, Segmenter
from sam3_core.errors import Sam3Error
from sam3_core.learning.examples import Candidate, Example, Heard

FLOOR = 0.05
"""Least score of evidence: no threshold below it is ever learned."""

Examples = Mapping[str, Sequence[Example]]
"""By label value."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One wording of one label. question: see ``Evidence.of``."""

    label: str
    phrase: str
    concept: Concept
    question: str


class Gatherer:
    """Asks a segmenter, and remembers. For one thread.

    version: names the weights. told: hears after each image which share of them is done; what it raises ends it all.
    """

    def __init__(
        self, segmenter: Segmenter, evidence: Evidence, album: Album, version: str, told: Callable[[float], None]
    ) -> None:
        self._segmenter = segmenter
        self._evidence = evidence
        self._album = album
        self._version = version
        self._told = told

    def examples(
        self,
        images: Sequence[ReviewedImage],
        plan: Plan,
        wordings: Mapping[str, Sequence[str]],
        adapters: Mapping[str, str],
    ) -> Examples:
        """What each of a label's wordings finds on the images, and what is there.

        wordings: by label, besides its own phrases. adapters: by label, where others than the checkpoint's are asked.
        Images that cannot be had are left out. Raises what keeps the model from working.
        """
        examples: dict[str, list[Example]] = {}
        for number, (image, picture) in enumerate(self._album.usable(images)):
            source = plan.source(image.spot.source)
            assert source is not None  # the images come from this plan
            heard = self._heard(image, picture, source, wordings, adapters)
            for label, found in heard.items():
                examples.setdefault(label, []).append(Example(image.group, image.truth[label], found))
            self._told((number + 1) / len(images))
        return examples

    def _heard(
        self,
        image: ReviewedImage,
        picture: EncodedImage,
        source: ImageSource,
        wordings: Mapping[str, Sequence[str]],
        adapters: Mapping[str, str],
    ) -> dict[str, dict[str, Heard]]:
        """By label and phrase."""
        prefix = f"{self._version} {picture.key} {source.tiles}"
        asked = [
            _Asked(label.value, phrase, concept, _fingerprint(prefix, concept))
            for label in source.labels
            for phrase in dict.fromkeys((*label.concept.phrases, *wordings.get(label.value, ())))
            if (concept := _alone(label, phrase, adapters.get(label.value, "")))
        ]
        questions = {one.question for one in asked}
        known = self._evidence.of(image.spot, questions)
        new = {one.question: one.concept for one in asked if one.question not in known}
        if new:
            options = FindOptions(tiles=source.tiles, features=True)
            results = self._segmenter.find(picture, tuple(new.values()), options, caller=Caller(Lane.BULK))
            found = {
                question: Heard(
                    result.presence, tuple(Candidate(i.mask, i.score, i.feature) for i in result.instances)
                )
                for question, result in zip(new, results, strict=True)
            }
            self._evidence.keep(image.spot, found, self._album.size(image), beside=questions)
            known |= found
        heard: dict[str, dict[str, Heard]] = {label.value: {} for label in source.labels}
        for one in asked:
            heard[one.label][one.phrase] = known[one.question]
        return heard


def _alone(label: Label, phrase: str, adapter: str) -> Concept | None:
    """One wording under the label's own rules, down to low scores and whatever else claims the objects; None for what
    is no phrase."""
    rules = replace(label.concept.rules, threshold=FLOOR, presence=0.0, max_instances=None, top_k=0, overlap=True)
    try:
        return Concept((phrase,), negatives=label.concept.negatives, rules=rules, adapter=adapter)
    except Sam3Error:
        return None


def _fingerprint(prefix: str, concept: Concept) -> str:
    text = repr((prefix, concept.adapter, concept.phrases, concept.negatives, concept.rules))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
