"""Batches: one entry per task, in order, whatever happens to some of them."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest
from flask.testing import FlaskClient
from label_studio_sdk.label_interface import LabelInterface
from label_studio_stand_in import label_studio
from request_bodies import CONFIG, data_url, predict_body
from scene_segmenter import VERSION, SceneSegmenter, score_of

from backend.app import create_app
from backend.model import Runtime, Sam3Backend
from backend.settings import BackendSettings
from sam3_core import EncodedImage, Mask
from sam3_core.demo.scenes import Scene
from sam3_core.errors import InvalidInput, NotReady
from sam3_core.rules import Tiling

EMPTY = {"result": [], "score": 0.0, "model_version": VERSION}


def problem(prediction: dict[str, Any]) -> str:
    """What an empty prediction says about its task."""
    assert {key: prediction[key] for key in EMPTY} == EMPTY
    return str(prediction["meta"]["problem"])


def task(number: int, image: object) -> dict[str, Any]:
    return {"id": number, "data": {"image": image}}


def test_labels_and_scores_are_the_scenes(client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    tasks = [task(i, data_url(oracle.add(scene))) for i, scene in enumerate(scenes)]
    results = client.post("/predict", json=predict_body(tasks)).json["results"]
    for scene, prediction in zip(scenes, results, strict=True):
        found = sorted((r["value"]["polygonlabels"][0], r["score"]) for r in prediction["result"])
        truth = sorted((item.shape, round(score_of(item), 6)) for item in scene.objects)
        assert found == truth
        assert prediction["score"] == pytest.approx(sum(score for _, score in truth) / len(truth), abs=1e-6)
        assert {(r["original_width"], r["original_height"]) for r in prediction["result"]} == {
            (scene.width, scene.height)
        }
        assert LabelInterface(CONFIG).validate_prediction(prediction, return_errors=True) == []


def test_bad_images_between_good_ones(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene], caplog: pytest.LogCaptureFixture
) -> None:
    good = data_url(oracle.add(scenes[0]))
    out_of_reach = ["http://127.0.0.1:9/a.png", "/data/upload/1/a.png"]  # for now
    bad = [
        *out_of_reach,
        data_url(b"no picture"),
        None,
        5,
        [],
        "file:///etc/passwd",
    ]
    tasks = [task(i, image) for i, image in enumerate([good, *bad, good])]
    results = client.post("/predict", json=predict_body(tasks)).json["results"]
    assert results[0] == results[-1]
    assert len(results[0]["result"]) == len(scenes[0].objects)
    for number, image in enumerate(bad, start=1):
        if image in out_of_reach:  # an empty prediction would count as done
            assert results[number] == []
            assert f"task {number}: " in caplog.text
            continue
        said = problem(results[number])
        if image == []:  # nothing could fail
            assert said == "the task has no images"
        else:
            assert f"task {number}: {said}" in caplog.text


def test_a_task_without_the_key_is_named_in_the_log(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    body = predict_body([{"id": 77, "data": {"text": "no image here"}}])
    (prediction,) = client.post("/predict", json=body).json["results"]
    assert f"task 77: {problem(prediction)}" in caplog.text
    assert "image" in problem(prediction)


def test_a_defect_on_one_image_leaves_its_task_open_and_the_others_done(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    """[] makes Label Studio store nothing and ask again; an empty prediction would count as done."""
    images = [data_url(oracle.add(scene)) for scene in scenes]
    real = oracle.find

    def find(image: EncodedImage, *rest: Any, **more: Any) -> Any:
        if image.data == scenes[1].encode("PNG"):
            raise RuntimeError("CUDA out of memory")
        return real(image, *rest, **more)

    oracle.find = find  # type: ignore[method-assign]
    results = client.post("/predict", json=predict_body([task(i, x) for i, x in enumerate(images)])).json["results"]
    assert results[1] == []
    assert [len(results[i]["result"]) for i in (0, 2)] == [len(scenes[i].objects) for i in (0, 2)]


def test_when_time_runs_out_the_rest_is_left_open(
    oracle: SceneSegmenter, scenes: list[Scene], caplog: pytest.LogCaptureFixture
) -> None:
    client = create_app(BackendSettings(request_seconds=1), oracle).test_client()
    first, other = data_url(oracle.add(scenes[0])), data_url(oracle.add(scenes[1]))
    release = threading.Event()
    real = oracle.find

    def find(image: EncodedImage, *rest: Any, **more: Any) -> Any:
        assert image.key == EncodedImage(scenes[0].encode("PNG")).key or release.wait(30)
        return real(image, *rest, **more)

    oracle.find = find  # type: ignore[method-assign]
    tasks = [task(0, first), *(task(i, other) for i in range(1, 20))]
    results = client.post("/predict", json=predict_body(tasks)).json["results"]
    assert not release.is_set()
    release.set()
    assert len(results) == 20
    assert results[0]["result"]
    assert results[1:] == [[]] * 19
    assert "19 of 20 tasks are left open: they were not ready in time, and there is no token" in caplog.text


def test_an_image_that_does_not_arrive_in_time_leaves_its_task_open(
    oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    """The answer must not wait for it: Label Studio hangs up at 100 s, and then everything is lost."""
    client = create_app(BackendSettings(request_seconds=1, allowed_hosts="127.0.0.1"), oracle).test_client()
    release = threading.Event()
    with label_studio() as site:
        site.routes["/public/slow.png"] = lambda _: (release.wait(30), (404, {}, b""))[1]
        slow, good = f"{site.url}/public/slow.png", data_url(oracle.add(scenes[0]))
        results = client.post("/predict", json=predict_body([task(1, good), task(2, slow), task(3, good)])).json
        assert not release.is_set()
        release.set()
    first, second, third = results["results"]
    assert first["result"] == third["result"] != []
    assert second == []


def test_a_model_that_stops_half_way_keeps_what_was_done(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    images = [data_url(oracle.add(scene)) for scene in scenes]
    real = oracle.find

    first_done = threading.Event()

    def find(image: EncodedImage, *rest: Any, **more: Any) -> Any:
        if image.data != scenes[0].encode("PNG"):
            assert first_done.wait(30)
            time.sleep(0.2)  # until it is on the list
            raise NotReady("loading")
        found = real(image, *rest, **more)
        first_done.set()
        return found

    oracle.find = find  # type: ignore[method-assign]
    answer = client.post("/predict", json=predict_body([task(i, x) for i, x in enumerate(images)]))
    assert answer.status_code == 200
    assert answer.json["results"][0]["result"]
    assert answer.json["results"][1:] == [[], []]


def test_many_tasks_keep_their_order(client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    with label_studio() as site:
        for i, scene in enumerate(scenes):
            site.files[f"/public/{i}.png"] = oracle.add(scene)
        order = [0, 2, 1, 1, 0, 2] * 5
        tasks = [task(i, f"{site.url}/public/{which}.png") for i, which in enumerate(order)]
        results = client.post("/predict", json=predict_body(tasks)).json["results"]
    sizes = [(r["result"][0]["original_width"], r["result"][0]["original_height"]) for r in results]
    assert sizes == [(scenes[which].width, scenes[which].height) for which in order]


def test_images_are_read_ahead_while_the_model_works(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    """The second image arrives while the model is still at the first."""
    arrived = threading.Event()
    with label_studio() as site:
        site.files["/public/0.png"] = oracle.add(scenes[0])
        second = oracle.add(scenes[1])
        site.routes["/public/1.png"] = lambda _: (arrived.set(), (200, {}, second))[1]
        real = oracle.find

        def find(image: EncodedImage, *rest: Any, **more: Any) -> Any:
            assert arrived.wait(30)
            return real(image, *rest, **more)

        oracle.find = find  # type: ignore[method-assign]
        tasks = [task(i, f"{site.url}/public/{i}.png") for i in range(2)]
        results = client.post("/predict", json=predict_body(tasks)).json["results"]
    assert all(result["result"] for result in results)


PAGES = CONFIG.replace('value="$image"', 'valueList="$image"')


def test_every_page_of_a_list_with_its_item_index(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    images = [data_url(oracle.add(scene)) for scene in scenes]
    body = predict_body([task(1, [images[0], data_url(b"broken"), images[2], images[0]])], PAGES)
    (prediction,) = client.post("/predict", json=body).json["results"]
    counts = [sum(region["item_index"] == page for region in prediction["result"]) for page in range(4)]
    assert counts == [len(scenes[0].objects), 0, len(scenes[2].objects), len(scenes[0].objects)]
    assert len({region["id"] for region in prediction["result"]}) == len(prediction["result"])


def test_two_images_in_a_task(client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    config = (
        '<View><Image name="a" value="$left"/><Image name="b" value="$right"/>'
        '<RectangleLabels name="boxes" toName="a"><Label value="any shape" prompt="shape"/></RectangleLabels>'
        '<BrushLabels name="brush" toName="b"><Label value="thing" prompt="object"/></BrushLabels></View>'
    )
    data = {"left": data_url(oracle.add(scenes[0])), "right": data_url(oracle.add(scenes[1]))}
    (prediction,) = client.post("/predict", json=predict_body([{"id": 1, "data": data}], config)).json["results"]
    assert [(r["to_name"], r["from_name"]) for r in prediction["result"]] == [("a", "boxes")] * len(
        scenes[0].objects
    ) + [("b", "brush")] * len(scenes[1].objects)
    assert "item_index" not in prediction["result"][0]


def test_one_look_serves_all_controls_of_an_image(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    tags = ("PolygonLabels", "BrushLabels", "RectangleLabels", "BitmaskLabels")
    controls = "".join(f'<{t} name="{t}" toName="image"><Label value="shape"/></{t}>' for t in tags)
    config = f'<View><Image name="image" value="$image"/>{controls}</View>'
    body = predict_body([task(1, data_url(oracle.add(scenes[0])))], config)
    (prediction,) = client.post("/predict", json=body).json["results"]
    assert oracle.calls == 1
    by_type = [region["type"] for region in prediction["result"]]
    assert {kind: by_type.count(kind) for kind in by_type} == {t.lower(): len(scenes[0].objects) for t in tags}
    assert LabelInterface(config).validate_prediction(prediction, return_errors=True) == []


def test_thresholds_are_the_labels_own(client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    least = sorted(score_of(item) for item in scenes[0].objects)[1]
    config = (
        '<View><Image name="image" value="$image"/><PolygonLabels name="p" toName="image">'
        f'<Label value="shape" threshold="{least - 1e-9}"/></PolygonLabels></View>'
    )
    body = predict_body([task(1, data_url(oracle.add(scenes[0])))], config)
    (prediction,) = client.post("/predict", json=body).json["results"]
    assert len(prediction["result"]) == len(scenes[0].objects) - 1


@pytest.mark.parametrize("config", ["", "<View/>", "<oops", '<View><Text name="t" value="$t"/></View>'])
def test_a_config_with_nothing_to_predict(client: FlaskClient, config: str, caplog: pytest.LogCaptureFixture) -> None:
    answer = client.post("/predict", json=predict_body([task(1, "x"), task(2, "y")], config))
    assert answer.status_code == 200
    for prediction in answer.json["results"]:
        assert f"nothing to predict: {problem(prediction)}" in caplog.text


def test_equal_requests_get_equal_answers(client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    body = predict_body([task(1, data_url(oracle.add(scenes[0])))])
    assert client.post("/predict", json=body).json == client.post("/predict", json=body).json


def test_setup_tells_where_relative_addresses_live(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene], caplog: pytest.LogCaptureFixture
) -> None:
    with label_studio() as site:
        site.legacy = True
        site.files["/data/upload/1/a.png"] = oracle.add(scenes[0])
        body = predict_body([task(1, "/data/upload/1/a.png")])
        assert client.post("/predict", json=body).json["results"] == [[]]
        assert "SAM3_LABEL_STUDIO_URL" in caplog.text
        caplog.clear()
        setup = {"project": "1.5", "schema": CONFIG, "hostname": site.url}
        client.post("/setup", json=setup | {"access_token": "0123456789abcdef0123456789abcdef01234567"})
        assert client.post("/predict", json=body).json["results"][0]["result"]
        assert "SAM3_LABEL_STUDIO_URL" not in caplog.text
        other = client.post("/predict", json=body | {"project": "2.5"})
        assert other.json["results"] == [[]]  # another project is not introduced
        assert "SAM3_LABEL_STUDIO_URL" in caplog.text


def test_a_refused_token_is_explained_in_the_log(oracle: SceneSegmenter, caplog: pytest.LogCaptureFixture) -> None:
    with label_studio() as site:
        settings = BackendSettings(label_studio_url=site.url, label_studio_api_key="0" * 40)
        client = create_app(settings, oracle).test_client()
        client.post("/predict", json=predict_body([task(1, "/data/upload/1/a.png")]))
    assert "a legacy token" in caplog.text
    assert "personal access token" in caplog.text


# ---- why there is nothing ----------------------------------------------------------------------------------------


def test_each_label_that_found_nothing_says_why(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tasks = [task(i, data_url(oracle.add(scene))) for i, scene in enumerate(scenes)]
    results = client.post("/predict", json=predict_body(tasks)).json["results"]
    labels = {"circle", "square", "triangle", "star"}
    for number, (scene, prediction) in enumerate(zip(scenes, results, strict=True)):
        missing = labels - {item.shape for item in scene.objects}
        assert missing
        nothing = prediction["meta"]["nothing"]
        assert nothing.keys() == missing
        assert all("presence" in reason for reason in nothing.values())
        (line,) = (text for text in caplog.messages if text.startswith(f"task {number}: "))
        assert all(f"{label!r}: {nothing[label]}" in line for label in missing)
        assert "problem" not in prediction["meta"]


def test_a_label_is_missed_where_none_of_its_tags_found_any(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    shape = scenes[0].objects[0].shape
    config = (
        '<View><Image name="image" value="$image"/><PolygonLabels name="p" toName="image">'
        '<Label value="thing" prompt="zebra"/><Label value="other" prompt="zebra"/></PolygonLabels>'
        f'<BrushLabels name="b" toName="image"><Label value="thing" prompt="{shape}"/></BrushLabels></View>'
    )
    body = predict_body([task(1, data_url(oracle.add(scenes[0])))], config)
    (prediction,) = client.post("/predict", json=body).json["results"]
    assert prediction["meta"]["nothing"].keys() == {"other"}
    full = predict_body(body["tasks"], config.replace("zebra", shape))
    assert "meta" not in client.post("/predict", json=full).json["results"][0]


def test_reasons_name_the_page(client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    config = PAGES.replace('value="circle"', 'value="zebra"')
    pages = [data_url(oracle.add(scenes[0])), data_url(b"broken"), data_url(oracle.add(scenes[2]))]
    (prediction,) = client.post("/predict", json=predict_body([task(1, pages)], config)).json["results"]
    said = prediction["meta"]["nothing"]["zebra"]
    assert [part.partition(":")[0] for part in said.split("; ")] == ["page 0", "page 2"]
    assert prediction["meta"]["problem"] == "page 1: the bytes are no picture"


def test_notes_on_phrases_are_told_once_and_shown_in_each_region(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene], caplog: pytest.LogCaptureFixture
) -> None:
    oracle.notes = ("'公交车' is not English",)
    tasks = [task(i, data_url(oracle.add(scene))) for i, scene in enumerate(scenes)]
    results = client.post("/predict", json=predict_body(tasks)).json["results"]
    assert caplog.messages.count(oracle.notes[0]) == 1
    texts = [region["meta"]["text"] for prediction in results for region in prediction["result"]]
    assert all(text[1:] == [oracle.notes[0], VERSION] for text in texts)


def test_candidates_below_the_threshold_say_so(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    scores = sorted((score_of(item) for item in scenes[0].objects), reverse=True)
    least = (scores[0] + scores[1]) / 2
    config = (
        '<View><Image name="image" value="$image"/><PolygonLabels name="p" toName="image">'
        f'<Label value="shape" threshold="{least}" top_k="2"/></PolygonLabels></View>'
    )
    body = predict_body([task(1, data_url(oracle.add(scenes[0])))], config)
    (prediction,) = client.post("/predict", json=body).json["results"]
    sure, candidate = prediction["result"]
    assert sure["meta"]["text"] == ["shape", VERSION]
    assert candidate["meta"]["text"] == ["shape", f"candidate: score below the threshold {least:.2f}", VERSION]


def test_tiles_are_those_the_image_tag_asks_for(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    tasks = [task(1, data_url(oracle.add(scenes[0])))]
    client.post("/predict", json=predict_body(tasks))
    client.post("/predict", json=predict_body(tasks, CONFIG.replace("<Image ", '<Image tiles="on" ')))
    assert [options.tiles for options in oracle.options] == [None, Tiling.ON]


# ---- what people drew --------------------------------------------------------------------------------------------


TAGS = ("Polygon", "Brush", "Rectangle", "Bitmask", "Ellipse", "Vector")


def config_of(*tags: str, label: str = "") -> str:
    """Tags of that kind that look for any shape."""
    controls = (f'<{t}Labels name="{t}" toName="image"><Label value="shape" {label}/></{t}Labels>' for t in tags)
    return f'<View><Image name="image" value="$image"/>{"".join(controls)}</View>'


def found(client: FlaskClient, one: dict[str, Any], config: str) -> list[dict[str, Any]]:
    (prediction,) = client.post("/predict", json=predict_body([one], config)).json["results"]
    return list(prediction["result"])


def drawn(*regions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"annotations": [{"id": 1, "result": list(regions), **more}]}


@pytest.mark.parametrize("tag", TAGS)
def test_what_an_annotator_drew_is_not_found_again(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene], tag: str
) -> None:
    config, one = config_of(tag), task(1, data_url(oracle.add(scenes[0])))
    every = found(client, one, config)
    for region in every:
        left = found(client, one | drawn(region), config)
        assert [other["id"] for other in left] == [other["id"] for other in every if other is not region]
    (prediction,) = client.post("/predict", json=predict_body([one | drawn(*every)], config)).json["results"]
    assert prediction["result"] == []
    assert prediction["meta"]["nothing"].keys() == {"shape"}


def test_only_what_people_drew_counts(client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    config, one = config_of("Brush"), task(1, data_url(oracle.add(scenes[0])))
    every = found(client, one, config)
    region = every[0]
    box = region | {"value": {"x": 0, "y": 0, "width": 100, "height": 100, "rotation": 0}, "type": "rectanglelabels"}
    for nothing in (
        {"predictions": [{"id": 1, "result": every}]},
        drawn(region, was_cancelled=True),
        drawn(region | {"to_name": "another"}),
        drawn(region | {"item_index": 1}),
        drawn(box | {"from_name": "prompt box"}),
        drawn(region | {"from_name": "another tag"}),
        drawn(region | {"value": region["value"] | {"rle": [1, 2, 3]}}, {"id": 5}, {}),
        {"annotations": None, "drafts": [{"result": None}]},
        {"annotations": "nonsense"},
    ):
        assert found(client, one | nothing, config) == every
    draft = {"drafts": [{"id": 4, "annotation": None, "result": [region]}]}
    assert found(client, one | draft, config) == every[1:]


def test_a_draft_is_what_counts_of_an_annotation(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    config, one = config_of("Brush"), task(1, data_url(oracle.add(scenes[0])))
    every = found(client, one, config)
    draft = {"drafts": [{"id": 4, "annotation": 1, "result": [every[1]]}]}
    left = found(client, one | drawn(every[0]) | draft, config)
    assert [region["id"] for region in left] == [every[0]["id"], *(region["id"] for region in every[2:])]


def test_each_page_has_its_own_drawings(client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    config = config_of("Polygon").replace('value="$image"', 'valueList="$image"')
    one = task(1, [data_url(oracle.add(scenes[0]))] * 2)
    every = found(client, one, config)
    on_second = [region for region in every if region["item_index"] == 1]
    left = found(client, one | drawn(*on_second), config)
    assert left == [region for region in every if region["item_index"] == 0]


def test_labels_that_may_overlap_mind_their_own_drawings(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    labels = (
        '<Label value="mine" prompt="shape" allow_overlap="true"/><Label value="also mine" prompt="shape"'
        ' allow_overlap="true"/><Label value="strict" prompt="object"/><Label value="other" prompt="shape"'
        ' allow_overlap="true" threshold="0.1"/>'
    )
    config = (
        '<View><Image name="image" value="$image"/>'
        f'<PolygonLabels name="p" toName="image">{labels}</PolygonLabels></View>'
    )
    one = task(1, data_url(oracle.add(scenes[0])))
    every = found(client, one, config)
    count = len(scenes[0].objects)
    region = next(region for region in every if region["value"]["polygonlabels"] == ["mine"])
    left = found(client, one | drawn(region), config)
    by_label = [region["value"]["polygonlabels"][0] for region in left]
    # "mine" and "also mine" are one concept: what was drawn for one of them was found for both.
    expected = {"mine": count - 1, "also mine": count - 1, "strict": count - 1, "other": count}
    assert {label: by_label.count(label) for label in expected} == expected


def test_tasks_without_drawings_are_asked_as_they_are(
    client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    """In one batch with a task that has some: what is left out differs from task to task."""
    config, image = config_of("Brush"), data_url(oracle.add(scenes[0]))
    every = found(client, task(1, image), config)
    tasks = [task(1, image), task(2, image) | drawn(every[0]), task(3, image)]
    results = client.post("/predict", json=predict_body(tasks, config)).json["results"]
    assert [len(prediction["result"]) for prediction in results] == [len(every), len(every) - 1, len(every)]
    assert sorted(len(asked[0].drawn) for asked in oracle.asked[1:]) == [0, 0, 1]


def test_what_was_taken_away_is_counted(client: FlaskClient, oracle: SceneSegmenter, scenes: list[Scene]) -> None:
    config, one = config_of("Brush"), task(1, data_url(oracle.add(scenes[0])))
    every = found(client, one, config)
    found(client, one | drawn(*every[:2]), config)
    assert 'sam3_removed_instances_total{reason="drawn"} 2.0' in client.get("/metrics").text


# ---- the class itself --------------------------------------------------------------------------------------------


@pytest.fixture
def runtime(oracle: SceneSegmenter) -> Runtime:
    return Runtime(BackendSettings(), oracle)


def test_predict_of_the_class_takes_plain_dicts(
    runtime: Runtime, oracle: SceneSegmenter, scenes: list[Scene]
) -> None:
    model = Sam3Backend("1", CONFIG, runtime)
    (prediction,) = model.predict([task(1, data_url(oracle.add(scenes[0])))], context=None, login=None, password=None)
    assert isinstance(prediction, dict)
    assert Mask.from_full(scenes[0].objects[0].mask).frame == (
        prediction["result"][0]["original_width"],
        prediction["result"][0]["original_height"],
    )


def test_malformed_tasks_are_an_error_of_the_caller(runtime: Runtime) -> None:
    with pytest.raises(InvalidInput, match="data"):
        Sam3Backend("1", CONFIG, runtime).predict([{"id": 1}])


def test_fit_records_what_it_gets_and_forgets_the_oldest(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    model = Sam3Backend("9", CONFIG, runtime)
    with caplog.at_level(logging.INFO):
        for _ in range(300):
            model.fit("ANNOTATION_CREATED", {"annotation": {"id": 1}, "project": {"id": 9}})
    assert len(runtime.events) == 200
    assert (runtime.events[0].action, runtime.events[0].project, runtime.events[0].annotations) == (
        "ANNOTATION_CREATED",
        "9",
        1,
    )
    assert "ANNOTATION_CREATED" in caplog.text
