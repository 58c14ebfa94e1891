"""Which groups are learned from and which are kept to judge by: the same ones however many come after."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

_STEPS = 2**64


def folds(groups: Iterable[str], count: int = 5) -> dict[str, int]:
    """The fold 0..count - 1 of each group; a group's fold depends on nothing but its name and the count.

    Raises ValueError for a count under 1.
    """
    if count < 1:
        raise ValueError(f"there must be at least one fold, not {count}")
    return {group: _hashed("fold", group) % count for group in groups}


def held_out(group: str, share: float = 0.25) -> bool:
    """Whether a group belongs to the share (0..1) that is only judged by. Says nothing about its fold."""
    return _hashed("held out", group) < share * _STEPS


def _hashed(purpose: str, group: str) -> int:
    """0..2**64 - 1, evenly; independent for each purpose."""
    digest = hashlib.blake2b(group.encode("utf-8", "surrogatepass"), digest_size=8, person=purpose.encode())
    return int.from_bytes(digest.digest(), "big")
