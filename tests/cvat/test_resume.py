"""What a run keeps on disk, and how long it waits: no server needed."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from cvat_sdk.api_client.exceptions import ApiException
from urllib3 import HTTPHeaderDict

from cvat_nuclio import patience
from cvat_nuclio.resume import Notes, Slice, alone, read_notes, write_notes
from sam3_core.errors import InvalidInput, NotReady


def test_notes_are_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notes.json"
    old = Notes(server="s", task=1, plan="p", done=frozenset({0}))
    write_notes(path, old)
    kept = tmp_path / "the same file by another name"
    kept.hardlink_to(path)
    new = old.changed(pending=Slice(frames=(1,), traces=frozenset({"t"})))
    write_notes(path, new)
    assert (read_notes(path), read_notes(kept)) == (new, old)

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_notes(path, old)
    assert read_notes(path) == new
    assert set(tmp_path.iterdir()) == {path, kept}


def api_error(status: int, **headers: str) -> ApiException:
    error = ApiException(status=status, reason="as told")
    error.headers = HTTPHeaderDict({name.replace("_", "-"): value for name, value in headers.items()})
    return error


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (api_error(429, retry_after="7"), [7.0] * 9),
        (NotReady("loading", retry_after=3.0), [3.0] * 9),
        (api_error(503), [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]),
        (api_error(500), [0.5, 1.0]),
        (api_error(400), []),
    ],
)
def test_waits_are_as_long_as_asked_or_double_up_to_a_bound(
    monkeypatch: pytest.MonkeyPatch, error: Exception, waits: list[float]
) -> None:
    patient, waited = patience.Patience(), list[float]()
    monkeypatch.setattr(patient, "_over", SimpleNamespace(wait=waited.append))

    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        patient(fail)
    assert waited == waits


def test_two_runs_at_once_are_one_too_many(tmp_path: Path) -> None:
    with (
        alone(tmp_path / "notes.json"),
        pytest.raises(InvalidInput, match="another run"),
        alone(tmp_path / "notes.json"),
    ):
        pass
