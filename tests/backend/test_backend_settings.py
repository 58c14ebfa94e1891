"""The backend's variables: their names, the names users know, and what stops the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.settings import BackendSettings
from sam3_core.errors import BadSettings
from sam3_core.settings import load_settings


@pytest.mark.parametrize("prefix", ["SAM3_", ""])
def test_our_names_and_the_known_ones(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    monkeypatch.setenv(prefix + "LABEL_STUDIO_URL", "http://localhost:8080/")
    monkeypatch.setenv(prefix + "LABEL_STUDIO_API_KEY", "token")
    settings = load_settings(BackendSettings)
    assert (settings.label_studio_url, settings.label_studio_api_key) == ("http://localhost:8080", "token")


@pytest.mark.parametrize(
    "name", ["SAM3_LOCAL_FILES_ROOT", "LOCAL_FILES_DOCUMENT_ROOT", "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"]
)
def test_the_mounted_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setenv(name, str(tmp_path))
    assert load_settings(BackendSettings).local_files_root == tmp_path.resolve()


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "LABEL_STUDIO_URL",
        "LABEL_STUDIO_API_KEY",
        "LOCAL_FILES_ROOT",
        "BASIC_AUTH_USER",
        "BASIC_AUTH_PASSWORD",
    ):
        monkeypatch.setenv("SAM3_" + name, "")
    settings = load_settings(BackendSettings)
    assert settings.label_studio_url is settings.label_studio_api_key is settings.local_files_root is None
    assert settings.basic_auth_user is settings.basic_auth_password is None


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"LABEL_STUDIO_URL": "localhost:8080"}, "SAM3_LABEL_STUDIO_URL"),
        ({"LABEL_STUDIO_URL": "ftp://host"}, "http"),
        ({"LABEL_STUDIO_URL": "http://host:port"}, "http"),
        ({"LABEL_STUDIO_API_KEY": "top-secret"}, "SAM3_LABEL_STUDIO_URL"),
        ({"LOCAL_FILES_ROOT": "/does/not/exist"}, "SAM3_LOCAL_FILES_ROOT"),
        ({"LOCAL_FILES_ROOT": "/"}, "SAM3_LOCAL_FILES_ROOT"),
        ({"BASIC_AUTH_USER": "u"}, "SAM3_BASIC_AUTH_PASSWORD"),
        ({"BASIC_AUTH_PASSWORD": "top-secret"}, "SAM3_BASIC_AUTH_USER"),
        ({"REQUEST_SECONDS": "0"}, "SAM3_REQUEST_SECONDS"),
        ({"MAX_IMAGE_MB": "many"}, "SAM3_MAX_IMAGE_MB"),
        ({"OPEN_WEBHOOK": "perhaps"}, "SAM3_OPEN_WEBHOOK"),
    ],
)
def test_what_cannot_work_stops_the_start_with_a_sentence_without_secrets(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sentence: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv("SAM3_" + name, value)
    with pytest.raises(BadSettings) as caught:
        load_settings(BackendSettings)
    assert sentence in str(caught.value)
    assert "top-secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
