"""What reviewers correct makes the next pre-annotation better, in the browser too, and can be taken back."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from browser import open_task

from sam3_core.masks import Mask
from sam3_prelabel.demo.client import LabelStudioClient
from sam3_prelabel.demo.label_studio import LabelStudioServer
from tools.learning import project, world
from tools.learning.project import LABELS
from tools.learning.reviewer import Reviewer
from tools.learning.site import Team, ask, learning_backend, wait_taught

pytestmark = pytest.mark.e2e

REVIEWED = 14
Shown = Sequence[dict[str, Any]]


@pytest.fixture(scope="module")
def sample() -> world.Sample:
    """A picture that nobody reviews, with a circle and two stars, one of them yellow."""
    return world.unseen(1)[0]


@pytest.fixture(scope="module")
def team(
    label_studio: LabelStudioServer,
    token: str,
    client: LabelStudioClient,
    sample: world.Sample,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Team]:
    """A project with poor wordings and a wrong threshold; its last task is the picture that nobody reviews."""
    folder = tmp_path_factory.mktemp("learning")
    with learning_backend(label_studio.url, token, folder, "phrases,thresholds") as server:
        samples = [*world.reviewed(REVIEWED), sample]
        yield Team.gather(client, server.url, "end to end: learning", project.config(), samples)


def test_a_task_is_pre_annotated_better_after_review_than_before(
    team: Team, sample: world.Sample, client: LabelStudioClient, label_studio: LabelStudioServer, browser: Any,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Set SCREENSHOTS to a folder to keep the pictures."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    base = team.version()
    *tasks, unseen = team.tasks
    *predictions, _ = team.predicted(team.tasks)
    before = open_task(browser, label_studio, team.project, unseen)
    assert browser.save_screenshot(str(folder / "before-review.png"))

    reviewer = Reviewer(client)
    reviews = zip(tasks, world.reviewed(REVIEWED), predictions, strict=True)
    for number, (task, picture, prediction) in enumerate(reviews):
        reviewer.review(number, task, picture, prediction)
    told = wait_taught(team.backend, team.project, reviewed=REVIEWED, seconds=120)
    learned = team.version()
    assert learned.startswith(f"{base}+{team.project}."), told

    (prediction,) = team.predicted([unseen])
    assert prediction["model_version"] == learned
    after = open_task(browser, label_studio, team.project, unseen)
    assert browser.save_screenshot(str(folder / "after-review.png"))
    assert right(after, sample) > right(before, sample), (before, after)

    # Back, as a team lead does it: another model version in the project's settings.
    choose(client, team, base)
    assert served(team, unseen) == base
    assert open_task(browser, label_studio, team.project, unseen) == before
    choose(client, team, learned)
    assert served(team, unseen) == learned


def choose(client: LabelStudioClient, team: Team, version: str) -> None:
    """Choose a model version in the project's settings, and wait until the backend heard of it."""
    client.call("PATCH", f"/api/projects/{team.project}/", json={"model_version": version})
    until(lambda: team.version() == version)


def served(team: Team, task: int) -> str:
    """The version that answers a batch now."""
    version, _ = ask(team, team.places([task]))
    return version


def until(so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def right(shown: Shown, sample: world.Sample) -> float:
    """F1 of what the editor shows, by boxes: its label, and an IoU of more than a half."""
    wanted = [(label.value, percent(mask)) for label in LABELS for mask in label.truth(sample)]
    hits = sum(any(one["label"] == name and iou(one["box"], box) > 0.5 for one in shown) for name, box in wanted)
    return 2 * hits / (len(shown) + len(wanted))


def percent(mask: Mask) -> list[float]:
    """The mask's box, xyxy in percent of the picture."""
    width, height = mask.frame
    return [100 * edge / side for edge, side in zip(mask.box, (width, height) * 2, strict=True)]


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)
