"""Request bodies of Label Studio, parsed once at the door: only what is used, everything else ignored."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from sam3_core.errors import InvalidInput

T = TypeVar("T")


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Task(_Body):
    """One task: its id and data, as imported (addresses are not resolved)."""

    id: int | str | None = None
    data: dict[str, Any]


class ContextRegion(_Body):
    """One region of an interactive request. Text prompts carry no ``original_width``; see ``backend.prompts``.

    ``is_positive`` is there only for smart keypoints; missing means positive.
    """

    type: str = ""
    to_name: str = ""
    value: dict[str, Any] = Field(default_factory=dict)
    original_width: int | None = Field(None, gt=0)
    original_height: int | None = Field(None, gt=0)
    is_positive: bool | None = None
    item_index: int | None = Field(None, ge=0)


class Context(_Body):
    """What the annotator has drawn or typed; empty after the last prompt was deleted."""

    result: list[ContextRegion] = Field(default_factory=list)


class PredictParams(_Body):
    context: Context | None = None

    @field_validator("context", mode="before")
    @classmethod
    def _drop_empty(cls, value: object) -> object:
        """``{}`` is how label-studio-ml says "no context"; Label Studio itself says null."""
        return value or None


class PredictBody(_Body):
    """POST /predict. ``project`` is ``<id>.<unix time of creation>``."""

    tasks: list[Task]
    label_config: str
    project: int | float | str | None = None
    params: PredictParams | None = None


class SetupBody(_Body):
    """POST /setup. ``label_config`` is called ``schema`` on the wire."""

    project: int | float | str
    label_config: str = Field("", alias="schema")
    hostname: str | None = None
    access_token: str | None = None
    extra_params: Any = None


class WebhookBody(BaseModel):
    """POST /webhook: an event's name and project; the rest is kept as it came, for ``fit``."""

    model_config = ConfigDict(extra="allow", frozen=True)

    action: str
    project: dict[str, Any] = Field(default_factory=dict)


def parse_json(raw: bytes) -> object:
    """Bytes to JSON. Raises InvalidInput for anything else, however deep."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidInput(f"the body is not JSON: {reason}") from None


def parse(kind: type[T], value: object) -> T:
    """JSON to one of the bodies above (or a list of them). Raises InvalidInput, naming the first wrong field."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise InvalidInput(f"{where}: {first['msg']}") from None


def project_id(project: int | float | str | None) -> str:
    """``"1.1795263632"`` -> ``"1"``."""
    return "" if project is None else str(project).partition(".")[0]
