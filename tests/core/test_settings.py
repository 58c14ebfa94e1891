"""A wrong setting stops the start, in a sentence that names the variable."""

from __future__ import annotations

import pytest
from pydantic import Field

from sam3_core.errors import BadSettings
from sam3_core.settings import CoreSettings, load_settings


class RoomSettings(CoreSettings):
    """A room's own settings."""

    port: int = Field(9090, ge=1)


def test_defaults_need_no_environment() -> None:
    settings = load_settings(CoreSettings)
    assert (settings.model, settings.device, settings.dtype) == ("demo", "auto", "auto")


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM3_MODEL", "facebook/sam3")
    monkeypatch.setenv("SAM3_THRESHOLD", "0.25")
    monkeypatch.setenv("SAM3_PORT", "80")
    settings = load_settings(RoomSettings)
    assert (settings.model, settings.threshold, settings.port) == ("facebook/sam3", 0.25, 80)


def test_arguments_win_and_none_means_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM3_MODEL", "from-environment")
    monkeypatch.setenv("SAM3_DEVICE", "cuda")
    settings = load_settings(CoreSettings, model="given", device=None)
    assert (settings.model, settings.device) == ("given", "cuda")


@pytest.mark.parametrize("name", ["SAM3_MODLE", "sam3_thresold", "SAM3_PORT"])
def test_unknown_variables_stop_the_start(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(BadSettings, match=f"unknown setting {name}.*SAM3_THRESHOLD"):
        load_settings(CoreSettings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAM3_THRESHOLD", "1.5"),
        ("SAM3_THRESHOLD", "half"),
        ("SAM3_DTYPE", "float8"),
        ("SAM3_MAX_MEGAPIXELS", "0"),
        ("SAM3_CACHE_MB", "-1"),
        ("SAM3_LOAD_WAIT", ""),
    ],
)
def test_bad_values_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=rf"^{name}: .*not '{value}'$"):
        load_settings(CoreSettings)


def test_the_hub_token_has_two_names_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    settings = load_settings(CoreSettings)
    assert settings.hub_token == "hf_secret"
    assert "hf_secret" not in repr(settings)
    monkeypatch.setenv("SAM3_HUB_TOKEN", "sam3_secret")
    assert load_settings(CoreSettings).hub_token == "sam3_secret"
