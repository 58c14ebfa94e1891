"""What Nuclio calls: requests in, CVAT's answers out, and what a person should know in the function's log.

CVAT shows people only the status of a failed call, and a batch ends at the first frame with one. So:

- what is wrong with a picture or with a prompt on it is an empty answer, 200, and a warning in the log;
- a request that CVAT would never send (no JSON, no image, points that are none) is a 4xx;
- what is wrong with the weights, or with the server that holds them, is a 5xx: frames that nobody looked at must not
  look like frames without objects.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from cvat_nuclio.detection import detect
from cvat_nuclio.interaction import find_alike, mask_reply, outline, read_prompts, shapes_reply
from cvat_nuclio.labels import LabelRow, read_labels, undeclared
from cvat_nuclio.pictures import Picture, Pictures, png_of
from cvat_nuclio.segmenter import make_segmenter
from cvat_nuclio.settings import CvatSettings
from sam3_core import Caller, FindOptions, Lane, Rules, Segmenter
from sam3_core.errors import BadSettings, BrokenImage, InvalidInput, InvalidPrompt, Sam3Error, TooLarge
from sam3_core.settings import load_settings, not_read

Context = Any
"""Nuclio's, with ``logger``, ``user_data`` and ``Response``."""

Event = Any
"""Nuclio's, with ``body``: what JSON says or, where its content type is not exactly JSON's, bytes."""

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Function:
    """What a worker process keeps. labels: a detector's."""

    settings: CvatSettings
    segmenter: Segmenter
    pictures: Pictures
    options: FindOptions
    labels: tuple[LabelRow, ...] = ()


def start_detector(context: Context, folder: Path) -> None:
    """``init_context`` of the detector. folder: where its yaml is. Raises BadSettings, which is in the log then."""

    def read(settings: CvatSettings) -> tuple[LabelRow, ...]:
        spec = folder / settings.spec
        rows = read_labels(settings.labels, spec)
        context.logger.info("labels: " + ", ".join(f"{row.name} ({row.type})" for row in rows))
        if lost := undeclared(rows, spec):
            context.logger.warn(f"not in the spec of {spec.name}, so CVAT drops them: {', '.join(lost)}")
        return rows

    _start(context, read)


def start_interactor(context: Context) -> None:
    """``init_context`` of the interactor. Raises BadSettings, which is in the log then."""
    _start(context, lambda settings: ())


def answer_detector(context: Context, event: Event) -> Any:
    """``handler`` of the detector: ``{"image", "threshold"?}`` to a list of items. A ``Response`` of Nuclio."""
    return _answer(context, event, _detect, lambda size: [])


def answer_interactor(context: Context, event: Event) -> Any:
    """``handler`` of the interactor: ``{"image", "pos_points", "neg_points", "obj_bbox"}`` to shapes or a mask."""
    function: Function = context.user_data.sam3
    return _answer(context, event, _interact, lambda size: _reply(function, [], size))


def _start(context: Context, read: Callable[[CvatSettings], tuple[LabelRow, ...]]) -> None:
    try:
        settings = load_settings(CvatSettings)
        if others := not_read(CvatSettings):
            context.logger.info(f"set, but for the server and not for this function: {', '.join(others)}")
        labels = read(settings)
        segmenter = make_segmenter(settings)
    except BadSettings as error:
        context.logger.error(str(error))
        raise
    pictures = Pictures(max_megapixels=settings.max_megapixels)
    context.user_data.sam3 = Function(settings, segmenter, pictures, _options(settings), labels)
    try:
        segmenter.warm(png_of(Image.new("L", (1, 1))))  # the first picture costs kernels and connections
        context.logger.info(f"{segmenter.info().version} is ready")
    except Sam3Error as error:  # the first requests may find it mended
        context.logger.error(f"not ready yet: {error}")


