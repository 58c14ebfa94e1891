"""What regions cover, as Label Studio's editor draws them, or by decoders that are not ours."""

from __future__ import annotations

import base64
import io

import cv2
import numpy as np
from label_studio_sdk.converter.brush import decode_rle
from PIL import Image

from backend.regions import Region
from sam3_core import Mask


def drawn(points: list[list[float]], frame: tuple[int, int]) -> np.ndarray:
    """What the ring covers, as an editor fills it (even-odd)."""
    width, height = frame
    pixels = np.array(points) * (width, height) / 100
    canvas = np.zeros((height * 8, width * 8), np.uint8)
    cv2.fillPoly(canvas, [np.rint(pixels * 8 * 16 - 8).astype(np.int32)], 1, shift=4)
    return canvas[4::8, 4::8].astype(bool)


def rectangle_drawn(value: Region, frame: tuple[int, int]) -> np.ndarray:
    """A rectangle as the editor draws it: percent to pixels, then clockwise about the top left corner."""
    (x, width), (y, height) = (
        [value[key] * full / 100 for key in keys]
        for keys, full in zip((("x", "width"), ("y", "height")), frame, strict=True)
    )
    turn = np.exp(1j * np.radians(value["rotation"]))
    corners = np.array([0, width, width + 1j * height, 1j * height]) * turn + x + 1j * y
    return drawn((np.stack([corners.real, corners.imag], axis=1) * 100 / frame).tolist(), frame)


def ellipse_drawn(value: Region, frame: tuple[int, int]) -> np.ndarray:
    """An ellipse as the editor draws it: each radius percent of its own side to pixels, then clockwise."""
    (x, rx), (y, ry) = (
        [value[key] * full / 100 for key in keys]
        for keys, full in zip((("x", "radiusX"), ("y", "radiusY")), frame, strict=True)
    )
    canvas = np.zeros((frame[1] * 8, frame[0] * 8), np.uint8)
    centre, axes = ([round(8 * length * 16 - less) for length in pair] for pair, less in (((x, y), 8), ((rx, ry), 0)))
    cv2.ellipse(canvas, centre, axes, value["rotation"], 0, 360, 1, -1, shift=4)
    return canvas[4::8, 4::8].astype(bool)


def vector_drawn(value: Region, frame: tuple[int, int]) -> np.ndarray:
    """A vector as the editor draws it: from vertex to vertex by the names, all around."""
    vertices = {vertex["id"]: vertex for vertex in value["vertices"]}
    at = first = value["vertices"][0]["id"]
    points = []
    while not points or at != first:
        points.append([vertices[at]["x"], vertices[at]["y"]])
        at = vertices[at]["prevPointId"]
    assert len(points) == len(value["vertices"])
    return drawn(points, frame)


def covered(region: Region) -> Mask:
    """The pixels of a region of any kind but keypoints."""
    value, frame = region["value"], (region["original_width"], region["original_height"])
    if "rle" in value:
        return Mask.from_full(decode_rle(value["rle"]).reshape(frame[1], frame[0], 4)[..., 3])
    if "imageDataURL" in value:
        data = base64.b64decode(value["imageDataURL"].partition(",")[2])
        return Mask.from_full(np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[..., 3])
    if "points" in value:
        return Mask.from_full(drawn(value["points"], frame))
    if "vertices" in value:
        return Mask.from_full(vector_drawn(value, frame))
    return Mask.from_full(ellipse_drawn(value, frame) if "radiusX" in value else rectangle_drawn(value, frame))
