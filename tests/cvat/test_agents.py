"""Agents of CVAT Online and Enterprise: the real cvat-cli makes functions and works off what users ask of them.

Real processes and the demo checkpoint; CVAT is a twin. What an agent finds in a region lies in the region's pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from cvat_cli_runs import DETECTOR, INTERACTOR, Bits, bits, cvat_cli, overlap, parameters
from cvat_server import CvatServer
from cvat_store import AgentRequest

from sam3_core.demo.scenes import Scene

REGION = (226, 1, 306, 81)  # holds the purple circle of the scene below, and nothing of the yellow one


@pytest.fixture
def server() -> Iterator[CvatServer]:
    with CvatServer() as server:
        yield server


@pytest.fixture
def circles(scene: Callable[..., Scene]) -> Scene:
    """A yellow and a purple circle."""
    return scene(0, objects=(2, 4), size=(320, 240))


@pytest.fixture
def triangles(scene: Callable[..., Scene]) -> Scene:
    """A black, a yellow and two red triangles."""
    return scene(26, objects=(2, 4), size=(320, 240))


def made(server: CvatServer, module: str, *options: str) -> int:
    """The id that ``function create-native`` prints."""
    run = cvat_cli(server, "function", "create-native", "SAM 3", "--function-module", module, *options)
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


def worked_off(
    server: CvatServer, module: str, function: int, asked: Sequence[dict[str, Any]], *options: str
) -> list[AgentRequest]:
    """What became of the requests, in order. Only whole tasks are batches."""
    names = [
        server.ask_agent(function, "batch" if one["type"] == "annotate_task" else "interactive", one) for one in asked
    ]
    run = cvat_cli(server, "function", "run-agent", str(function), "--burst", "--function-module", module, *options)
    assert run.returncode == 0, run.stderr
    return [server.agent_requests[name] for name in names]


def shapes_of(request: AgentRequest) -> list[dict[str, Any]]:
    assert request.state == "completed", request.result
    shapes: list[dict[str, Any]] = request.result.get("annotations", request.result)["shapes"]
    return shapes


def cut(mask: Bits, region: tuple[int, int, int, int]) -> Bits:
    left, top, right, bottom = region
    return mask[top:bottom, left:right]


def test_a_detectors_agent_fills_tasks_frames_and_regions(
    server: CvatServer, circles: Scene, triangles: Scene
) -> None:
    pictures = [("0.png", circles.encode("PNG")), ("1.png", triangles.encode("PNG"))]
    task = server.add_task(pictures, [{"name": "ball", "type": "mask"}, {"name": "outline", "type": "polygon"}])
    ball, outline = (label["id"] for label in server.tasks[task].labels)
    options = parameters(labels="circle, triangle")
    function = made(server, DETECTOR, *options)
    assert [label["name"] for label in server.functions[function]["labels_v2"]] == ["circle", "triangle"]

    to_balls = {"circle": {"name": "ball"}}
    common = {"task": task, "mapping": to_balls, "threshold": None, "conv_mask_to_poly": False}
    frame = {**common, "type": "annotate_frame", "frame": 0}
    asked = [
        {**common, "type": "annotate_task"},
        {**frame, "roi": REGION},
        {**frame, "mapping": {"circle": {"name": "outline"}}, "roi": REGION, "conv_mask_to_poly": True},
        {**frame, "mapping": {"triangle": {"name": "ball"}}, "frame": 1, "threshold": 1.0},
        {**frame, "roi": (300, 200, 400, 240)},
        {**frame, "mapping": {"circle": {"name": "outline"}}},
    ]
    whole, region, converted, strict, outside, mistyped = worked_off(server, DETECTOR, function, asked, *options)

    assert len(server.annotations(task)["shapes"]) == 2
    by_place = sorted(shapes_of(whole), key=lambda shape: int(shape["points"][-4]))
    assert [(shape["frame"], shape["label_id"]) for shape in by_place] == [(0, ball), (0, ball)]
    for shape, item in zip(by_place, circles.objects, strict=True):
        assert overlap(bits(shape, (320, 240)), item.mask) > 0.8
        assert 0.5 < shape["score"] < 1

    (purple,) = circles.matching("purple circle")
    for request, kind, label in ((region, "mask", ball), (converted, "polygon", outline)):
        (shape,) = shapes_of(request)
        assert (shape["type"], shape["label_id"], shape["frame"]) == (kind, label, 0)
        assert overlap(bits(shape, (80, 80)), cut(purple.mask, REGION)) > 0.8

    assert shapes_of(strict) == []
    assert (outside.state, mistyped.state) == ("failed", "failed")
    assert "Invalid ROI" in outside.result["exc_info"]
    assert "incorrect result" in mistyped.result["exc_info"]


def test_an_interactors_agent_answers_clicks_boxes_regions_and_examples(
    server: CvatServer, circles: Scene, triangles: Scene
) -> None:
    task = server.add_task([("0.png", circles.encode("PNG")), ("1.png", triangles.encode("PNG"))], [{"name": "any"}])
    function = made(server, INTERACTOR)
    yellow, purple = circles.objects
    left, top = REGION[:2]
    middle = [(yellow.box[0] + yellow.box[2]) / 2, (yellow.box[1] + yellow.box[3]) / 2]
    common = {"type": "interact", "task": task, "frame": 0, "pos_points": [], "neg_points": [], "obj_bbox": []}
    in_region = {"obj_bbox": corners(purple.box, left, top), "roi": REGION}
    asked = [
        common,
        {**common, "pos_points": [middle]},
        {**common, "obj_bbox": [*corners(yellow.box), *corners(purple.box)]},
        {**common, **in_region},
        {**common, **in_region, "neg_points": [[2.0, 70.0], [-40.0, 5.0]]},
        {**common, "obj_bbox": corners(yellow.box)[:1]},
    ]
    *fine, odd = worked_off(server, INTERACTOR, function, asked)

    whole, region = (320, 240), (80, 80)
    in_crop = cut(purple.mask, REGION)
    wanted = [
        (whole, []),
        (whole, [yellow.mask]),
        (whole, [yellow.mask, purple.mask]),
        (region, [in_crop]),
        (region, [in_crop]),
    ]
    for request, (size, truths) in zip(fine, wanted, strict=True):
        for shape, truth in zip(shapes_of(request), truths, strict=True):
            assert shape["type"] == "mask"
            assert overlap(bits(shape, size), truth) > 0.7
            assert 0 < float(shape["attributes"][0]["value"]) <= 1
    assert odd.state == "failed"
    assert "a box has two" in odd.result["exc_info"]

    red = triangles.matching("red triangle")
    alike = {**common, "frame": 1, "obj_bbox": corners(red[0].box)}
    (request,) = worked_off(server, INTERACTOR, function, [alike], *parameters(mode="exemplar"))
    found = [bits(shape, whole) for shape in shapes_of(request)]
    assert len(found) == len(red) == 2
    assert all(max(overlap(one, item.mask) for one in found) > 0.7 for item in red)


def corners(box: Sequence[float], left: float = 0, top: float = 0) -> list[list[float]]:
    """As browsers send them, from the corner of the region that is shown."""
    x0, y0, x1, y1 = box
    return [[x0 - left, y0 - top], [x1 - left, y1 - top]]
