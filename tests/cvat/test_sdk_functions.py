"""The functions for cvat-sdk in this process: thresholds, groups, waiting, and what a picture's handle holds."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cvat_sdk.auto_annotation import BadFunctionError
from PIL import Image

from cvat_nuclio import auto_annotation, auto_interaction, sdk_function
from cvat_nuclio.labels import LabelRow, LabelType
from cvat_nuclio.sdk_shapes import Target, drawn, search
from sam3_core import Concept, ConceptResult, EncodedImage, FindOptions, Instance, Segmenter
from sam3_core.caller import CLICK
from sam3_core.demo.scenes import Scene
from sam3_core.errors import ModelUnavailable, NotReady
from sam3_core.masks import Mask
from sam3_core.rules import DEFAULT_RULES


class Recorded:
    """The demo checkpoint; what it is asked is kept, and errors are raised first."""

    def __init__(self, real: Segmenter) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.errors: list[Exception] = []
        self._real = real

    def __getattr__(self, name: str) -> Any:
        def call(image: EncodedImage, *told: Any, **named: Any) -> Any:
            self.asked.append((name, told[0] if told else named.get("caller")))
            if self.errors:
                raise self.errors.pop(0)
            return getattr(self._real, name)(image, *told, **named)

        return call


@pytest.fixture
def core(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    recorded = Recorded(segmenter)
    monkeypatch.setattr(sdk_function, "make_segmenter", lambda settings: recorded)
    return recorded


@pytest.fixture
def triangles(scene: Callable[..., Scene]) -> Image.Image:
    """A black, a yellow and two red triangles."""
    return Image.fromarray(scene(26, objects=(2, 4), size=(320, 240)).image)


@pytest.mark.parametrize(
    ("row", "parameter", "context", "count"),
    [
        ({}, None, None, 2),
        ({"threshold": 1.0}, None, None, 0),
        ({"threshold": 1.0}, None, 0.0, 0),
        ({"threshold": 1.0}, None, 0.5, 2),
        ({"threshold": 0.5}, None, 1.0, 0),
        ({}, 1.0, None, 0),
        ({"threshold": 0.5}, 1.0, None, 2),
        ({}, 1.0, 0.5, 2),
        ({"top_k": 4}, None, None, 4),
        ({"top_k": 4}, None, 0.5, 2),
    ],
)
def test_the_calls_threshold_is_over_the_labels_and_that_over_the_functions(
    core: Recorded,
    triangles: Image.Image,
    row: dict[str, float],
    parameter: float | None,
    context: float | None,
    count: int,
) -> None:
    detector = auto_annotation.create(json.dumps([{"name": "red triangle", **row}]), threshold=parameter)
    asked: Any = SimpleNamespace(frame_name="", conf_threshold=context, conv_mask_to_poly=False)
    found = detector.detect(asked, triangles)
    assert len(found) == count
    assert all(shape.score >= (context or 0.0) for shape in found)


def test_weights_that_are_loading_are_waited_for_and_other_trouble_is_told(
    core: Recorded, triangles: Image.Image
) -> None:
    detector = auto_annotation.create("triangle")
    asked: Any = SimpleNamespace(frame_name="", conf_threshold=None, conv_mask_to_poly=False)
    core.errors = [NotReady("loading", retry_after=0.01)]
    assert len(detector.detect(asked, triangles)) == 4
    core.errors = [ModelUnavailable("no such weights")]
    with pytest.raises(BadFunctionError, match="no such weights"):
        detector.detect(asked, triangles)


def test_a_shown_picture_is_warm_and_its_file_goes_with_its_handle(core: Recorded, triangles: Image.Image) -> None:
    interactor = auto_interaction.create()
    context: Any = SimpleNamespace()
    handle = interactor.preprocess_image(context, triangles)
    assert core.asked == [("warm", CLICK)], "a person waits for it"
    prompts: Any = SimpleNamespace(pos_points=[(10.0, 10.0)], neg_points=[(300.0, 200.0)], bounding_box=None)
    interactor.detect(context, handle, prompts)
    name, prompt = core.asked[1]
    assert name == "outline"
    assert [(point.x, point.y, point.positive) for point in prompt.points] == [
        (10.0, 10.0, True),
        (300.0, 200.0, False),
    ]
    other, file = interactor.preprocess_image(context, triangles), handle.file
    assert file.is_file()
    assert other.file != file
    del handle
    gc.collect()
    assert (file.exists(), other.file.exists()) == (False, True)


def test_parts_of_one_object_share_a_group_that_other_objects_and_pictures_do_not_have() -> None:
    def twins(left: int) -> Instance:
        bits = np.zeros((100, 100), dtype=bool)
        bits[10:30, left : left + 10] = bits[60:80, left : left + 10] = True
        return Instance(Mask.from_full(bits), 0.9)

    result = ConceptResult((twins(10), twins(50)), 0.9, None, DEFAULT_RULES, (100, 100))
    target = Target(7, LabelRow("pair", LabelType.POLYGON, Concept(("pair",))))
    one, other = (
        [shape.group for shape in drawn(EncodedImage(data), [result], [target])] for data in (b"one", b"other")
    )
    assert len(one) == len(other) == 4
    assert one[0] == one[1] != one[2] == one[3]
    assert not {*one, 0} & {*other}
    tag = replace(target, row=replace(target.row, type=LabelType.TAG))
    assert len(drawn(EncodedImage(b"one"), [result], [tag])) == 1, "however many there are"


def test_labels_that_look_for_the_same_all_get_it(core: Recorded, triangles: Image.Image) -> None:
    rows = [LabelRow(name, LabelType.MASK, Concept(("triangle",))) for name in ("a", "b")]
    first, second = search(core, sdk_function.encoded(triangles), rows, FindOptions())  # type: ignore[arg-type]
    assert len(first.instances) == len(second.instances) == 4
