"""An interactor's answer: clicks and boxes become masks, in one of two ways.

OUTLINE: each box is one object, and a click goes to the box it lies in or is nearest to; clicks without a box are
about one object together.

EXEMPLAR: boxes show what is looked for, and everything like them is found. A click shows the object it is on: that
object is outlined first, and its box is the exemplar; negative clicks so show what is not meant.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cvat_nuclio.detection import score_text
from cvat_nuclio.masks import cvat_rle
from sam3_core import (
    Box,
    Caller,
    Concept,
    EncodedImage,
    Exemplar,
    FindOptions,
    Instance,
    Point,
    Segmenter,
    VisualPrompt,
)
from sam3_core.caller import CLICK
from sam3_core.errors import InvalidInput, InvalidPrompt, OutOfTime
from sam3_core.finish import DEFAULT_FINISH, finished
from sam3_core.nearest import distance, nearest

CONFIDENCE = 0
"""The id of the only attribute that CVAT's browser library reads."""

Reply = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Prompts:
    """What was drawn: clicks and boxes in pixels. unusable: a sentence on each that was left out."""

    points: tuple[Point, ...] = ()
    boxes: tuple[Box, ...] = ()
    unusable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Interaction:
    """instances: with masks as people get them, never empty. remarks: why there are none, for the log."""

    instances: list[Instance]
    remarks: list[str]


def read_prompts(body: Mapping[str, Any], size: tuple[int, int]) -> Prompts:
    """``pos_points``, ``neg_points`` and ``obj_bbox`` (two points a box) of a request; each may be missing or null.

    size: ``(width, height)`` of the picture in pixels. A box without width or height is left out, and so is a
    negative click outside the picture, where CVAT has cut a region out: it excludes nothing that is there.
    Raises InvalidInput for what is no list of points.
    """
    corners = _pairs(body, "obj_bbox")
    if len(corners) % 2:
        raise InvalidInput(f"obj_bbox has {len(corners)} points, and a box has two")
    boxes, unusable = [], []
    for (x0, y0), (x1, y1) in zip(corners[::2], corners[1::2], strict=True):
        try:
            boxes.append(Box(x0, y0, x1, y1))
        except InvalidPrompt as error:
            unusable.append(str(error))
    points = [Point(x, y) for x, y in _pairs(body, "pos_points")]
    for x, y in _pairs(body, "neg_points"):
        if 0 <= x <= size[0] and 0 <= y <= size[1]:
            points.append(Point(x, y, positive=False))
        else:
            unusable.append(f"the negative click at ({x:g}, {y:g}) lies outside the picture and was left out")
    return Prompts(tuple(points), tuple(boxes), tuple(unusable))


def outline(segmenter: Segmenter, image: EncodedImage, prompts: Prompts, *, caller: Caller = CLICK) -> Interaction:
    """The objects that were clicked or boxed. What one prompt cannot find does not spoil the others.

    Raises as ``Segmenter.outline``, but for InvalidPrompt, which is a remark, and so is OutOfTime after the first
    object.
    """
    found: list[Instance] = []
    remarks = list(prompts.unusable)
    for prompt in _objects(prompts):
        try:
            instance = _outline_one(segmenter, image, prompt, remarks, caller)
        except OutOfTime:
            if not found:  # nobody looked: that must not look like nothing there
                raise
            remarks.append(f"out of time before {_shown(prompt)}")
        else:
            found += [instance] if instance else []
    return _answer(found, prompts, remarks)


def find_alike(
    segmenter: Segmenter, image: EncodedImage, prompts: Prompts, options: FindOptions, *, caller: Caller = CLICK
) -> Interaction:
    """Everything like what was boxed or clicked, best first.

    Raises as ``find`` and ``outline`` of ``Segmenter``, but for InvalidPrompt, which is a remark.
    """
    remarks = list(prompts.unusable)
    exemplars = [Exemplar(box) for box in prompts.boxes]
    for point in prompts.points:
        if point.positive and any(distance(point, box) == 0 for box in prompts.boxes):
            continue  # on an object that is shown already
        if shown := _outline_one(segmenter, image, VisualPrompt((Point(point.x, point.y),)), remarks, caller):
            exemplars.append(Exemplar(Box(*shown.box), positive=point.positive))
    if not any(exemplar.positive for exemplar in exemplars):
        return _answer([], prompts, remarks)
    try:
        (result,) = segmenter.find(image, [Concept(exemplars=tuple(exemplars))], options, caller=caller)
    except InvalidPrompt as error:
        return _answer([], prompts, [*remarks, str(error)])
    return _answer(result.instances, prompts, [*remarks, *([result.reason] if result.reason else result.notes)])


