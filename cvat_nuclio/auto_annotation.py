"""A detection function for cvat-sdk and cvat-cli: labels are concepts, and every instance of them is found.

``cvat-cli task auto-annotate 7 --function-module cvat_nuclio.auto_annotation -p "labels=str:bus=school bus, person"``
fills a task; ``cvat-cli function create-native`` and ``run-agent`` take the same parameters. What is no parameter
is a setting (``SAM3_...``), secrets above all: other users of a machine can read parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cvat_sdk.auto_annotation import DetectionFunctionContext, DetectionFunctionSpec, label_spec
from PIL import Image

from cvat_nuclio.labels import LabelRow, LabelType, read_labels, read_row
from cvat_nuclio.sdk_function import Core, encoded, told_to_users
from cvat_nuclio.sdk_shapes import Annotation, Target, drawn, search
from cvat_nuclio.settings import CvatSettings
from sam3_core import FindOptions, Rules
from sam3_core.errors import BadSettings
from sam3_core.settings import load_settings

_NO_SPEC = Path()  # a folder, so there is no function's yaml to read types from


class Detector:
    """A ``cvat_sdk.auto_annotation.DetectionFunction``."""

    def __init__(self, rows: Sequence[LabelRow], core: Core) -> None:
        self.spec = DetectionFunctionSpec(
            labels=[label_spec(row.name, number, type=row.type.value) for number, row in enumerate(rows)]
        )
        self._rows = tuple(rows)
        self._core = core

    def detect(self, context: DetectionFunctionContext, image: Image.Image) -> list[Annotation]:
        """Tags and shapes with scores; polygons instead of masks where the context asks for them.

        A threshold of the context is over the labels' own; none, and 0, leave it to them. Raises BadFunctionError.
        """
        threshold = context.conf_threshold or None
        rows = [_asked(row, threshold, polygons=context.conv_mask_to_poly) for row in self._rows]
        picture = encoded(image)
        with told_to_users():
            results = self._core.ask(lambda segmenter: search(segmenter, picture, rows, FindOptions()))
            found = drawn(picture, results, [Target(number, row) for number, row in enumerate(rows)])
        # ``top_k`` brings candidates below the threshold, and cvat-sdk wants none of these.
        return [one for one in found if threshold is None or getattr(one, "score", 1.0) >= threshold]


def create(
    labels: str = "",
    label_type: str = "",
    threshold: float | None = None,
    core_url: str | None = None,
    model: str | None = None,
    device: str | None = None,
) -> Detector:
    """The function, with the parameters of ``-p``. Nothing is loaded before the first picture.

    labels: ``bus=yellow school bus; bus, person``, or a table as in ``SAM3_LABELS``, as JSON or the path of a file;
    empty leaves it to that setting. label_type: any, mask, polygon, rectangle or tag, for labels without a type in
    the table. A label of type any goes with tasks' labels of types any and mask, and gives masks; with
    ``--conv-mask-to-poly`` also of type polygon. threshold: for labels without one of their own. core_url, model,
    device: over the settings of these names. Raises BadFunctionError.
    """
    with told_to_users():
        settings = load_settings(CvatSettings, core_url=core_url, model=model, device=device, threshold=threshold)
        rows = read_rows(labels or settings.labels or "", label_type)
    return Detector([_at_least(row, threshold) for row in rows], Core(settings))


def read_rows(labels: str, label_type: str = "") -> tuple[LabelRow, ...]:
    """Labels as ``create`` takes them. Raises BadSettings for what cannot be used."""
    if labels.lstrip().startswith("[") or Path(labels).suffix.lower() == ".json":
        rows = read_labels(labels, _NO_SPEC)
    else:
        named = (one.partition("=")[::2] for one in labels.split(",") if one.strip())
        rows = tuple(read_row({"name": name.strip(), "prompt": phrases or None}, "labels") for name, phrases in named)
    if not rows:
        raise BadSettings(
            'no labels to look for: -p "labels=str:bus=school bus; bus, person" names them, or SAM3_LABELS does'
        )
    if twice := {row.name for row in rows if sum(other.name == row.name for other in rows) > 1}:
        raise BadSettings(f"the label {min(twice)!r} is there twice")
    if label_type not in ("", *LabelType):
        raise BadSettings(f"label_type {label_type!r} is not one of {', '.join(LabelType)}")
    chosen = LabelType(label_type or LabelType.ANY)
    return tuple(replace(row, type=chosen) if row.type is LabelType.ANY else row for row in rows)


def _at_least(row: LabelRow, threshold: float | None) -> LabelRow:
    rules = row.concept.rules.over(Rules(threshold=threshold))
    return replace(row, concept=replace(row.concept, rules=rules))


def _asked(row: LabelRow, threshold: float | None, *, polygons: bool) -> LabelRow:
    """The row as one call wants it."""
    masks = row.type in (LabelType.ANY, LabelType.MASK)
    rules = Rules(threshold=threshold).over(row.concept.rules)
    return replace(
        row,
        type=LabelType.POLYGON if polygons and masks else row.type,
        concept=replace(row.concept, rules=rules),
    )
