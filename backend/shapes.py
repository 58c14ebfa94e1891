"""The ``value`` of a stored region, read back into the shape it says: pixels, a box, or a turned shape around."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from msgspec import UNSET, Raw, Struct, UnsetType
from numpy.typing import NDArray

from backend.bodies import decode
from backend.labeling import Output
from backend.rle import mask_of_rle
from sam3_core import Box, Mask
from sam3_core.encodings import png
from sam3_core.encodings.filling import filled
from sam3_core.errors import InvalidInput

_FAR = 1e6  # percent or degrees; what goes beyond is no shape on a picture
_ELLIPSE_CORNERS = 128
_DATA_URL = "data:image/png;base64,"

Corners = NDArray[np.float64]
"""``(N, 2)`` float64, xy in percent of the frame; a ring, not closed."""

Json = Raw | UnsetType


class Value(Struct, frozen=True):
    """A region's ``value``. What may be large or odd stays JSON until it is looked at."""

    labels: Any = None
    brushlabels: Any = None
    polygonlabels: Any = None
    rectanglelabels: Any = None
    bitmasklabels: Any = None
    ellipselabels: Any = None
    vectorlabels: Any = None
    keypointlabels: Any = None
    rle: Json = UNSET
    imageDataURL: Json = UNSET  # noqa: N815 - its name on the wire
    points: Json = UNSET
    vertices: Json = UNSET
    closed: Any = None
    x: Any = None
    y: Any = None
    width: Any = None
    height: Any = None
    radiusX: Any = None  # noqa: N815
    radiusY: Any = None  # noqa: N815
    rotation: Any = None

    @property
    def labelled(self) -> Iterator[Any]:
        """What may be its labels, one for each type of region."""
        return (getattr(self, name) for name in ("labels", *Output))

    @property
    def encoded(self) -> tuple[Output, Raw] | None:
        """The kind and the JSON of a region that says which pixels it has; None for other shapes, and open lines."""
        kinds = (
            (Output.BRUSH, self.rle),
            (Output.POLYGON, self.points),
            (Output.BITMASK, self.imageDataURL),
            (Output.VECTOR, self.vertices if self.closed is True else UNSET),
        )
        return next(((output, raw) for output, raw in kinds if isinstance(raw, Raw)), None)


class _Vertex(Struct, frozen=True):
    x: float
    y: float


def read_encoded(output: Output, raw: Raw, frame: tuple[int, int]) -> Mask:
    """The pixels that ``Value.encoded`` says. Raises InvalidInput for what cannot be read, or says no pixels."""
    mask = _READERS[output](raw, frame)
    if mask.area == 0:
        raise InvalidInput("there is nothing in it")
    return mask


def upright_rectangle(value: Value, frame: tuple[int, int]) -> Box:
    """A rectangle that is not turned, in pixels. Raises InvalidInput or InvalidPrompt for what is none."""
    x, y, width, height = _numbers(value, "x", "y", "width", "height")
    across, down = frame[0] / 100, frame[1] / 100
    return Box(x * across, y * down, (x + width) * across, (y + height) * down)


def turned_rectangle(value: Value, frame: tuple[int, int]) -> Mask:
    """The pixels in a rectangle, turned about its top left corner. Raises InvalidInput for what is none."""
    x, y, width, height = _numbers(value, "x", "y", "width", "height")
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)])
    return _filled(_turned(corners, _angle(value), frame) + np.array([x, y]), frame)


def ellipse(value: Value, frame: tuple[int, int]) -> Mask:
    """The pixels in an ellipse that is turned about its centre. Raises InvalidInput for what is none."""
    x, y, *radii = _numbers(value, "x", "y", "radiusX", "radiusY")
    around = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)
    ring = np.stack([np.cos(around), np.sin(around)], axis=1) * radii
    return _filled(_turned(ring, _angle(value), frame) + np.array([x, y]), frame)


def _numbers(value: Value, *names: str) -> list[float]:
    """Numbers of a value, in percent or degrees. Raises InvalidInput for what is none, or far from any picture."""
    numbers = [getattr(value, name) for name in names]
    if not all(isinstance(number, int | float) and abs(number) <= _FAR for number in numbers):
        raise InvalidInput(f"{', '.join(names)} must be numbers")
    return [float(number) for number in numbers]


def _angle(value: Value) -> float:
    """Clockwise, in degrees."""
    return 0.0 if value.rotation is None else _numbers(value, "rotation")[0]


def _turned(offsets: Corners, angle: float, frame: tuple[int, int]) -> Corners:
    """The corners turned clockwise about the origin: in pixels, since percents of width and height are no lengths."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    size = np.array(frame, dtype=np.float64)
    turned: Corners = (offsets * size) @ np.array([[cos, sin], [-sin, cos]]) / size
    return turned


def _polygon(raw: Raw, frame: tuple[int, int]) -> Mask:
    return _filled(np.array(decode(list[tuple[float, float]], raw), dtype=np.float64).reshape(-1, 2), frame)


def _vector(raw: Raw, frame: tuple[int, int]) -> Mask:
    # Curves are taken for their chords, which is close enough to say what is edited.
    corners = [(vertex.x, vertex.y) for vertex in decode(list[_Vertex], raw)]
    return _filled(np.array(corners, dtype=np.float64).reshape(-1, 2), frame)


def _filled(corners: Corners, frame: tuple[int, int]) -> Mask:
    """The pixels whose centres a ring encloses."""
    if len(corners) < 3:
        raise InvalidInput("a polygon needs three corners")
    pixels = np.clip(corners, 0, 100) * frame / 100
    origin = np.floor(pixels.min(axis=0)).astype(np.int64)
    width, height = np.ceil(pixels.max(axis=0)).astype(np.int64) - origin
    edges = filled([pixels - origin])
    places = (edges >> 32) * width + (edges & 0xFFFFFFFF)
    steps = np.zeros(height * width + 1, dtype=np.int8)
    np.add.at(steps, places[::2], 1)
    np.add.at(steps, places[1::2], -1)  # where a run ends at the border, in the row below
    inside = np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_).reshape(height, width)
    return Mask(inside, int(origin[0]), int(origin[1]), frame).tight()


def _brush(raw: Raw, frame: tuple[int, int]) -> Mask:
    return mask_of_rle(decode(list[int], raw), frame)


def _bitmask(raw: Raw, frame: tuple[int, int]) -> Mask:
    url = decode(str, raw)
    try:
        data = base64.b64decode(url.removeprefix(_DATA_URL), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("a bitmask is a PNG as a data: address") from None
    mask = png.decode(data, max_megapixels=frame[0] * frame[1] / 1e6)
    if mask.frame != frame:
        raise InvalidInput(f"a bitmask of {mask.frame} lies on a picture of {frame}")
    return mask


_READERS = {Output.BRUSH: _brush, Output.POLYGON: _polygon, Output.BITMASK: _bitmask, Output.VECTOR: _vector}
