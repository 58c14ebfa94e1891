"""The one file of a server: made, migrated, shared by threads and processes, whole whenever one of them dies."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backend.database import _MIGRATIONS, Database
from backend.labeling import read_plan
from backend.phrases import Phrases
from sam3_core.errors import BadSettings

ROOT = Path(__file__).parents[2]
CONFIG = (
    '<View><Image name="image" value="$image"/><PolygonLabels name="outline" toName="image">'
    '<Label value="car" remember_prompt="true"/></PolygonLabels></View>'
)
TABLES = {"label_phrases", "versions", "serving", "evidence", "courses"} | {
    "inbox", "predictions", "annotations", "deleted", "projects",
}  # fmt: skip


def of_release_one(file: Path) -> None:
    """What the first version of this program left: one table, with what somebody typed."""
    with sqlite3.connect(file) as database:
        for statement in _MIGRATIONS[0]:
            database.execute(statement)
        database.execute("INSERT INTO label_phrases VALUES ('1', 'car', 'pickup')")
        database.execute("PRAGMA user_version = 1")


def tables(file: Path) -> set[str]:
    with sqlite3.connect(file) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def version(file: Path) -> int:
    with sqlite3.connect(file) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def together(script: str, *arguments: list[str]) -> list[str]:
    """Runs a script in several processes that begin together, after they said "ready"; what each printed."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, *one], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for one in arguments
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate() for process in processes]
    assert [error for _, error in answers] == [""] * len(processes)
    return [said for said, _ in answers]


def test_a_new_file_has_all_tables_and_an_old_one_gets_them(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    of_release_one(old)
    for file in (new, old):
        Database(file).close()
        assert tables(file) >= TABLES
        assert version(file) == len(_MIGRATIONS)
    (source,) = Phrases(Database(old)).apply("1", read_plan(CONFIG)).sources
    assert source.labels[0].concept.phrases == ("pickup",)


OPENER = """
import sys
from pathlib import Path
from backend.database import Database
from backend.phrases import Phrases
config, file, name = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
for number in range(8):
    database = Database(Path(file))
    typed = [{"type": "textarea", "to_name": "image", "value": {"text": [name]}}]
    Phrases(database).learn(f"{name}-{number}", config, typed)
    database.close()
"""


@pytest.mark.parametrize("old", [False, True])
def test_processes_share_one_file_from_its_first_moment(tmp_path: Path, old: bool) -> None:
    file = tmp_path / "store"
    if old:
        of_release_one(file)
    together(OPENER, *([CONFIG, str(file), name] for name in "abc"))
    known = dict(Database(file).rows("SELECT project, phrases FROM label_phrases WHERE label = 'car'"))
    kept = {f"{name}-{number}": name for name in "abc" for number in range(8)}
    assert known == kept | ({"1": "pickup"} if old else {})


KILLED = """
import sys
from pathlib import Path
from backend.database import Database
database = Database(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(10**9):
    with database.writing() as connection:
        # More than the cache holds, so that pages are in the file before the end of the transaction.
        for part in range(30):
            row = (str(number), str(part), "v", 0.0, b"x" * 200_000)
            connection.execute("INSERT INTO predictions VALUES (?, ?, ?, ?, ?)", row)
            print(number, part, flush=True)
"""


@pytest.mark.parametrize("at", [5, 29, 47])
def test_a_process_killed_while_it_writes_leaves_whole_transactions(tmp_path: Path, at: int) -> None:
    file = tmp_path / "store"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(file)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(at):
        process.stdout.readline()
    process.kill()
    process.communicate()
    database = Database(file)
    assert database.rows("PRAGMA integrity_check") == [("ok",)]
    assert {count for (count,) in database.rows("SELECT COUNT(*) FROM predictions GROUP BY project")} <= {30}


def test_nothing_of_a_failed_transaction_is_kept(tmp_path: Path) -> None:
    database = Database(tmp_path / "store")

    def fail() -> None:
        with database.writing() as connection:
            connection.execute("INSERT INTO deleted VALUES ('1', 'task', '1')")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert database.rows("SELECT * FROM deleted") == []


def broken(path: Path) -> None:
    path.write_bytes(b"no database, but long enough to be looked at as one" * 40)


def newer(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {len(_MIGRATIONS) + 1}")


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE label_phrases (something)")


@pytest.mark.parametrize("spoil", [broken, newer, foreign, Path.mkdir])
def test_a_file_that_cannot_be_used_stops_the_start_with_a_sentence(tmp_path: Path, spoil: Any) -> None:
    file = tmp_path / "store"
    spoil(file)
    with pytest.raises(BadSettings, match=r"^SAM3_STORE: .*store cannot be used: [^\n]+$"):
        Database(file)


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "store"
    of_release_one(file)
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE projects (something)")  # in the way of the last step's last table
    before = tables(file)
    with pytest.raises(BadSettings):
        Database(file)
    assert (tables(file), version(file)) == (before, 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "store"
    Database(file).close()
    file.chmod(0o400)
    with pytest.raises(BadSettings, match="SAM3_STORE"):
        Database(file)


def test_a_missing_folder_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="SAM3_STORE"):
        Database(tmp_path / "missing" / "store")
