"""What became of a prediction in its reviewer's hands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from msgspec import Raw

from backend.bodies import decode
from backend.learning.predicted import Predicted
from backend.learning.records import Drawn, Outcome, Verdict
from backend.learning.regions import Reading, region_ids
from sam3_core.errors import InvalidInput
from sam3_core.learning.examples import Truth
from sam3_core.learning.measure import LEAST_IOU, match

ACCEPTED_IOU = 0.95
"""From here on a region counts for accepted as it was: the editor's own rounding moves edges by less."""


def shown(
    candidates: Sequence[Predicted], results: Sequence[Raw], *, parent: str, begun: float | None
) -> Predicted | None:
    """The prediction that a reviewer began with, or None.

    That is the one called ``parent``, where Label Studio says so and it is known; else the one with most region ids
    in common with what is left; else the newest that was there before.
    results: the annotation's regions. begun: when it was made, seconds since 1970; None where unknown.
    """
    named = [one for one in candidates if parent and one.number == parent]
    if named:
        return named[0]
    left = region_ids(results)

    def fits(one: Predicted) -> tuple[int, bool, float]:
        return len(left & region_ids(listed(one.result))), begun is None or one.made <= begun, one.made

    best = max(candidates, key=fits, default=None)
    return best if best is not None and any(fits(best)[:2]) else None


def listed(result: bytes | Raw) -> list[Raw]:
    """The regions of a prediction; none where it has no list of them."""
    try:
        return decode(list[Raw], result)
    except InvalidInput:
        return []


def compare(ours: Reading, theirs: Reading) -> tuple[Outcome, ...]:
    """Each of our objects and each of the reviewer's, by label and image; of two that go together one outcome.

    Those of one id go together first, then those of the highest IoU, 0.5 at least. A changed label is one deleted and
    one missed. Rectangles and ellipses are compared by boxes.
    """
    places: dict[tuple[str, str, int], tuple[list[Drawn], list[Drawn]]] = defaultdict(lambda: ([], []))
    for side, reading in enumerate((ours, theirs)):
        for drawn in reading.drawn:
            places[drawn.label, drawn.source, drawn.page][side].append(drawn)
    outcomes: list[Outcome] = []
    for (label, _, _), (mine, left) in places.items():
        for our, their, iou in _pairs(mine, left):
            accepted = iou >= ACCEPTED_IOU or _untouched(our, ours, theirs)
            outcomes.append(Outcome(Verdict.ACCEPTED if accepted else Verdict.EDITED, label, iou, our, their))
        outcomes += [Outcome(Verdict.DELETED, label, 0.0, our, None) for our in mine]
        outcomes += [Outcome(Verdict.MISSED, label, 0.0, None, their) for their in left]
    return tuple(outcomes)


def _untouched(our: Drawn, ours: Reading, theirs: Reading) -> bool:
    name = our.region
    return name in theirs.untouched and theirs.parts[name] == ours.parts[name]


def _named(name: str) -> Callable[[Drawn], bool]:
    return lambda drawn: drawn.region == name


def _any(drawn: Drawn) -> bool:
    return True


def _pairs(ours: list[Drawn], theirs: list[Drawn]) -> Iterator[tuple[Drawn, Drawn, float]]:
    """Takes those that go together out of both lists. Like is compared with like before an outline with a box."""
    both = {our.region for our in ours} & {their.region for their in theirs}
    rounds = [_named(name) for name in sorted(both)] + [
        lambda drawn: not drawn.around,
        lambda drawn: drawn.around,
        _any,
    ]
    for takes_part in rounds:
        mine, left = [our for our in ours if takes_part(our)], [their for their in theirs if takes_part(their)]
        boxes = any(drawn.around for drawn in (*mine, *left))
        truth = [Truth(their.mask, around=boxes) for their in left]
        for pair in match([our.mask for our in mine], truth, LEAST_IOU, nearest=True).pairs:
            our, their = mine[pair.found], left[pair.truth]
            ours.remove(our)
            theirs.remove(their)
            yield our, their, pair.iou
