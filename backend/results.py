"""Stored results, put together into regions: where the labels are a tag of their own, a region is two results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from backend.labeling import Control, ImageSource, Output
from backend.shapes import Value


class Result(Struct, frozen=True):
    """One entry of a ``result`` list, read leniently: what people's scripts wrote is in there too."""

    id: Any = None
    from_name: Any = None
    to_name: Any = None
    item_index: Any = None
    value: Value = Value()
    is_positive: Any = None
    parentID: Any = None  # noqa: N815 - its name on the wire
    origin: Any = None
    original_width: Any = None
    original_height: Any = None
    score: Any = None
    meta: Any = None

    @property
    def page(self) -> Any:
        """Its image's place in the task's list of images; 0 for a single image."""
        return self.item_index or 0


@dataclass(slots=True)
class Region:
    """All results of one id. names: of their tags."""

    id: str
    value: Value = field(default_factory=Value)
    names: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)

    @property
    def kind(self) -> Output | None:
        """What its shape is; None for a point, an open line or no shape at all."""
        if self.value.encoded is not None:
            return self.value.encoded[0]
        if self.value.radiusX is not None:
            return Output.ELLIPSE
        return None if self.value.height is None else Output.RECTANGLE

    def add(self, result: Result) -> None:
        """One more of its results."""
        if self.kind is None:
            self.value = result.value
        self.names |= {name for name in (result.from_name,) if isinstance(name, str)}
        listed = (labels for labels in result.value.labelled if isinstance(labels, list))
        self.labels |= {label for labels in listed for label in labels if isinstance(label, str)}

    def control(self, source: ImageSource) -> Control | None:
        """The control that it belongs to; None where we fill none with such a shape.

        A region may come under the name of its ``<Labels>`` tag alone; that of a rectangle may be a prompt's, too.
        """
        for control in source.controls:
            alone = self.kind is not Output.RECTANGLE and control.labeler in self.names
            if control.output is self.kind and (control.name in self.names or alone):
                return control
        return None