def _options(settings: CvatSettings) -> FindOptions:
    """What was set here holds here; what was not is the segmenter's, which may have settings of its own."""
    own = settings.model_fields_set
    return FindOptions(
        rules=Rules(threshold=settings.threshold if "threshold" in own else None),
        tiles=settings.tiles if "tiles" in own else None,
    )


def _answer(
    context: Context,
    event: Event,
    work: Callable[[Context, Function, Body, Picture, float], Any],
    empty: Callable[[tuple[int, int]], Any],
) -> Any:
    """The response to a request. work: gets the time, of ``time.monotonic``, at which it must be answered.

    empty: the answer when nothing is found on a picture of this size.
    """
    function: Function = context.user_data.sam3
    deadline = time.monotonic() + function.settings.budget_seconds
    size = (1, 1)
    try:
        body = _body(event.body)
        picture = function.pictures.read(body["image"])
        size = picture.size
        return _response(context, work(context, function, body, picture, deadline))
    except (BrokenImage, TooLarge, InvalidPrompt) as error:
        context.logger.warn(f"answered with nothing: {error}")
        return _response(context, empty(size))
    except Sam3Error as error:
        context.logger.error(f"failed: {error}")
        return _response(context, {"error": str(error)}, _status(error))
    except Exception as error:  # noqa: BLE001 - a defect of ours, with all that helps to mend it
        context.logger.error(f"failed: {traceback.format_exc()}")
        return _response(context, {"error": f"a defect in the function: {type(error).__name__}"}, Sam3Error.status)


def _detect(context: Context, function: Function, body: Body, picture: Picture, deadline: float) -> Any:
    """In the lane for bulk: CVAT does not say whether somebody waits for this one frame."""
    started = time.monotonic()
    found = detect(
        function.segmenter,
        picture.image,
        function.labels,
        function.options,
        threshold=_threshold(body),
        caller=Caller(Lane.BULK, deadline),
    )
    _tell(context, len(found.items), found.remarks, started)
    return found.items


def _interact(context: Context, function: Function, body: Body, picture: Picture, deadline: float) -> Any:
    started, caller = time.monotonic(), Caller(Lane.CLICK, deadline)
    prompts = read_prompts(body, picture.size)
    if function.settings.interactor == "exemplar":
        found = find_alike(function.segmenter, picture.image, prompts, function.options, caller=caller)
    else:
        found = outline(function.segmenter, picture.image, prompts, caller=caller)
    _tell(context, len(found.instances), found.remarks, started)
    return _reply(function, found.instances, picture.size)


def _threshold(body: Body) -> float | None:
    """0 is how CVAT says "none". Raises InvalidInput for what is no share."""
    threshold = body.get("threshold") or None
    if threshold is None:
        return None
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise InvalidInput("threshold must be a number between 0 and 1")
    return float(threshold)


def _reply(function: Function, instances: list[Any], size: tuple[int, int]) -> Any:
    return mask_reply(instances, size) if function.settings.reply == "mask" else shapes_reply(instances)


def _body(body: object) -> Body:
    """The request's JSON object with an image in it. Raises InvalidInput."""
    if isinstance(body, bytes | str):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"the request is not JSON: {error}") from None
    if not isinstance(body, dict) or not isinstance(body.get("image"), str):
        raise InvalidInput('the request is not an object with the picture as base64 text under "image"')
    return body


def _tell(context: Context, count: int, remarks: list[str], started: float) -> None:
    said = f"{count} found in {time.monotonic() - started:.2f} s"
    context.logger.info("; ".join([said, *remarks]))


def _status(error: Sam3Error) -> int:
    """The error's own. A 401 of the server behind us is not CVAT's user's to mend, and would log them out."""
    return error.status if isinstance(error, InvalidInput) or error.status >= 500 else Sam3Error.status


def _response(context: Context, body: Any, status: int = 200) -> Any:
    return context.Response(
        body=json.dumps(body, allow_nan=False, separators=(",", ":")),
        headers={},
        content_type="application/json",
        status_code=status,
    )
