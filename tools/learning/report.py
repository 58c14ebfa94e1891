"""The learning curve as JSON, as Markdown and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from tools.learning.course import ALL
from tools.learning.floors import Proof
from tools.learning.project import LABELS, Wanted

Json = dict[str, Any]

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 900, 460, 60, 20, 250, 50  # pixels of the picture and its margins
_PAINTS = ("#8a8f98", "#ffb000", "#00b0ff", "#00a36c", "#aa47ff", "#fe6100", "#d81b60")
_INK, _GRID = "#30343b", "#d9dce1"


def as_json(proof: Proof, best: dict[str, Wanted], missed: Sequence[str], seconds: float) -> Json:
    """Everything, for a file."""
    settings = {name: {"phrases": list(one.phrases), "threshold": one.threshold} for name, one in best.items()}
    return {
        "variants": {name: [stage.told() for stage in stages] for name, stages in proof.stages.items()},
        "versions": {
            name: [[version, marks.told()] for version, marks in run.versions] for name, run in proof.runs.items()
        },
        "best_fixed": proof.best.told() | {"settings": settings},
        "recovered": proof.recovered,
        "lift": {name: proof.lift(name) for name in proof.stages},
        "missed": list(missed),
        "seconds": round(seconds, 1),
    }


def as_markdown(proof: Proof) -> str:
    """Two tables: the mean F1 of each variant by stage, and every label's F1 with all steps together."""
    names = list(dict.fromkeys(stage.name for stages in proof.stages.values() for stage in stages))
    names.sort(key=lambda name: (int(name.split(" ")[0]), name))
    lines = [_row(["reviewed tasks", *names]), _row(["---", *["--:"] * len(names)])]
    for variant, stages in proof.stages.items():
        reached = {stage.name: f"{stage.marks.f1:.3f}" for stage in stages}
        lines.append(_row([variant, *(reached.get(name, "") for name in names)]))
    lines.append(_row(["best fixed setting", *[""] * (len(names) - 1), f"{proof.best.f1:.3f}"]))
    labels = [label.value for label in LABELS]
    lines += ["", _row(["label", *labels, "mean lead time"]), _row(["---", *["--:"] * (len(labels) + 1)])]
    shown = proof.stages.get(ALL.name) or list(proof.stages.values())[-1]
    for stage in shown:
        pace = "" if stage.pace is None else f"{stage.pace:.1f} s"
        lines.append(_row([stage.name, *(f"{stage.marks.of(label).f1:.3f}" for label in labels), pace]))
    lines.append(_row(["best fixed setting", *(f"{proof.best.of(label).f1:.3f}" for label in labels), ""]))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def as_picture(proof: Proof) -> Image.Image:
    """Mean F1 over the reviewed tasks, one line a variant; the best fixed setting is dashed."""
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    brush, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    steps = max((stages for stages in proof.stages.values()), key=len)
    across = {stage.name: _x(place / max(1, len(steps) - 1)) for place, stage in enumerate(steps)}
    for tenth in range(0, 11, 2):
        brush.line([(_LEFT, _y(tenth / 10)), (_WIDTH - _RIGHT, _y(tenth / 10))], _GRID)
        brush.text((_LEFT - 8, _y(tenth / 10)), f"{tenth / 10:.1f}", _INK, font, anchor="rm")
    for name, x in across.items():
        brush.text((x, _HEIGHT - _BOTTOM + 8), name, _INK, font, anchor="ma")
    brush.text((_LEFT, _HEIGHT - 18), "reviewed tasks; mean F1 of the labels on unseen pictures", _INK, font)
    for x in range(_LEFT, _WIDTH - _RIGHT, 12):
        brush.line([(x, _y(proof.best.f1)), (x + 6, _y(proof.best.f1))], _INK)
    texts = [(proof.best.f1, "best fixed setting", _INK)]
    for paint, (variant, stages) in zip(_PAINTS, proof.stages.items(), strict=False):
        points = [(across[stage.name], _y(stage.marks.f1)) for stage in stages if stage.name in across]
        brush.line(points, paint, 3 if variant == ALL.name else 2)
        for x, y in points:
            brush.ellipse((x - 3, y - 3, x + 3, y + 3), paint)
        texts.append((stages[-1].marks.f1, variant, paint))
    _write_beside(brush, font, texts)
    return image


def _write_beside(brush: ImageDraw.ImageDraw, font: Any, texts: Sequence[tuple[float, str, str]]) -> None:
    """The lines' names at their right ends, apart from each other."""
    last = float(_TOP - 16)
    for value, name, paint in sorted(texts, key=lambda one: -one[0]):
        last = max(last + 16, _y(value))
        brush.text((_WIDTH - _RIGHT + 14, last), f"{name}  {value:.2f}", paint, font, anchor="lm")


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float) -> float:
    return _TOP + (1 - value) * (_HEIGHT - _TOP - _BOTTOM)
