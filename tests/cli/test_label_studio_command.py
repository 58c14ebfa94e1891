"""``sam3-prelabel label-studio ...``: the say over what was learned."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from taught_project import BASE, PROJECT, reviewed_tasks, taught
from typer.testing import CliRunner

import backend.learning.rebuild as rebuilding
from backend.database import Database
from backend.learning.courses import Courses
from backend.learning.inbox import Inbox
from backend.learning.predicted import Predictions
from backend.learning.reviews import Reviews
from backend.learning.versions import BASE as BASE_WORD
from backend.learning.versions import PERSON, TEACHER, Versions
from sam3_core.demo.scenes import Scene
from sam3_core.errors import BadSettings, InvalidInput, Sam3Error
from sam3_prelabel.cli import app

NAMES = [f"{BASE}+{PROJECT}.{number}" for number in (1, 2)]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["label-studio", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture
def store(tmp_path: Path, scene: Callable[..., Scene]) -> Path:
    return taught(tmp_path / "store.sqlite", list(reviewed_tasks(scene, 3)))


@pytest.fixture
def database(store: Path) -> Iterator[Database]:
    opened = Database(store)
    yield opened
    opened.close()


def test_versions_are_listed_with_what_they_brought(store: Path) -> None:
    done = run("versions", PROJECT, "--store", store)
    assert done.exit_code == 0, done.output
    second, first, base = (
        next(line for line in done.output.splitlines() if name in line) for name in (NAMES[1], NAMES[0], "base ")
    )
    assert "searched with the fine-tuned weights p12-abc" in second
    assert "0.610 → 0.740" in first
    assert "serves" in first
    assert "serves" not in second
    assert "the weights as they came" in base


@pytest.mark.parametrize(
    ("word", "serves", "by"),
    [
        ("previous", "", PERSON),
        (BASE_WORD, "", PERSON),
        ("2", NAMES[1], PERSON),
        (NAMES[1], NAMES[1], PERSON),
        ("latest", NAMES[1], TEACHER),
    ],
)
def test_one_command_goes_back_and_forth(store: Path, database: Database, word: str, serves: str, by: str) -> None:
    done = run("use", PROJECT, word, "--store", store)
    assert done.exit_code == 0, done.output
    choice = Versions(database).choice(str(PROJECT))
    assert (choice.name, choice.by) == (serves, by)
    assert (serves or "the weights as they came") in done.output


def test_learning_is_asked_for_through_the_inbox(store: Path, database: Database) -> None:
    assert run("learn", PROJECT, "--store", store).exit_code == 0
    noted = Inbox(database).first()
    assert noted is not None
    assert noted.action == "START_TRAINING"
    assert json.loads(noted.body)["project"] == {"id": PROJECT}
    assert run("learn", PROJECT, "--no-train", "--store", store).exit_code == 0
    assert Inbox(database).count() == 1


def test_reviews_are_read_anew(
    store: Path, database: Database, monkeypatch: pytest.MonkeyPatch, scene: Callable[..., Scene]
) -> None:
    """The Label Studio behind it is real in tests of ``rebuild``; here it is what it would put in place."""

    def replaced(reviews: Reviews, url: str, token: str, project: str, *, told: Callable[[int], None]) -> int:
        told(1)
        assert (url, token, project) == ("http://ls.test", "secret", "77")
        tasks: list[dict[str, Any]] = list(reviewed_tasks(scene, 2))
        return reviews.replace(project, "<View/>", "new", tasks)

    monkeypatch.setattr(rebuilding, "rebuild", replaced)
    done = run("learn", 77, "--rebuild", "--no-train", "--store", store)
    assert isinstance(done.exception, BadSettings)
    assert "SAM3_LABEL_STUDIO_API_KEY" in str(done.exception)
    monkeypatch.setenv("SAM3_LABEL_STUDIO_URL", "http://ls.test")
    monkeypatch.setenv("SAM3_LABEL_STUDIO_API_KEY", "secret")
    done = run("learn", 77, "--rebuild", "--no-train", "--store", store)
    assert done.exit_code == 0, done.output
    assert Reviews(database, Predictions(database)).project("77") is not None
    assert Inbox(database).count() == 0
    assert "secret" not in done.output


def test_what_is_at_work_is_cancelled(store: Path, database: Database) -> None:
    assert "not being taught" in run("cancel", PROJECT, "--store", store).output
    courses = Courses(database)
    courses.begin(str(PROJECT))
    assert "it ends at its next step" in run("cancel", PROJECT, "--store", store).output
    with pytest.raises(Sam3Error, match="cancelled"):
        courses.beat(str(PROJECT), "gathering")


def test_forgetting_takes_all_of_one_project_and_nothing_else(
    store: Path, database: Database, scene: Callable[..., Scene]
) -> None:
    reviews = Reviews(database, Predictions(database))
    reviews.replace("1", "<View/>", "kept", list(reviewed_tasks(scene, 1)))
    folder = store.with_name(f"{store.name}.adapters")
    folder.mkdir()
    for name in ("p12-abc", "p1-abc", "p123-abc", "other"):
        (folder / f"{name}.safetensors").touch()
    asked = run("forget", PROJECT, "--store", store)
    assert isinstance(asked.exception, InvalidInput)
    assert "3 reviewed tasks and 2 versions; give --yes" in str(asked.exception)
    assert reviews.count(str(PROJECT)) == 3
    assert run("forget", PROJECT, "--yes", "--store", store).exit_code == 0
    for (table,) in database.rows("SELECT name FROM sqlite_master WHERE type = 'table'"):
        columns = [row[1] for row in database.rows(f"PRAGMA table_info({table})")]
        column = "project" if "project" in columns else columns[0]
        assert database.rows(f"SELECT 1 FROM {table} WHERE {column} = ?", (str(PROJECT),)) == [], table
    assert reviews.project("1") is not None
    assert sorted(file.name for file in folder.iterdir()) == [
        "other.safetensors",
        "p1-abc.safetensors",
        "p123-abc.safetensors",
    ]
    assert "nothing is kept of project 12" in str(run("versions", PROJECT, "--store", store).exception)


@pytest.mark.parametrize("command", [("report",), ("learn",), ("versions",), ("use", "1"), ("cancel",), ("forget",)])
def test_what_is_not_there_is_a_sentence(command: tuple[str, ...], store: Path, tmp_path: Path) -> None:
    name, *rest = command
    for arguments, error, sentence in (
        ((13, "--store", store), InvalidInput, "nothing is kept of project 13"),
        ((13, "--store", tmp_path / "no.sqlite"), BadSettings, "there is no file"),
        ((13, "--store", tmp_path / "text.sqlite"), BadSettings, "cannot be used"),
        ((13,), BadSettings, "SAM3_STORE"),
    ):
        (tmp_path / "text.sqlite").write_text("this is no database, but long enough to look at" * 50)
        done = run(name, arguments[0], *rest, *arguments[1:])
        assert isinstance(done.exception, error), (arguments, done.output)
        assert sentence in str(done.exception)
    assert not (tmp_path / "no.sqlite").exists()


def test_a_version_that_is_not_there_is_a_sentence(store: Path, database: Database) -> None:
    done = run("use", PROJECT, "9", "--store", store)
    assert isinstance(done.exception, InvalidInput)
    assert NAMES[1] in str(done.exception)
    assert Versions(database).choice(str(PROJECT)).name == NAMES[0]
