"""The best that somebody who knew the answers could write into the labeling config: phrases and thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from sam3_core import Concept, FindOptions, Segmenter
from sam3_core.learning.combine import Sheet
from sam3_core.learning.examples import Candidate, Example, Heard, Truth
from sam3_core.rules import Rules
from tools.learning.project import LABELS, Wanted, setting
from tools.learning.world import Sample

_LEAST = 0.02
_THRESHOLDS = tuple(round(float(step), 3) for step in [*np.arange(0.05, 0.95, 0.05), 0.95, 0.97])


def best_settings(segmenter: Segmenter, samples: Sequence[Sample]) -> dict[str, Wanted]:
    """Each label with the phrases of its own and the threshold whose F1 on these pictures is highest.

    Every set of its phrases is tried at every threshold, on the pictures that are measured on: no honest learner can
    be expected to reach it. Labels are settled one by one; that two of them may claim one object is left out.
    """
    heard = [_hear(segmenter, sample) for sample in samples]
    chosen: dict[str, Wanted] = {}
    for label in LABELS:
        examples = [
            Example(sample.name, tuple(map(Truth, label.truth(sample))), found)
            for sample, found in zip(samples, heard, strict=True)
        ]
        _, _, phrases, threshold = max(_tried(label, examples), key=lambda one: one[:2])
        chosen[label.value] = setting(label, phrases, threshold)
    return chosen


def _hear(segmenter: Segmenter, sample: Sample) -> dict[str, Heard]:
    """What every phrase of the project finds in a picture, asked alone."""
    phrases = tuple(dict.fromkeys(phrase for label in LABELS for phrase in label.phrases))
    options = FindOptions(rules=Rules(threshold=_LEAST, overlap=True))
    results = segmenter.find(sample.image, [Concept((phrase,)) for phrase in phrases], options)
    return {
        phrase: Heard(result.presence, tuple(Candidate(one.mask, one.score) for one in result.instances))
        for phrase, result in zip(phrases, results, strict=True)
    }


def _tried(label: Wanted, examples: Sequence[Example]) -> Iterator[tuple[float, int, tuple[str, ...], float]]:
    """F1, fewer phrases first (as a negative number), phrases and threshold of each way to write the label."""
    for count in range(1, len(label.phrases) + 1):
        for phrases in combinations(label.phrases, count):
            sheet = Sheet.of(examples, phrases)
            for threshold in _THRESHOLDS:
                yield sheet.tally(threshold).f1, -count, phrases, threshold
