"""What a project's reviews and versions say, counted."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from backend.learning.courses import Course
from backend.learning.records import Drawn, KnownProject, Outcome, Review, Verdict
from backend.learning.versions import Version
from sam3_core import Mask
from sam3_core.learning.measure import LEAST_IOU, Tally
from sam3_prelabel.learning_changes import changes
from sam3_prelabel.learning_figures import Bad, Bin, Learned, Report, Row, Trend, moment

LONGEST = 1800.0
"""Lead times over this many seconds are left out: somebody had a break."""

WORST = 20
_BINS = 10
_NO_MASK = Mask(np.zeros((0, 0), dtype=np.bool_), 0, 0, (1, 1))


def tell(
    project: KnownProject,
    reviews: Sequence[Review],
    versions: Sequence[Version],
    serving: str,
    course: Course,
    tried: Mapping[str, Any] | None = None,
) -> Report:
    """The report on a project. versions: newest first. serving: a name, empty for the weights as they came.

    tried: what the teacher found out last, see ``Courses.last_tried``.

    Of the reviews no mask is looked at.
    """
    shown = [review for review in reviews if review.version]
    times = sorted(review.updated for review in reviews if review.updated)
    return Report(
        project,
        len(reviews),
        len(shown),
        times[0] if times else "",
        times[-1] if times else "",
        serving,
        course,
        _row("", shown),
        tuple(_row(label, shown) for label in _labels(shown)),
        tuple(_trend(reviews, versions)),
        (*_last_try(versions, course, tried or {}), *_learned(versions, serving)),
        tuple(_reliability(shown)),
        tuple(worst(shown)),
    )


def without_masks(review: Review) -> Review:
    """The same without any pixels."""
    outcomes = (replace(o, ours=_emptied(o.ours), theirs=_emptied(o.theirs)) for o in review.outcomes)
    return replace(review, truth=(), outcomes=tuple(outcomes))


def _emptied(drawn: Drawn | None) -> Drawn | None:
    return None if drawn is None else replace(drawn, mask=_NO_MASK)


def is_right(outcome: Outcome) -> bool:
    """Whether ours shows the object that the reviewer left."""
    return outcome.ours is not None and outcome.theirs is not None and outcome.iou >= LEAST_IOU


def pages(review: Review) -> Iterator[tuple[str, int]]:
    """The images of a task: each one's tag and its page."""
    for source, addresses in review.images.items():
        for page in range(len(addresses) if isinstance(addresses, list) else 1):
            yield source, page


