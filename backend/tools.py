"""The control tags that prompts are drawn with, and what their attributes say about those prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backend.attributes import is_true, read_candidates, read_exemplar, split_phrases

POINTS = ("keypointlabels", "keypoint")
BOXES = ("rectanglelabels", "rectangle")


@dataclass(frozen=True, slots=True)
class ToolLabel:
    """What holds for boxes drawn with one label of a tool.

    exemplar: they show a concept (True: like this, False: not like this) or, None, outline one object each.
    phrases: what is looked for along with what the exemplars show; the label's ``prompt``.
    """

    exemplar: bool | None = None
    phrases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tool:
    """A tag for drawing prompts.

    smart: it is declared for that. Label Studio lets every such tag be used so unless it says ``smart="false"``.
    candidates: how many readings of a click or box come back, 1..3.
    labels: by value.
    """

    name: str
    smart: bool = False
    candidates: int = 1
    labels: Mapping[str, ToolLabel] = field(default_factory=dict)

    def label(self, value: str) -> ToolLabel:
        """What holds for boxes with this label."""
        return self.labels.get(value) or ToolLabel()


def read_tool(tag: Any, labelers: Sequence[Any]) -> Tool | None:
    """A control tag of the config as a tool; None when prompts cannot be drawn with it.

    labelers: the ``<Labels>`` tags on the same image, whose labels go with tags that have none of their own.
    """
    kind = tag.tag.lower()
    if kind not in POINTS + BOXES:
        return None
    shown = read_exemplar(tag.name, tag.attr)
    labels = {
        value: ToolLabel(
            read_exemplar(value, label.attr, shown) if kind in BOXES else None,
            split_phrases(label.attr.get("prompt")),
        )
        for owner in ((tag,) if kind.endswith("labels") else labelers)
        for value, label in (owner.labels_attrs or {}).items()
    }
    # Ordinary rectangles may be used as prompts too, but they are mostly there to be filled.
    declared = kind in POINTS or any(label.exemplar is not None for label in labels.values())
    smart = is_true(tag.attr, "smart", default=declared) or is_true(tag.attr, "smartOnly")
    return Tool(tag.name, smart, read_candidates(tag.name, tag.attr), labels)
