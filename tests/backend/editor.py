"""Stands for an annotator at Label Studio 1.23's editor: prompts, suggestions, accepted regions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import numpy as np
import requests
from label_studio_sdk.converter.brush import decode_rle
from request_bodies import predict_body

from sam3_core import Mask
from sam3_core.demo.scenes import Scene, SceneObject

LABELS = '<Label value="Circle"/><Label value="Thing"/>'
CONFIG = f"""
<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image">{LABELS}</BrushLabels>
  <KeyPointLabels name="kp" toName="image" smart="true">{LABELS}</KeyPointLabels>
  <RectangleLabels name="box" toName="image" smart="true">{LABELS}</RectangleLabels>
  <TextArea name="prompt" toName="image"/>
</View>
"""

Region = dict[str, Any]


class Client(Protocol):
    """What sends requests: Flask's test client, or ``OverHttp``."""

    def post(self, path: str, /, *, json: Any) -> Any: ...


@dataclass
class _Answer:
    status_code: int
    text: str
    headers: Any
    json: Any


@dataclass
class OverHttp:
    """Flask's test client, as far as an editor uses it, for a server at an address."""

    url: str

    def post(self, path: str, /, *, json: Any) -> _Answer:
        answer = requests.post(self.url + path, json=json, timeout=120)
        return _Answer(answer.status_code, answer.text, answer.headers, answer.json())


class Editor:
    """One annotator's editor on one task.

    Prompts stay pending, and are sent together, until the suggestions are accepted; accepted regions ride along in a
    draft. As in the real one, ``accept`` replaces a region of the same id.
    """

    _ids = count()

    def __init__(
        self, client: Client, image: object, config: str = CONFIG, *, task: int = 1, name: str = "e"
    ) -> None:
        self.client = client
        self.config = config
        self.task: dict[str, Any] = {"id": task, "data": {"image": image}}
        self.name = name
        self.pending: list[Region] = []
        self.suggestions: list[Region] = []
        self.accepted: list[Region] = []
        self.timing: dict[str, float] = {}

    def click(self, x: float, y: float, label: str = "Thing", *, positive: bool = True, **more: Any) -> list[Region]:
        """x, y: percent."""
        value = {"x": x, "y": y, "width": 0.23, "labels": [label], "keypointlabels": [label]}
        return self._draw("kp", "keypointlabels", value, is_positive=positive, **more)

    def box(self, x: float, y: float, width: float, height: float, label: str = "Thing", **more: Any) -> list[Region]:
        """In percent."""
        value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": [label]}
        return self._draw("box", "rectanglelabels", value, **more)

    def type(self, *rows: str) -> list[Region]:
        self.pending = []
        return self._draw("prompt", "textarea", {"text": list(rows)})

    def _draw(self, control: str, kind: str, value: Region, **more: Any) -> list[Region]:
        region = {
            "id": f"{self.name}{next(self._ids)}", "from_name": control, "to_name": "image", "type": kind,
            "origin": "manual", "original_width": 1, "original_height": 1, "image_rotation": 0, "value": value,
        }  # fmt: skip
        self.pending.append(region | more)
        return self.send()

    def send(self) -> list[Region]:
        """Ask with what is pending, and show the answer."""
        answer = self.client.post("/predict", json=self.body())
        assert answer.status_code == 200, answer.text
        parts = (part.split(";dur=") for part in answer.headers["Server-Timing"].split(", "))
        self.timing = {name: float(taken) for name, taken in parts}
        (prediction,) = answer.json["results"]
        self.suggestions = prediction["result"]
        return self.suggestions

    def body(self) -> dict[str, Any]:
        """What is sent."""
        drafts = [{"id": 1, "result": self.accepted, "updated_at": "2026-01-01T00:00:00Z"}] if self.accepted else []
        return predict_body([self.task | {"drafts": drafts}], self.config, {"result": self.pending})

    def accept(self) -> None:
        ids = {region["id"] for region in self.suggestions}
        self.accepted = [region for region in self.accepted if region["id"] not in ids] + self.suggestions
        self.pending, self.suggestions = [], []

    def reject(self) -> None:
        self.pending, self.suggestions = [], []


def spot(item: SceneObject, scene: Scene) -> tuple[float, float]:
    """A pixel of the object that no other covers, in percent."""
    rows, columns = item.mask.nonzero()
    middle = len(rows) // 2
    return (columns[middle] + 0.5) * 100 / scene.width, (rows[middle] + 0.5) * 100 / scene.height


def bare(scene: Scene) -> tuple[float, float]:
    """A pixel of the ground, in percent."""
    free = ~np.logical_or.reduce([item.mask for item in scene.objects])
    rows, columns = free.nonzero()
    return (columns[0] + 0.5) * 100 / scene.width, (rows[0] + 0.5) * 100 / scene.height


def bounds(item: SceneObject, scene: Scene) -> tuple[float, float, float, float]:
    """The object's box in percent: x, y, width, height."""
    x0, y0, x1, y1 = Mask.from_full(item.mask).box
    across, down = 100 / scene.width, 100 / scene.height
    return x0 * across, y0 * down, (x1 - x0) * across, (y1 - y0) * down


def brush(region: Region) -> Mask:
    """The mask of a brush region, by the SDK's own decoder."""
    width, height = region["original_width"], region["original_height"]
    return Mask.from_full(decode_rle(region["value"]["rle"]).reshape(height, width, 4)[..., 3])
