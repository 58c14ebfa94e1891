"""The README's table of settings is the one the code has."""

from __future__ import annotations

from pathlib import Path

from backend.settings import BackendSettings
from sam3_core.settings import CoreSettings
from sam3_prelabel.settings import markdown_table, settings_of

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_has_this_very_table() -> None:
    assert (
        f"<!-- settings -->\n{markdown_table(settings_of(BackendSettings))}\n<!-- /settings -->"
        in README.read_text(encoding="utf-8")
    ), "run `sam3-prelabel settings --markdown` and paste its output into README.md"


def test_every_setting_has_a_meaning_and_no_secret_has_a_default() -> None:
    known = settings_of(BackendSettings)
    assert [s.variable for s in settings_of(CoreSettings)] == [s.variable for s in known][
        : len(CoreSettings.model_fields)
    ]
    assert all(s.meaning for s in known)
    assert all("|" not in s.meaning for s in known), "a bar would break the table"
    assert not any(s.default for s in known if any(word in s.variable for word in ("TOKEN", "KEY", "PASSWORD")))
