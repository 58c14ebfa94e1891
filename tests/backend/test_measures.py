"""What /metrics says of the device, the stages and the errors."""

from __future__ import annotations

from flask.testing import FlaskClient
from request_bodies import data_url, predict_body
from scene_segmenter import VERSION, SceneSegmenter
from scraped import LOAD, metric, metrics

from sam3_core.demo.scenes import Scene
from sam3_core.errors import OutOfMemory


def test_the_device_is_measured(client: FlaskClient, oracle: SceneSegmenter) -> None:
    oracle.load = LOAD
    assert metric(client, "sam3_device_waiting", lane="bulk") == 50
    assert metric(client, "sam3_device_done_total", lane="click") == 20
    assert metric(client, "sam3_device_dropped_total", lane="click") == 3
    assert metric(client, "sam3_device_refused_total", lane="bulk") == 8
    assert metric(client, "sam3_device_memory_bytes", what="peak") == 4 << 30
    assert metric(client, "sam3_pass_seconds_total", kind="vision") == 2.5
    assert metric(client, "sam3_pass_limit", kind="vision") == 16
    assert metric(client, "sam3_pass_out_of_memory_total", kind="vision") == 2
    buckets = {tuple(sorted(dict(k).values())): v for k, v in metrics(client, "sam3_pass_items_bucket").items()}
    assert buckets["1.0", "vision"] == 10
    assert buckets["2.0", "vision"] == 10
    assert buckets["4.0", "vision"] == buckets["+Inf", "vision"] == 15
    assert metric(client, "sam3_pass_items_count", kind="vision") == 15
    assert metric(client, "sam3_pass_items_sum", kind="vision") == 30
    assert metric(client, "sam3_requests_limit", lane="click") == 32
    assert metric(client, "process_resident_memory_bytes") > 0
    ((labels, _),) = metrics(client, "sam3_build_info").items()
    assert dict(labels)["model"] == VERSION


def test_stages_are_measured_by_lane_and_errors_by_kind(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    task = {"data": {"image": data_url(oracle.add(scenes[0]))}}
    client.post("/predict", json=predict_body([{"id": 1} | task]))
    client.post("/predict", json=predict_body([{"id": 1} | task, {"id": 2} | task]))
    client.post("/predict", data=b"{")
    client.get("/nothing")
    oracle.error = OutOfMemory("no memory, not even for one image")
    client.post("/predict", json=predict_body([{"id": 1} | task]))
    assert metric(client, "sam3_request_seconds_count", lane="click") == 2
    assert metric(client, "sam3_request_seconds_count", lane="bulk") == 1
    assert metric(client, "sam3_stage_seconds_count", stage="fetch", lane="bulk") == 1
    assert metric(client, "sam3_stage_seconds_count", stage="vision", lane="bulk") == 0  # there from the start
    assert metric(client, "sam3_errors_total", route="/predict", kind="invalid_input") == 1
    assert metric(client, "sam3_errors_total", route="/predict", kind="out_of_memory") == 1
    assert metric(client, "sam3_errors_total", route="unknown", kind="http") == 1
