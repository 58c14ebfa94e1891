"""Request bodies of Label Studio, parsed once at the door: only what is used, everything else skipped unread.

An interactive request carries every stored mask of its task, megabytes of run lengths. msgspec steps over what a
struct does not name without building it, and keeps a ``Raw`` field as the bytes it came in.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from sam3_core.choices import OPTIONS
from sam3_core.errors import InvalidInput

T = TypeVar("T")

Scalar = str | int | float | bool | None
Index = Annotated[int, Meta(ge=0)]
_NONE = Raw(b"[]")
_EMPTY = Raw(b"{}")


class Task(Struct, frozen=True):
    """One task: its id and data, as imported (addresses are not resolved).

    annotations, drafts, predictions: JSON as it came, the regions that the annotator sees; read by ``backend.stored``
    when needed.
    """

    data: dict[str, Any]
    id: int | str | None = None
    annotations: Raw = _NONE
    drafts: Raw = _NONE
    predictions: Raw = _NONE


class ContextRegion(Struct, frozen=True):
    """One region of an interactive request: a prompt that the annotator drew or typed.

    value: percent of the displayed image for what is drawn, ``{"text": [...]}`` for what is typed.
    is_positive: there only for smart keypoints; missing means positive.
    item_index: the page, where a task has a list of images. image_rotation: of the annotator's view, in degrees;
    coordinates stay in the unrotated image.
    """

    id: str = ""
    type: str = ""
    from_name: str = ""
    to_name: str = ""
    value: dict[str, Any] = {}
    is_positive: bool | None = None
    item_index: Index | None = None
    image_rotation: int | float | None = None


class Context(Struct, frozen=True):
    """What the annotator has drawn or typed; ``result`` is empty after the last prompt was deleted.

    event: ``prewarm`` is sent by editors newer than 1.23 when a smart tool is chosen.
    """

    result: list[ContextRegion] | None = None
    event: str | None = None

    @property
    def missing(self) -> bool:
        """Whether this is a batch after all: label-studio-ml says so by ``{}``, Label Studio by null."""
        return self.result is None and self.event is None


class PredictParams(Struct, frozen=True):
    """What a request says beside its tasks: Label Studio the context, scripts of our users the options too."""

    context: Context | None = None
    threshold: Scalar = None
    presence: Scalar = None
    min_area: Scalar = None
    max_area: Scalar = None
    max_instances: Scalar = None
    top_k: Scalar = None
    allow_overlap: Scalar = None
    fineness: Scalar = None
    min_iou: Scalar = None
    max_vertices: Scalar = None
    holes: Scalar = None
    parts: Scalar = None
    tiles: Scalar = None

    def options(self) -> dict[str, Scalar]:
        """The values of ``sam3_core.choices.OPTIONS``, as they came."""
        return {name: getattr(self, name) for name in OPTIONS}


class PredictBody(Struct, frozen=True):
    """POST /predict. ``project`` is ``<id>.<unix time of creation>``."""

    tasks: list[Task]
    label_config: str
    project: int | float | str | None = None
    params: PredictParams | None = None


class SetupBody(Struct, frozen=True):
    """POST /setup. ``label_config`` is called ``schema`` on the wire."""

    project: int | float | str
    label_config: str | None = msgspec.field(default=None, name="schema")
    hostname: str | None = None
    access_token: str | None = None
    extra_params: Any = None


class StoredPrediction(Struct, frozen=True):
    """A prediction as Label Studio keeps it. Its regions stay JSON."""

    id: Any = None
    result: Raw = _NONE
    model_version: Any = None
    created_at: Any = None


class Annotation(Struct, frozen=True):
    """What is read of an annotation. Masks among its regions stay JSON.

    task: its id. prediction: a ``StoredPrediction`` of the version that the project shows, where Label Studio found
    one. parent_prediction: the id of the one that its author began with. created_at, updated_at: ISO 8601.
    lead_time: seconds.
    """

    id: Any = None
    was_cancelled: bool | None = None
    result: list[Raw] | None = None
    task: Any = None
    ground_truth: Any = None
    lead_time: Any = None
    prediction: Raw = _EMPTY
    parent_prediction: Any = None
    created_at: Any = None
    updated_at: Any = None

    def typed(self) -> dict[str, Any]:
        """The annotation with those of its regions that were typed, as Label Studio sent them."""
        typed = [decode(dict[str, Any], raw) for raw in self.result or () if decode(_Kind, raw).type == "textarea"]
        return {"id": self.id, "was_cancelled": self.was_cancelled, "result": typed}


class _Kind(Struct, frozen=True):
    type: Any = None


class WebhookBody(Struct, frozen=True):
    """POST /webhook: an event's name and project, and its annotations.

    annotation: for ANNOTATIONS_CREATED a list of them, and so ``task``, theirs. annotations, tasks: of deleted ones
    the ids.
    """

    action: str
    project: dict[str, Any] = {}
    annotation: Annotation | list[Annotation] | None = None
    task: Any = None
    annotations: list[Any] | None = None
    tasks: list[Any] | None = None

    @property
    def listed(self) -> list[Annotation]:
        """Its annotations, however many."""
        if self.annotation is None:
            return []
        return self.annotation if isinstance(self.annotation, list) else [self.annotation]

    def event(self) -> dict[str, Any]:
        """What ``fit`` gets."""
        if self.annotation is None:
            return {"project": self.project, "annotations": self.annotations}
        return {"project": self.project, "annotation": [annotation.typed() for annotation in self.listed]}


def decode(kind: type[T], raw: bytes | Raw) -> T:
    """JSON to one of the bodies above (or a list of them). Raises InvalidInput, naming the first wrong field."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except RecursionError:
        raise InvalidInput("the body is nested too deeply") from None
    except msgspec.ValidationError as error:
        raise InvalidInput(f"the body is not what Label Studio sends: {error}") from None
    except ValueError as error:  # DecodeError, UnicodeDecodeError
        raise InvalidInput(f"the body is not JSON: {error}") from None


def convert(kind: type[T], value: object) -> T:
    """The same for what was parsed already, as label-studio-ml hands it on; a ``kind`` passes as it is."""
    if isinstance(value, kind):
        return value
    try:
        raw = msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the body is not JSON: {error}") from None
    return decode(kind, raw)


def project_id(project: int | float | str | None) -> str:
    """``"1.1795263632"`` -> ``"1"``."""
    return "" if project is None else str(project).partition(".")[0]
