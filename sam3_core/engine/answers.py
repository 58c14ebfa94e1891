"""From what each prompt found to what the caller gets: the rules applied, duplicates and look-alikes removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sam3_core.dedupe import (
    Bools,
    Crowd,
    annotated,
    best_first,
    calibrated,
    duplicates,
    lookalikes,
    shared_out,
    shown,
)
from sam3_core.engine.found import Found, rescored
from sam3_core.engine.plan import Step
from sam3_core.logits import mask_from_logits
from sam3_core.prototypes import Prototypes
from sam3_core.results import ConceptResult, Instance, Removal
from sam3_core.rules import Area
from sam3_core.types import Box, FindOptions

if TYPE_CHECKING:
    from sam3_core.engine.clicks import Readings

_SAME = 0.98
"""Readings of a click that overlap more (mask IoU) are one to the annotator's eye."""

_FULL = 0.95
"""The model names at most so many objects at once as it has queries (SAM 3: 200); near that share of them, it may
have run out."""


@dataclass(frozen=True, slots=True)
class Search:
    """How an image was searched. size: ``(width, height)`` in pixels. tiles: besides the whole. resolution: the side
    in pixels of what the model sees at once."""

    size: tuple[int, int]
    tiles: int = 0
    resolution: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Draft:
    """One concept's answer before the others are looked at: what is left, best first, and what was taken away.

    own: by phrase, what was found for it, by scores in which its prototypes have had their say.
    """

    step: Step
    own: Sequence[tuple[str, Found]]
    crowd: Crowd
    removed: Counter[Removal]

    @property
    def threshold(self) -> float:
        return _threshold(self.step)

    def without(self, gone: Bools, why: Removal) -> _Draft:
        """Without those that are gone, ``(n,)`` bool; counted are the ones that had reached the threshold."""
        counted = int(np.count_nonzero(gone & (self.crowd.scores >= self.threshold)))
        return replace(self, crowd=self.crowd.where(~gone), removed=self.removed + Counter({why: counted}))


def answers(
    steps: Sequence[Step], found: Sequence[Found], search: Search, options: FindOptions
) -> list[ConceptResult]:
    """One answer per concept, in order, from what each of the plan's prompts found."""
    drafts = _shared_out([_draft(step, found, search, options) for step in steps], options)
    return [_result(draft, search, options) for draft in drafts]


def _draft(step: Step, found: Sequence[Found], search: Search, options: FindOptions) -> _Draft:
    """One concept's instances by its own rules.

    What cannot be an answer goes before duplicates are judged, so that nothing else goes with it: what is too large
    (its parts may be what is wanted), or shown by a negative exemplar. What could be one, but is not wanted, goes
    after: a worse reading of it is no better.
    """
    rules = step.rules
    iou, contained = options.duplicate_iou, options.contained_share
    own = _own(step, found)
    draft = _Draft(step, own, _candidates(step, own), Counter())
    absent = _presence(own) < (rules.presence or 0.0)
    draft = draft.without(np.full(len(draft.crowd.instances), absent), Removal.ABSENT)
    draft = draft.without(draft.crowd.areas < (rules.min_area or Area(0)).pixels(search.size), Removal.SMALL)
    if rules.max_area is not None:
        draft = draft.without(draft.crowd.areas > rules.max_area.pixels(search.size), Removal.LARGE)
    draft = draft.without(_in_any(draft.crowd, step.refused), Removal.NEGATIVE)
    draft = draft.without(duplicates(draft.crowd, iou=iou, contained=contained), Removal.DUPLICATE)
    draft = draft.without(_unwanted(draft, found, options.negative_margin), Removal.NEGATIVE)
    drawn = annotated(draft.crowd, step.drawn, iou=iou, contained=contained)
    return _cut(draft.without(drawn, Removal.DRAWN), int(np.count_nonzero(drawn)))


def _own(step: Step, found: Sequence[Found]) -> list[tuple[str, Found]]:
    """What each of a concept's phrases found."""
    named = [(phrase, found[index]) for phrase, index in step.phrases]
    prototypes = step.prototypes
    return named if prototypes is None else [(phrase, rescored(one, prototypes)) for phrase, one in named]


def _candidates(step: Step, own: Sequence[tuple[str, Found]]) -> Crowd:
    """What a concept's phrases found, best first: that reached the threshold, and, for ``top_k``, all that came."""
    least = 0.0 if step.rules.top_k else _threshold(step)
    return Crowd.of(
        best_first([replace(i, phrase=phrase) for phrase, one in own for i in one.instances if i.score >= least])
    )


def _unwanted(draft: _Draft, found: Sequence[Found], margin: float) -> Bools:
    """What matches a negative better, ``(n,)`` bool; never what a positive exemplar shows."""
    if not draft.step.negatives:
        return np.zeros(len(draft.crowd.instances), dtype=np.bool_)
    negatives = Crowd.of([i for index in draft.step.negatives for i in found[index].instances])
    gone = lookalikes(draft.crowd, negatives, draft.threshold, margin=margin)
    return gone & ~_in_any(draft.crowd, draft.step.shown)


