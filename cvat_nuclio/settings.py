"""What the functions for CVAT need to know beyond the core's settings."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from sam3_core.settings import CoreSettings


class CvatSettings(CoreSettings):
    """Read once at start from ``SAM3_...`` variables; see ``sam3_core.settings.load_settings``."""

    siblings: ClassVar[frozenset[str]] = frozenset(
        {
            "SAM3_ALLOWED_HOSTS",
            "SAM3_API_TOKEN",
            "SAM3_BASIC_AUTH_PASSWORD",
            "SAM3_BASIC_AUTH_USER",
            "SAM3_FETCH_SECONDS",
            "SAM3_IMAGE_CACHE_MB",
            "SAM3_LABEL_STUDIO_API_KEY",
            "SAM3_LABEL_STUDIO_URL",
            "SAM3_LEARN",
            "SAM3_LEARN_AFTER",
            "SAM3_LOCAL_FILES_ROOT",
            "SAM3_LOG",
            "SAM3_MAX_BULK",
            "SAM3_MAX_CLICKS",
            "SAM3_MAX_IMAGE_MB",
            "SAM3_MAX_REQUEST_MB",
            "SAM3_OPEN_WEBHOOK",
            "SAM3_PROPOSE",
            "SAM3_PUSH_SECONDS",
            "SAM3_RECEIVE_SECONDS",
            "SAM3_REQUEST_SECONDS",
            "SAM3_SEND_SECONDS",
            "SAM3_STORE",
            "SAM3_TASKS_IN_FLIGHT",
            "SAM3_TUNE_AFTER",
            "SAM3_TUNE_MB",
            "SAM3_TUNE_MIRROR",
            "SAM3_TUNE_MINUTES",
        }
    )

    labels: str | None = Field(
        None,
        description="the detector's labels: JSON, or a file with it, as in "
        '`[{"name": "bus", "prompt": "yellow school bus; bus", "negative": "toy bus", "threshold": 0.4}]`',
    )
    spec: str = Field("function.yaml", description="file beside the function whose label list CVAT shows")
    reply: Literal["shapes", "mask"] = Field(
        "shapes", description="the interactor's reply: `mask` for servers before 2026-03, one object without a score"
    )
    interactor: Literal["outline", "exemplar"] = Field(
        "outline", description="what clicks and boxes ask for: `outline` these objects, or everything like them"
    )
    load_wait: float = Field(
        100.0, ge=0, description="seconds a request waits for weights that are still loading here"
    )
    budget_seconds: float = Field(
        100.0, gt=0, lt=120, description="a request is answered in this time; CVAT itself gives up after 120 s"
    )

    @field_validator("labels", mode="before")
    @classmethod
    def _drop_empty(cls, value: object) -> object:
        """Files of several functions pass unset variables on as empty strings."""
        return (value.strip() or None) if isinstance(value, str) else value
