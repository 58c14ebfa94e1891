"""What a search with several phrases would have found, at every threshold, out of what each of them found alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from sam3_core.learning.examples import Candidate, Example
from sam3_core.learning.measure import LEAST_IOU, Tally, matched, overlaps
from sam3_core.masks import Mask
from sam3_core.prototypes import Prototypes
from sam3_core.types import FindOptions

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_SEARCH = FindOptions()


@dataclass(frozen=True, slots=True, eq=False)
class Combined:
    """One example's candidates, best first, without duplicates: those a search at a threshold gives are the first
    ones, as many as reach it.

    scores: ``(n,)`` float64, 0..1, falling, after the prototypes had their say. true: ``(n,)``, whether it is an
    object of the truth that no better one is. ious: ``(n,)``, with that object, else with the one it overlaps most.
    truths: how many objects there are.
    """

    candidates: tuple[Candidate, ...]
    scores: Floats
    true: Bools
    ious: Floats
    truths: int

    def tally(self, threshold: float) -> Tally:
        """Of what reaches the threshold, 0..1. Presence is not asked."""
        shown = int(np.count_nonzero(self.scores >= threshold))
        hits = int(np.count_nonzero(self.true[:shown]))
        return Tally(hits, shown - hits, self.truths - hits, float(self.ious[:shown][self.true[:shown]].sum()))


def combined(
    example: Example,
    phrases: Sequence[str],
    prototypes: Prototypes | None = None,
    *,
    duplicate_iou: float = _SEARCH.duplicate_iou,
    contained_share: float = _SEARCH.contained_share,
) -> Combined:
    """As if the phrases were asked together; see ``FindOptions`` for the limits, ``dedupe.duplicates`` for the rule.

    A phrase that was not asked found nothing. Candidates without a feature keep their score. Not quite a search: what
    a phrase alone held for a duplicate does not come back when the better one loses its place.
    """
    pool, limits = _pool(example), (duplicate_iou, contained_share)
    if prototypes is not None:
        return _combined(pool, phrases, prototypes, limits)
    key = (tuple(phrases), limits)
    if key not in pool.plain:
        pool.plain[key] = _combined(pool, phrases, None, limits)
    return pool.plain[key]


def _combined(
    pool: _Pool, phrases: Sequence[str], prototypes: Prototypes | None, limits: tuple[float, float]
) -> Combined:
    places = np.array(
        [place for phrase in dict.fromkeys(phrases) for place in pool.spans.get(phrase, ())], dtype=np.intp
    )
    scores = pool.rescored(places, prototypes)
    order = np.argsort(-scores, kind="stable")
    places, scores = places[order], scores[order]
    kept = _kept(places.tolist(), pool.covered_by(limits))
    places, scores, ious = places[kept], scores[kept], pool.ious[places[kept]]
    true = np.zeros(len(places), dtype=np.bool_)
    best = ious.max(axis=1, initial=0.0)
    for pair in matched(ious, LEAST_IOU):
        true[pair.found], best[pair.found] = True, pair.iou
    return Combined(
        tuple(pool.candidates[place] for place in places.tolist()), scores, true, best, pool.ious.shape[1]
    )


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """The candidates of many examples in one table, best first, equal scores in the order of the examples.

    scores: ``(n,)`` 0..1. true: ``(n,)``. groups: ``(n,)``, whose they are, 0..g - 1. truths: ``(g,)``, how many
    objects each group has; groups are numbered in the order of their names.
    """

    scores: Floats
    true: Bools
    groups: NDArray[np.intp]
    truths: NDArray[np.int64]

    @classmethod
    def of(cls, examples: Sequence[Example], phrases: Sequence[str], prototypes: Prototypes | None = None) -> Sheet:
        """Of ``combined`` for each."""
        numbers = {group: number for number, group in enumerate(sorted({one.group for one in examples}))}
        parts = [combined(example, phrases, prototypes) for example in examples]
        owners = np.array([numbers[example.group] for example in examples], dtype=np.intp)
        sizes = np.array([len(part.scores) for part in parts], dtype=np.intp)
        scores = np.concatenate([np.zeros(0), *(part.scores for part in parts)])
        true = np.concatenate([np.zeros(0, np.bool_), *(part.true for part in parts)])
        order = np.argsort(-scores, kind="stable")
        groups = np.repeat(owners, sizes)
        truths = np.zeros(len(numbers), dtype=np.int64)
        np.add.at(truths, owners, np.array([part.truths for part in parts], dtype=np.int64))
        return cls(scores[order], true[order], groups[order], truths)

    def tally(self, threshold: float) -> Tally:
        """Of what reaches the threshold, 0..1; without ``ious``."""
        shown = self.scores >= threshold
        hits = int(np.count_nonzero(self.true & shown))
        return Tally(hits, int(np.count_nonzero(shown)) - hits, int(self.truths.sum()) - hits)


def _kept(places: Sequence[int], covered_by: Sequence[frozenset[int]]) -> NDArray[np.intp]:
    """Positions in ``places`` of those that no better one that stays covers: the greedy rule of ``duplicates``."""
    stays: set[int] = set()
    positions = []
    for position, place in enumerate(places):
        if stays.isdisjoint(covered_by[place]):
            stays.add(place)
            positions.append(position)
    return np.array(positions, dtype=np.intp)


class _Pool:
    """All candidates of an example, and every comparison of two masks: made once, as learners combine them often."""

    def __init__(self, example: Example) -> None:
        self.candidates: list[Candidate] = []
        self.spans: dict[str, range] = {}
        for phrase, heard in example.found.items():
            start = len(self.candidates)
            self.candidates += [one for one in heard.candidates if one.mask.area]
            self.spans[phrase] = range(start, len(self.candidates))
        masks = [one.mask for one in self.candidates]
        self.scores = np.array([one.score for one in self.candidates], dtype=np.float64)
        self.ious = overlaps(masks, example.truth)
        self.plain: dict[tuple[tuple[str, ...], tuple[float, float]], Combined] = {}
        self._covered: dict[tuple[float, float], list[frozenset[int]]] = {}
        self._features = _features(self.candidates)

    def rescored(self, places: NDArray[np.intp], prototypes: Prototypes | None) -> Floats:
        """The scores of the candidates at these places, ``(n,)``."""
        scores = self.scores[places]
        has, rows = self._features
        seen = has[places]
        if prototypes is None or not seen.any():
            return scores
        scores[seen] = prototypes.rescored(scores[seen].astype(np.float32), rows[places[seen]])
        return scores

    def covered_by(self, limits: tuple[float, float]) -> list[frozenset[int]]:
        """Of each candidate, which others make it superfluous where they are better. limits: of ``combined``."""
        if limits not in self._covered:
            self._covered[limits] = _covers([one.mask for one in self.candidates], *limits)
        return self._covered[limits]


_pools: WeakKeyDictionary[Example, _Pool] = WeakKeyDictionary()


def _pool(example: Example) -> _Pool:
    """Kept as long as the example is."""
    pool = _pools.get(example)
    if pool is None:
        pool = _pools[example] = _Pool(example)
    return pool


def _features(candidates: Sequence[Candidate]) -> tuple[Bools, NDArray[np.float32]]:
    """Who has a feature, ``(n,)``, and the features, ``(n, D)``, with zeros for who has none."""
    has = np.array([one.feature is not None for one in candidates], dtype=np.bool_)
    width = next((len(one.feature) for one in candidates if one.feature is not None), 0)
    rows = np.zeros((len(candidates), width), dtype=np.float32)
    for place, one in enumerate(candidates):
        if one.feature is not None:
            rows[place] = one.feature
    return has, rows


def _covers(masks: Sequence[Mask], iou: float, contained: float) -> list[frozenset[int]]:
    """By the limits of ``dedupe.Crowd.covered``, and like there only pairs that could pass are compared by pixels."""
    boxes = np.array([mask.box for mask in masks], dtype=np.int64).reshape(-1, 4)
    areas = np.array([mask.area for mask in masks], dtype=np.int64)
    lower = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    sides = np.maximum(np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - lower, 0)
    most = np.minimum(sides.prod(axis=2), np.minimum(areas[:, None], areas[None, :]))
    both = areas[:, None] + areas[None, :]
    smaller = np.minimum(areas[:, None], areas[None, :])
    enough = np.triu((most > contained * smaller) | (most > iou * (both - most)), 1)
    covers: list[set[int]] = [set() for _ in masks]
    for one, other in zip(*(axis.tolist() for axis in np.nonzero(enough)), strict=True):
        shared = masks[one].intersection(masks[other])
        same = shared > iou * (both[one, other] - shared)
        if same or shared > contained * areas[one]:
            covers[one].add(other)
        if same or shared > contained * areas[other]:
            covers[other].add(one)
    return [frozenset(one) for one in covers]
