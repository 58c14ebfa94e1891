"""What Label Studio says about annotations, read into what is kept of them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Raw

from backend.bodies import Annotation, StoredPrediction, decode
from backend.labeling import Plan
from backend.learning.outcomes import compare, listed, shown
from backend.learning.predicted import Predicted
from backend.learning.records import Review
from backend.learning.regions import read_regions
from sam3_core.errors import InvalidInput

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class State:
    """An annotation at one time. Of two states of it the one with the greater ``age`` is the newer one.

    truth: whether it is marked as ground truth.
    """

    project: str
    task: str
    annotation: str
    updated: str
    digest: str
    truth: bool

    @property
    def age(self) -> tuple[str, str]:
        """By time; where that is equal, by content, so that the order of arrival never matters."""
        return self.updated, self.digest


def state_of(project: str, task: str, annotation: Annotation) -> State | None:
    """None for an annotation that does not say which one it is, or of which task."""
    number, task = text_of(annotation.id), task or text_of(annotation.task)
    if not (project and number and task):
        return None
    flags = (annotation.was_cancelled, annotation.ground_truth, annotation.lead_time, annotation.parent_prediction)
    regions = [_content(raw) for raw in annotation.result or ()]
    content = hashlib.blake2b(msgspec.json.encode((flags, regions), order="sorted"), digest_size=16)
    updated = moment(annotation.updated_at)
    when = updated.isoformat(timespec="microseconds") if updated else ""
    return State(project, task, number, when, content.hexdigest(), annotation.ground_truth is True)


def review_of(
    state: State, annotation: Annotation, plan: Plan, data: Mapping[str, Any], known: Sequence[Predicted]
) -> Review | None:
    """What an annotation teaches; None where it was skipped, or nothing is drawn in it that the plan knows.

    An annotation without any region teaches nothing, also where we had predicted some: Label Studio cannot tell
    "nothing is here" from "not looked at". data: the task's. known: predictions for it.
    """
    results = annotation.result or []
    if annotation.was_cancelled or not results:
        return None
    theirs = read_regions(results, plan)
    if not theirs.drawn:
        return None
    candidates = [*known, *predicted([annotation.prediction])]
    begun = moment(annotation.created_at)
    parent = text_of(annotation.parent_prediction)
    ours = shown(candidates, results, parent=parent, begun=begun.timestamp() if begun else None)
    return Review(
        state.project,
        state.task,
        state.annotation,
        state.updated,
        _images(plan, data),
        theirs.drawn,
        version=ours.version if ours else "",
        outcomes=compare(read_regions(listed(ours.result), plan), theirs) if ours else (),
        lead_time=_seconds(annotation.lead_time),
    )


def predicted(raws: Sequence[Raw]) -> list[Predicted]:
    """Label Studio's predictions, those that say their version."""
    found = []
    for raw in raws:
        try:
            one = decode(StoredPrediction, raw)
        except InvalidInput as error:
            log.debug("a prediction is not read: %s", error)
            continue
        made = moment(one.created_at)
        if isinstance(one.model_version, str) and one.model_version:
            when = made.timestamp() if made else 0.0
            found.append(Predicted(one.model_version, bytes(one.result), when, text_of(one.id)))
    return found


def text_of(number: object) -> str:
    """An id as text; empty for what is none."""
    return str(number) if isinstance(number, int | str) and not isinstance(number, bool) else ""


def moment(text: object) -> datetime | None:
    """ISO 8601, in UTC; None for what is none."""
    try:
        read = datetime.fromisoformat(text) if isinstance(text, str) else None
        return None if read is None else (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _content(raw: Raw) -> Any:
    """A region, however its JSON is written; where it holds what cannot be read, such as a huge number, as it is."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return bytes(raw).decode("utf-8", "backslashreplace")


def _images(plan: Plan, data: Mapping[str, Any]) -> dict[str, str | list[str]]:
    images: dict[str, str | list[str]] = {}
    for source in plan.sources:
        value = data.get(source.key)
        if isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value)):
            images[source.name] = value
    return images


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value < float("inf") else None


def raw_of(value: object) -> Raw:
    """As JSON again. Raises InvalidInput for what has none."""
    try:
        return Raw(msgspec.json.encode(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"this is no JSON: {error}") from None
