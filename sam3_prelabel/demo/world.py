"""What the demo shows: scenes of coloured shapes, a labeling config for them, and what there is to find."""

from __future__ import annotations

from dataclasses import dataclass

from sam3_core.demo.scenes import Scene, render_scene

LABELS = {
    "Red circle": "red circle",
    "Star": "star",
    "Square": "square",
    "Triangle": "triangle",
    "Black circle": "black circle",
}
"""The demo's label names and the phrase that each stands for. No object answers to two of them."""

_PROMPT_LABELS = "".join(f'<Label value="{name}"/>' for name in LABELS)

LABEL_CONFIG = f"""\
<View>
  <PolygonLabels name="outline" toName="image" strokeWidth="2">
    <Label value="Red circle" background="#ff4081"/>
    <Label value="Star" background="#00b0ff"/>
    <Label value="Square" background="#ffc400"/>
  </PolygonLabels>
  <BrushLabels name="mask" toName="image">
    <Label value="Triangle" background="#00c853"/>
    <Label value="Black circle" background="#aa47ff"/>
  </BrushLabels>
  <Image name="image" value="$image" zoom="true"/>
  <Header value="Auto-Annotation on, purple tool, then a label of that tool:" size="6"/>
  <KeyPointLabels name="point" toName="image" smart="true">{_PROMPT_LABELS}</KeyPointLabels>
  <RectangleLabels name="box" toName="image" smart="true">{_PROMPT_LABELS}</RectangleLabels>
  <TextArea name="prompt" toName="image" editable="true" placeholder="or type: star; red circle"/>
</View>
"""
"""What is found goes to polygons and brush masks; below the picture are the tools for asking."""

_FIRST_SEED = 2_000_000_000  # far from the scenes that the checkpoint was trained on


@dataclass(frozen=True, slots=True)
class Sample:
    """A scene and the name of its image file."""

    name: str
    scene: Scene

    @property
    def labels(self) -> list[str]:
        """The demo's label of each object that has one."""
        return [label for label, phrase in LABELS.items() for _ in self.scene.matching(phrase)]


def samples(count: int) -> list[Sample]:
    """Scenes from fixed seeds in which at least two of the labels have something to find."""
    found: list[Sample] = []
    seed = _FIRST_SEED
    while len(found) < count:
        sample = Sample(f"scene-{len(found) + 1}.jpg", render_scene(seed, objects=(3, 6), long_side=(500, 1000)))
        if len(set(sample.labels)) >= 2:
            found.append(sample)
        seed += 1
    return found
