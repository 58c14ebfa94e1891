"""Settings: one typed class, read once at start from ``SAM3_...`` variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sam3_core.errors import BadSettings
from sam3_core.rules import Tiling
from sam3_core.wording import read_glossary

PREFIX = "SAM3_"


class CoreSettings(BaseSettings):
    """What the inference core needs to know. Rooms that need more add fields in a subclass."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, populate_by_name=True, protected_namespaces=())

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
    max_megapixels: float = Field(100.0, gt=0, description="larger pictures are refused")
    cache_mb: int = Field(512, ge=0, description="memory for image embeddings on the model's device, MiB")
    cache_host_mb: int = Field(
        2048, ge=0, description="main memory for embeddings that a GPU's memory has no more room for, MiB"
    )
    prompt_mb: int = Field(1024, ge=16, description="memory for one pass of phrases through the decoder, MiB")
    load_wait: float = Field(60.0, ge=0, description="seconds a request waits for weights that are still loading")

    @field_validator("glossary", "translation_model", mode="before")
    @classmethod
    def _drop_blank(cls, value: object) -> object:
        """Compose files pass unset variables on as empty strings."""
        return value or None

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
    a setting that silently does nothing costs more than one that fails.
    """
    known = {name for field, info in cls.model_fields.items() for name in _variables(field, info.validation_alias)}
    unknown = sorted(v for v in os.environ if v.upper().startswith(PREFIX) and v.upper() not in known)
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
        raise BadSettings(f"{name}: {sentence}, not {first.get('input')!r}") from None


def _variables(field: str, alias: object) -> list[str]:
    if isinstance(alias, AliasChoices):
        return [str(choice).upper() for choice in alias.choices]
    return [PREFIX + field.upper()]
