"""Events wait on the disk until they were applied, whoever dies meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_database import together

from backend.database import Database
from backend.learning.inbox import Inbox, Noted
from sam3_core.errors import InvalidInput, TooLarge


@given(st.lists(st.tuples(st.sampled_from(["A", "ANNOTATION_CREATED", ""]), st.binary(max_size=40)), max_size=6))
def test_events_come_out_in_their_order_as_they_came(events: list[tuple[str, bytes]]) -> None:
    inbox = Inbox(Database(None))
    for action, body in events:
        inbox.put(action, body)
    assert inbox.count() == len(events)
    for event in events:
        noted = inbox.first()
        assert noted is not None
        assert (noted.action, noted.body) == event
        assert inbox.first() == noted
        inbox.done(noted.number)
        inbox.done(noted.number)
    assert (inbox.first(), inbox.count()) == (None, 0)


def test_an_event_whose_process_ended_is_there_again_and_numbers_only_grow(tmp_path: Path) -> None:
    database = Database(tmp_path / "store")
    Inbox(database).put("A", b"{}")
    database.close()
    inbox = Inbox(Database(tmp_path / "store"))
    assert inbox.first() == Noted(1, "A", b"{}")
    inbox.done(1)
    inbox.put("B", b"{}")
    # A late done(1) of another process must not take out what came after.
    inbox.done(1)
    assert inbox.first() == Noted(2, "B", b"{}")


def test_what_cannot_be_kept_is_refused() -> None:
    inbox = Inbox(Database(None))
    with pytest.raises(TooLarge, match="64000001 bytes"):
        inbox.put("A", bytes(64_000_001))
    with pytest.raises(InvalidInput):
        inbox.put("\ud800", b"{}")
    assert inbox.count() == 0


PUTTER = """
import sys
from pathlib import Path
from backend.database import Database
from backend.learning.inbox import Inbox
inbox = Inbox(Database(Path(sys.argv[1])))
print("ready", flush=True)
sys.stdin.readline()
for number in range(15):
    inbox.put(sys.argv[2], str(number).encode())
"""


def test_two_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "store"
    together(PUTTER, [str(file), "a"], [str(file), "b"])
    inbox, found = Inbox(Database(file)), []
    while noted := inbox.first():
        found.append((noted.action, int(noted.body)))
        inbox.done(noted.number)
    assert sorted(found) == [(name, number) for name in "ab" for number in range(15)]
    assert [number for name, number in found if name == "a"] == list(range(15))
