"""Events of Label Studio, kept from their arrival until they were applied: also where a process ends in between."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

from backend.database import Database
from sam3_core.errors import InvalidInput, TooLarge

_MOST_BYTES = 64_000_000  # of one body; 20 brush masks of 12 megapixels are 2 MB
_FASTEST = 1


@dataclass(frozen=True, slots=True)
class Noted:
    """An event that waits. number: grows with every arrival. body: JSON as it came."""

    number: int
    action: str
    body: bytes = field(repr=False)


class Inbox:
    """First in, first out. An event stays until it is said to be done: one whose process died is read once more.

    Callable from any thread and process. Everything raises sqlite3.Error where the file cannot be used.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, action: str, body: bytes) -> None:
        """Keep an event: it is on the disk when this returns.

        Raises TooLarge over 64 MB, InvalidInput for an action that is no text that can be kept.
        """
        if len(body) > _MOST_BYTES:
            raise TooLarge(f"the event has {len(body)} bytes, more than {_MOST_BYTES}")
        packed = zlib.compress(body, _FASTEST)
        try:
            with self._database.writing() as connection:
                connection.execute("INSERT INTO inbox (action, body) VALUES (?, ?)", (action, packed))
        except UnicodeError:
            raise InvalidInput("the action is not valid text") from None

    def first(self) -> Noted | None:
        """The one that waits longest."""
        rows = self._database.rows("SELECT number, action, body FROM inbox ORDER BY number LIMIT 1")
        return next((Noted(number, action, zlib.decompress(body)) for number, action, body in rows), None)

    def done(self, number: int) -> None:
        """It was applied. Saying so twice changes nothing."""
        with self._database.writing() as connection:
            connection.execute("DELETE FROM inbox WHERE number = ?", (number,))

    def count(self) -> int:
        """How many wait."""
        ((count,),) = self._database.rows("SELECT COUNT(*) FROM inbox")
        return int(count)
