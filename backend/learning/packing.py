"""Reviews as bytes of the store: masks as COCO's runs, the whole deflated."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from backend.learning.records import Drawn, Outcome, Review, Verdict
from backend.learning.regions import MAX_MEGAPIXELS
from sam3_core.encodings import coco

_FASTEST = 1


class _Drawn(Struct, frozen=True, array_like=True):
    region: str
    label: str
    source: str
    page: int
    size: list[int]
    counts: str
    around: bool
    score: float | None
    phrase: str


class _Outcome(Struct, frozen=True, array_like=True):
    """ours, theirs: places in the two lists of what was drawn."""

    verdict: Verdict
    label: str
    iou: float
    ours: int | None
    theirs: int | None


class _Review(Struct, frozen=True):
    updated: str
    images: dict[str, str | list[str]]
    version: str
    lead_time: float | None
    truth: list[_Drawn]
    ours: list[_Drawn]
    outcomes: list[_Outcome]


def pack(review: Review) -> bytes:
    """All of a review but what it is the review of."""
    ours = [outcome.ours for outcome in review.outcomes if outcome.ours is not None]
    packed = _Review(
        review.updated,
        review.images,
        review.version,
        review.lead_time,
        [_packed(drawn) for drawn in review.truth],
        [_packed(drawn) for drawn in ours],
        [
            _Outcome(one.verdict, one.label, one.iou, _place(one.ours, ours), _place(one.theirs, review.truth))
            for one in review.outcomes
        ],
    )
    return zlib.compress(msgspec.json.encode(packed), _FASTEST)


def unpack(packed: bytes, project: str, task: str, annotation: str) -> Review:
    """What ``pack`` made of a review."""
    read = msgspec.json.decode(zlib.decompress(packed), type=_Review)
    truth, ours = tuple(map(_drawn, read.truth)), tuple(map(_drawn, read.ours))
    outcomes = tuple(
        Outcome(
            one.verdict,
            one.label,
            one.iou,
            None if one.ours is None else ours[one.ours],
            None if one.theirs is None else truth[one.theirs],
        )
        for one in read.outcomes
    )
    return Review(project, task, annotation, read.updated, read.images, truth, read.version, outcomes, read.lead_time)


def _place(drawn: Drawn | None, among: Sequence[Drawn]) -> int | None:
    return None if drawn is None else among.index(drawn)


def _packed(drawn: Drawn) -> _Drawn:
    rle = coco.encode(drawn.mask)
    return _Drawn(
        drawn.region, drawn.label, drawn.source, drawn.page,
        rle["size"], rle["counts"], drawn.around, drawn.score, drawn.phrase,
    )  # fmt: skip


def _drawn(packed: _Drawn) -> Drawn:
    mask = coco.decode({"size": packed.size, "counts": packed.counts}, max_megapixels=MAX_MEGAPIXELS)
    return Drawn(
        packed.region, packed.label, packed.source, packed.page, mask, packed.around, packed.score, packed.phrase
    )
