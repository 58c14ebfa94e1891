"""What is kept of a reviewed task: what we predicted, what its reviewer left, and how they go together."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from sam3_core import Mask


class Verdict(StrEnum):
    """What became of one instance: ours, or for MISSED one that only the reviewer had."""

    ACCEPTED = "accepted"
    EDITED = "edited"
    DELETED = "deleted"
    MISSED = "missed"


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A region under one label, ours or a person's.

    page: its image's place in the task's list of images, 0 for a single image. source: name of the image tag.
    around: a rectangle or an ellipse around the object, see ``Truth``. score, phrase: of ours.
    """

    region: str
    label: str
    source: str
    page: int
    mask: Mask
    around: bool = False
    score: float | None = None
    phrase: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """One instance of ours and the reviewer's region for it, one of which may be missing.

    iou: of the two, 0 where one is missing.
    """

    verdict: Verdict
    label: str
    iou: float
    ours: Drawn | None
    theirs: Drawn | None


@dataclass(frozen=True, slots=True, eq=False)
class Review:
    """A task as its reviewer left it.

    images: the addresses by the image tag's name, a list where the task has pages. version: of the prediction that
    was shown, empty where none is known. lead_time: seconds that the reviewer took, None where unknown. updated:
    when, as Label Studio says it (ISO 8601). outcomes: per label and image, matched by mask IoU; without a prediction
    all of the reviewer's regions are in ``truth`` only.
    """

    project: str
    task: str
    annotation: str
    updated: str
    images: dict[str, str | list[str]]
    truth: tuple[Drawn, ...]
    version: str = ""
    outcomes: tuple[Outcome, ...] = ()
    lead_time: float | None = None


@dataclass(frozen=True, slots=True)
class KnownProject:
    """What events said of a project. chosen: its ``model_version`` in Label Studio."""

    number: str
    title: str = ""
    label_config: str = field(default="", repr=False)
    chosen: str = ""
