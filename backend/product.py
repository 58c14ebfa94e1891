"""Which version of this product runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    try:
        return version("sam3-prelabel")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "unknown"


VERSION = _installed()
