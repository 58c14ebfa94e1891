"""Fixtures of the engine's tests; the tiny model itself is in tiny_sam3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_sam3 import save_checkpoint

from sam3_core.engine.loading import Parts, load_parts
from sam3_core.engine.model import Sam3, Serving


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny matrices are slower on many threads, and sums come out in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    save_checkpoint(folder)
    return folder


@pytest.fixture(scope="session")
def parts(checkpoint: Path) -> Parts:
    return load_parts(checkpoint, "cpu", "float32")


@pytest.fixture
def sam3(parts: Parts) -> Sam3:
    return Sam3(parts, Serving(pass_mb=64))
