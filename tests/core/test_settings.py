"""A wrong setting stops the start, in a sentence that names the variable."""

from __future__ import annotations

import pytest
from pydantic import Field

from backend.settings import BackendSettings
from cvat_nuclio.settings import CvatSettings
from sam3_core.errors import BadSettings
from sam3_core.settings import PREFIX, CoreSettings, load_settings, not_read, variables_of


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
    monkeypatch.setenv("SAM3_HUB_TOKEN", "")  # as compose files pass on what is not set
    assert load_settings(CoreSettings).hub_token is None


PROGRAMS: list[tuple[type[CoreSettings], type[CoreSettings]]] = [
    (BackendSettings, CvatSettings),
    (CvatSettings, BackendSettings),
]


@pytest.mark.parametrize(("cls", "other"), PROGRAMS)
def test_each_program_knows_what_the_other_reads(cls: type[CoreSettings], other: type[CoreSettings]) -> None:
    theirs = {name for name in variables_of(other) - variables_of(cls) if name.startswith(PREFIX)}
    assert cls.siblings == theirs, f"settings of {other.__name__} belong into the siblings of {cls.__name__}"


def test_one_file_of_variables_serves_both_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "MODEL": "facebook/sam3", "LABEL_STUDIO_URL": "http://studio:8080", "LABEL_STUDIO_API_KEY": "token",
        "BASIC_AUTH_USER": "me", "BASIC_AUTH_PASSWORD": "secret", "CORE_URL": "http://gpu:9090", "CORE_USER": "me",
        "CORE_PASSWORD": "secret", "LABELS": "", "INTERACTOR": "exemplar",
    }.items():  # fmt: skip
        monkeypatch.setenv(PREFIX + name, value)
    server, function = load_settings(BackendSettings), load_settings(CvatSettings)
    assert (server.label_studio_url, function.core_url) == ("http://studio:8080", "http://gpu:9090")
    assert server.model == function.model == "facebook/sam3"
    assert not_read(BackendSettings) == ["SAM3_INTERACTOR", "SAM3_LABELS"]
    assert "SAM3_LABEL_STUDIO_URL" in not_read(CvatSettings)
    assert not {"SAM3_MODEL", "SAM3_CORE_URL"} & set(not_read(CvatSettings))


@pytest.mark.parametrize(("cls", "other"), PROGRAMS)
def test_what_nobody_reads_stops_every_start(
    monkeypatch: pytest.MonkeyPatch, cls: type[CoreSettings], other: type[CoreSettings]
) -> None:
    monkeypatch.setenv("SAM3_LABEL_STUDIO_ULR", "http://studio:8080")
    with pytest.raises(BadSettings, match="unknown setting SAM3_LABEL_STUDIO_ULR") as caught:
        load_settings(cls)
    only_theirs = variables_of(other) - variables_of(cls)
    assert not [name for name in only_theirs if f" {name}," in str(caught.value)]
