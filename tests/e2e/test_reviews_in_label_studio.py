"""What reviewers do in a real Label Studio, read from its webhooks and from its API: both say the same."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ground_truth import SEEDS, scene_of
from projects import Project

from backend.database import Database
from backend.learning.predicted import Predictions
from backend.learning.rebuild import rebuild
from backend.learning.records import Review, Verdict
from backend.learning.reviews import Reviews
from sam3_core.errors import InvalidInput, ServerUnavailable
from sam3_prelabel.demo.client import LabelStudioClient
from sam3_prelabel.demo.label_studio import LabelStudioServer

pytestmark = pytest.mark.e2e

Json = dict[str, Any]

LABELS = '<Label value="Star"/><Label value="Disc"/>'
CONFIG = (
    '<View><Image name="picture" value="$image"/>'
    f'<PolygonLabels name="found" toName="picture">{LABELS}</PolygonLabels>'
    f'<KeyPointLabels name="click" smart="true" toName="picture">{LABELS}</KeyPointLabels></View>'
)


def region(name: str, left: float, label: str = "Star", **more: Any) -> Json:
    """A square of a tenth of the picture's width and height."""
    points = [[left, 10], [left + 10, 10], [left + 10, 20], [left, 20]]
    return {
        "id": name, "from_name": "found", "to_name": "picture", "type": "polygonlabels", "image_rotation": 0,
        "original_width": 640, "original_height": 480, "value": {"points": points, "polygonlabels": [label]},
    } | more  # fmt: skip


OURS = [region("kept", 10), region("moved", 30), region("gone", 50), region("renamed", 70)]
PROMPT = {
    "id": "click", "from_name": "click", "to_name": "picture", "type": "keypointlabels", "is_positive": True,
    "original_width": 640, "original_height": 480, "value": {"x": 5, "y": 5, "width": 1, "keypointlabels": ["Star"]},
}  # fmt: skip
LEFT = [
    region("kept", 10, origin="prediction"),
    region("moved", 32, origin="prediction-changed"),
    region("renamed", 70, "Disc", origin="prediction-changed"),
    region("new", 85),
    PROMPT,
]


@pytest.fixture
def heard() -> Iterator[tuple[str, list[bytes]]]:
    """An address for webhooks, and the bodies that came in."""
    bodies: list[bytes] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", bodies
        server.shutdown()
        thread.join()


def told(review: Review | None) -> Any:
    """A review without what two ways of reading may tell apart: nothing but the objects themselves."""
    if review is None:
        return None
    outcomes = [
        (one.verdict, one.label, round(one.iou, 6), one.ours and one.ours.region, one.theirs and one.theirs.region)
        for one in review.outcomes
    ]
    truth = [(drawn.region, drawn.label, drawn.source, drawn.page, drawn.mask.area) for drawn in review.truth]
    return (
        review.project, review.task, review.annotation, review.updated, review.images, review.version,
        review.lead_time, outcomes, truth,
    )  # fmt: skip


def test_webhooks_and_the_api_tell_of_the_same_reviews(
    client: LabelStudioClient,
    label_studio: LabelStudioServer,
    token: str,
    new_project: Callable[[str], Project],
    heard: tuple[str, list[bytes]],
) -> None:
    project, (url, bodies) = new_project(CONFIG), heard
    number = str(project.id)
    pictures = {f"{index}.jpg": scene_of(SEEDS[0]).encode() for index in range(5)}
    reviewed, skipped, emptied, deleted, untouched = client.upload(project.id, pictures)
    client.call("POST", "/api/webhooks/", json={"project": project.id, "url": url, "send_for_all_actions": True})
    database = Database(None)
    listening = Predictions(database)
    by_webhooks = Reviews(database, listening)
    parents = {}
    for task in (reviewed, skipped, emptied, deleted, untouched):
        listening.remember(number, str(task), {"result": OURS, "model_version": "v1", "score": 0.5})
        body = {"task": task, "project": project.id, "result": OURS, "model_version": "v1", "score": 0.5}
        parents[task] = client.call("POST", "/api/predictions/", json=body)["id"]

    def submit(task: int, result: list[Json], **more: Any) -> int:
        body = {"result": result, "lead_time": 7.5, "parent_prediction": parents[task]} | more
        return int(client.call("POST", f"/api/tasks/{task}/annotations/", json=body)["id"])

    first = submit(reviewed, OURS)
    client.call("PATCH", f"/api/annotations/{first}/", json={"result": LEFT})
    submit(skipped, OURS, was_cancelled=True)
    submit(emptied, [])
    submit(emptied, [PROMPT])
    wrong = submit(deleted, OURS)
    client.call(
        "POST", f"/api/dm/actions?id=delete_tasks_annotations&project={project.id}",
        json={"selectedItems": {"all": False, "included": [deleted]}},
    )  # fmt: skip
    events = [(json.loads(body)["action"], body) for body in bodies]
    assert Counter(action for action, _ in events) >= Counter(
        {"ANNOTATION_CREATED": 5, "ANNOTATION_UPDATED": 1, "ANNOTATIONS_DELETED": 1}
    )
    assert any(f'"id": {wrong}'.encode() in body for action, body in events if action == "ANNOTATIONS_DELETED")
    for action, body in reversed(events):  # in the worst of orders
        by_webhooks.apply(action, body)

    counted: list[int] = []
    by_api = Reviews(Database(None), Predictions(Database(None)))
    assert rebuild(by_api, label_studio.url, token, number, told=counted.append) == 1
    assert counted == [1, 2, 3, 4, 5]
    for reviews in (by_webhooks, by_api):
        (review,) = reviews.of(number)
        assert (review.task, review.version, review.lead_time) == (str(reviewed), "v1", 7.5)
        assert {(one.verdict, one.label, (one.ours or one.theirs).region) for one in review.outcomes} == {  # type: ignore[union-attr]
            (Verdict.ACCEPTED, "Star", "kept"),
            (Verdict.EDITED, "Star", "moved"),
            (Verdict.DELETED, "Star", "gone"),
            (Verdict.DELETED, "Star", "renamed"),
            (Verdict.MISSED, "Disc", "renamed"),
            (Verdict.MISSED, "Star", "new"),
        }
    assert told(by_api.review(number, str(reviewed))) == told(by_webhooks.review(number, str(reviewed)))
    known = by_webhooks.project(number)
    assert known is not None
    assert known.label_config == CONFIG == by_api.project(number).label_config  # type: ignore[union-attr]


def test_what_label_studio_refuses_is_a_sentence(label_studio: LabelStudioServer, token: str) -> None:
    reviews = Reviews(Database(None), Predictions(Database(None)))
    with pytest.raises(InvalidInput, match=r"has no project 999999"):
        rebuild(reviews, label_studio.url, token, "999999", told=lambda count: None)
    with pytest.raises(ServerUnavailable, match=r"answered 401 to a legacy token"):
        rebuild(reviews, label_studio.url, "0" * 40, "1", told=lambda count: None)
