"""What the functions for CVAT need to know beyond the core's settings."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from sam3_core.settings import CoreSettings


class CvatSettings(CoreSettings):
    """Read once at start from ``SAM3_...`` variables; see ``sam3_core.settings.load_settings``."""

    core_url: str | None = Field(
        None,
        description="our server that holds the weights, e.g. `http://gpu-box:9090`; without it they are loaded here",
    )
    core_user: str | None = Field(None, description="user name that server asks for; needs a password")
    core_password: str | None = Field(None, description="password that server asks for", repr=False)
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

    @field_validator("core_url", "core_user", "core_password", "labels", mode="before")
    @classmethod
    def _drop_empty(cls, value: object) -> object:
        """Files of several functions pass unset variables on as empty strings."""
        return (value.strip() or None) if isinstance(value, str) else value

    @field_validator("core_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must be an address that starts with http:// or https://")
        return value.rstrip("/") if value else None

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if bool(self.core_user) != bool(self.core_password):
            raise ValueError("basic auth needs both a user and a password (SAM3_CORE_USER, SAM3_CORE_PASSWORD)")
        return self