def _labels(reviews: Iterable[Review]) -> list[str]:
    """Those that were shown or drawn, the commonest first."""
    counts = Counter(outcome.label for review in reviews for outcome in review.outcomes)
    return [label for label, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def _row(label: str, reviews: Sequence[Review]) -> Row:
    """Of one label, or with an empty one of all together."""
    listed = [o for review in reviews for o in review.outcomes if label in ("", o.label)]
    counts = Counter(outcome.verdict for outcome in listed)
    names = [label] if label else _labels(reviews)
    tally = _tally(listed, *_presence(reviews, names))
    return Row(label, tally, **{verdict.value: counts[verdict] for verdict in Verdict})


def _tally(outcomes: Iterable[Outcome], asked: int = 0, right: int = 0) -> Tally:
    """asked: pictures times labels. right: those where something was shown exactly when something is there."""
    found = truth = hits = 0
    ious = 0.0
    for outcome in outcomes:
        found += outcome.ours is not None
        truth += outcome.theirs is not None
        hits += is_right(outcome)
        ious += outcome.iou if is_right(outcome) else 0.0
    return Tally(hits, found - hits, truth - hits, ious, asked, right)


def _presence(reviews: Sequence[Review], labels: Sequence[str]) -> tuple[int, int]:
    """A label is looked for in the images of the tags that it was ever seen on."""
    tags: dict[str, set[str]] = {}
    for review in reviews:
        for outcome in review.outcomes:
            tags.setdefault(outcome.label, set()).add(_place(outcome)[0])
    asked = right = 0
    for review in reviews:
        ours = {(o.label, *_place(o)) for o in review.outcomes if o.ours}
        theirs = {(o.label, *_place(o)) for o in review.outcomes if o.theirs}
        for source, page in pages(review):
            for label in labels:
                if source in tags[label]:
                    asked += 1
                    right += ((label, source, page) in ours) == ((label, source, page) in theirs)
    return asked, right


def _place(outcome: Outcome) -> tuple[str, int]:
    drawn = outcome.ours or outcome.theirs
    return (drawn.source, drawn.page) if drawn else ("", 0)


def _trend(reviews: Sequence[Review], versions: Sequence[Version]) -> Iterator[Trend]:
    """Without a pre-annotation first, then other versions by their first review, then ours in their order."""
    order = {version.name: version.number for version in versions}
    grouped: dict[str, list[Review]] = {}
    for review in sorted(reviews, key=lambda one: one.updated):
        grouped.setdefault(review.version, []).append(review)
    for name in sorted(grouped, key=lambda one: (one != "", order.get(one, 0))):
        group = grouped[name]
        times = [one.lead_time for one in group if one.lead_time is not None and one.lead_time > 0]
        usual = [seconds for seconds in times if seconds <= LONGEST]
        median = statistics.median(usual) if usual else None
        yield Trend(name, len(group), _row("", group), median, len(usual), len(times) - len(usual))


def _last_try(versions: Sequence[Version], course: Course, tried: Mapping[str, Any]) -> Iterator[Learned]:
    """What was found out last, where nothing came of it: a promotion tells it itself."""
    evidence = {name: value for name, value in tried.items() if name != "sentence"}
    if evidence and all(version.evidence != evidence for version in versions):
        yield _told("last try, not promoted", course.since, False, evidence, [str(tried.get("sentence", ""))])


def _learned(versions: Sequence[Version], serving: str) -> Iterator[Learned]:
    named: Mapping[str, Version] = {version.name: version for version in versions}
    for version in versions:
        serves = version.name == serving
        yield _told(
            version.name, version.created, serves, version.evidence, changes(version, named.get(version.parent))
        )


def _told(name: str, seconds: float, serves: bool, evidence: Mapping[str, Any], said: Iterable[str]) -> Learned:
    """Evidence as the page shows it, as far as it can be read. seconds: since 1970."""
    tasks, total, steps = (evidence.get(part) for part in ("tasks", "total", "steps"))
    return Learned(
        name,
        moment(seconds),
        serves,
        tasks if isinstance(tasks, int) else None,
        tuple(said),
        total if isinstance(total, dict) else {},
        tuple(step for step in steps if isinstance(step, dict)) if isinstance(steps, list) else (),
    )


def _reliability(reviews: Iterable[Review]) -> Iterator[Bin]:
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(_BINS)]
    for review in reviews:
        for outcome in review.outcomes:
            if outcome.ours is not None and outcome.ours.score is not None:
                score = min(1.0, max(0.0, outcome.ours.score))
                bins[min(int(score * _BINS), _BINS - 1)].append((score, is_right(outcome)))
    for place, held in enumerate(bins):
        if held:
            score, right = (statistics.fmean(column) for column in zip(*held, strict=True))
            yield Bin(place / _BINS, (place + 1) / _BINS, len(held), score, right)


def worst(reviews: Iterable[Review]) -> list[Bad]:
    """The tasks that needed most work, the worst first: of each its worst picture. Those without a fault are none."""
    found = []
    for review in reviews:
        split: dict[tuple[str, int], list[Outcome]] = {}
        for outcome in review.outcomes:
            split.setdefault(_place(outcome), []).append(outcome)
        shots = [Bad(review, *place, tuple(held), _tally(held)) for place, held in split.items()]
        if shots:
            found.append(min(shots, key=_badness))
    return sorted((bad for bad in found if _badness(bad) < (1.0, 0.0)), key=_badness)[:WORST]


def _badness(bad: Bad) -> tuple[float, float]:
    """Least first: the F1, then how many instances are wrong."""
    return bad.tally.f1, -float(bad.tally.false + bad.tally.missed)
