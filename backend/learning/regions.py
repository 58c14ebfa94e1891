"""The ``result`` of an annotation or a prediction, read into what it says is in the images."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from msgspec import Raw

from backend.bodies import decode
from backend.labeling import Control, Output, Plan
from backend.learning.records import Drawn
from backend.results import Region, Result
from backend.shapes import ellipse, read_encoded, turned_rectangle
from sam3_core import Mask
from sam3_core.errors import InvalidInput, Sam3Error

log = logging.getLogger(__name__)

MAX_MEGAPIXELS = 200.0
_AROUND = (Output.RECTANGLE, Output.ELLIPSE)
_IN_PARTS = (Output.POLYGON, Output.VECTOR)
_UNTOUCHED = "prediction"


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """drawn: in the order of the list. parts: ids of the regions that an object is made of, by its ``region``.
    untouched: objects that are as a prediction had them. unread: how many regions could not be understood."""

    drawn: tuple[Drawn, ...] = ()
    parts: Mapping[str, frozenset[str]] = field(default_factory=dict)
    untouched: frozenset[str] = frozenset()
    unread: int = 0


@dataclass(slots=True)
class _Whole:
    """One region: all results of one id."""

    region: Region
    result: Result
    control: Control | None = None

    @property
    def object(self) -> str:
        """The object that it is a part of: several polygons with one parent are one object, as we write them."""
        parent = self.result.parentID
        return parent if self.region.kind in _IN_PARTS and isinstance(parent, str) and parent else self.region.id


def read_regions(results: Sequence[Raw], plan: Plan) -> Reading:
    """What is drawn on the images of a plan, with the tags that it fills, under labels that it knows.

    results: regions as JSON. Prompts, texts, choices and foreign labels are passed over; a region that cannot be
    read is counted and told in the log. Never raises.
    """
    parts: dict[tuple[str, str, str, int], list[tuple[_Whole, Mask]]] = defaultdict(list)
    problems: list[str] = []
    for whole in _wholes(results, problems):
        source = plan.source(whole.result.to_name) if isinstance(whole.result.to_name, str) else None
        control = whole.region.control(source) if source and whole.region.kind else None
        labels = [name for name in sorted(whole.region.labels) if control and control.label(name)]
        if not source or not labels:
            continue
        try:
            mask, page = _mask(whole), _page(whole.result)
        except Sam3Error as error:
            problems.append(str(error))
            continue
        for label in labels:
            parts[whole.object, label, source.name, page].append((whole, mask))
    if problems:
        log.info("%d regions are not learned from, the first because %s", len(problems), problems[0])
    return _reading(parts, len(problems))


def region_ids(results: Sequence[Raw]) -> frozenset[str]:
    """The ids of all regions in a list."""
    return frozenset(whole.region.id for whole in _wholes(results, []))


def _reading(parts: Mapping[tuple[str, str, str, int], Sequence[tuple[_Whole, Mask]]], unread: int) -> Reading:
    drawn = tuple(_drawn(*key, list(made)) for key, made in parts.items())
    ids: dict[str, set[str]] = defaultdict(set)
    touched: set[str] = set()
    for (name, *_), made in parts.items():
        ids[name] |= {whole.region.id for whole, _ in made}
        touched |= {name for whole, _ in made if whole.result.origin != _UNTOUCHED}
    return Reading(drawn, {name: frozenset(every) for name, every in ids.items()}, frozenset(ids) - touched, unread)


def _wholes(results: Sequence[Raw], problems: list[str]) -> Iterator[_Whole]:
    wholes: dict[tuple[str, str, str], _Whole] = {}
    for number, raw in enumerate(results):
        try:
            result = decode(Result, raw)
        except InvalidInput as error:
            problems.append(str(error))
            continue
        if result.is_positive is not None:  # drawn to ask, not to stay
            continue
        name = result.id if isinstance(result.id, str) and result.id else f"#{number}"
        whole = wholes.setdefault((name, str(result.to_name), str(result.page)), _Whole(Region(name), result))
        whole.region.add(result)
    return iter(wholes.values())


def _drawn(name: str, label: str, source: str, page: int, made: list[tuple[_Whole, Mask]]) -> Drawn:
    first = made[0][0]
    return Drawn(
        name,
        label,
        source,
        page,
        united([mask for _, mask in made]),
        around=first.region.kind in _AROUND,
        score=_score(first.result.score),
        phrase=_phrase(first.result.meta),
    )


def united(masks: Sequence[Mask]) -> Mask:
    """The pixels in any of some masks of one frame; of other frames than the first one's none."""
    if len(masks) == 1:
        return masks[0]
    same = [mask for mask in masks if mask.frame == masks[0].frame]
    left, top = min(mask.x for mask in same), min(mask.y for mask in same)
    right, bottom = max(mask.box[2] for mask in same), max(mask.box[3] for mask in same)
    bits = np.zeros((bottom - top, right - left), dtype=np.bool_)
    for mask in same:
        x0, y0, x1, y1 = mask.box
        bits[y0 - top : y1 - top, x0 - left : x1 - left] |= mask.bits
    return Mask(bits, left, top, masks[0].frame)


def _mask(whole: _Whole) -> Mask:
    """The region's pixels. Raises InvalidInput or InvalidPrompt for what has none, or cannot be read."""
    frame, value = _frame(whole.result), whole.region.value
    if value.encoded is not None:
        return read_encoded(*value.encoded, frame)
    mask = ellipse(value, frame) if whole.region.kind is Output.ELLIPSE else turned_rectangle(value, frame)
    if mask.area == 0:
        raise InvalidInput("there is nothing in it")
    return mask


def _frame(result: Result) -> tuple[int, int]:
    width, height = result.original_width, result.original_height
    if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
        raise InvalidInput("it does not say the size of its picture")
    if width * height > MAX_MEGAPIXELS * 1e6:
        raise InvalidInput(f"its picture has more than {MAX_MEGAPIXELS:g} megapixels")
    return width, height


def _page(result: Result) -> int:
    if not isinstance(result.page, int) or result.page < 0:
        raise InvalidInput("item_index must be a whole number")
    return int(result.page)


def _score(score: Any) -> float | None:
    return float(score) if isinstance(score, int | float) and 0 <= score <= 1 else None


def _phrase(meta: Any) -> str:
    """What was looked for: the first of the texts that we put beside a region."""
    texts = meta.get("text") if isinstance(meta, Mapping) else None
    return texts[0] if isinstance(texts, list) and texts and isinstance(texts[0], str) else ""
