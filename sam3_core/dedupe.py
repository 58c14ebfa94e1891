"""Which of several overlapping instances stay, of one concept and of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam3_core.masks import Mask
from sam3_core.results import Instance
from sam3_core.types import Box

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

LOOKALIKE_IOU = 0.5
"""An instance and a negative's that overlap more than this (mask IoU) are one object."""

MOSTLY, FILLED = 0.5, 0.2
"""An instance is the thing in a box with more than these shares of its own pixels and the box (stars fill 0.3)."""


@dataclass(frozen=True, slots=True, eq=False)
class Crowd:
    """Instances of one image with what every comparison needs, worked out once.

    boxes: ``(n, 4)`` int64, xyxy in pixels. areas: ``(n,)`` int64, pixels. scores: ``(n,)`` float64, 0..1.
    """

    instances: tuple[Instance, ...]
    boxes: NDArray[np.int64]
    areas: NDArray[np.int64]
    scores: Floats

    @classmethod
    def of(cls, instances: Sequence[Instance]) -> Crowd:
        """In the order given."""
        return cls(
            tuple(instances),
            np.array([instance.box for instance in instances], dtype=np.int64).reshape(-1, 4),
            np.array([instance.mask.area for instance in instances], dtype=np.int64),
            np.array([instance.score for instance in instances], dtype=np.float64),
        )

    def where(self, stays: Bools) -> Crowd:
        """Those that stay, ``(n,)`` bool."""
        return self if stays.all() else self.at(np.flatnonzero(stays))

    def at(self, places: NDArray[np.intp]) -> Crowd:
        """Those at these places, in their order."""
        instances = tuple(self.instances[place] for place in places.tolist())
        return Crowd(instances, self.boxes[places], self.areas[places], self.scores[places])

    def covered(self, place: int, others: Crowd, among: Bools, *, iou: float, contained: float) -> bool:
        """Whether one of the others that are ``among`` (``(m,)`` bool) makes the instance at this place superfluous:
        their mask IoU exceeds ``iou``, or the share of its own pixels inside the other one exceeds ``contained``.

        Two masks share no more pixels than their boxes or the smaller of them has: only pairs for which that would
        be enough are compared by pixels.
        """
        area, mask = int(self.areas[place]), self.instances[place].mask
        lower = np.maximum(self.boxes[place, :2], others.boxes[:, :2])
        sides = np.maximum(np.minimum(self.boxes[place, 2:], others.boxes[:, 2:]) - lower, 0)
        most = np.minimum(sides.prod(axis=1), np.minimum(others.areas, area))
        enough = (most > contained * area) | (most > iou * (others.areas + area - most))
        for other in np.flatnonzero(among & enough).tolist():
            shared = mask.intersection(others.instances[other].mask)
            if shared > contained * area or shared > iou * (area + int(others.areas[other]) - shared):
                return True
        return False


def best_first(instances: Sequence[Instance]) -> list[Instance]:
    """By falling score; equal scores keep their order."""
    return sorted(instances, key=lambda instance: -instance.score)


def duplicates(crowd: Crowd, *, iou: float, contained: float) -> Bools:
    """Which instances of one concept, best first, a better one makes superfluous: ``(n,)`` bool.

    Greedy, from the best down: an instance is superfluous when its mask IoU with one that stays exceeds ``iou``, or
    when more than the share ``contained`` of its own pixels lies inside one that stays. So a worse part of a better
    whole goes. A worse whole around a better part stays, beside the part: most of it is covered by nothing else, and
    only a reviewer can say which of the two was meant.

    iou, contained: 0..1; 1 switches a rule off.
    """
    stays = np.zeros(len(crowd.instances), dtype=np.bool_)
    for place in range(len(stays)):
        stays[place] = not crowd.covered(place, crowd, stays, iou=iou, contained=contained)
    return ~stays


def calibrated(scores: Floats, threshold: float) -> Floats:
    """Scores of one concept made comparable with those of others: its threshold becomes 0.5, 0 and 1 stay.

    Linear on either side of the threshold. scores, threshold: 0..1; a threshold of 1 calls a score of 1 sure.
    """
    below = 0.5 * scores / (threshold or 1.0)
    above = 0.5 + 0.5 * (scores - threshold) / (1 - threshold) if threshold < 1 else np.ones_like(scores)
    return np.where(scores >= threshold, above, below)


def lookalikes(crowd: Crowd, negatives: Crowd, threshold: float, *, margin: float) -> Bools:
    """Which instances match a negative of their concept better: ``(n,)`` bool.

    negatives: instances of the negatives, judged by the same threshold. An instance goes when one of them is the same
    object (``LOOKALIKE_IOU``) and surer of it or nearly as sure: it reaches the threshold itself and, calibrated, the
    instance's score less ``margin`` (0..1). A candidate under the threshold goes when one is as sure of it.
    """
    own, rivals = calibrated(crowd.scores, threshold), calibrated(negatives.scores, threshold)
    needed = np.minimum(own, np.maximum(own - margin, 0.5))
    return np.array(
        [
            crowd.covered(place, negatives, rivals >= needed[place], iou=LOOKALIKE_IOU, contained=1.0)
            for place in range(len(own))
        ],
        dtype=np.bool_,
    )


