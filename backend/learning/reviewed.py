"""Reviewed images: the pictures of reviewed tasks with what is really on them, to learn from and to judge by."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from backend.images import Site
from backend.labeling import ImageSource, Plan
from backend.learning.evidence import Spot
from backend.learning.records import Review
from backend.pictures import Pictures
from sam3_core import EncodedImage
from sam3_core.errors import ImageUnavailable, Sam3Error
from sam3_core.learning.examples import Truth

log = logging.getLogger(__name__)

_SAME = 0.7  # box IoU from which a rectangle and an outline are of one object


@dataclass(frozen=True, slots=True, eq=False)
class ReviewedImage:
    """truth: by label value, of every label of the image's tag; nothing is an empty tuple."""

    spot: Spot
    address: object
    truth: Mapping[str, tuple[Truth, ...]]

    @property
    def group(self) -> str:
        """What is never divided between learning and judging: the task."""
        return self.spot.task


def reviewed_images(reviews: Sequence[Review], plan: Plan) -> list[ReviewedImage]:
    """Every image of the reviewed tasks that the plan looks at, in the order of the reviews."""
    found = []
    for review in reviews:
        truth: dict[tuple[str, int], dict[str, list[Truth]]] = defaultdict(lambda: defaultdict(list))
        for drawn in review.truth:
            truth[drawn.source, drawn.page][drawn.label].append(Truth(drawn.mask, drawn.around))
        for source in plan.sources:
            for page, address in enumerate(_addresses(review, source)):
                here = truth[source.name, page]
                labels = {label.value: _each_once(here[label.value]) for label in source.labels}
                spot = Spot(review.project, review.task, source.name, page)
                found.append(ReviewedImage(spot, address, labels))
    return found


@dataclass(slots=True)
class Album:
    """The pictures of reviewed images. A picture that was read once has a name, and is read again only where its
    embedding is gone. For one thread."""

    pictures: Pictures
    site: Site | None
    max_megapixels: float
    _keys: dict[Spot, str] = field(default_factory=dict)
    _sizes: dict[Spot, tuple[int, int]] = field(default_factory=dict)
    _bad: dict[Spot, str] = field(default_factory=dict)

    def get(self, image: ReviewedImage) -> EncodedImage:
        """Raises ImageUnavailable and its kin for a picture that cannot be had, or is another than was reviewed."""
        if image.spot in self._bad:
            raise ImageUnavailable(self._bad[image.spot])
        key = self._keys.get(image.spot)
        if key is not None:
            return EncodedImage.deferred(key, lambda: self._read(image).data)
        try:
            picture = self._read(image)
            self._check(image, picture)
        except Sam3Error as error:
            self._bad[image.spot] = str(error)
            log.info("task %s is not learned from: %s", image.spot.task, error)
            raise
        self._keys[image.spot] = picture.key
        return picture

    def size(self, image: ReviewedImage) -> tuple[int, int]:
        """``(width, height)`` in pixels as displayed, of a picture that ``get`` returned."""
        return self._sizes[image.spot]

    def usable(self, images: Sequence[ReviewedImage]) -> Iterator[tuple[ReviewedImage, EncodedImage]]:
        """Those whose picture can be had."""
        for image in images:
            try:
                picture = self.get(image)
            except Sam3Error:
                continue  # ``get`` has said why
            yield image, picture

    def _read(self, image: ReviewedImage) -> EncodedImage:
        return self.pictures.get(image.address, self.site, image.spot.task, keep=False)

    def _check(self, image: ReviewedImage, picture: EncodedImage) -> None:
        """Outlines of another picture would teach nonsense."""
        size = picture.displayed_size(max_megapixels=self.max_megapixels)
        for truths in image.truth.values():
            for truth in truths:
                if truth.mask.frame != size:
                    raise ImageUnavailable(
                        f"its picture has {size[0]} x {size[1]} pixels now, and its regions were drawn on "
                        f"{truth.mask.frame[0]} x {truth.mask.frame[1]}"
                    )
        self._sizes[image.spot] = size


def _each_once(truths: Sequence[Truth]) -> tuple[Truth, ...]:
    """Where a label has an outline and a rectangle for one object, the outline says more."""
    outlines = [truth for truth in truths if not truth.around]
    around = (truth for truth in truths if truth.around)
    return (*outlines, *(one for one in around if all(one.iou(each.mask) < _SAME for each in outlines)))


def _addresses(review: Review, source: ImageSource) -> list[str]:
    value = review.images.get(source.name, [])
    return value if isinstance(value, list) else [value]
