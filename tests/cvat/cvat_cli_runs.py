"""The real cvat-cli as users run it: a process of its own, against the loopback CVAT server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from cvat_sdk.masks import decode_mask
from cvat_server import CvatServer
from numpy.typing import NDArray

Bits: TypeAlias = NDArray[np.bool_]
DETECTOR, INTERACTOR = "cvat_nuclio.auto_annotation", "cvat_nuclio.auto_interaction"


def cvat_cli(server: CvatServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name("cvat-cli"))
    login = ["--server-host", server.host, "--server-port", str(server.port), "--auth", "u:p"]
    return subprocess.run([program, *login, *arguments], capture_output=True, text=True, timeout=120, check=False)


def parameters(**values: str) -> list[str]:
    """Each as ``-p name=str:value``."""
    return [word for name, value in values.items() for word in ("-p", f"{name}=str:{value}")]


def bits(shape: dict[str, Any], size: tuple[int, int]) -> Bits:
    """The pixels of a mask or polygon in a picture of (width, height)."""
    width, height = size
    if shape["type"] == "mask":
        return np.asarray(decode_mask(shape["points"], image_width=width, image_height=height), dtype=np.bool_)
    drawn = np.zeros((height, width), dtype=np.uint8)
    cv2.fillPoly(drawn, [np.round(np.reshape(shape["points"], (-1, 2)) - 0.5).astype(np.int32)], 1)
    return drawn.astype(bool)


def overlap(found: Bits, truth: Bits) -> float:
    """Intersection over union of two masks of one size."""
    return float((found & truth).sum() / (found | truth).sum())
