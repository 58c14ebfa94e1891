"""Everything that travels comes back as it was; what should not travel is refused with its name."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mask_strategies import masks
from pycocotools import mask as pycoco

from sam3_core import (
    Box,
    Concept,
    ConceptResult,
    EncodedImage,
    Exemplar,
    FindOptions,
    Instance,
    Mask,
    ModelInfo,
    ModelState,
    OutlineOptions,
    Point,
    Rules,
    VisualPrompt,
    errors,
)
from sam3_core.errors import InvalidInput, InvalidPrompt, NotReady, Sam3Error, TooLarge
from sam3_core.prototypes import Prototypes
from sam3_core.results import Removal
from sam3_core.rules import Area, Tiling
from sam3_core.types import CacheInfo, CacheTier
from sam3_core.wire.base import WireMask, WireRules, read
from sam3_core.wire.prompts import FindRequest, OutlineRequest, WarmRequest, is_key
from sam3_core.wire.results import (
    Failure,
    FindAnswer,
    InfoAnswer,
    OutlineAnswer,
    SeenImage,
    WireInstance,
    WireResult,
    kind_of,
)

# ---- one strategy per type ---------------------------------------------------------------------------------------

shares = st.floats(0, 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**31 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
phrases = texts.filter(lambda text: text.split() != [])


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x, y = draw(numbers), draw(numbers)
    return Box(x, y, draw(numbers.filter(lambda v: v != x)), draw(numbers.filter(lambda v: v != y)))


areas = st.builds(Area, st.floats(0, 1e9)) | st.builds(Area, shares, relative=st.just(True))
points = st.builds(Point, numbers, numbers, st.booleans())
rules = st.builds(
    Rules,
    threshold=st.none() | shares,
    presence=st.none() | shares,
    min_area=st.none() | areas,
    max_area=st.none() | areas,
    max_instances=st.none() | counts.filter(bool),
    top_k=st.none() | counts,
    overlap=st.none() | st.booleans(),
)
prototypes = st.builds(
    Prototypes.of,
    arrays(np.float32, st.tuples(st.integers(0, 3), st.just(4)), elements=st.floats(-1, 1, width=16)),
    arrays(np.float32, st.tuples(st.integers(0, 3), st.just(4)), elements=st.floats(-1, 1, width=16)),
    st.floats(0, 1000),
    st.floats(-1000, 1000),
)
concepts = st.builds(
    Concept,
    phrases=st.lists(phrases, min_size=1, max_size=3).map(tuple),
    exemplars=st.lists(st.builds(Exemplar, boxes(), st.booleans()), max_size=3).map(tuple),
    negatives=st.lists(phrases, max_size=2).map(tuple),
    rules=rules,
    drawn=st.lists(masks() | boxes(), max_size=3).map(tuple),
    prototypes=st.none() | prototypes,
    adapter=st.just("") | st.from_regex("[0-9a-z-]{1,64}", fullmatch=True),
)
find_options = st.builds(
    FindOptions,
    rules=rules,
    tiles=st.none() | st.sampled_from(Tiling),
    duplicate_iou=shares,
    contained_share=shares,
    across_iou=shares,
    negative_margin=shares,
    features=st.booleans(),
)
prompts = st.builds(
    VisualPrompt,
    points=st.lists(points, max_size=3).map(lambda some: (Point(1.0, 1.0), *some)),
    box=st.none() | boxes(),
    mask=st.none() | masks(),
)
looks = arrays(np.float16, st.integers(1, 6), elements=st.floats(-1, 1, width=16)).map(lambda a: a.astype(np.float32))
instances = st.builds(Instance, masks(), shares, texts, st.none() | looks)
results = st.builds(
    ConceptResult,
    instances=st.lists(instances, max_size=3).map(tuple),
    presence=shares,
    best_rejected=st.none() | shares,
    rules=rules,
    size=st.tuples(counts, counts),
    tiles=counts,
    resolution=counts,
    removed=st.dictionaries(st.sampled_from(Removal), counts).map(lambda removed: tuple(removed.items())),
    notes=st.lists(texts, max_size=2).map(tuple),
)
tiers = st.builds(CacheTier, counts, counts, counts)
infos = st.builds(
    ModelInfo,
    texts,
    st.sampled_from(ModelState),
    texts,
    texts,
    problem=texts,
    can_outline=st.booleans(),
    cache=st.builds(CacheInfo, counts, counts, tiers, tiers),
)


def plain(value: Any) -> Any:
    """Dataclasses as tuples of their types and fields, masks by their bits, so that == means the same."""
    if isinstance(value, Mask):
        return ("mask", value.x, value.y, value.frame, value.bits.shape, value.bits.tobytes())
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if hasattr(value, "__dataclass_fields__"):
        return (type(value), *(plain(getattr(value, name)) for name in value.__dataclass_fields__))
    return [plain(one) for one in value] if isinstance(value, list | tuple) else (type(value), value)


def strict(raw: bytes) -> Any:
    return json.loads(raw, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


# ---- round trips -------------------------------------------------------------------------------------------------


@given(st.lists(concepts, max_size=3), find_options)
def test_concepts_and_options_come_back(asked: list[Concept], options: FindOptions) -> None:
    raw = FindRequest.of(asked, options).text()
    strict(raw)
    assert plain(read(FindRequest, raw).parsed(max_megapixels=100)) == plain((asked, options))


@given(prompts, st.integers(1, 3))
def test_visual_prompts_come_back(prompt: VisualPrompt, candidates: int) -> None:
    raw = OutlineRequest.of(prompt, OutlineOptions(candidates)).text()
    strict(raw)
    assert plain(read(OutlineRequest, raw).parsed(max_megapixels=100)) == plain((prompt, OutlineOptions(candidates)))


@given(st.lists(results, max_size=2))
def test_results_come_back(found: list[ConceptResult]) -> None:
    raw = FindAnswer.of("m", SeenImage(key="k", size=(3, 4)), found).text()
    strict(raw)
    back = [one.result() for one in FindAnswer.model_validate_json(raw).results]
    assert plain(back) == plain(found)
    assert [one["reason"] for one in strict(raw)["results"]] == [one.reason for one in found]


@given(st.lists(instances, max_size=3))
def test_instances_come_back(found: list[Instance]) -> None:
    raw = OutlineAnswer.of("m", SeenImage(key="k", size=(3, 4)), found).text()
    strict(raw)
    assert plain([one.instance() for one in OutlineAnswer.model_validate_json(raw).instances]) == plain(found)
    assert [tuple(one["box"]) for one in strict(raw)["instances"]] == [one.box for one in found]


@given(infos)
def test_what_runs_comes_back(info: ModelInfo) -> None:
    raw = InfoAnswer.of(info).text()
    strict(raw)
    assert plain(InfoAnswer.model_validate_json(raw).info()) == plain(info)


CLASSES = [found for found in vars(errors).values() if isinstance(found, type)]


@given(st.sampled_from(CLASSES), texts)
def test_errors_come_back(kind: type[Sam3Error], sentence: str) -> None:
    raw = Failure(error=sentence, kind=kind_of(kind(sentence))).text()
    back = Failure.model_validate_json(raw).exception(None)
    assert (type(back), str(back)) == (kind, sentence)


def test_names_of_errors() -> None:
    assert kind_of(InvalidPrompt("x")) == "invalid_prompt"
    assert kind_of(Sam3Error("x")) == "sam3_error"
    assert len({kind_of(kind("")) for kind in CLASSES}) == len(CLASSES)


def test_when_to_come_back_comes_back() -> None:
    back = Failure(error="x", kind="not_ready").exception(17.0)
    assert isinstance(back, NotReady)
    assert back.retry_after == 17.0
    assert Failure(error="x", kind="from_the_future").exception(None) is None


@given(masks())
def test_masks_are_coco_of_their_crop(mask: Mask) -> None:
    """pycocotools, which scripts will use, reads the crop from what travels."""
    wire = strict(WireMask.of(mask).text())
    assert wire["rle"]["size"] == list(mask.bits.shape)
    if mask.bits.size:
        assert np.array_equal(pycoco.decode(wire["rle"]), mask.bits.astype(np.uint8))


def test_the_size_of_a_mask_goes_with_its_crop() -> None:
    small = WireMask.of(Mask(np.ones((9, 9), bool), 0, 0, (9, 9))).text()
    far = WireMask.of(Mask(np.ones((9, 9), bool), 3000, 2000, (4000, 3000))).text()
    assert len(far) < len(small) + 20


# ---- what is refused ---------------------------------------------------------------------------------------------

MASK = {"frame": [9, 9], "x": 1, "y": 1, "rle": {"size": [2, 3], "counts": "06"}}


def find_body(**concept: Any) -> bytes:
    return json.dumps({"concepts": [{"phrases": ["bus"]} | concept]}).encode()


def outline_body(**prompt: Any) -> bytes:
    return json.dumps({"prompt": prompt}).encode()


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (b"", "JSON"),
        (b"\xff", "JSON"),
        (b'{"concepts":' + b"[" * 100_000, "JSON"),
        (b'{"concepts": [{"phrases": ["\\ud800"]}]}', "JSON"),
        (b"null", "the request"),
        (b"[]", "the request"),
        (b"{}", "concepts"),
        (b'{"concepts": {}}', "concepts"),
        (b'{"concepts": [5]}', "concepts[0]"),
        (b'{"concepts": [], "image": {"key": "x"}}', "image.key"),
        (b'{"concepts": [], "image": {"key": "%s\\n"}}' % (b"0" * 32), "image.key"),
        (b'{"concepts": [], "imgae": {}}', "imgae"),
        (b'{"concepts": [], "options": {"tiles": "maybe"}}', "options.tiles"),
        (b'{"concepts": [], "options": {"duplicate_iou": "0.5"}}', "options.duplicate_iou"),
        (b'{"concepts": [{"exemplars": [{"box": [NaN, 0, 1, 1]}]}]}', "concepts[0].exemplars[0].box[0]"),
        (b'{"concepts": [{"exemplars": [{"box": [1e999, 0, 1, 1]}]}]}', "concepts[0].exemplars[0].box[0]"),
        (b'{"concepts": [{"phrases": ["a"], "adapter": 5}]}', "concepts[0].adapter"),
        (b'{"concepts": [], "options": {"features": 1}}', "options.features"),
        (find_body(prototypes={"width": 0, "weight": 1}), "concepts[0].prototypes.width"),
        (find_body(prototypes={"width": 1}), "concepts[0].prototypes.weight"),
        (
            find_body(prototypes={"width": 1, "weight": 1, "accepted": "A" * (2**20 + 4)}),
            "concepts[0].prototypes.accepted",
        ),
        (find_body(phrases="bus"), "concepts[0].phrases"),
        (find_body(phrase=["bus"]), "concepts[0].phrase"),
        (find_body(phrases=[None]), "concepts[0].phrases[0]"),
        (find_body(exemplars=[{"box": [0, 0, 1]}]), "concepts[0].exemplars[0].box"),
        (find_body(exemplars=[{"box": [0, 0, 1, 1], "positive": 1}]), "concepts[0].exemplars[0].positive"),
        (find_body(rules={"threshold": "0.5"}), "concepts[0].rules.threshold"),
        (find_body(rules={"max_instances": 1.5}), "concepts[0].rules.max_instances"),
        (find_body(rules={"top_k": 10**30}), "concepts[0].rules.top_k"),
        (find_body(rules={"top_k": True}), "concepts[0].rules.top_k"),
        (find_body(drawn=[{"mask": MASK | {"x": -1}}]), "concepts[0].drawn[0].mask.x"),
        (find_body(drawn=[{"mask": MASK | {"frame": [9, 10**40]}}]), "concepts[0].drawn[0].mask.frame[1]"),
        (find_body(drawn=[{"mask": MASK | {"rle": {"size": [2, 3], "counts": [0, 6]}}}]), "rle.counts"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_wrong_types_name_the_field(raw: bytes, named: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(FindRequest, raw)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("concept", "raised", "said"),
    [
        ({"phrases": []}, InvalidPrompt, "needs a phrase"),
        ({"exemplars": [{"box": [1, 1, 1, 5]}]}, InvalidPrompt, "width and a height"),
        ({"rules": {"threshold": 2}}, InvalidPrompt, "threshold must lie"),
        ({"rules": {"max_instances": 0}}, InvalidPrompt, "max_instances"),
        ({"rules": {"min_area": {}}}, InvalidInput, "one of the two"),
        ({"rules": {"min_area": {"pixels": 1, "share": 1}}}, InvalidInput, "one of the two"),
        ({"rules": {"min_area": {"share": 1.5}}}, InvalidPrompt, "area"),
        ({"rules": {"min_area": {"pixels": -1}}}, InvalidPrompt, "area"),
        ({"drawn": [{}]}, InvalidInput, "one of the two"),
        ({"drawn": [{"mask": MASK, "box": [0, 0, 1, 1]}]}, InvalidInput, "one of the two"),
        ({"drawn": [{"mask": MASK | {"x": 8}}]}, InvalidInput, "sticks out"),
        ({"drawn": [{"mask": MASK | {"frame": [9000, 9000]}}]}, TooLarge, "megapixels"),
        ({"drawn": [{"mask": MASK | {"rle": {"size": [2, 4], "counts": "06"}}}]}, InvalidInput, "add up"),
        ({"drawn": [{"mask": MASK | {"rle": {"size": [2, 3], "counts": ""}}}]}, InvalidInput, "cut off"),
        ({"drawn": [{"mask": MASK | {"rle": {"size": [2, 3], "counts": "0é"}}}]}, InvalidInput, "do not belong"),
        ({"drawn": [{"mask": MASK | {"rle": {"size": [5000, 5000], "counts": "0"}}}]}, TooLarge, "megapixels"),
        ({"prototypes": {"width": 2, "weight": 1, "accepted": "AAA"}}, InvalidInput, "prototypes: .*base64"),
        ({"prototypes": {"width": 2, "weight": 1, "accepted": "AAAA AAA"}}, InvalidInput, "prototypes: .*base64"),
        ({"prototypes": {"width": 2, "weight": 1, "rejected": "AAAA"}}, InvalidPrompt, "rows of 2 float16"),
        ({"prototypes": {"width": 1, "weight": 1, "rejected": "AHw="}}, InvalidPrompt, "finite"),
        ({"prototypes": {"width": 1, "weight": -1}}, InvalidPrompt, "the weight of prototypes"),
        ({"prototypes": {"width": 1, "weight": 1, "bias": 1001}}, InvalidPrompt, "the weight of prototypes"),
    ],
    ids=str,
)
def test_what_makes_no_sense_names_the_concept(concept: dict[str, Any], raised: type[Sam3Error], said: str) -> None:
    body = json.dumps({"concepts": [{"phrases": ["bus"]}, {"phrases": ["bus"]} | concept]}).encode()
    with pytest.raises(InvalidInput, match=said) as caught:
        read(FindRequest, body).parsed(max_megapixels=4)
    assert type(caught.value) is raised
    assert "concepts[1]" in str(caught.value) or raised is TooLarge


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (outline_body(), "prompt: a visual prompt needs"),
        (outline_body(points=[{"x": 1, "y": 1, "positive": False}]), "prompt: a visual prompt needs"),
        (outline_body(box=[0, 0, 0, 0]), "prompt: a box needs"),
        (b'{"prompt": {"box": [0, 0, 1, 1]}, "options": {"candidates": 4}}', "options: candidates must be"),
    ],
)
def test_visual_prompts_that_name_nothing(body: bytes, said: str) -> None:
    with pytest.raises(InvalidPrompt, match=said):
        read(OutlineRequest, body).parsed(max_megapixels=4)


def test_many_small_runs_cannot_ask_for_much_memory() -> None:
    """Each is a few bytes and a million pixels."""
    mask = WireMask.of(Mask(np.ones((1000, 1000), bool), 0, 0, (1000, 1000))).model_dump()
    raw = json.dumps({"concepts": [{"phrases": ["x"], "drawn": [{"mask": mask}] * 5}]}).encode()
    with pytest.raises(TooLarge, match="together"):
        read(FindRequest, raw).parsed(max_megapixels=1)
    assert read(FindRequest, raw).parsed(max_megapixels=2)


@pytest.mark.parametrize("name", ["../a", "a/b", "A", "a.b", "a" * 65, " ", "a\n", "\u0661", "a\0"])
def test_a_name_of_an_adapter_is_never_a_path(name: str) -> None:
    body = json.dumps({"concepts": [{"phrases": ["a"], "adapter": name}]}).encode()
    with pytest.raises(InvalidPrompt, match="an adapter's name"):
        read(FindRequest, body).parsed(max_megapixels=4)


def test_what_is_not_asked_for_is_not_sent() -> None:
    """A server that does not know these fields yet would refuse them."""
    asked = strict(FindRequest.of([Concept(("a",))], FindOptions()).text())
    assert "features" not in asked["options"]
    assert "adapter" not in asked["concepts"][0]


@pytest.mark.parametrize("feature", ["", "AA==", "AAAA", "?", "AAAAAA= ="])
def test_a_feature_that_is_none_is_refused(feature: str) -> None:
    wire = json.loads(WireInstance.of(Instance(Mask(np.ones((2, 3), bool), 1, 1, (9, 9)), 0.5)).text())
    assert "feature" not in wire
    with pytest.raises(InvalidInput):
        WireInstance.model_validate_json(json.dumps(wire | {"feature": feature})).instance()


def test_an_answer_may_have_more_than_is_known_here() -> None:
    result = json.loads(WireResult.of(_result()).text())
    result |= {"new": 1, "rules": result["rules"] | {"new": 2}, "removed": {"small": 2, "by_something_new": 3}}
    back = WireResult.model_validate_json(json.dumps(result)).result()
    assert back.removed == ((Removal.SMALL, 2),)
    assert back.rules == Rules(threshold=0.5)


def test_no_nan_is_written() -> None:
    with pytest.raises(ValueError, match="finite"):
        WireRules(threshold=math.nan)


def _result() -> ConceptResult:
    return ConceptResult((), 0.5, None, Rules(threshold=0.5), (9, 9), removed=((Removal.SMALL, 2),))


def test_numbers_of_numpy_travel_too() -> None:
    """Adapters compute boxes and clicks; LocalSegmenter takes what comes of that."""
    one, nine = np.float32(1.5), np.int64(9)
    mask = Mask(np.ones((2, 2), bool), np.int64(1), np.int64(2), (nine, nine))
    prompt = VisualPrompt((Point(one, nine),), Box(one, one, nine, nine), mask)
    back, _ = read(OutlineRequest, OutlineRequest.of(prompt, OutlineOptions()).text()).parsed(max_megapixels=1)
    assert back.points == (Point(1.5, 9.0),)
    assert back.box == Box(1.5, 1.5, 9.0, 9.0)
    assert back.mask is not None
    assert (back.mask.x, back.mask.y, back.mask.frame) == (1, 2, (9, 9))
    concept = Concept(exemplars=(Exemplar(Box(one, one, nine, nine)),), drawn=(Box(one, one, nine, nine), mask))
    assert FindRequest.of([concept], FindOptions()).text()


def test_keys() -> None:
    assert is_key(EncodedImage(b"").key)
    assert not any(is_key(key) for key in ("", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "0" * 32 + "\n"))
    assert read(WarmRequest, b"{}").image is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["phrases", "exemplars", "negatives", "rules", "drawn"]), json_values))
def test_no_concept_breaks_the_reader(concept: dict[str, Any]) -> None:
    _read_or_refuse(json.dumps({"concepts": [concept]}).encode())


@given(st.dictionaries(st.sampled_from(["frame", "x", "y", "rle"]), json_values), st.text(max_size=9), counts, counts)
def test_no_mask_breaks_the_reader(given_parts: dict[str, Any], runs: str, height: int, width: int) -> None:
    rle = {"size": [height, width], "counts": runs}
    for mask in (MASK | given_parts, MASK | {"rle": rle}, MASK | {"x": height, "y": width}):
        _read_or_refuse(find_body(drawn=[{"mask": mask}]))


def _read_or_refuse(raw: bytes) -> None:
    try:
        read(FindRequest, raw).parsed(max_megapixels=1)
    except InvalidInput as error:
        assert str(error)  # noqa: PT017 - most examples raise nothing else
