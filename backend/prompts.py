"""What an annotator drew or typed becomes asks: a prompt for the model, and where its answer goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backend.bodies import ContextRegion
from backend.labeling import Control, ImageSource, Plan
from backend.marks import Mark, is_mark, read_marks
from backend.typed import by_label, concept_of, typed_phrases
from sam3_core import Box, Concept, Exemplar, Mask, Point, VisualPrompt
from sam3_core.errors import InvalidPrompt
from sam3_core.finish import OPEN_FINISH, Finish
from sam3_core.nearest import nearest
from sam3_core.rules import OPEN_RULES


@dataclass(frozen=True, slots=True)
class Place:
    """The image that prompts are about; page: its number where a task has a list of images."""

    source: ImageSource
    page: int | None


@dataclass(frozen=True, slots=True)
class Drawing:
    """What was drawn about one object, in pixels of the displayed image; may be negative points only."""

    points: tuple[Point, ...] = ()
    box: Box | None = None

    def prompt(self, mask: Mask | None = None) -> VisualPrompt:
        """The prompt; mask: the object as it was outlined before. Raises InvalidPrompt when it names nothing."""
        if mask is None and self.box is None and not any(point.positive for point in self.points):
            raise InvalidPrompt("only what the object is not was clicked: click on the object first")
        return VisualPrompt(self.points, self.box, mask)


@dataclass(frozen=True, slots=True)
class Target:
    """Where an answer goes: an image (and its page), a control on it and one of its labels.

    rotation: of the annotator's view, in degrees; the answer repeats it, coordinates are those of the unturned image.
    """

    source: ImageSource
    page: int | None
    control: Control
    label: str
    rotation: int | float = 0

    @property
    def finish(self) -> Finish:
        """How the answer is drawn."""
        label = self.control.label(self.label)
        return label.finish if label else OPEN_FINISH


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing to ask the model, and where the answer goes.

    origins: ids of the regions it came from, oldest first. candidates: how many readings of a drawing are wanted.
    """

    prompt: Drawing | Concept
    target: Target
    origins: tuple[str, ...] = ()
    candidates: int = 1


def find_place(regions: Sequence[ContextRegion], plan: Plan) -> Place | None:
    """The image of the newest prompt on one that the plan knows; None when nothing was drawn or typed.

    Raises InvalidPrompt, a sentence for the log, when all prompts are elsewhere.
    """
    prompts = [region for region in regions if is_mark(region) or typed_phrases(region, plan)]
    for region in reversed(prompts):
        if (source := plan.source(region.to_name)) is not None:
            return Place(source, region.item_index)
    if prompts:
        raise InvalidPrompt(f"the prompt is on {prompts[-1].to_name!r}, which is no image with an output control")
    return None


def read_asks(regions: Sequence[ContextRegion], place: Place, plan: Plan, size: tuple[int, int]) -> list[Ask]:
    """What to ask about the image at ``place``; prompts on other images are left out.

    Typed text and exemplars ask for every instance, one ask for each label they mean. Other boxes ask for one object
    each; clicks go to the nearest box of their label, or without one are about one object together.
    size: ``(width, height)`` of the displayed image in pixels.
    Raises InvalidPrompt, a sentence for the log, when a prompt cannot be used.
    """
    here = [region for region in regions if _is_at(region, place)]
    marks: dict[str, list[Mark]] = {}
    for mark in read_marks(here, size):
        marks.setdefault(mark.label, []).append(mark)
    return [
        *_read_text(here, place, plan),
        *(ask for label, drawn in marks.items() for ask in _read_label(label, drawn, place)),
    ]


def _is_at(region: ContextRegion, place: Place) -> bool:
    return region.to_name == place.source.name and (region.item_index or 0) == (place.page or 0)


def _read_text(regions: Sequence[ContextRegion], place: Place, plan: Plan) -> list[Ask]:
    typed = [region for region in regions if typed_phrases(region, plan)]
    phrases = [phrase for region in typed for phrase in typed_phrases(region, plan)]
    return [
        Ask(concept_of(label, wanted), _target(label.value, typed, place, ()), _ids(typed))
        for label, wanted in by_label(phrases, place.source)
    ]


def _read_label(label: str, marks: Sequence[Mark], place: Place) -> list[Ask]:
    """The asks of what was drawn with one label: its exemplars together, then one object after the other."""
    shown = [mark for mark in marks if _exemplar(mark, place) is not None]
    rest = [mark for mark in marks if _exemplar(mark, place) is None]
    asks = [_read_exemplars(label, shown, place)] if shown else []
    for group in _objects(rest):
        regions = [mark.region for mark in group]
        boxes = [mark.shape for mark in group if isinstance(mark.shape, Box)]
        points = tuple(mark.shape for mark in group if isinstance(mark.shape, Point))
        candidates = max(place.source.tool(region.from_name).candidates for region in regions)
        drawing = Drawing(points, boxes[0] if boxes else None)
        asks.append(Ask(drawing, _target(label, regions, place, _names(regions)), _ids(regions), candidates))
    return asks


def _read_exemplars(label: str, marks: Sequence[Mark], place: Place) -> Ask:
    regions = [mark.region for mark in marks]
    target = _target(label, regions, place, _names(regions))
    filled = target.control.label(label)
    phrases = [phrase for mark in marks for phrase in place.source.tool(mark.region.from_name).label(label).phrases]
    exemplars = [
        Exemplar(mark.shape, positive=_exemplar(mark, place) is True) for mark in marks if isinstance(mark.shape, Box)
    ]
    if not phrases and not any(exemplar.positive for exemplar in exemplars):
        raise InvalidPrompt(f"only what {label!r} is not was shown: draw a box around one that it is")
    return Ask(
        Concept(
            tuple(phrases),
            tuple(exemplars),
            negatives=filled.concept.negatives if filled else (),
            rules=filled.concept.rules if filled else OPEN_RULES,
        ),
        target,
        _ids(regions),
    )


def _exemplar(mark: Mark, place: Place) -> bool | None:
    """True or False for a box that shows a concept, None for everything else."""
    tool = place.source.tool(mark.region.from_name)
    return tool.label(mark.label).exemplar if isinstance(mark.shape, Box) else None


def _objects(marks: Sequence[Mark]) -> list[list[Mark]]:
    """Marks by the object they are about: each box is one, a point goes to the box it lies in or is nearest to."""
    boxes = [mark.shape for mark in marks if isinstance(mark.shape, Box)]
    if not boxes:
        return [list(marks)] if marks else []
    groups: list[list[Mark]] = [[] for _ in boxes]
    own = iter(groups)
    for mark in marks:
        if isinstance(mark.shape, Box):
            next(own).append(mark)
        else:
            groups[nearest(mark.shape, boxes)].append(mark)
    return groups


def _target(label: str, regions: Sequence[ContextRegion], place: Place, drawn_with: Iterable[str]) -> Target:
    """Where answers to these regions go: the first control that has the label, those drawn with coming last."""
    having = [control for control in place.source.controls if control.label(label)]
    if not having:
        raise InvalidPrompt(f"no output control on {place.source.name!r} has the label {label!r}")
    control = min(having, key=lambda control: control.name in drawn_with)
    return Target(place.source, place.page, control, label, regions[-1].image_rotation or 0)


def _names(regions: Sequence[ContextRegion]) -> tuple[str, ...]:
    return tuple(region.from_name for region in regions)


def _ids(regions: Sequence[ContextRegion]) -> tuple[str, ...]:
    return tuple(region.id for region in regions if region.id)
