"""The table of settings, read off the settings classes so that it cannot go stale."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from sam3_core.settings import PREFIX, CoreSettings


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable: its name, what holds when it is not set, and what it means (Markdown)."""

    variable: str
    default: str
    meaning: str


def settings_of(cls: type[CoreSettings]) -> list[Setting]:
    """Every setting of a class, inherited ones first."""
    return [
        Setting(_variable(name, field), _default(field), field.description or "")
        for name, field in cls.model_fields.items()
    ]


def markdown_table(settings: Iterable[Setting]) -> str:
    """The table as it stands in the README, without a final newline."""
    head = ["| variable | default | meaning |", "|---|---|---|"]
    rows = [f"| `{s.variable}` | {f'`{s.default}`' if s.default else ''} | {s.meaning} |" for s in settings]
    return "\n".join(head + rows)


def _variable(name: str, field: FieldInfo) -> str:
    if isinstance(field.validation_alias, AliasChoices):
        return str(field.validation_alias.choices[0])
    return PREFIX + name.upper()


def _default(field: FieldInfo) -> str:
    if field.default is None:
        return ""
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