def shared_out(
    crowd: Crowd,
    owners: NDArray[np.intp],
    kinds: NDArray[np.intp],
    overlaps: Bools,
    limits: Sequence[int],
    *,
    iou: float,
) -> tuple[Bools, Bools]:
    """Each object to one concept: which instances stay, and which another concept has, ``(n,)`` bool each.

    Greedy, in the order given, the surest first: an instance that overlaps one of another concept that stays by more
    than ``iou`` (mask IoU) goes, unless either concept may overlap others or both are of one kind. A concept that has
    its limit gets no more, and what it does not get it keeps from nobody.

    owners: ``(n,)``, whose instance each is, 0..c-1. kinds: ``(c,)``, equal for concepts that ask the same by
    other rules. overlaps: ``(c,)``. limits: c numbers of instances.
    """
    stays, elsewhere = np.zeros(len(owners), dtype=np.bool_), np.zeros(len(owners), dtype=np.bool_)
    left = list(limits)
    for place, owner in enumerate(owners.tolist()):
        if not left[owner]:
            continue
        rivals = stays & (kinds[owners] != kinds[owner]) & ~overlaps[owners] & ~overlaps[owner]
        elsewhere[place] = crowd.covered(place, crowd, rivals, iou=iou, contained=1.0)
        stays[place] = not elsewhere[place]
        left[owner] -= int(stays[place])
    return stays, elsewhere


def annotated(crowd: Crowd, drawn: Sequence[Mask | Box], *, iou: float, contained: float) -> Bools:
    """Which instances are outlined in the image already, by their pixels or the box around them: ``(n,)`` bool.

    By a mask: as if it were a better instance, see ``duplicates``; one of another frame is stretched to the image's
    size. By a box: when the IoU of the boxes exceeds ``iou``; or when the box was drawn loosely around it: more than
    the share ``contained`` of its pixels lies in the box, and it is large enough to be what the box was drawn around.
    """
    gone = np.zeros(len(crowd.instances), dtype=np.bool_)
    if not gone.size:
        return gone
    frame = crowd.instances[0].mask.frame
    people = Crowd.of([Instance(stretched(mask, frame), 1.0) for mask in drawn if isinstance(mask, Mask)])
    boxes = [box for box in drawn if isinstance(box, Box)]
    everybody = np.ones(len(people.instances), dtype=np.bool_)
    for place, instance in enumerate(crowd.instances):
        gone[place] = crowd.covered(place, people, everybody, iou=iou, contained=contained) or any(
            _box_iou(instance.box, box.xyxy) > iou or shown(instance.mask, box, contained) for box in boxes
        )
    return gone


def shown(mask: Mask, box: Box, mostly: float = MOSTLY) -> bool:
    """Whether a mask is what a box shows: more than the share ``mostly`` of it inside, and large enough to be what
    the box was drawn around.

    By pixels, not by boxes: a few stray pixels far off make a mask's box large.
    """
    left, top, right, bottom = (round(edge) for edge in box.xyxy)
    rows, columns = (
        slice(max(top - mask.y, 0), max(bottom - mask.y, 0)),
        slice(max(left - mask.x, 0), max(right - mask.x, 0)),
    )
    shared = int(np.count_nonzero(mask.bits[rows, columns]))
    return shared > mostly * mask.area and shared > FILLED * (right - left) * (bottom - top)


def stretched(mask: Mask, frame: tuple[int, int]) -> Mask:
    """The mask in a frame of ``(width, height)``: each pixel there is as the one under its centre."""
    if mask.frame == frame:
        return mask
    x0, y0, x1, y1 = mask.box
    left, columns = _sampled(mask.frame[0], frame[0], x0, x1)
    top, rows = _sampled(mask.frame[1], frame[1], y0, y1)
    return Mask(mask.bits[np.ix_(rows - y0, columns - x0)], left, top, frame)


def _sampled(old: int, new: int, start: int, stop: int) -> tuple[int, NDArray[np.intp]]:
    """Of an axis of ``old`` pixels stretched to ``new``: the first that shows one of ``start..stop``, and what each
    of those shows."""
    source = ((2 * np.arange(new) + 1) * old // (2 * new)).astype(np.intp)
    first, last = np.searchsorted(source, [start, stop]).tolist()
    return (first if first < last else 0), source[first:last]


def _box_iou(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    """IoU of two boxes, xyxy, 0..1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)