def shapes_reply(instances: Sequence[Instance]) -> Reply:
    """``shapes``, each with its runs, box and confidence. Understood by CVAT's browser library since 2026-03."""
    return {
        "shapes": [
            {
                "type": "mask",
                "points": cvat_rle(one.mask),
                "attributes": [{"spec_id": CONFIDENCE, "value": score_text(one.score)}],
            }
            for one in instances
        ]
    }


def mask_reply(instances: Sequence[Instance], size: tuple[int, int]) -> Reply:
    """``mask``: rows of 0 and 1 over the full frame of ``(width, height)``, where all the objects are together.

    Nothing found is all zeros: older servers read the first row whatever comes.
    """
    width, height = size
    rows = np.zeros((height, width), dtype=np.uint8)
    for one in instances:
        x0, y0, x1, y1 = one.mask.box
        rows[y0:y1, x0:x1] |= one.mask.bits
    return {"mask": rows.tolist()}


def _answer(found: Sequence[Instance], prompts: Prompts, remarks: list[str]) -> Interaction:
    """Without specks: CVAT's browser makes a polygon of whichever part it meets first."""
    if not found and not prompts.boxes and not any(point.positive for point in prompts.points):
        remarks.append("nothing to outline: there is neither a box nor a positive click")
    cleaned = [Instance(finished(one.mask, DEFAULT_FINISH), one.score, one.phrase) for one in found]
    return Interaction([one for one in cleaned if one.mask.area], remarks)


def _outline_one(
    segmenter: Segmenter, image: EncodedImage, prompt: VisualPrompt, remarks: list[str], caller: Caller
) -> Instance | None:
    """The best reading of a prompt; None, with a remark, where there is none."""
    try:
        found = segmenter.outline(image, prompt, caller=caller)
    except InvalidPrompt as error:
        remarks.append(str(error))
        return None
    if not found:
        remarks.append(f"the model sees no object at {_shown(prompt)}")
        return None
    return found[0]


def _objects(prompts: Prompts) -> Iterator[VisualPrompt]:
    """The prompt of each object, from clicks and its box; negative clicks alone are none."""
    if not prompts.boxes:
        if any(point.positive for point in prompts.points):
            yield VisualPrompt(prompts.points)
        return
    owners = [nearest(point, prompts.boxes) for point in prompts.points]
    for number, box in enumerate(prompts.boxes):
        yield VisualPrompt(tuple(p for p, owner in zip(prompts.points, owners, strict=True) if owner == number), box)


def _pairs(body: Mapping[str, Any], key: str) -> list[tuple[float, float]]:
    """A list of ``[x, y]``, finite numbers. Raises InvalidInput for anything else."""
    value = body.get(key)
    if value is None:
        return []
    refusal = f"{key} must be a list of points [x, y], in pixels"
    if not isinstance(value, list):
        raise InvalidInput(refusal)
    pairs = []
    for point in value:
        if not isinstance(point, list | tuple) or len(point) != 2 or not all(map(_is_number, point)):
            raise InvalidInput(refusal)
        pairs.append((float(point[0]), float(point[1])))
    return pairs


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _shown(prompt: VisualPrompt) -> str:
    """For a line in the log."""
    box = [f"the box {tuple(round(v) for v in prompt.box.xyxy)}"] if prompt.box else []
    clicks = (f"({point.x:.0f}, {point.y:.0f}){'' if point.positive else ' negative'}" for point in prompt.points)
    return ", ".join([*box, *clicks])
