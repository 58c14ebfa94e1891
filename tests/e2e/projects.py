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


@dataclass(frozen=True)
class Project:
    """A project with its label config, not connected yet."""

    id: int
    label_config: str


def config_of(tag: str, labels: Mapping[str, str]) -> str:
    """A label config with one control; `labels` are names and the phrases they stand for."""
    entries = "".join(f'<Label value="{name}" prompt="{phrase}"/>' for name, phrase in labels.items())
    return (
        f'<View><Image name="picture" value="$image"/><{tag} name="found" toName="picture">{entries}</{tag}></View>'
    )
