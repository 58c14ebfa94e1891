"""The running backend, projects and label configs, as the end-to-end tests speak of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import requests

from sam3_prelabel.demo.process import direct_session


@dataclass(frozen=True)
class Backend:
    """The running backend and what it says."""

    url: str
    log_file: Path

    def get(self, path: str) -> requests.Response:
        with direct_session() as session:
            return session.get(self.url + path, timeout=30)

    def post(self, path: str, body: object) -> requests.Response:
        with direct_session() as session:
            return session.post(self.url + path, json=body, timeout=100)

    def log(self) -> str:
        return self.log_file.read_text()

    def counter(self, name: str) -> float:
        """What /metrics says; 0 for what has not been counted yet."""
        lines = (line.split() for line in self.get("/metrics").text.splitlines())
        return sum(float(line[1]) for line in lines if line and line[0] == name)


@dataclass(frozen=True)
class Project:
    """A project with its label config, not connected yet."""

    id: int
    label_config: str


def config_of(tag: str, labels: Mapping[str, str], *, smart: bool = False) -> str:
    """A label config with one control; `labels` are names and the phrases they stand for. smart: with clicks, too."""
    entries = "".join(f'<Label value="{name}" prompt="{phrase}"/>' for name, phrase in labels.items())
    click = f'<KeyPointLabels name="click" smart="true" toName="picture">{entries}</KeyPointLabels>' if smart else ""
    control = f'<{tag} name="found" toName="picture">{entries}</{tag}>'
    return f'<View>{click}<Image name="picture" value="$image"/>{control}</View>'


def interactive_config(image: str = 'value="$image"') -> str:
    """A config for clicks, boxes, exemplars and text: what is Round becomes polygons, what is Spiky brush masks.

    image: attributes of the image tag. Opening a task predicts it, and in no scene there is a zebra: so nothing is on
    the picture before the annotator's first click.
    """
    labels = {"Round": 'background="#ffc400"', "Spiky": 'background="#d81b60" predicted_values="star"'}
    entries = {name: f'<Label value="{name}" prompt="zebra" {rest}/>' for name, rest in labels.items()}
    drawn = "".join(f'<Label value="{name}" {rest}/>' for name, rest in labels.items())
    tags = [
        ("KeyPointLabels", 'name="click" smart="true"', drawn),
        ("RectangleLabels", 'name="box" smart="true"', drawn),
        ("RectangleLabels", 'name="like" smart="true" exemplar="true"', drawn),
        ("PolygonLabels", 'name="outline" smart="false"', entries["Round"]),
        ("BrushLabels", 'name="mask" smart="false"', entries["Spiky"]),
    ]
    controls = "".join(f'<{tag} {rest} toName="picture">{inside}</{tag}>' for tag, rest, inside in tags)
    text = '<TextArea name="prompt" toName="picture" placeholder="what to find"/>'
    return f'<View>{controls}<Image name="picture" {image}/>{text}</View>'
