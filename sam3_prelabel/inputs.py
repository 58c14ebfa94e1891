"""Which images a command line means, and what each is called in the output."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sam3_core.errors import InvalidInput

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"})
"""What is taken from a folder, in any case; a file named outright is taken whatever its suffix."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """path: where it lies. name: its path below the folder that all images share, with ``/``; unique in a run."""

    path: Path
    name: str


def find_images(paths: Sequence[Path], *, recursive: bool, skip: Sequence[Path] = ()) -> list[ImageFile]:
    """The images that files and folders stand for: in the order given, folders sorted, each file once.

    recursive: look in subfolders too. skip: folders that are never looked into (what we wrote ourselves).
    Raises InvalidInput for a path that does not exist and for a folder without an image.
    """
    barred = [_tidy(folder) for folder in skip]
    found: dict[Path, Path] = {}
    for path in paths:
        for file in _expand(_tidy(path), recursive, barred):
            found.setdefault(file.resolve(), file)
    if not found:
        raise InvalidInput("no image given")
    base = Path(os.path.commonpath([file.parent for file in found.values()]))
    return [ImageFile(file, file.relative_to(base).as_posix()) for file in found.values()]


def _expand(path: Path, recursive: bool, barred: Sequence[Path]) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InvalidInput(f"there is no file or folder {path}")
    files = sorted(_images_in(path, recursive, barred))
    if not files:
        deeper = "" if recursive else "; --recursive looks in its subfolders too"
        raise InvalidInput(f"no image in folder {path} (looked for {', '.join(sorted(SUFFIXES))}){deeper}")
    return files


def _images_in(folder: Path, recursive: bool, barred: Sequence[Path]) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.is_dir():
            # A link to a folder could lead around in a circle.
            if recursive and not entry.is_symlink() and entry not in barred:
                yield from _images_in(entry, recursive, barred)
        elif entry.suffix.lower() in SUFFIXES and not entry.name.startswith("."):
            yield entry


def _tidy(path: Path) -> Path:
    """Absolute and without "..", links kept: a linked file is called what the user called it."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute() keeps "..", Path.resolve() follows links
