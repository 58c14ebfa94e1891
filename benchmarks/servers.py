"""The two backends, each as a process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sam3_core.engine.weights import find_weights
from sam3_core.settings import CoreSettings, load_settings
from sam3_prelabel.demo.backend import BackendServer
from sam3_prelabel.demo.process import HOST, ServerProcess, answers, free_port

# In the form of a legacy token, which is sent as it is; the images' server does not look at it.
_TOKEN = "0123456789abcdef" * 2 + "01234567"
_START = 300.0  # seconds


@contextmanager
def our_backend(label_studio: str, folder: Path) -> Iterator[str]:
    """`sam3-prelabel serve` with the settings of the environment; its address. Its log goes into the folder."""
    with BackendServer(label_studio, _TOKEN, log=folder / "backend.log") as server:
        yield server.url


@contextmanager
def reencoding_backend(label_studio: str, folder: Path) -> Iterator[str]:
    """``benchmarks.reencoding_backend`` with the same weights, device and environment; its address."""
    settings = load_settings(CoreSettings)
    port = free_port()
    command = [
        sys.executable, "-m", "benchmarks.reencoding_backend", "--port", str(port), "--device", settings.device,
        "--model", str(find_weights(settings.model, settings.hub_token)), "--label-studio", label_studio,
        "--token", _TOKEN, "--cache", str(folder),
    ]  # fmt: skip
    environment = os.environ | {"NO_PROXY": HOST, "no_proxy": HOST}
    url = f"http://{HOST}:{port}"
    log = folder / "reencoding.log"
    with ServerProcess("the re-encoding backend", command, env=environment, log=log) as process:
        process.wait_until(lambda: answers(f"{url}/health"), timeout=_START)
        yield url
