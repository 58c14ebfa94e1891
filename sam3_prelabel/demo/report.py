"""What the demo shows at its end: a table, pictures, and where to look."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from sam3_prelabel.demo.backend import BackendServer
from sam3_prelabel.demo.label_studio import LabelStudioServer
from sam3_prelabel.demo.regions import StoredRegion
from sam3_prelabel.demo.world import LABELS, Sample
from sam3_prelabel.overlay import draw, palette

OVERLAYS = "overlays"
BACKEND_LOG = "backend.log"


@dataclass(frozen=True, slots=True)
class Annotated:
    """One task after its pre-annotation.

    regions: what Label Studio stored; None when it stored no prediction at all.
    seconds: from asking Label Studio until it had stored the prediction.
    """

    task: int
    sample: Sample
    regions: list[StoredRegion] | None
    seconds: float


def results_table(done: Sequence[Annotated]) -> Table:
    """One row per task: labels, instances out of how many there are to find, scores (least to best), seconds."""
    table = Table(title="What Label Studio has stored", box=SIMPLE_HEAD)
    for heading in ("task", "image"):
        table.add_column(heading, no_wrap=True)
    table.add_column("labels")
    for heading in ("instances", "scores", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for item in done:
        regions = item.regions or []
        counts = Counter(region.label for region in regions)
        labels = ", ".join(f"{label} ×{n}" if n > 1 else label for label, n in counts.items())
        scores = [f"{score:.2f}" for score in sorted(region.instance.score for region in regions)]
        table.add_row(
            str(item.task),
            item.sample.name,
            labels or "nothing",
            f"{len(regions)} of {len(item.sample.labels)}",
            "–".join(dict.fromkeys([scores[0], scores[-1]])) if scores else "",
            f"{item.seconds:.1f}",
        )
    table.add_section()
    found, there = (sum(len(item.regions or []) for item in done), sum(len(item.sample.labels) for item in done))
    table.add_row("", "all", "", f"{found} of {there}", "", f"{sum(item.seconds for item in done):.1f}")
    return table


def save_overlays(done: Sequence[Annotated], folder: Path) -> None:
    """Draw the stored regions over each scene, as `<image>.png` in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    colors = palette(LABELS)
    for item in done:
        found = [(region.label, region.instance) for region in item.regions or []]
        picture = draw(item.sample.scene.image, found, colors)
        Image.fromarray(picture).save(folder / Path(item.sample.name).with_suffix(".png"))


def what_to_click(server: LabelStudioServer, backend: BackendServer, project: int, output: Path) -> str:
    """Addresses, the login and what is worth a look, as rich markup, one line each."""
    rows = {
        "Label Studio": f"{server.url}/projects/{project}/data",
        "log in as": f"{server.email}  password: {server.password}",
        "then": "click a row: its regions stand on the objects; correct or delete some, and Submit",
        "ask it": "Auto-Annotation on, purple keypoint tool, label under the picture, click an object without region",
        "once more": "tick rows, Actions → Delete Predictions, then Actions → Retrieve Predictions",
        "backend": f"{backend.url}  (Settings → Model shows it connected)",
        "its status": f"{backend.url}/status  ({backend.status()})",
        "pictures": f"{output / OVERLAYS}{os.sep}",
        "logs": f"{server.log}  {output / BACKEND_LOG}",
    }
    return "\n".join(f"[bold]{name:<14}[/]{escape(text)}" for name, text in rows.items())
