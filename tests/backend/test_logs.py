"""Lines of the log: one per request, with its id, and nothing in them that opens a door."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from request_bodies import CONFIG, data_url, predict_body
from scene_segmenter import SceneSegmenter

from backend.logs import JsonLines, RequestIds, TextLines, redacted
from backend.trace import carried, current
from sam3_core.demo.scenes import Scene

LEGACY = "0123456789abcdef0123456789abcdef01234567"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCJ9.c2lnbmF0dXJl"


@pytest.fixture(params=[TextLines, JsonLines])
def lines(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What the server would write, in both forms."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(request.param())
    handler.addFilter(RequestIds())
    ours = logging.getLogger("backend")
    level = ours.level
    ours.setLevel(logging.INFO)
    ours.addHandler(handler)
    yield out
    ours.removeHandler(handler)
    ours.setLevel(level)


@pytest.mark.parametrize(
    ("text", "secret", "kept"),
    [
        (
            "GET https://b.s3.amazonaws.com/a/b.jpg?X-Amz-Signature=abc&e=1 failed",
            "Signature",
            "amazonaws.com/a/b.jpg",
        ),
        ("('http://h/x?token=abc', 5)", "abc", "http://h/x"),
        ("s3://bucket/key?versionId=9 is", "versionId", "s3://bucket/key"),
        ("http://user:pass@ls:8080/x", "pass", "ls:8080/x"),
        (f"Authorization: Token {LEGACY}", LEGACY, "Authorization"),
        (f"the token {LEGACY}.", LEGACY, "the token"),
        (f"Bearer {JWT}", JWT, "Bearer"),
        (f"key={JWT}", "c2lnbmF0dXJl", "key="),
        ("Basic YW5ub3RhdG9yOmdlaGVpbTEyMw==", "YW5ub3", "Basic"),
        ("data:image/png;base64,iVBORw0KGgoAAAANSUhEUg is", "iVBORw", "data:image/png;base64"),
    ],
)
def test_what_opens_doors_is_left_out(text: str, secret: str, kept: str) -> None:
    assert secret not in redacted(text)
    assert kept in redacted(text)


@pytest.mark.parametrize(
    "sentence",
    [
        "a personal access token (Account & Settings) is exchanged for another",
        "the token exchange failed: the Basic authentication of the proxy, bearer authentication",
        "image 'image': 'circle': circle, threshold=0.4; 'bus?': yellow school bus",
        "127.0.0.1 is no public address: nothing is fetched there unless SAM3_ALLOWED_HOSTS names it",
        "data: addresses; what? 9f86d081884c7d659a2feaa0c55ad015",
    ],
)
def test_sentences_stay_as_they_are(sentence: str) -> None:
    assert redacted(sentence) == sentence


@given(st.text(max_size=300))
def test_no_text_breaks_it(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


def test_a_request_is_one_line(
    client: FlaskClient,
    oracle: SceneSegmenter,
    scenes: list[Scene],
    lines: io.StringIO,
    request: pytest.FixtureRequest,
) -> None:
    body = predict_body([{"id": 1, "data": {"image": data_url(oracle.add(scenes[0]))}}])
    client.post("/predict", json=body, headers={"X-Request-Id": "abc-1.2_3"})
    written = lines.getvalue().splitlines()
    ends = [line for line in written if "POST /predict" in line]
    assert len(ends) == 1
    # Those of threads that worked for it too.
    assert written
    assert all("abc-1.2_3" in line for line in written), written
    if request.node.callspec.params["lines"] is JsonLines:
        line = json.loads(ends[0])
        assert line["status"] == 200
        assert (line["lane"], line["project"], line["request"]) == ("click", "1", "abc-1.2_3")
        assert line["ms"] > 0
        assert {"parse", "fetch", "encode"} <= line["stages"].keys()
        assert all({"time", "level", "logger", "message"} <= json.loads(one).keys() for one in written)
    else:
        assert " status=200 ms=" in ends[0]
        assert " lane=click project=1 stages=parse:" in ends[0]
        assert ends[0].endswith(" request=abc-1.2_3")
    assert base64.b64encode(oracle.add(scenes[0]))[:40].decode() not in lines.getvalue()


def test_probes_are_no_lines(client: FlaskClient, lines: io.StringIO) -> None:
    for path in ("/", "/health", "/ready", "/metrics", "/status", "/status.json"):
        client.get(path)
    assert lines.getvalue() == ""
    client.get("/versions")
    assert lines.getvalue() != ""


def test_secrets_of_a_whole_session_are_nowhere(
    client: FlaskClient, lines: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    setup = {"project": "1.5", "schema": CONFIG, "hostname": "http://u:hunter22@127.0.0.1:9", "access_token": LEGACY}
    client.post("/setup", json=setup)
    for address in ("http://127.0.0.1:9/a.jpg?X-Amz-Signature=hunter22", "http://u:hunter22@127.0.0.1:9/a.jpg"):
        client.post("/predict?token=hunter22", json=predict_body([{"id": 1, "data": {"image": address}}]))
    client.get("/no/such/hunter22", headers={"Authorization": "Bearer hunter22"})
    shown = (
        lines.getvalue() + client.get("/status").text + client.get("/status.json").text + client.get("/metrics").text
    )
    assert "hunter22" not in shown
    assert LEGACY not in shown


def test_a_name_cannot_write_lines_of_its_own(lines: io.StringIO) -> None:
    logging.getLogger("backend.x").info("label %r and %s", "a\nb", "c\n2026-01-01 ERROR forged\r\nd")
    assert len(lines.getvalue().splitlines()) == 1


def test_a_traceback_shows_no_address(lines: io.StringIO) -> None:
    try:
        raise ValueError("https://h/x.jpg?sig=hunter22")
    except ValueError:
        logging.getLogger("backend.x").exception("failed")
    assert "Traceback" in lines.getvalue()
    assert "hunter22" not in lines.getvalue()


@given(st.dictionaries(st.sampled_from(["a", "b"]), st.text() | st.integers()))
def test_fields_of_any_kind_stay_one_line(fields: dict[str, Any]) -> None:
    record = logging.LogRecord("backend", logging.INFO, "", 0, "x", None, None)
    record.fields = fields
    assert json.loads(JsonLines().format(record)).items() >= fields.items()
    assert "\n" not in TextLines().format(record)


# ---- ids -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given_id", ["a", "A-b_c.9", "x" * 64])
def test_a_sane_id_is_taken(client: FlaskClient, given_id: str) -> None:
    answer = client.post("/predict", data=b"{", headers={"X-Request-Id": given_id})
    assert answer.headers["X-Request-Id"] == answer.json["request_id"] == given_id


@pytest.mark.parametrize("given_id", ["", " ", "x" * 65, "a b", "a;b", "<script>", "ä", 'a"b', "a\tb"])
def test_another_is_replaced(client: FlaskClient, given_id: str) -> None:
    answer = client.get("/versions", headers={"X-Request-Id": given_id})
    assert answer.headers["X-Request-Id"] != given_id
    assert len(answer.headers["X-Request-Id"]) == 16


def test_ids_differ(client: FlaskClient) -> None:
    assert len({client.get("/health").headers["X-Request-Id"] for _ in range(50)}) == 50


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"), ("GET", "/health"), ("GET", "/ready"), ("GET", "/status"), ("GET", "/status.json"),
        ("GET", "/metrics"), ("GET", "/v1/info"), ("POST", "/v1/find"), ("POST", "/predict"), ("GET", "/predict"),
        ("GET", "/nothing"), ("HEAD", "/health"), ("OPTIONS", "/predict"),
    ],
)  # fmt: skip
def test_every_answer_has_its_timings_and_id(client: FlaskClient, method: str, path: str) -> None:
    answer = client.open(path, method=method)
    assert "total;dur=" in answer.headers["Server-Timing"]
    assert answer.headers["X-Request-Id"]


def test_a_thread_works_for_the_request_that_sent_it(app: Any, client: FlaskClient) -> None:
    with ThreadPoolExecutor(1) as pool:

        @app.get("/probe")
        def probe() -> list[str]:
            here = current().id
            return [
                here,
                pool.submit(carried(lambda: current().id)).result(),
                pool.submit(lambda: current().id).result(),
            ]

        answer = client.get("/probe", headers={"X-Request-Id": "one"})
    assert answer.json == ["one", "one", ""]
    assert current().id == ""
