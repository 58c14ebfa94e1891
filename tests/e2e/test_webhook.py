"""What Label Studio tells the backend while people work."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ground_truth import LABELS, SEEDS, scene_of
from projects import Backend, Project, config_of

from sam3_prelabel.demo.client import LabelStudioClient
from sam3_prelabel.demo.label_studio import LabelStudioServer

pytestmark = pytest.mark.e2e


@pytest.fixture
def connected(
    client: LabelStudioClient, backend: Backend, new_project: Callable[[str], Project]
) -> tuple[Project, int, int]:
    """A connected project, its one task and the id of its backend."""
    project = new_project(config_of("RectangleLabels", LABELS))
    (task,) = client.upload(project.id, {"scene.jpg": scene_of(SEEDS[0]).encode()})
    return project, task, int(client.connect(project.id, backend.url)["id"])


def test_a_submitted_annotation_reaches_the_backend(
    client: LabelStudioClient, backend: Backend, label_studio: LabelStudioServer, connected: tuple[Project, int, int]
) -> None:
    _, task, _ = connected
    value = {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0, "rectanglelabels": ["Star"]}
    region = {"id": "a", "from_name": "found", "to_name": "picture", "type": "rectanglelabels", "value": value}
    before = backend.log().count("ANNOTATION_CREATED")
    failures = label_studio.log.read_text().count("Timeout")
    client.call("POST", f"/api/tasks/{task}/annotations/", json={"result": [region]})
    # Label Studio calls within the request and gives up after a second, saying so in its log.
    assert backend.log().count("ANNOTATION_CREATED") == before + 1
    assert label_studio.log.read_text().count("Timeout") == failures


def test_start_training_answers(
    client: LabelStudioClient, backend: Backend, connected: tuple[Project, int, int]
) -> None:
    project, task, backend_id = connected
    client.call("POST", f"/api/ml/{backend_id}/train", json={})
    assert "START_TRAINING" in backend.log()
    (listed,) = client.backends(project.id)
    assert listed["state"] == "CO"
    client.retrieve_predictions(project.id, [task])
    assert list(client.predictions(project.id)) == [task]


def test_legacy_tokens_are_off_so_all_of_this_ran_on_a_personal_access_token(
    client: LabelStudioClient, label_studio: LabelStudioServer
) -> None:
    legacy = client.call("GET", "/api/current-user/token")["token"]
    with label_studio.login() as session:
        session.cookies.clear()
        answer = session.get(
            f"{label_studio.url}/api/projects", headers={"Authorization": f"Token {legacy}"}, timeout=30
        )
    assert answer.status_code == 401
