"""Settings: one typed class, read once at start from ``SAM3_...`` variables."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import ClassVar, Literal, Self, TypeVar

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sam3_core.errors import BadSettings
from sam3_core.rules import Tiling
from sam3_core.wording import read_glossary

PREFIX = "SAM3_"


class CoreSettings(BaseSettings):
    """What the inference core needs to know. Rooms that need more add fields in a subclass."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, populate_by_name=True, protected_namespaces=())

    siblings: ClassVar[frozenset[str]] = frozenset()
    """Variables of our other programs: not read here, but no mistake where one file of variables serves several."""

    model: str = Field("demo", description="`demo`, a hub id such as `facebook/sam3`, or a folder")
    device: str = Field("auto", description="`auto`, `cpu`, `cuda`, `cuda:1`, `mps`")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="`auto`: bfloat16 on GPUs that have it, else float32"
    )
    hub_token: str | None = Field(
        None,
        description="token for gated hub repositories (`HF_TOKEN` works too)",
        validation_alias=AliasChoices("SAM3_HUB_TOKEN", "HF_TOKEN"),
        repr=False,
    )
    threshold: float = Field(0.5, ge=0, le=1, description="least score of an instance, unless a label says other")
    tiles: Tiling = Field(
        Tiling.OFF,
        description="search large images in overlapping tiles too: `off`, `auto` (where small objects would vanish), "
        "`on`; each tile costs as much as an image",
    )
    max_tiles: int = Field(30, ge=1, description="an image that would take more tiles gets larger ones")
    glossary: Path | None = Field(
        None, description="file with a line `公交车: bus` for each phrase that is asked in other words"
    )
    translation_model: str | None = Field(
        None,
        description="translates phrases in other scripts to English: hub id or folder of a Marian or NLLB model",
    )
    translation_language: str = Field(
        "", description="what phrases are written in, where that model knows several, in its words: `zho_Hans`"
    )
    translate_latin: bool = Field(False, description="translate phrases in Latin letters too")
    adapters: Path | None = Field(
        None, description="folder with fine-tuned weights, `<name>.safetensors` each, that searches may name"
    )
    max_megapixels: float = Field(100.0, gt=0, description="larger pictures are refused")
    cache_mb: int = Field(512, ge=0, description="memory for image embeddings on the model's device, MiB")
    cache_host_mb: int = Field(
        2048, ge=0, description="main memory for embeddings that a GPU's memory has no more room for, MiB"
    )
    pass_mb: int | None = Field(
        None, ge=16, description="memory for one pass through the model, MiB; without it a share of what is free"
    )
    bulk_share: float = Field(
        0.2, gt=0, lt=1, description="share of the device's time that bulk work gets while people click"
    )
    queue: int = Field(128, ge=1, description="pieces of work that may wait for the device, in each lane")
    load_wait: float = Field(60.0, ge=0, description="seconds a request waits for weights that are still loading")
    core_url: str | None = Field(
        None,
        description="our servers that hold the weights, e.g. `http://gpu-1:9090,http://gpu-2:9090`; without one they "
        "are loaded here",
    )
    core_user: str | None = Field(None, description="user name those servers ask for; needs a password")
    core_password: str | None = Field(None, description="password those servers ask for", repr=False)
    core_token: str | None = Field(None, description="token those servers ask for, instead of both", repr=False)

    @property
    def core_urls(self) -> tuple[str, ...]:
        """The addresses in ``core_url``."""
        return tuple(self.core_url.split(",")) if self.core_url else ()

    @field_validator("hub_token", "glossary", "translation_model", "adapters", mode="before")
    @classmethod
    def _drop_blank(cls, value: object) -> object:
        """Compose files pass unset variables on as empty strings."""
        return value or None

    @field_validator("core_url", "core_user", "core_password", "core_token", mode="before")
    @classmethod
    def _drop_empty_words(cls, value: object) -> object:
        return (value.strip() or None) if isinstance(value, str) else value

    @field_validator("core_url")
    @classmethod
    def _check_urls(cls, value: str | None) -> str | None:
        urls = [url.strip().rstrip("/") for url in (value or "").split(",") if url.strip()]
        if not all(url.startswith(("http://", "https://")) for url in urls):
            raise ValueError("must be an address that starts with http:// or https://, or several between commas")
        if len(set(urls)) < len(urls):
            raise ValueError("names an address twice")
        return ",".join(urls) or None

    @model_validator(mode="after")
    def _check_core_login(self) -> Self:
        if bool(self.core_user) != bool(self.core_password):
            raise ValueError("basic auth needs both a user and a password (SAM3_CORE_USER, SAM3_CORE_PASSWORD)")
        return self

    @field_validator("glossary")
    @classmethod
    def _check_glossary(cls, value: Path | None) -> Path | None:
        if value is not None:
            read_glossary(value)  # a mistake in it stops the start
        return value


Settings = TypeVar("Settings", bound=CoreSettings)


def load_settings(cls: type[Settings], **overrides: object) -> Settings:
    """Read settings from the environment; keyword arguments (not None) win.

    Raises BadSettings with one sentence that names the variable: unknown ones stop the start too, because
    a setting that silently does nothing costs more than one that fails. Those of our other programs (``not_read``)
    do not.
    """
    known = variables_of(cls)
    ours = sorted(v for v in os.environ if v.upper().startswith(PREFIX))
    unknown = [v for v in ours if v.upper() not in known | cls.siblings]
    if unknown:
        raise BadSettings(f"unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    try:
        return cls(**{k: v for k, v in overrides.items() if v is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        sentence = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:  # settings that do not fit together: the input is all of them, secrets included
            raise BadSettings(sentence) from None
        where = ".".join(str(part) for part in first["loc"]).upper()
        name = where if where.startswith(PREFIX) else PREFIX + where
        secret = {v for f, i in cls.model_fields.items() if not i.repr for v in _variables(f, i.validation_alias)}
        shown = "" if name in secret else f", not {without_login(repr(first.get('input')))}"
        raise BadSettings(f"{name}: {sentence}{shown}") from None


def variables_of(cls: type[CoreSettings]) -> frozenset[str]:
    """The names of all that a class reads."""
    fields = cls.model_fields.items()
    return frozenset(name for field, info in fields for name in _variables(field, info.validation_alias))


def not_read(cls: type[CoreSettings]) -> list[str]:
    """The variables that are set, but only for our other programs."""
    return sorted(name for name in os.environ if name.upper() in cls.siblings - variables_of(cls))


def without_login(text: str) -> str:
    """A text without the user and password of the addresses in it, for people to read."""
    return re.sub(r"//[^/@\s]*@", "//...@", text)


def _variables(field: str, alias: object) -> list[str]:
    if isinstance(alias, AliasChoices):
        return [str(choice).upper() for choice in alias.choices]
    return [PREFIX + field.upper()]
