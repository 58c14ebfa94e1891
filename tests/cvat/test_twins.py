"""The twins of CVAT themselves: they take what CVAT takes, and fail on what breaks it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from annotation_rules import Refused, check_annotations
from browser_twin import BrowserError, decoded, old_browser_bits, polygon
from cvat_sdk.masks import encode_mask
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from server_twin import ServerError, TaskLabel, converted, detector_request, interactor_request
from yaml_twin import InvalidMetadata, ListBroken, button_works, listed, parsed

_SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))
_BITS = _SIZES.flatmap(lambda size: arrays(bool, size))
_SCORE = {"name": "score", "value": "0.93"}
_GOOD_CROP = (0, 1, 1, 0)
_GOOD = {
    "label": "bus",
    "type": "mask",
    "confidence": "0.93",
    "points": [1.0, 2.0, 4.0, 2.0, 4.0, 5.0],
    "mask": [*_GOOD_CROP, 10, 20, 11, 21],
    "attributes": [_SCORE],
}
_LABELS = {"bus": TaskLabel(7, "any", {"score": ("text", [])})}


def test_a_good_detector_item_is_stored_as_runs() -> None:
    (shape,) = converted([_GOOD], _LABELS)["shapes"]
    assert (shape["type"], shape["points"]) == ("mask", [1, 2, 1, 10, 20, 11, 21])
    assert (shape["label_id"], shape["group"], shape["attributes"]) == (7, 0, [_SCORE])


@given(_BITS)
def test_the_servers_runs_are_those_of_the_sdk(bits: NDArray[np.bool_]) -> None:
    height, width = bits.shape
    item = {"label": "bus", "type": "mask", "mask": [*bits.ravel().astype(int).tolist(), 3, 4, width + 2, height + 3]}
    (shape,) = converted([item], _LABELS)["shapes"]
    *runs, _, _, _, _ = encode_mask(bits, [0, 0, width, height])
    assert shape["points"] == [*runs, 3, 4, width + 2, height + 3]


def test_masks_become_polygons_only_with_points() -> None:
    bare = {key: value for key, value in _GOOD.items() if key != "points"}
    with_points, without = converted([_GOOD, bare], _LABELS, conv_mask_to_poly=True)["shapes"]
    assert (with_points["type"], with_points["points"]) == ("polygon", _GOOD["points"])
    assert without["type"] == "mask"


@pytest.mark.parametrize("values", [(False, True), (0, 255), (0.0, 1.0)])
def test_two_values_of_any_kind_are_a_mask(values: tuple[float, float]) -> None:
    crop = [values[bit] for bit in _GOOD_CROP]
    (shape,) = converted([{**_GOOD, "mask": [*crop, 10, 20, 11, 21]}], _LABELS)["shapes"]
    assert shape["points"] == [1, 2, 1, 10, 20, 11, 21]


def test_soft_values_are_stored_as_nonsense() -> None:
    """Each value starts a run: the server takes it, and the user gets other pixels."""
    (shape,) = converted([{**_GOOD, "mask": [0, 0.9, 0.8, 0, 10, 20, 11, 21]}], _LABELS)["shapes"]
    assert shape["points"] == [1, 1, 1, 1, 10, 20, 11, 21]


def test_what_stands_beside_the_geometry() -> None:
    turned = {"label": "bus", "type": "rectangle", "points": [1, 2, 3, 4], "rotation": 30.0, "outside": 1}
    (shape,) = converted([{**turned, "group_id": 3}], _LABELS)["shapes"]
    assert (shape["rotation"], shape["group"], shape["source"], shape["outside"]) == (30.0, 3, "auto", True)
    (polygon,) = converted([{**_GOOD, "type": "polygon", "rotation": 30.0}], _LABELS)["shapes"]
    assert "rotation" not in polygon
    assert not polygon["outside"]


_MAN = {"man": TaskLabel(1, "skeleton", sublabels={"head": TaskLabel(2, "points"), "foot": TaskLabel(3, "points")})}


def test_a_skeleton_gets_the_elements_it_lacks() -> None:
    head = {"label": "head", "type": "points", "points": [4, 6]}
    item = {"label": "man", "type": "skeleton", "elements": [head]}
    ((first, second),) = (shape["elements"] for shape in converted([item], _MAN)["shapes"])
    assert (first["label_id"], first["points"], first["outside"]) == (2, [4, 6], False)
    assert (second["label_id"], second["points"], second["outside"]) == (3, [4, 6], True)
    unseen = {**item, "elements": [{**head, "outside": 1}]}
    assert converted([unseen], _MAN)["shapes"] == []
    with pytest.raises(ServerError):
        converted([{"label": "man", "type": "skeleton"}], _MAN)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ({"shapes": []}, ServerError),
        (None, ServerError),
        ([{"type": "mask"}], ServerError),
        ([{"label": "bus"}], ServerError),
        ([{**_GOOD, "mask": [0, 1, 1, 0, 10, 20, 12, 22]}], ServerError),  # an exclusive box
        ([{**_GOOD, "mask": [[0, 1], [1, 0]]}], ServerError),
        ([{**_GOOD, "mask": []}], ServerError),
        ([{**_GOOD, "mask": [0, 0, 0, 0]}], ServerError),
        ([{**_GOOD, "mask": ["np.uint8(0)", 1, 1, 0, 10, 20, 11, 21]}], ServerError),
        ([{**_GOOD, "attributes": [{"name": "score", "value": 0.93}]}], Refused),
        ([{**_GOOD, "attributes": [{"name": "score"}]}], ServerError),
        ([{**_GOOD, "group_id": "one"}], Refused),
        ([{**_GOOD, "type": "polygon", "points": [1, 2, 3, 4]}], Refused),
        ([{**_GOOD, "type": "polygon", "points": [1, 2, 3, 4, 5, 6, 7]}], Refused),
        ([{**_GOOD, "type": "polygon", "points": [1, 2, 3, 4, 5, float("nan")]}], Refused),
        ([{**_GOOD, "type": "polygon", "points": [1, 2, 3, 4, 5, "NaN"]}], Refused),
        ([{**_GOOD, "type": "rectangle", "points": [1, 2, 3]}], Refused),
        ([{**_GOOD, "type": "blob", "points": [1, 2, 3, 4]}], Refused),
    ],
)
def test_what_breaks_the_server(reply: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        converted(reply, _LABELS)


def test_degenerate_points_break_the_conversion_to_polygons() -> None:
    with pytest.raises(Refused):
        converted([{**_GOOD, "points": [1, 2, 3, 4]}], _LABELS, conv_mask_to_poly=True)


@pytest.mark.parametrize(
    ("item", "label"),
    [
        ({**_GOOD, "label": "tram"}, TaskLabel(7)),
        (_GOOD, TaskLabel(7, "rectangle")),
        (_GOOD, TaskLabel(7, "skeleton")),
    ],
)
def test_what_the_server_drops_without_a_word(item: dict[str, Any], label: TaskLabel) -> None:
    assert converted([item], {"bus": label}) == {"tags": [], "shapes": []}


def test_masks_go_to_polygon_labels_and_tags_to_tag_labels() -> None:
    assert converted([_GOOD], {"bus": TaskLabel(7, "polygon")})["shapes"][0]["type"] == "mask"
    tags = converted([{"label": "bus", "type": "tag"}], {"bus": TaskLabel(7, "tag")})["tags"]
    assert [tag["label_id"] for tag in tags] == [7]


@pytest.mark.parametrize(
    ("kind", "allowed", "value", "kept"),
    [
        ("text", [], "0.93", True),
        ("number", ["0", "100", "5"], "35", True),
        ("number", ["0", "100", "5"], "33", False),
        ("number", ["0", "1", "1"], "0.93", False),  # a score is no number of CVAT's
        ("checkbox", [], "true", True),
        ("checkbox", [], "True", False),
        ("select", ["red", "blue"], "red", True),
        ("select", ["red", "blue"], "green", False),
    ],
)
def test_attributes_that_do_not_fit_are_dropped(kind: str, allowed: list[str], value: str, kept: bool) -> None:
    labels = {"bus": TaskLabel(7, "any", {"score": (kind, allowed)})}
    (shape,) = converted([{**_GOOD, "attributes": [{"name": "score", "value": value}]}], labels)["shapes"]
    assert bool(shape["attributes"]) is kept


def test_payloads() -> None:
    assert detector_request(b"ab", 0) == detector_request(b"ab", None) == {"image": "YWI="}
    assert detector_request(b"ab", 0.5)["threshold"] == 0.5
    two_boxes = interactor_request(b"ab", [[1, 2]], boxes=[(1, 2), (3, 4), (5, 6), (7, 8)])
    assert two_boxes["obj_bbox"] == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert interactor_request(b"ab", boxes=None)["obj_bbox"] is None


# the browser


@given(_BITS.filter(lambda bits: bits.any()), st.floats(0, 1))
def test_the_browser_decodes_what_the_sdk_encodes(bits: NDArray[np.bool_], score: float) -> None:
    frame = (bits.shape[1], bits.shape[0])
    points = encode_mask(bits, [0, 0, *frame])
    shape = {"type": "mask", "points": points, "attributes": [{"spec_id": 0, "value": str(score)}]}
    (outline,) = decoded({"shapes": [shape]}, frame)
    assert (outline.bits == bits).all()
    assert outline.confidence == score
    legacy = {"mask": bits.astype(int).tolist()}
    assert (old_browser_bits(legacy, frame) == bits).all()
    (outline,) = decoded(legacy, frame)
    assert (outline.bits == bits).all()


@pytest.mark.parametrize("reply", [{}, None, [], {"error": "no"}, {"mask": []}, {"mask": None}, {"shapes": None}])
def test_what_the_browser_stumbles_over(reply: Any) -> None:
    with pytest.raises(BrowserError):
        decoded(reply, (4, 3))


@pytest.mark.parametrize(
    "points",
    [
        [0, 1, 1, 0, 0, 9, 9],  # does not fill its box
        [0, 4, 0, 0, 0, 2, 2],  # an exclusive box
        [0, 4, 3, 2, 4, 3],  # outside the frame
        [0.5, 3.5, 0, 1, 1, 2],  # loses its halves
    ],
)
def test_runs_that_do_not_fit(points: list[float]) -> None:
    with pytest.raises(BrowserError):
        decoded({"shapes": [{"points": points}]}, (4, 3))


def test_nothing_found_in_both_forms() -> None:
    assert decoded({"shapes": []}, (4, 3)) == []
    assert decoded({"mask": [[0] * 4] * 3}, (4, 3)) == []
    assert not old_browser_bits({"mask": [[0] * 4] * 3}, (4, 3)).any()
    with pytest.raises(BrowserError):
        old_browser_bits({"shapes": []}, (4, 3))


def test_mask_is_looked_at_before_shapes() -> None:
    both = {"mask": [[0] * 4] * 3, "shapes": [{"points": [0, 4, 0, 0, 1, 1]}]}
    assert decoded(both, (4, 3)) == []


@pytest.mark.parametrize(
    "attributes",
    [
        [{"spec_id": 0, "value": 0.5}],
        [{"spec_id": "0", "value": "0.5"}],
        [{"spec_id": 0, "value": "0.5"}, {"spec_id": 1, "value": None}],
        None,
    ],
)
def test_one_bad_attribute_loses_the_confidence(attributes: Any) -> None:
    (outline,) = decoded({"shapes": [{"points": [0, 4, 0, 0, 1, 1], "attributes": attributes}]}, (4, 3))
    assert outline.confidence == 1.0


def test_other_shapes_than_masks_are_not_shown() -> None:
    assert decoded({"shapes": [{"type": "polygon", "points": [0, 0, 1, 0, 1, 1]}]}, (4, 3)) == []


def test_the_browsers_polygon_is_the_first_contour() -> None:
    bits = np.zeros((40, 60), bool)
    bits[5:35, 10:50] = True
    points = encode_mask(bits)
    (outline,) = decoded({"shapes": [{"points": points}]}, (60, 40))
    assert sorted(polygon(outline)) == [(10, 5), (10, 34), (49, 5), (49, 34)]


# annotations of the REST API

_SHAPE = {"type": "polygon", "label_id": 1, "frame": 0, "points": [0, 0, 4, 0, 4, 4]}


@pytest.mark.parametrize(
    "change",
    [
        {"points": [0, 0, 4, 0]},
        {"points": [0, 0, 4, 0, 4]},
        {"type": "mask", "points": [0, 3, 0, 0, 1, 1]},
        {"type": "mask", "points": [0, 4, 0, 0, 1]},
        {"type": "mask", "points": [0, 4, 1, 1, 0, 0]},
        {"label_id": 9},
        {"frame": 3},
        {"frame": -1},
        {"score": 1.5},
        {"source": "model"},
        {"attributes": [{"spec_id": 5, "value": 1}]},
        {"attributes": [{"spec_id": 6, "value": "x"}]},
    ],
)
def test_annotations_that_the_api_refuses(change: dict[str, Any]) -> None:
    check_annotations({"shapes": [_SHAPE]}, {1: [5]}, 3)
    with pytest.raises(Refused):
        check_annotations({"shapes": [_SHAPE, {**_SHAPE, **change}]}, {1: [5]}, 3)


# function.yaml

_COLOUR = '{"name": "colour", "input_type": "text", "values": []}'


def _function(spec: object = None, **notes: object) -> dict[str, Any]:
    text = {"type": "interactor", "version": "2", **notes}
    return {"metadata": {"name": "f", "annotations": text}, "spec": {"description": "d"} if spec is None else spec}


def test_defaults_of_a_function() -> None:
    function = parsed(
        {"metadata": {"name": "f", "annotations": {"type": "interactor"}}, "spec": {"description": "d"}}
    )
    assert (function.version, function.name, function.labels) == (1, "f", [])
    assert (function.ui["min_pos_points"], function.ui["min_neg_points"], function.ui["startswith_box"]) == (1, -1, 0)
    assert not button_works(function)
    assert button_works(parsed(_function()))


@pytest.mark.parametrize("text", ["false", "0", "no", "true"])
def test_any_text_switches_the_box_on(text: str) -> None:
    assert parsed(_function(startswith_box=text)).ui["startswith_box"] is True
    assert parsed(_function()).ui["startswith_box"] is False


@pytest.mark.parametrize(
    ("document", "error"),
    [
        (_function(type="segmenter"), InvalidMetadata),
        (_function(type=None), InvalidMetadata),
        (_function(type="tracker", supported_shape_types=""), InvalidMetadata),
        (_function(spec={}), ListBroken),
        (_function(version="two"), ListBroken),
        (_function(version=2), ListBroken),
        (_function(min_pos_points="one"), ListBroken),
        (_function(startswith_box_optional=True), ListBroken),
    ],
)
def test_functions_that_are_not_listed(document: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        parsed(document)


def test_what_a_tracker_takes() -> None:
    for notes, types in (({}, ["rectangle"]), ({"supported_shape_types": "mask, polygon"}, ["mask", "polygon"])):
        assert parsed(_function(type="tracker", **notes)).supported_shape_types == types
    assert parsed(_function()).supported_shape_types is None


def test_labels_of_every_kind_are_listed() -> None:
    colour = {"name": "colour", "input_type": "select", "values": ["red"]}
    head = {"name": "head", "type": "points"}
    man = {"name": "man", "type": "skeleton", "sublabels": [head], "svg": "<circle/>"}
    spec = json.dumps([{"name": "bus", "attributes": [colour]}, {"name": "sky", "type": "mask"}, man])
    document = _function(type="detector")
    document["metadata"]["annotations"]["spec"] = spec
    bus, sky, listed_man = parsed(document).labels
    assert bus == {"name": "bus", "type": "any", "attributes": [colour]}
    assert sky == {"name": "sky", "type": "mask", "attributes": []}
    assert listed_man["sublabels"] == [{"name": "head", "type": "points", "attributes": []}]
    for empty in ("", None, "[]"):
        document["metadata"]["annotations"]["spec"] = empty
        assert parsed(document).labels == []


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        ('[{"name": "bus"]', ListBroken),
        ('{"name": "bus"}', ListBroken),
        ('["bus"]', ListBroken),
        ("5", ListBroken),
        (f'[{{"name": "bus", "attributes": [{_COLOUR}, {_COLOUR}]}}]', InvalidMetadata),
        (
            '[{"name": "man", "type": "skeleton", "sublabels": [{"name": "a"}, {"name": "a"}], "svg": ""}]',
            InvalidMetadata,
        ),
        ('[{"name": "man", "type": "skeleton", "sublabels": []}]', InvalidMetadata),
        ('[{"type": "mask"}]', InvalidMetadata),
        ('[{"name": "bus"}, {"name": "bus"}]', InvalidMetadata),
        ('[{"name": "bus", "type": "blob"}]', InvalidMetadata),
        ('[{"name": "bus", "attributes": [{"name": "score"}]}]', InvalidMetadata),
        ('[{"name": "man", "type": "skeleton"}]', InvalidMetadata),
    ],
)
def test_label_lists_that_do_not_parse(labels: str, error: type[Exception], tmp_path: Path) -> None:
    path = tmp_path / "function.yaml"
    document = _function(type="detector")
    document["metadata"]["annotations"]["spec"] = labels
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(error):
        listed(path)
