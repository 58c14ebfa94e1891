"""The project that the proof reviews: three labels, each wrong in a way of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sam3_core.masks import Mask
from tools.learning.world import CRESCENT, Sample


@dataclass(frozen=True, slots=True)
class Wanted:
    """A label as its project's owner wrote it, and the shape that it means. threshold: None leaves it out."""

    value: str
    shape: str
    phrases: tuple[str, ...]
    threshold: float | None = None

    def truth(self, sample: Sample) -> tuple[Mask, ...]:
        """What a perfect annotator would outline under it."""
        return sample.truth.get(self.shape, ())

    @property
    def tag(self) -> str:
        """As XML."""
        threshold = "" if self.threshold is None else f' threshold="{self.threshold}"'
        return f'<Label value="{self.value}" prompt="{"; ".join(self.phrases)}"{threshold}/>'


# Signs are round, and their owner thought of their colours too: what is only red or white comes along. The first
# wording means nothing to the checkpoint.
STOP = Wanted("Stop", "circle", ("stop thing", "red object", "white object", "yellow object", "round shape"))
STAR = Wanted("Star", "star", ("star",), threshold=0.97)
# The checkpoint takes crescents for triangles, half of the time; their own word means nothing to it.
MOON = Wanted("Moon", CRESCENT, ("crescent", "triangle"))

LABELS = (STOP, STAR, MOON)


def config(labels: Mapping[str, Wanted] | None = None) -> str:
    """The labeling config (XML). labels: in place of those of the same value."""
    tags = "".join((labels or {}).get(one.value, one).tag for one in LABELS)
    points = "".join(f'<Label value="{one.value}"/>' for one in LABELS)
    return (
        '<View><Image name="image" value="$image"/>'
        f'<BrushLabels name="mask" toName="image">{tags}</BrushLabels>'
        f'<KeyPointLabels name="point" toName="image" smart="true">{points}</KeyPointLabels></View>'
    )


def setting(label: Wanted, phrases: tuple[str, ...], threshold: float) -> Wanted:
    """The same label as somebody would write it who knew what works."""
    return replace(label, phrases=phrases, threshold=threshold)
