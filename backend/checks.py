"""A project's labeling config, checked: what each label looks for, and what its annotators will stumble over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from backend.labeling import ImageSource, Plan, resolve_plan
from sam3_core.choices import OPEN, Choices

_MOST_NAMED = 5  # labels in a sentence


@dataclass(frozen=True, slots=True)
class CheckedLabel:
    """One label of a tag that is filled. kind: of its regions. remembers: what is typed for it."""

    label: str
    tag: str
    kind: str
    phrases: tuple[str, ...]
    negatives: tuple[str, ...]
    remembers: bool


@dataclass(frozen=True, slots=True)
class Check:
    """What was found. problem: why nothing is pre-annotated at all; empty otherwise."""

    labels: tuple[CheckedLabel, ...]
    problem: str
    warnings: tuple[str, ...]


def check_config(config: str, project: Choices = OPEN) -> Check:
    """The check of a labeling config under what a connection's extra parameters chose. Never raises."""
    if not config:
        return Check((), "Label Studio sent no labeling config", ())
    plan = resolve_plan(config, OPEN, project)
    labels = tuple(
        CheckedLabel(
            label.value,
            control.name,
            control.output.value,
            label.concept.phrases,
            label.concept.negatives,
            label.remember,
        )
        for source in plan.sources
        for control in source.controls
        for label in control.labels
    )
    return Check(labels, plan.problem, tuple(_warnings(plan)))


def _warnings(plan: Plan) -> Iterator[str]:
    yield from plan.remarks
    if plan.problem:
        return
    if not plan.interactive:
        yield (
            "annotators can neither click nor draw boxes for the model: add a KeyPointLabels tag, or RectangleLabels "
            'with smart="true", with the same labels'
        )
    for source in plan.sources:
        yield from _of_tools(source)


def _of_tools(source: ImageSource) -> Iterator[str]:
    """Labels of the tags for prompts against those of the tags that are filled."""
    filled = {label.value for label in source.labels}
    tools = [tool for tool in source.tools if tool.smart and tool.labels]
    for tool in tools:
        stray = [value for value, label in tool.labels.items() if label.exemplar is not False and value not in filled]
        if stray:
            yield f"{tool.name} has {_named(stray)}, which no tag for results has: write the same labels in both"
    drawn = {value for tool in tools for value in tool.labels}
    missing = [value for value in dict.fromkeys(label.value for label in source.labels) if value not in drawn]
    if tools and missing:
        yield f"{_named(missing)} can be searched but not clicked: no tag for prompts has it"


def _named(labels: list[str]) -> str:
    more = f" and {len(labels) - _MOST_NAMED} more" if len(labels) > _MOST_NAMED else ""
    return ", ".join(map(repr, labels[:_MOST_NAMED])) + more
