"""What the Label Studio backend needs to know beyond the core's settings."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator

from backend.addresses import Hosts
from backend.download import is_http
from sam3_core.settings import CoreSettings

STEPS = ("phrases", "thresholds", "memory", "tuning")
"""What can be learned, from cheap to deep."""


class BackendSettings(CoreSettings):
    """Read once at start from ``SAM3_...`` variables; see ``sam3_core.settings.load_settings``."""

    siblings: ClassVar[frozenset[str]] = frozenset(
        {
            "SAM3_LABELS",
            "SAM3_SPEC",
            "SAM3_REPLY",
            "SAM3_INTERACTOR",
            "SAM3_BUDGET_SECONDS",
        }
    )

    label_studio_url: str | None = Field(
        None,
        description="where Label Studio is reached from here, e.g. `http://localhost:8080`",
        validation_alias=AliasChoices("SAM3_LABEL_STUDIO_URL", "LABEL_STUDIO_URL"),
    )
    label_studio_api_key: str | None = Field(
        None,
        description="personal access token, or legacy token, that may read the tasks' images and store predictions",
        validation_alias=AliasChoices("SAM3_LABEL_STUDIO_API_KEY", "LABEL_STUDIO_API_KEY"),
        repr=False,
    )
    local_files_root: Path | None = Field(
        None,
        description="Label Studio's local files folder as mounted here; images in it are read from disk",
        validation_alias=AliasChoices(
            "SAM3_LOCAL_FILES_ROOT", "LOCAL_FILES_DOCUMENT_ROOT", "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"
        ),
    )
    basic_auth_user: str | None = Field(None, description="user name our server asks for; needs a password")
    basic_auth_password: str | None = Field(None, description="password our server asks for", repr=False)
    api_token: str | None = Field(
        None,
        description="token our server asks for (`Authorization: Bearer`), beside or instead of basic auth",
        repr=False,
    )
    open_webhook: bool = Field(
        False, description="with a login, still accept webhooks without it: Label Studio sends none there"
    )
    allowed_hosts: str = Field(
        "public",
        description="where pictures may be fetched from beside Label Studio: `public` addresses, names, `*.` and a "
        "name, addresses, networks; with commas between",
    )
    receive_seconds: float = Field(60.0, gt=0, description="longest time in which a request has to arrive")
    send_seconds: float = Field(60.0, gt=0, description="longest time in which an answer has to be taken")
    fetch_seconds: float = Field(20.0, gt=0, description="longest time for fetching one image")
    max_image_mb: float = Field(64.0, gt=0, description="larger image files are refused, MiB")
    image_cache_mb: float = Field(
        256.0, ge=0, description="memory for the files of pictures that annotators work on, MiB"
    )
    store: Path | None = Field(
        None, description="SQLite file for what people teach; without one it is kept until the server ends"
    )
    learn: str = Field(
        "phrases,thresholds,memory,tuning",
        description="what is learned from reviewed tasks: some of these four, or `off`; see docs/learning.md",
    )
    learn_after: int = Field(10, ge=1, description="so many newly reviewed tasks of a project begin its learning")
    propose: bool = Field(False, description="try wordings that nobody wrote, such as plurals, on reviewed tasks too")
    tune_after: int = Field(
        0, ge=0, description="so many newly reviewed tasks begin a fine-tuning; 0: only Start Training does"
    )
    tune_minutes: float = Field(30.0, gt=0, description="longest time of a fine-tuning")
    tune_mirror: bool = Field(
        True, description="learn from mirror images too; wrong where left and right make a difference, as in letters"
    )
    tune_mb: int = Field(8192, ge=256, description="memory for a fine-tuning, MiB; it runs in a process of its own")
    max_request_mb: float = Field(64.0, gt=0, description="larger request bodies are refused, MiB")
    request_seconds: float = Field(
        90.0, gt=0, description="a batch is answered after this time; Label Studio itself gives up after 100 s"
    )
    tasks_in_flight: int = Field(
        4, ge=1, le=64, description="tasks of batches that are fetched, searched and encoded at the same time"
    )
    push_seconds: float = Field(
        300.0, gt=0, description="how long a late prediction that Label Studio does not take is tried again"
    )
    max_clicks: int = Field(
        32, ge=1, description="clicks and opened tasks at work at the same time; more get 503 and Retry-After"
    )
    max_bulk: int = Field(
        16, ge=1, description="other requests at work at the same time; `serve --threads` must be more than both"
    )
    log: Literal["text", "json"] = Field("text", description="lines of the log: `text`, or `json`, one object each")

    @property
    def adapters_folder(self) -> Path | None:
        """Where fine-tuned weights are: the setting's, else beside the store; None where nothing is kept."""
        if self.adapters is not None or self.store is None:
            return self.adapters
        return self.store.with_name(f"{self.store.name}.adapters")

    @property
    def steps(self) -> frozenset[str]:
        """Those of ``STEPS`` that are learned."""
        return frozenset(self.learn.split(",")) if self.learn != "off" else frozenset()

    @field_validator("learn")
    @classmethod
    def _check_steps(cls, value: str) -> str:
        steps = [step.strip() for step in value.lower().split(",") if step.strip()] or ["off"]
        if steps != ["off"] and not set(steps) <= set(STEPS):
            raise ValueError(f"must be `off`, or some of {', '.join(STEPS)} with commas between")
        return ",".join(dict.fromkeys(steps))

    @field_validator("label_studio_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if not value:
            return None
        if not is_http(value):
            raise ValueError("must be an address that starts with http:// or https://")
        return value.rstrip("/")

    @field_validator("label_studio_api_key", "basic_auth_user", "basic_auth_password", "api_token")
    @classmethod
    def _drop_empty(cls, value: str | None) -> str | None:
        """Compose files pass unset variables on as empty strings."""
        return value.strip() or None if value else None

    @field_validator("api_token")
    @classmethod
    def _check_token(cls, value: str | None) -> str | None:
        if value and not all("!" <= character <= "~" for character in value):
            raise ValueError("must be letters, digits and signs of ASCII, without spaces")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, value: str) -> str:
        Hosts.parse(value)
        return value

    @field_validator("store", mode="before")
    @classmethod
    def _drop_empty_path(cls, value: object) -> object:
        return value or None

    @field_validator("local_files_root", mode="before")
    @classmethod
    def _check_folder(cls, value: object) -> object:
        if value in (None, ""):
            return None
        folder = Path(str(value)).resolve()
        if not folder.is_dir() or folder == Path(folder.anchor):
            raise ValueError("must be an existing folder, and not the root of the file system")
        return folder

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if bool(self.basic_auth_user) != bool(self.basic_auth_password):
            raise ValueError(
                "basic auth needs both a user and a password (SAM3_BASIC_AUTH_USER, SAM3_BASIC_AUTH_PASSWORD)"
            )
        if self.label_studio_api_key and not self.label_studio_url:
            raise ValueError(
                "the Label Studio token needs the one address it may be sent to: set SAM3_LABEL_STUDIO_URL as well"
            )
        return self
