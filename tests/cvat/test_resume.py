"""What a run keeps on disk, and how long it waits: no server needed."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from cvat_sdk.api_client.exceptions import ApiException
from urllib3 import HTTPConnectionPool, HTTPHeaderDict
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    MaxRetryError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

from cvat_nuclio import patience
from cvat_nuclio.resume import Notes, Slice, alone, read_notes, write_notes
from sam3_core.errors import Busy, InvalidInput, NotReady, OutOfMemory, ServerUnavailable


def test_notes_are_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notes.json"
    old = Notes(server="s", task=1, plan="p", done={"p": frozenset({0})})
    write_notes(path, old)
    kept = tmp_path / "the same file by another name"
    kept.hardlink_to(path)
    new = old.changed(pending=Slice(frames=(1,), traces=frozenset({"t"}), sent=1.5))
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


GROWING = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (api_error(429, retry_after="7"), [7.0] * 9),
        (NotReady("loading", retry_after=3.0), [3.0] * 9),
        (Busy("full", retry_after=3.0), [3.0] * 9),
        (OutOfMemory("full", retry_after=3.0), [3.0] * 2),
        *((api_error(status), GROWING) for status in (429, 502, 503, 504, 524)),
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


def test_a_connection_that_stays_away_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    patient, waited = patience.Patience(), list[float]()
    monkeypatch.setattr(patient, "_over", SimpleNamespace(wait=waited.append))

    def fail() -> None:
        raise ProtocolError("Connection aborted.")

    with pytest.raises(ServerUnavailable, match="no connection to CVAT: Connection aborted"):
        patient(fail)
    assert waited == GROWING


def test_it_is_known_what_may_go_on_after_its_failure() -> None:
    pool = HTTPConnectionPool("cvat")
    nowhere = NewConnectionError(HTTPConnection("cvat"), "refused")
    lost = (api_error(504), api_error(524), ProtocolError("aborted"), ReadTimeoutError(pool, "/", "slow"))
    answered = (api_error(502), api_error(500), api_error(413))
    unsent = (nowhere, MaxRetryError(pool, "/", nowhere), MaxRetryError(pool, "/", ConnectTimeoutError()))
    assert [patience.may_go_on(error) for error in (*lost, *answered, *unsent)] == [True] * 4 + [False] * 6


def test_a_look_is_repeated_until_it_says_yes_or_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_WAIT", 0.001)
    looks = iter([False, False, True, False])
    patient = patience.Patience()
    assert patient.until(lambda: next(looks), 60.0)
    assert not patient.until(lambda: next(looks), 0.0), "one look"
    patient.end()
    assert not patient.until(lambda: False, 1000.0), "nobody waits any more"


def test_two_runs_at_once_are_one_too_many(tmp_path: Path) -> None:
    with (
        alone(tmp_path / "notes.json"),
        pytest.raises(InvalidInput, match="another run"),
        alone(tmp_path / "notes.json"),
    ):
        pass
