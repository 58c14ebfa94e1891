"""A real Label Studio and a real backend, started once for all end-to-end tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser import logged_in_browser
from projects import Backend, Project

from sam3_prelabel.demo.backend import BackendServer
from sam3_prelabel.demo.client import LabelStudioClient
from sam3_prelabel.demo.label_studio import VENV_VARIABLE, LabelStudioServer

if TYPE_CHECKING:
    from browser_editor import Editor

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def label_studio_venv() -> Path:
    venv = Path(os.environ.get(VENV_VARIABLE) or REPOSITORY / ".venv-label-studio")
    if not (venv / "bin" / "label-studio").exists():
        sentence = f"no Label Studio in {venv}: run `make label-studio`"
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    return venv


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that Label Studio may serve as local files."""
    return tmp_path_factory.mktemp("documents")


@pytest.fixture(scope="session")
def label_studio(
    label_studio_venv: Path, documents: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelStudioServer]:
    """As a new installation of 1.23 is: legacy tokens are off, a personal access token is the only key."""
    folder = tmp_path_factory.mktemp("label-studio")
    with LabelStudioServer(folder, venv=label_studio_venv, documents=documents) as server:
        yield server


@pytest.fixture(scope="session")
def token(label_studio: LabelStudioServer) -> str:
    return label_studio.personal_access_token()


@pytest.fixture(scope="session")
def backend(
    label_studio: LabelStudioServer, token: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    log = tmp_path_factory.mktemp("backend") / "backend.log"
    with BackendServer(label_studio.url, token, log=log) as server:
        yield Backend(server.url, server.log)


@pytest.fixture(scope="session")
def client(label_studio: LabelStudioServer, token: str) -> LabelStudioClient:
    return LabelStudioClient(label_studio.url, token)


@pytest.fixture(scope="session")
def new_project(client: LabelStudioClient) -> Callable[[str], Project]:
    """Makes a project from a label config."""
    numbers = count(1)

    def make(label_config: str) -> Project:
        return Project(client.create_project(f"end to end {next(numbers)}", label_config), label_config)

    return make


@pytest.fixture(scope="session")
def browser(label_studio: LabelStudioServer) -> Iterator[Any]:
    """A selenium driver, logged in; tests that ask for it are skipped, with the reason, where there is no browser."""
    with logged_in_browser(label_studio) as driver:
        yield driver


@pytest.fixture
def editor(browser: Any, label_studio: LabelStudioServer) -> Editor:
    """The labeling editor in the browser; open a task in it first."""
    from browser_editor import Editor  # imports selenium, which `browser` has found

    return Editor(browser, label_studio)
