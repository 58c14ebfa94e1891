"""What the fuzz tests share: how long they run, JSON that hurts, and what every answer must be."""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

LONG = os.environ.get("SAM3_TEST_FUZZ") == "long"
"""``SAM3_TEST_FUZZ=long`` runs each fuzz test twenty times as long, and against the demo checkpoint."""


def examples(short: int) -> settings:
    """So many examples, or twenty times as many. One that takes a minute hangs."""
    return settings(
        max_examples=short * (20 if LONG else 1),
        deadline=60_000,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
        database=None,
        derandomize=not LONG,
    )


class Raw(str):
    """Written into JSON as it is: what no value of Python stands for."""


DEEP = Raw("[" * 20_000 + "]" * 20_000)
HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 0.5, -0.0, 100, 100.0, 1e-300, 1e308, -1e308, 2**31,
    2**53, 2**63, -(2**63), 2**64, 10**30,
    Raw("1e999"), Raw("NaN"), Raw("-Infinity"), Raw("1" * 5000), DEEP, Raw('{"a":' * 5000 + "1" + "}" * 5000),
    "", " ", "0", "-1", "null", "NaN", "a" * 100_000, "\0", "\ud800", "\U0001f600",
    "\u202e\u0301", "a\nb\r\n", "<script>",
    "$image", "$undefined$", "{{7*7}}", "%s%n", "../../etc/passwd", "file:///etc/passwd",
    "data:,", "data:image/png;base64,",
    "data:image/png;base64,iVBORw0KGgo=", "s3://bucket/key", "/data/upload/1/a.png",
    "/data/local-files/?d=a", "//", "upload/",
    [], {}, [None], [[]], [{}], {"": ""}, {"a": None}, ["a"] * 1000, [1] * 10_000,
    {"value": {}}, {"rle": [1, 2, 3]},
    "polygonlabels", "brushlabels", "textarea", "keypointlabels", "rectanglelabels",
    "image", "circle", "prewarm",
    "<View>" * 5000, "<View/>", "<View><Image name='image' value='$image'/></View>", "<", "<View>&x;</View>",
    '<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><View>&b;</View>',
    '<?xml version="1.0" encoding="utf-16"?><View/>',
]  # fmt: skip

_scalars = st.one_of(
    st.sampled_from(HOSTILE),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.lists(st.floats(-10, 110), max_size=6),
)


def paths(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield here
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from paths(inner, (*here, key))


@st.composite
def mutated(draw: st.DrawFn, bodies: list[Any]) -> Any:
    """One of the bodies with up to four places changed: replaced, taken away, doubled, or swapped for another's."""
    body = copy.deepcopy(draw(st.sampled_from(bodies)))
    for _ in range(draw(st.integers(1, 4))):
        places = [path for path in paths(body) if path]
        if not places:
            break
        *way, last = draw(st.sampled_from(places))
        parent = body
        for step in way:
            parent = parent[step]
        kind = draw(st.sampled_from(["replace", "replace", "drop", "double", "graft"]))
        if kind == "drop":
            del parent[last]
        elif kind == "double":
            parent[last] = [parent[last], parent[last]]
        elif kind == "graft":
            other = body
            for step in draw(st.sampled_from(places)):
                other = other[step]
            parent[last] = copy.deepcopy(other)
        else:
            parent[last] = copy.deepcopy(draw(_scalars))
    return body


def written(value: Any) -> bytes:
    """As JSON, with ``Raw`` as it is and half surrogates as escapes."""
    raws: dict[str, str] = {}

    def marked(inner: Any) -> Any:
        if isinstance(inner, Raw):
            raws[mark := f"@raw-{len(raws)}@"] = str(inner)
            return mark
        if isinstance(inner, dict):
            return {key: marked(one) for key, one in inner.items()}
        return [marked(one) for one in inner] if isinstance(inner, list) else inner

    text = json.dumps(marked(value))
    for mark, raw in raws.items():
        text = text.replace(json.dumps(mark), raw)
    return text.encode()


def strict(text: str | bytes) -> Any:
    """JSON, as strict readers take it: no NaN, no infinity."""

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} in an answer")

    return json.loads(text, parse_constant=refuse)


def check(answer: Any, caplog: pytest.LogCaptureFixture) -> Any:
    """Its JSON. An answer is no defect, and says in a sentence what is wrong where something is."""
    said = strict(answer.get_data() if hasattr(answer, "get_data") else answer.content)
    defects = [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert not defects, defects[0].getMessage()
    caplog.clear()
    assert answer.status_code in (200, 201) or 400 <= answer.status_code < 500 or answer.status_code in (501, 503)
    if answer.status_code >= 400:
        assert isinstance(said["error"], str)
        assert said["error"]
        assert "Traceback" not in said["error"]
        assert len(said["error"]) < 2000
    return said
