"""What has to hold, as sentences about what does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tools.learning.course import ALL, CHEAP, NOTHING, TUNING, Run, Stage
from tools.learning.marking import Marks
from tools.learning.project import MOON

RECOVERED = 0.8
"""Of what the best fixed setting brings, thresholds and phrases have to bring so much by ``EARLY`` tasks."""

EARLY = 30
LIFT = 0.15
"""Fine-tuning has to raise the F1 of the new concept by so much."""

LOWERED = 0.01
"""No new version may lower the F1 on unseen pictures by more."""


@dataclass(frozen=True, slots=True)
class Proof:
    """All that was measured: each variant by its name, and the best fixed setting's marks."""

    runs: Mapping[str, Run]
    best: Marks

    @property
    def stages(self) -> dict[str, Sequence[Stage]]:
        """Of each variant."""
        return {name: run.stages for name, run in self.runs.items()}

    @property
    def recovered(self) -> float | None:
        """Share of the best fixed setting's gain that thresholds and phrases bring by ``EARLY`` tasks."""
        if not {NOTHING.name, CHEAP.name} <= self.stages.keys():
            return None
        start = self.stages[NOTHING.name][0].marks.f1
        early = [stage for stage in self.stages[CHEAP.name] if stage.reviewed <= EARLY]
        return (early[-1].marks.f1 - start) / (self.best.f1 - start)

    def lift(self, variant: str) -> float | None:
        """How much the last stage of a variant raises the new concept's F1; None where nobody trained."""
        stages = self.stages.get(variant, ())
        if not stages or not stages[-1].trained:
            return None
        label = MOON.value
        return stages[-1].marks.of(label).f1 - stages[0].marks.of(label).f1


def missed(proof: Proof) -> list[str]:
    """A sentence for each floor that is not reached; floors of variants that did not run are left out."""
    return [*_recovery(proof), *_lifts(proof), *_losses(proof)]


def _recovery(proof: Proof) -> Iterator[str]:
    share = proof.recovered
    if share is not None and share < RECOVERED:
        yield (
            f"thresholds and phrases recover {share:.0%} of what the best fixed setting gives by {EARLY} tasks, "
            f"not {RECOVERED:.0%}"
        )


def _lifts(proof: Proof) -> Iterator[str]:
    for variant in (TUNING.name, ALL.name):
        lift = proof.lift(variant)
        if lift is not None and lift < LIFT:
            yield f"{variant}: the new concept's F1 rises by {lift:+.3f}, not by {LIFT:+.2f}"


def _losses(proof: Proof) -> Iterator[str]:
    for name, run in proof.runs.items():
        for (_, before), (version, after) in pairwise(run.versions):
            change = after.f1 - before.f1
            if change < -LOWERED:
                yield f"{name}: {version} changes the F1 on unseen pictures by {change:+.3f}"
