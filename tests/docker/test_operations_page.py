"""The operator's page names what there is: every error, settings and series that exist, links that lead somewhere."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from backend.settings import BackendSettings
from cvat_nuclio.settings import CvatSettings
from sam3_core import errors
from sam3_core.settings import variables_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
COMPOSE = (ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8")
CLASSES = [found for found in vars(errors).values() if inspect.isclass(found)]


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_has_its_section_with_its_status(error: type[errors.Sam3Error]) -> None:
    _, _, after = PAGE.partition(f"\n### {error.__name__}\n\n")
    section = after.split("\n### ")[0].split("\n## ")[0]
    assert len(section.split()) > 10
    first = section.split("\n")[0]
    assert str(error.status) in first or error is errors.BadSettings, first
    assert ("Retry-After" in first) is (error("").retry_after is not None), first


def test_its_settings_exist() -> None:
    known = variables_of(BackendSettings) | variables_of(CvatSettings)
    of_compose = set(re.findall(r"\$\{(SAM3_\w+)", COMPOSE))
    named = set(re.findall(r"\bSAM3_[A-Z_]+[A-Z]\b", PAGE))
    assert len(named) > 25
    assert named <= known | of_compose


def test_its_series_exist() -> None:
    source = "".join((ROOT / "backend" / name).read_text() for name in ("metrics.py", "gauges.py"))
    families = {f"sam3_{name}" for name in re.findall(r'"sam3_(\w+)"', source)}
    families |= {f"{name}_{end}" for name in re.findall(r'name = "(sam3_\w+)"', source)
                 for end in re.findall(r'f"\{name\}_(\w+)"', source)}  # fmt: skip
    named = set(re.findall(r"\bsam3_[a-z_]+[a-z]\b", PAGE)) - {"sam3_core", "sam3_prelabel"}
    assert len(named) > 8
    assert {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in named} <= families


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        path, _, anchor = target.partition("#")
        text = (ROOT / "docs" / path).read_text(encoding="utf-8") if path else PAGE
        titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
        assert not anchor or anchor in anchors, target


def test_what_label_studio_is_told_is_what_compose_makes() -> None:
    assert "http://sam3:9090" in PAGE
    assert "aliases: [sam3]" in COMPOSE
    for switch in ("ML_BLOCK_LOCAL_IP", "SSRF_PROTECTION_ENABLED"):
        assert f"{switch}=false" in PAGE
        assert f'{switch}: "false"' in COMPOSE
