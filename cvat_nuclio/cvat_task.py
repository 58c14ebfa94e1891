"""A task on a CVAT server, or one job of it: what a run over its frames asks for and sends."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cvat_sdk import Client, models
from cvat_sdk.api_client.exceptions import ApiException
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from cvat_nuclio import patience
from cvat_nuclio.patience import OF_THE_SERVER, Patience, may_go_on
from cvat_nuclio.resume import trace
from cvat_nuclio.sdk_shapes import Annotation
from sam3_core.errors import ImageUnavailable, InvalidInput, ServerUnavailable

Answer = TypeVar("Answer")

_TIMEOUT = (10.0, 300.0)  # seconds to connect, and between bytes: storing a slice of large masks takes CVAT a while
_FOR_ALL = OF_THE_SERVER | {401, 403}  # no other frame or slice would fare better
_ONCE = Retry(total=None, connect=0, read=0, status=0, other=0, redirect=3)


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that is there (deleted ones are not): its number in the task, and its file's name."""

    number: int
    name: str


class Refused(InvalidInput):
    """CVAT does not take these annotations."""


class CvatTask:
    """Its labels, frames, pictures and annotations. Methods may be called from any thread.

    Temporary failures are waited out, see ``Patience``; then ServerUnavailable is raised, with a sentence.
    """

    def __init__(self, client: Client, task: int, job: int | None = None) -> None:
        """Raises ServerUnavailable for what this user cannot have, and InvalidInput for a job of another task."""
        self.server: str = client.api_map.host
        self.id = task
        self.patience = Patience()
        # Patience alone tries again: urllib3 would repeat an upload that broke off without looking what arrived.
        client.api_client.rest_client.pool_manager.connection_pool_kw["retries"] = _ONCE
        self._api, self._api_id = (
            (client.api_client.tasks_api, task) if job is None else (client.api_client.jobs_api, job)
        )
        self._proxy = self._asked(lambda: (client.tasks if job is None else client.jobs).retrieve(self._api_id))
        if job is not None and self._proxy.task_id != task:
            raise InvalidInput(f"job {job} belongs to task {self._proxy.task_id}, not to task {task}")
        self._is_job = job is not None
        self.part = "task" if job is None else f"job {job}"

    def labels(self) -> list[tuple[int, str, str]]:
        """Id, name and type of each label, in the task's order."""
        labels = self._asked(self._proxy.get_labels)
        return [(label.id, label.name, str(getattr(label, "type", "any"))) for label in labels]

    def frames(self) -> list[Frame]:
        """Its frames in order, without deleted ones. Raises InvalidInput for a task that has none yet."""
        meta = self._asked(self._proxy.get_meta)
        first, last = (self._proxy.start_frame, self._proxy.stop_frame) if self._is_job else (0, meta.size - 1)
        included, deleted = getattr(meta, "included_frames", None), set(meta.deleted_frames)
        numbers = sorted(included) if included else range(first, last + 1)
        # A video has one entry for all frames, a job's entries begin with its first frame.
        names = [frame.name for frame in meta.frames]
        frames = [
            Frame(number, names[number - first] if len(names) > last - first else f"frame {number}")
            for number in numbers
            if number not in deleted
        ]
        if not frames:
            raise InvalidInput(f"task {self.id} has no frames")
        return frames

    def picture(self, frame: Frame) -> bytes:
        """The frame as an encoded picture, in original quality. Raises ImageUnavailable where it cannot be had."""

        def fetch() -> bytes:
            _, response = self._api.retrieve_data(
                self._api_id, type="frame", number=frame.number, quality="original", **_RAW
            )
            data: bytes = response.data
            return data

        return self._asked(fetch, otherwise=lambda text: ImageUnavailable(f"CVAT does not give the picture: {text}"))

    def traces(self) -> frozenset[str]:
        """What is stored and came from a model, see ``trace``."""

        def fetch() -> dict[str, Any]:
            _, response = self._api.retrieve_annotations(self._api_id, **_RAW)
            stored: dict[str, Any] = json.loads(response.data)
            return stored

        stored = self._asked(fetch)
        items = [*stored.get("tags", ()), *stored.get("shapes", ())]
        return frozenset(trace(item) for item in items if item.get("source") == "auto")

    def has(self, traces: frozenset[str], *, within: float = 0.0) -> bool:
        """Whether all of them are stored. within: seconds in which they may still arrive."""
        return self.patience.until(lambda: traces <= self.traces(), within)

    def add(self, annotations: Sequence[Annotation], traces: frozenset[str]) -> None:
        """Store annotations beside what is there, all or none of them, and once.

        traces: of these. Raises Refused for what CVAT does not take.
        """
        request = models.PatchedLabeledDataRequest(
            tags=[item for item in annotations if isinstance(item, models.LabeledImageRequest)],
            shapes=[item for item in annotations if isinstance(item, models.LabeledShapeRequest)],
        )

        def send() -> bool:
            try:
                self._api.partial_update_annotations(
                    "create", self._api_id, patched_labeled_data_request=request, **_RAW
                )[1].release_conn()
            except (ApiException, HTTPError) as error:
                if not (may_go_on(error) and self.has(traces, within=patience.STILL_AT_IT)):
                    raise
            return True

        try:
            self._asked(
                send,
                after_failure=lambda: self.has(traces) or None,
                otherwise=lambda text: Refused(f"CVAT does not take the annotations: {text}"),
            )
        except Refused:
            if not self.has(traces):  # a last 500, or a proxy's own status, may come after they were stored
                raise

    def clear(self) -> None:
        """Remove every annotation of the task, or of the job."""
        self._asked(lambda: self._api.destroy_annotations(self._api_id, **_RAW)[1].release_conn())

    def _asked(
        self,
        call: Callable[[], Answer],
        *,
        after_failure: Callable[[], Answer | None] | None = None,
        otherwise: Callable[[str], Exception] = ServerUnavailable,
    ) -> Answer:
        """otherwise: the error for an answer that concerns this call alone, made of what CVAT says."""
        try:
            return self.patience(call, after_failure=after_failure)
        except ApiException as error:
            if error.status in _FOR_ALL:
                raise ServerUnavailable(f"CVAT at {self.server} answers {_told(error)}") from None
            raise otherwise(_told(error)) from None


_RAW: dict[str, Any] = {"_parse_response": False, "_request_timeout": _TIMEOUT}


def _told(error: ApiException) -> str:
    """Status and text of an answer, on one line."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or "")
    text = " ".join(body.split())
    hint = "; CVAT_ACCESS_TOKEN or --auth says who asks" if error.status in (401, 403) else ""
    return f"{error.status} {error.reason or ''}".strip() + (f", {text[:200]}" if text else "") + hint
