"""Files in the mounted folder, and none outside of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sam3_core.errors import ImageUnavailable, TooLarge

_STEP = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def read_local(root: Path, name: str, limit: int) -> bytes | None:
    """The file of a name below ``root``, a folder without links in its own path; None where there is none.

    Links are followed where they lead to something below the root. limit: bytes.
    Raises ImageUnavailable for what leads out of the folder or cannot be read, and TooLarge.
    """
    if not name or "\0" in name:
        return None
    try:
        place = (root / name.lstrip("/")).resolve()
        found = place.is_file()
    except (OSError, RuntimeError, ValueError):  # a name too long, a loop of links, no Unicode
        return None
    if not place.is_relative_to(root):
        raise ImageUnavailable(f"{name[:80]!r} lies outside the folder of local files")
    if not found:
        return None
    try:
        return _read(root, place.relative_to(root).parts, limit)
    except OSError as error:
        raise ImageUnavailable(f"{place.name} cannot be read: {error.strerror}") from None


def _read(root: Path, steps: tuple[str, ...], limit: int) -> bytes:
    """Opened step by step without following links: between the look and the opening a folder may become one."""
    current = os.open(root, _STEP | os.O_DIRECTORY)
    try:
        for number, step in enumerate(steps, start=1):
            kind = os.O_DIRECTORY if number < len(steps) else 0
            deeper = os.open(step, _STEP | kind, dir_fd=current)
            os.close(current)
            current = deeper
        if not stat.S_ISREG(os.fstat(current).st_mode):
            raise ImageUnavailable(f"{steps[-1]} is no file")
        with os.fdopen(os.dup(current), "rb") as file:
            data = file.read(limit + 1)
    finally:
        os.close(current)
    if len(data) > limit:
        raise TooLarge(f"{steps[-1]} is larger than the allowed {limit} bytes")
    return data
