"""Which outline a drawing is about: a new one, or one that was there before and is edited under its own id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from backend.memory import Answer
from backend.prompts import Drawing
from backend.stored import Earlier
from sam3_core import Box, Mask, VisualPrompt

_SAME = 0.5  # IoU from which two outlines are taken for the same object


@dataclass(frozen=True, slots=True)
class Start:
    """What the model is asked, and the region that the answer takes the place of.

    region, control: its id and the name of its control; empty for a new one.
    """

    prompt: VisualPrompt
    region: str = ""
    control: str = ""


def start_of(
    drawing: Drawing, origins: frozenset[str], answers: Sequence[Answer], stored: Iterable[Earlier]
) -> Start:
    """Where a drawing starts from.

    origins: ids of its prompts. answers: of the same label and picture, newest first. stored: regions of the same
    label on the picture, top one first. The first that holds:

    1. it goes on from an answer, with more prompts and the old ones unchanged: from that outline;
    2. it touches a stored region: from that;
    3. some of its prompts had an answer, and were moved or deleted since: from nothing, under that answer's id;
    4. it clicks away from an answer, or its box is about one: that may have been rejected since, so its outline is
       used only where there would be nothing else to take away from. For positive points see ``again``.

    Raises InvalidPrompt when only negative points are left, and nothing lies under them.
    """
    for answer in answers:
        if answer.origins and answer.origins < origins and _goes_on(drawing, answer.drawing):
            return Start(drawing.prompt(answer.outline.mask()), answer.region, answer.control)
    for region in stored:
        if _touches(drawing, region):
            return Start(_prompt_on(drawing, region), region.region, region.control)
    for answer in answers:
        if not answer.origins.isdisjoint(origins):
            return Start(drawing.prompt(), answer.region, answer.control)
    for region in _latest(answers):
        if not _names_something(drawing) and _touches(drawing, region):
            return Start(drawing.prompt(region.mask), region.region, region.control)
        if _fits(drawing, region):
            return Start(drawing.prompt(), region.region, region.control)
    return Start(drawing.prompt())


def again(drawing: Drawing, outline: Mask, answers: Sequence[Answer], stored: Iterable[Earlier]) -> Earlier | None:
    """What the outline that one new click got outlines once more; None for other drawings or new objects.

    Where the click is does not tell: an earlier outline may reach into the object beside it, and taking its id would
    overwrite it. Parameters as in ``start_of``.
    """
    if drawing.box is not None or len(drawing.points) != 1:
        return None
    least = outline.area * _SAME  # pixels that both must have
    close = (region for region in chain(stored, _latest(answers)) if _shared(region.box, Box(*outline.box)) >= least)
    return next((region for region in close if _is_same(region, outline)), None)


def _goes_on(drawing: Drawing, before: Drawing) -> bool:
    return (before.box is None or before.box == drawing.box) and set(before.points) <= set(drawing.points)


def _names_something(drawing: Drawing) -> bool:
    return drawing.box is not None or any(point.positive for point in drawing.points)


def _prompt_on(drawing: Drawing, region: Earlier) -> VisualPrompt:
    """The drawing on an outline; a rectangle has no pixels to start from, so its box says which object is meant."""
    mask = region.mask
    if mask is None:
        return Drawing(drawing.points, drawing.box or region.box).prompt()
    return drawing.prompt(mask)


def _latest(answers: Iterable[Answer]) -> Iterator[Earlier]:
    """The newest outline of each region answered."""
    newest = {answer.region: answer for answer in reversed(list(answers))}
    for answer in reversed(newest.values()):
        yield Earlier(answer.region, answer.control, answer.outline)


def _touches(drawing: Drawing, region: Earlier) -> bool:
    """Whether a click is on it, or the box is about its own."""
    return any(region.contains(point) for point in drawing.points) or _fits(drawing, region)


def _fits(drawing: Drawing, region: Earlier) -> bool:
    return drawing.box is not None and _box_iou(drawing.box, region.box) >= _SAME


def _is_same(region: Earlier, outline: Mask) -> bool:
    mask = region.mask
    return (_box_iou(region.box, Box(*outline.box)) if mask is None else mask.iou(outline)) >= _SAME


def _box_iou(one: Box, other: Box) -> float:
    shared = _shared(one, other)
    return shared / (_area(one) + _area(other) - shared)


def _shared(one: Box, other: Box) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0.0) * max(height, 0.0)


def _area(box: Box) -> float:
    return (box.x1 - box.x0) * (box.y1 - box.y0)
