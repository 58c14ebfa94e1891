"""What a click on an image seen before may cost: no decoding, no vision pass, no memory that grows with the image."""

from __future__ import annotations

import io
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image

from sam3_core.caller import Caller
from sam3_core.engine import LocalSegmenter, local
from sam3_core.images import EncodedImage
from sam3_core.masks import Mask
from sam3_core.settings import CoreSettings
from sam3_core.types import Box, OutlineOptions, Point, VisualPrompt

SLACK = 3_000_000
"""Bytes that do not grow with the image: maps of 84 x 84 cells in several copies, one band of the stretched map."""


@pytest.fixture(scope="module")
def demo() -> LocalSegmenter:
    made = LocalSegmenter(CoreSettings(model="demo", device="cpu"))
    made.wait_until_ready(120)
    return made


@pytest.fixture
def work(demo: LocalSegmenter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often a picture was decoded, or its header opened, and the vision backbone and the tracker's neck ran."""
    counted: Counter[str] = Counter()

    def counting(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def run(*args: object, **kwargs: object) -> object:
            counted[name] += 1
            return function(*args, **kwargs)

        return run

    monkeypatch.setattr(local, "decode", counting("decode", local.decode))
    monkeypatch.setattr(Image.Image, "load", counting("load", Image.Image.load))
    parts = demo._ready(None).model._parts
    assert parts.video is not None
    hooks = [
        parts.detector.vision_encoder.backbone.register_forward_pre_hook(lambda *_: counted.update(["vision"])),
        parts.video.tracker_neck.register_forward_pre_hook(lambda *_: counted.update(["neck"])),
    ]
    yield counted
    for hook in hooks:
        hook.remove()


def flat_picture(width: int, height: int) -> bytes:
    """A red disc on grey, a few hundred kilobytes at most whatever its frame."""
    image = Image.new("P", (width, height), 0)
    image.putpalette([128, 128, 128, 220, 20, 20])
    side = min(width, height) // 2
    rows, columns = np.mgrid[:side, :side] - side / 2
    disc = Image.fromarray((np.hypot(rows, columns) < side / 2).astype(np.uint8), "L")
    image.paste(disc, (width // 4, height // 4))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module", params=[(4000, 3000), (12_500, 8000)], ids=["12 megapixels", "100 megapixels"])
def seen(request: pytest.FixtureRequest, demo: LocalSegmenter) -> tuple[bytes, tuple[int, int]]:
    """A picture that an annotator has opened."""
    data = flat_picture(*request.param)
    demo.warm(data)
    return data, request.param


def earlier(frame: tuple[int, int]) -> Mask:
    side = 400
    return Mask(np.ones((side, side), dtype=np.bool_), frame[0] // 4 + side, frame[1] // 4 + side, frame)


@pytest.mark.parametrize("kind", ["click", "three readings", "box", "earlier mask"])
def test_a_repeat_click_costs_its_mask(
    demo: LocalSegmenter, work: Counter[str], seen: tuple[bytes, tuple[int, int]], kind: str
) -> None:
    data, frame = seen
    width, height = frame
    side = min(frame) // 2
    centre = Point(width // 4 + side / 2, height // 4 + side / 2)
    edges = Box(width // 4, height // 4, width // 4 + side, height // 4 + side)
    prompt = {
        "click": VisualPrompt(points=(centre,)),
        "three readings": VisualPrompt(points=(centre,)),
        "box": VisualPrompt(box=edges),
        "earlier mask": VisualPrompt(points=(centre,), mask=earlier(frame)),
    }[kind]
    options = OutlineOptions(candidates=3 if kind == "three readings" else 1)
    tracemalloc.start()
    answer = demo.outline(data, prompt, options, caller=Caller(wanted=lambda: True))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert work == {}
    assert answer
    assert all(instance.mask.frame == frame for instance in answer)
    # The mask is made in a crop a few cells wider, then cut to fit: two copies of it for a moment.
    masks = sum(instance.mask.bits.size for instance in answer)
    assert peak < 2.3 * masks + SLACK
    if kind != "three readings":
        assert masks < width * height / 2  # so that the bound above would not hold for a whole frame's array twice


def test_it_would_be_seen(demo: LocalSegmenter, work: Counter[str]) -> None:
    """The counters count: a first click decodes and encodes once."""
    demo.outline(EncodedImage(flat_picture(301, 200)), VisualPrompt(points=(Point(100, 80),)))
    assert (work["decode"], work["vision"], work["neck"]) == (1, 1, 1)
    assert work["load"] > 0
