"""The picture page: every option is on it, and its pictures can be drawn."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from sam3_core.choices import OPTIONS
from tools.pictures.__main__ import FOLDER, main

PAGE = (FOLDER.parents[1] / "masks.md").read_text(encoding="utf-8")


def test_every_option_is_on_the_page() -> None:
    assert [name for name in OPTIONS if f"`{name}" not in PAGE] == []


def test_all_pictures_of_the_page_can_be_drawn(tmp_path: Path) -> None:
    main(tmp_path)
    shown = set(re.findall(r"\(images/masks/(\w+\.png)\)", PAGE))
    assert shown == {path.name for path in tmp_path.iterdir()} == {path.name for path in FOLDER.iterdir()}
    for name in shown:
        with Image.open(tmp_path / name) as drawn, Image.open(FOLDER / name) as kept:
            assert drawn.size == kept.size, "draw the pictures anew: python -m tools.pictures"
