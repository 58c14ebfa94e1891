"""A project's reviews, made anew from what Label Studio has of it: for what happened while nobody listened.

Read through label-studio-sdk, tasks with their annotations and predictions, page by page. ``GET /api/tasks/<id>/`` is
never asked: it would ask this backend for a prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError

from backend.auth import Credentials
from backend.learning.reviews import Reviews
from sam3_core.errors import InvalidInput, Sam3Error, ServerUnavailable

_PAGE = 25  # tasks in one answer: with brush masks of large pictures each may be megabytes
_SECONDS = 100.0  # for one answer


def rebuild(reviews: Reviews, url: str, token: str, project: str, *, told: Callable[[int], None]) -> int:
    """Read a project from the Label Studio at ``url`` and put it in place of its reviews; how many there are then.

    token: a personal access token, or a legacy one where those are allowed. told: hears how many tasks were read;
    what it raises ends the reading, and nothing has changed.
    Raises InvalidInput for a project that is not there, ServerUnavailable where Label Studio gives no answer, or does
    not take the token.
    """
    if not (project.isascii() and project.isdecimal()):
        raise InvalidInput(f"a project of Label Studio is a number, not {project!r:.40}")
    with _refusals_told(url, token, project), httpx.Client(trust_env=False, timeout=_SECONDS) as http:
        client = LabelStudio(base_url=url, api_key=token, httpx_client=http)
        known = client.projects.get(int(project))
        tasks = _tasks(client, int(project), told)
        return reviews.replace(project, known.label_config or "", known.title or "", tasks)


def _tasks(client: LabelStudio, project: int, told: Callable[[int], None]) -> Iterator[Mapping[str, Any]]:
    listed = client.tasks.list(project=project, fields="all", page_size=_PAGE)
    for count, task in enumerate(listed, 1):
        yield task.model_dump(mode="json")
        told(count)


@contextmanager
def _refusals_told(url: str, token: str, project: str) -> Iterator[None]:
    """What goes wrong on the way, in a sentence without the token."""
    try:
        yield
    except ApiError as error:
        raise _refusal(error, url, token, project) from None
    except httpx.HTTPError as error:
        raise ServerUnavailable(f"Label Studio at {url} gives no answer: {type(error).__name__}") from None
    except (httpx.InvalidURL, UnicodeError):
        raise InvalidInput(f"{url!r:.80} is no address of a Label Studio") from None


def _refusal(error: ApiError, url: str, token: str, project: str) -> Sam3Error:
    status = error.status_code
    if status in (401, 403):
        return ServerUnavailable(Credentials.of(token).advice(url, status))
    if status == 404:
        return InvalidInput(f"Label Studio at {url} has no project {project}, or none that the token's user may see")
    said = status if status and status >= 300 else "something else than its API"
    return ServerUnavailable(f"Label Studio at {url} answered {said}")