def _cut(draft: _Draft, drawn: int) -> _Draft:
    """Without the candidates under the threshold that ``top_k`` does not ask for; drawn ones are had already."""
    sure = int(np.count_nonzero(draft.crowd.scores >= draft.threshold))
    count = max(sure, (draft.step.rules.top_k or 0) - drawn)
    return replace(draft, crowd=draft.crowd.at(np.arange(len(draft.crowd.instances))[:count]))


def _shared_out(drafts: Sequence[_Draft], options: FindOptions) -> list[_Draft]:
    """Every object to one concept, none more than it may have."""
    crowd = Crowd.of([instance for draft in drafts for instance in draft.crowd.instances])
    owners = np.repeat(np.arange(len(drafts)), [len(draft.crowd.instances) for draft in drafts])
    sure = np.concatenate([np.zeros(0), *(calibrated(draft.crowd.scores, draft.threshold) for draft in drafts)])
    order = np.argsort(-sure, kind="stable")
    asked = [_asked(draft.step) for draft in drafts]
    kept, claimed = np.zeros(len(order), dtype=np.bool_), np.zeros(len(order), dtype=np.bool_)
    kept[order], claimed[order] = shared_out(
        crowd.at(order),
        owners[order],
        np.array([asked.index(one) for one in asked], dtype=np.intp),
        np.array([bool(draft.step.rules.overlap) for draft in drafts], dtype=np.bool_),
        [draft.step.rules.max_instances or len(order) for draft in drafts],
        iou=options.across_iou,
    )
    return [
        draft.without(claimed[owners == owner], Removal.ELSEWHERE).without(
            ~kept[(owners == owner) & ~claimed], Removal.MORE
        )
        for owner, draft in enumerate(drafts)
    ]


def _asked(step: Step) -> tuple[frozenset[int], Prototypes | None]:
    """What a concept asks: with equal prompts, and judged by equal prototypes, it is the same thing under other
    rules."""
    return frozenset(index for _, index in step.phrases), step.prototypes


def _result(draft: _Draft, search: Search, options: FindOptions) -> ConceptResult:
    step, instances = draft.step, draft.crowd.instances
    rejected = [score for _, one in draft.own for score in _rejected(one, draft.threshold)]
    return ConceptResult(
        instances=instances if options.features else tuple(replace(one, feature=None) for one in instances),
        presence=_presence(draft.own),
        best_rejected=max(rejected, default=None),
        rules=step.rules,
        size=search.size,
        tiles=search.tiles,
        resolution=search.resolution,
        removed=tuple((why, draft.removed[why]) for why in Removal if draft.removed[why]),
        notes=step.notes + tuple(_full(draft, search)),
    )


def _threshold(step: Step) -> float:
    """In the precision of scores: 0.7 reaches 0.7."""
    return float(np.float32(step.rules.threshold or 0.0))


def _presence(own: Sequence[tuple[str, Found]]) -> float:
    return max(one.presence for _, one in own)


def _in_any(crowd: Crowd, boxes: Sequence[Box]) -> Bools:
    """Which instances one of the boxes shows, ``(n,)`` bool."""
    return np.array([any(shown(i.mask, box) for box in boxes) for i in crowd.instances], dtype=np.bool_)


def _full(draft: _Draft, search: Search) -> Iterator[str]:
    """A note for each phrase for which the model may have named as many objects as it can."""
    if search.tiles:
        return
    for phrase, one in draft.own:
        most = len(one.instances) + len(one.rejected)
        reached = sum(instance.score >= draft.threshold for instance in one.instances)
        if reached and reached >= _FULL * most:
            what = f'of "{phrase}"' if phrase else "of what the boxes show"
            yield (
                f"the model names at most {most} instances {what} at once, and {reached} reached the threshold: "
                "there may be more; search in tiles"
            )


def outlines(readings: Readings, size: tuple[int, int], most: int) -> list[Instance]:
    """At most so many readings of one visual prompt, in the order given: those that have a pixel and differ.

    Readings that come after are not made into masks: one of them may be as large as the image.
    """
    found: list[Instance] = []
    for instance in _drawn(readings.logits, readings.scores, size):
        if all(instance.mask.iou(better.mask) <= _SAME for better in found):
            found.append(instance)
        if len(found) == most:
            break
    return found


def _drawn(logits: NDArray[np.float32], scores: NDArray[np.float32], size: tuple[int, int]) -> Iterator[Instance]:
    """The candidates that have a pixel, in the order given. logits ``(c, h, w)``, scores ``(c,)``."""
    for candidate, score in zip(logits, scores, strict=True):
        mask = mask_from_logits(candidate, size, 0.0)
        if mask.area:
            yield Instance(mask, float(score))


def _rejected(found: Found, threshold: float) -> Iterator[float]:
    """The scores under the threshold."""
    yield from (instance.score for instance in found.instances if instance.score < threshold)
    yield from found.rejected[found.rejected < np.float32(threshold)][:1].tolist()
