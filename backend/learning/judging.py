"""The judge: what lessons are worth is what the product finds with them on reviewed images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from backend.labeling import Plan
from backend.learning.reviewed import Album, ReviewedImage
from backend.learning.serving import under_lessons
from sam3_core import Caller, FindOptions, Lane, Segmenter
from sam3_core.learning.lessons import Lessons
from sam3_core.learning.measure import Tally, tally

Tallies = Mapping[str, Mapping[str, Tally]]
"""By label value, then by group (task)."""


class Judge:
    """Searches reviewed images as /predict would. For one thread.

    told: hears after each image which share of them is done; what it raises ends the work.
    """

    def __init__(self, segmenter: Segmenter, album: Album, told: Callable[[float], None]) -> None:
        self._segmenter = segmenter
        self._album = album
        self._told = told

    def tallies(self, images: Sequence[ReviewedImage], plan: Plan, lessons_for: Callable[[str], Lessons]) -> Tallies:
        """lessons_for: with which lessons a group is searched: those that were learned without it.

        Images that cannot be had are left out. Raises what keeps the model from working.
        """
        counts: dict[str, dict[str, Tally]] = defaultdict(lambda: defaultdict(Tally))
        plans: dict[Lessons, Plan] = {}
        for number, (image, picture) in enumerate(self._album.usable(images)):
            lessons = lessons_for(image.group)
            searched = plans.setdefault(lessons, under_lessons(plan, lessons))
            source = searched.source(image.spot.source)
            assert source is not None  # the images come from this plan
            options = FindOptions(tiles=source.tiles)
            found = self._segmenter.find(picture, source.concepts, options, caller=Caller(Lane.BULK))
            results = dict(zip(source.concepts, found, strict=True))
            for label in source.labels:
                result = results[label.concept]
                masks = [instance.mask for instance in result.instances]
                one = tally(masks, image.truth[label.value], result.presence)
                counts[label.value][image.group] += one
            self._told((number + 1) / len(images))
        return counts


def pooled(tallies: Tallies) -> dict[str, Tally]:
    """Of all labels together, by group."""
    groups: dict[str, Tally] = defaultdict(Tally)
    for by_group in tallies.values():
        for group, one in by_group.items():
            groups[group] += one
    return dict(groups)
