"""The command itself: help, versions, and one sentence with code 2 for whatever cannot be done."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from backend.settings import BackendSettings
from sam3_prelabel import __version__, cli
from sam3_prelabel.settings import markdown_table, settings_of


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """The command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["sam3-prelabel", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.mark.parametrize("words", [["version"], ["--version"]])
def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert run(monkeypatch, *words) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_it_is_also_a_module_and_help_names_every_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sam3_prelabel", "--help"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("serve", "predict", "settings", "version"))


def test_settings_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    known = settings_of(BackendSettings)
    assert run(monkeypatch, "settings") == 0
    shown = capsys.readouterr().out
    assert all(setting.variable in shown for setting in known)
    assert run(monkeypatch, "settings", "--markdown") == 0
    assert capsys.readouterr().out == markdown_table(known) + "\n"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(b"never read: the command must end before")
    return path


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing.jpg", "-p", "star"], "there is no file or folder"),
        (["picture.png"], "Missing option"),
        (["picture.png", "-p", " ; "], "needs a phrase"),
        (["picture.png", "-p", "star", "-p", "star; stars"], "'star' is given twice"),
        (["picture.png", "-p", "star", "--threshold", "1.5"], "--threshold"),
        (["picture.png", "-p", "star", "--set", "max_instances=0"], 'max_instances="0" is not a whole number from 1'),
        (["picture.png", "-p", "star", "--set", "sice=0"], "OPTION=VALUE"),
        (["picture.png", "-p", "star", "--negative", "moon=sun"], "there is no prompt 'moon'"),
        (["picture.png", "-p", "star", "--dtype", "int4"], "SAM3_DTYPE"),
        (["picture.png", "-p", "star", "--model", "/no/such/folder"], "/no/such/folder"),
    ],
)
def test_wrong_use_is_one_sentence_and_code_2(
    picture: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(picture.parent)
    assert run(monkeypatch, "predict", *arguments, "--out", "out") == 2
    shown = capsys.readouterr().err
    assert sentence in shown
    assert "Traceback" not in shown
    assert not Path("out/coco.json").exists()


def test_a_misspelt_variable_stops_the_start(
    picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAM3_TRESHOLD", "0.4")
    for arguments in (["predict", picture, "-p", "star", "-o", picture.parent / "out"], ["serve", "--port", "1"]):
        assert run(monkeypatch, *arguments) == 2
        assert "unknown setting SAM3_TRESHOLD" in capsys.readouterr().err


def test_an_output_that_is_a_file_is_refused(
    picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "predict", picture, "-p", "star", "-o", picture) == 2
    assert "is a file" in capsys.readouterr().err


def test_a_taken_port_is_said_before_anything_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(monkeypatch, "serve", "--port", str(port)) == 2
    shown = capsys.readouterr()
    assert f"cannot listen on 127.0.0.1, port {port}" in shown.err
    assert shown.out == ""


def test_the_server_answers_at_the_address_it_reports() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "sam3_prelabel", "serve", "--port", str(port), "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert f"http://127.0.0.1:{port}" in server.stdout.readline()
            session = requests.Session()
            session.mount("http://", HTTPAdapter(max_retries=Retry(connect=60, backoff_factor=0.5, backoff_max=1)))
            assert session.get(f"http://127.0.0.1:{port}/health", timeout=30).status_code == 200
        finally:
            server.terminate()
    assert server.returncode == 0


def test_the_command_starts_without_the_heavy_libraries() -> None:
    """They are extras: `settings` and `--help` work without them, and fast."""
    heavy = "{'torch', 'transformers', 'flask', 'label_studio_sdk'}"
    code = f"import sam3_prelabel.cli, sys; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "set()\n"
