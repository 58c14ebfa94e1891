"""Which of an annotator's clicks still wait: the editor shows the answer to the newest request alone."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count


@dataclass(slots=True, eq=False)
class _Waiting:
    number: int
    origins: frozenset[str]
    wanted: bool = True

    def is_about_the_same(self, other: _Waiting) -> bool:
        """Two annotators have no prompt in common; requests without ids cannot be told apart."""
        return not (self.origins and other.origins) or not self.origins.isdisjoint(other.origins)


class Newest:
    """The requests under way. One per process; callable from any thread."""

    def __init__(self) -> None:
        self._numbers = count()
        self._waiting: defaultdict[Hashable, list[_Waiting]] = defaultdict(list)
        self._lock = threading.Lock()

    def arrive(self) -> int:
        """A request's place in the order of arrival, for ``waiting``: a later one may get there first."""
        return next(self._numbers)

    @contextmanager
    def waiting(self, where: Hashable, origins: frozenset[str], number: int) -> Iterator[Callable[[], bool]]:
        """While the block runs, the request waits there; what it yields says whether it still should.

        origins: ids of its prompts. It is no longer wanted once a newer request for the same place waits that has one
        of these prompts too (or when one of the two has no ids).
        """
        mine = _Waiting(number, origins)
        with self._lock:
            others = [other for other in self._waiting[where] if mine.is_about_the_same(other)]
            for other in others:
                other.wanted = other.wanted and other.number > number
            mine.wanted = all(other.number < number for other in others)
            self._waiting[where].append(mine)
        try:
            yield lambda: mine.wanted
        finally:
            with self._lock:
                self._waiting[where].remove(mine)
                if not self._waiting[where]:
                    del self._waiting[where]
